"""
URL-encoded forms: bodies and query strings of the query APIs.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

MOST_FIELDS = 4096
"""A launch with every list filled has some hundreds."""


class BadForm(Exception):
    """The text is not a form that can be meant; its argument says why."""


def parse_form(raw: bytes, fields: dict[str, str] | None = None) -> dict[str, str]:
    """
    Read a form into a dict.  A name that comes twice is refused, since a
    signature and an action could otherwise read different ones.

    @param raw: C{name=value&…}, escaped.
    @param fields: add to these.
    @raise BadForm: not UTF-8, a name twice, or more than L{MOST_FIELDS}.
    """
    found = {} if fields is None else fields
    if not raw:
        return found
    pairs = raw.split(b"&")
    if len(pairs) > MOST_FIELDS:
        raise BadForm(f"more than {MOST_FIELDS} parameters")
    try:
        for pair in pairs:
            if pair:
                name, _, value = pair.partition(b"=")
                text = _decoded(name)
                if text in found:
                    raise BadForm(f"the parameter {text[:200]} is given more than once")
                found[text] = _decoded(value)
    except UnicodeDecodeError:
        raise BadForm("not UTF-8") from None
    return found


def _decoded(raw: bytes) -> str:
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    return raw.decode()
