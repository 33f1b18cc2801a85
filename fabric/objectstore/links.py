"""
Links that are signed and expire, and receipts for what was put by them.

Whoever has the secret may give out links: the cloud's logic.  Whoever has one
may do what it says until it expires: a host that fetches an image, or a person
who uploads one.  Nothing here asks anybody.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import parse_qsl, quote

import attrs
from twisted.internet.interfaces import IReactorTime

from fabric.errors import Denied, InvalidValue, Unsupported
from fabric.image.interface import StoredFile

IMAGES = "/_images"
"""The path below which image files are; no bucket of S3's has such a name."""

RECEIPT_SECONDS = 1800.0
"""How long a receipt is good for."""

LONGEST = 7 * 86400.0
"""Seconds that the cloud ever lets a link be good for; one with more was not made by it."""


@attrs.frozen
class Signer:
    """
    Makes and checks links.

    @ivar key: the secret; asked each time, since it may be in a file that is
        made at the first start.
    @ivar base: the door's URL as hosts reach it, without a slash at the end;
        empty when there is none.
    """

    key: Callable[[], bytes] = attrs.field(repr=False)
    base: Callable[[], str]
    clock: IReactorTime

    def link(self, method: str, path: str, seconds: float, **more: str) -> str:
        """
        An URL that allows one method (and HEAD, with GET) on one path.

        @param more: what else the door is to believe.
        @raise Unsupported: this cloud has no object store.
        """
        base = self.base()
        if not base:
            raise Unsupported("image files: no object store is set up")
        fields = {**more, "expires": str(int(self.clock.seconds() + seconds))}
        fields["signature"] = self._sign(method, path, fields)
        return base + path + "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())

    def check(self, method: str, path: str, query: str) -> dict[str, str]:
        """
        @param query: as it came, without the question mark.
        @return: the fields that the link carries besides.
        @raise Denied: it was not made here for this, or has expired.
        """
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=20)
        except ValueError:
            pairs = []
        fields = dict(pairs)
        signature = fields.pop("signature", "")
        allowed = "GET" if method == "HEAD" else method
        wanted = self._sign(allowed, path, fields)
        if len(fields) + 1 != len(pairs) or not hmac.compare_digest(
            wanted.encode(), signature.encode("utf-8", "replace")
        ):
            raise Denied("the link", f"{method} this: its signature is not right")
        expires = fields.pop("expires", "")
        now = self.clock.seconds()
        if not (expires.isdigit() and now < int(expires) <= now + LONGEST):
            raise Denied("the link", f"{method} this any more: it has expired")
        return fields

    def receipt(self, role: str, stored: StoredFile) -> str:
        """
        What proves to the cloud's logic that the store has a file.
        """
        now = str(int(self.clock.seconds()))
        parts = [role, stored.digest, stored.format, str(stored.size), str(stored.disk_bytes), now]
        return ":".join([*parts, self._sign("receipt", ":".join(parts), {})])

    def redeem(self, receipt: str) -> tuple[str, StoredFile]:
        """
        @return: the file's role, and the file.
        @raise InvalidValue: no store of this cloud gave it, or not lately.
        """
        text, _, signature = receipt.rpartition(":")
        wanted = self._sign("receipt", text, {})
        if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
            raise InvalidValue("receipt", receipt[:100], "it is not of this cloud's object store")
        role, digest, format, size, disk_bytes, made = text.split(":")
        if self.clock.seconds() > int(made) + RECEIPT_SECONDS:
            raise InvalidValue("receipt", receipt[:100], "it has expired; put the file again")
        return role, StoredFile(digest, format, int(size), int(disk_bytes), float(made))

    def _sign(self, method: str, path: str, fields: dict[str, str]) -> str:
        rows = [f"{_quoted(name)}={_quoted(fields[name])}" for name in sorted(fields)]
        text = "\n".join([method, path, *rows])
        return hmac.new(self.key(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def image_path(digest: str) -> str:
    """Where a file of that digest is."""
    return f"{IMAGES}/{digest}"
