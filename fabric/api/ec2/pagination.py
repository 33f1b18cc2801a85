"""
Pages of listings: what a client may ask for, and the tokens between pages.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import attrs

from fabric.api.ec2.errors import EC2Error

_MARK = 6


@attrs.frozen
class Bounds:
    """
    What C{MaxResults} an action takes.

    @ivar clamps: whether more than C{most} means C{most}; else it is refused.
    @ivar ids: the parameter that can't go with it, as the client knows it.
    """

    least: int = 5
    most: int = 1000
    clamps: bool = True
    ids: str = ""


@attrs.frozen
class Window:
    """
    Which part of a listing a request is for.

    @ivar limit: most items of a page; None when all are wanted.
    @ivar cursor: of the store, "" for the start.
    """

    limit: int | None
    cursor: str

    @property
    def whole(self) -> bool:
        """Whether the listing is to be followed to its end."""
        return self.limit is None


ALL = Window(None, "")


def window(action: str, parameters: Mapping[str, Any], bounds: Bounds, ids: bool = False) -> Window:
    """
    @param ids: whether the request names what it wants.
    @raise EC2Error: C{InvalidParameterValue} for a count out of bounds or a
        token that is not one of this action's, C{InvalidParameterCombination}
        for a count together with ids.
    """
    limit, text = parameters.get("MaxResults"), parameters.get("NextToken")
    if limit is None and not text:
        return ALL
    if limit is not None:
        if ids and bounds.ids:
            raise EC2Error(
                "InvalidParameterCombination",
                f"The parameter {bounds.ids} cannot be used with the parameter maxResults",
            )
        limit = _bounded(limit, bounds)
    return Window(limit, cursor(action, text) if text else "")


def _bounded(limit: int, bounds: Bounds) -> int:
    if limit < bounds.least:
        why = f"Expecting a value greater than or equal to {bounds.least}."
    elif limit > bounds.most and not bounds.clamps:
        why = f"Expecting a value less than or equal to {bounds.most}."
    else:
        return min(limit, bounds.most)
    raise EC2Error("InvalidParameterValue", f"Value ( {limit} ) for parameter maxResults is invalid. {why}")


def token(action: str, text: str) -> str:
    """
    @return: what a client is given for a cursor; "" for "", the end.
    """
    if not text:
        return ""
    raw = text.encode()
    return urlsafe_b64encode(_mark(action, raw) + raw).decode().rstrip("=")


def cursor(action: str, text: str) -> str:
    """
    The cursor that L{token} hid.  The mark only tells a mistaken token: a
    forged one shows nothing that the caller could not list anyway.

    @raise EC2Error: it is not a token of this action.
    """
    try:
        raw = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
        if raw[:_MARK] == _mark(action, raw[_MARK:]):
            return raw[_MARK:].decode()
    except ValueError:
        pass
    raise EC2Error("InvalidParameterValue", "Unable to parse pagination token")


def _mark(action: str, raw: bytes) -> bytes:
    return blake2b(raw, digest_size=_MARK, person=b"page", key=action.encode()[:64]).digest()
