"""Where the store's server is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from fabric.errors import InvalidValue
from fabric.store.address import Address, parse


class AddressTests(SynchronousTestCase):
    """L{parse}."""

    def test_forms(self) -> None:
        """Each form is read."""
        for text, address in (
            ("redis://db", Address((("db", 6379),))),
            ("redis://u:p%40@db:7000/2", Address((("db", 7000),), user="u", password="p@", database=2)),
            ("redis://:p@[::1]:7000", Address((("::1", 7000),), password="p")),
            ("rediss://db", Address((("db", 6379),), tls=True)),
            ("unix:/run/redis.sock", Address(path="/run/redis.sock")),
            ("sentinel://:p@a,b:7/cell", Address((("a", 26379), ("b", 7)), service="cell", password="p")),
        ):
            self.assertEqual(parse(text), address)

    def test_wrong(self) -> None:
        """What is none of them is refused, without its password."""
        for text in ("db", "http://db", "redis://", "redis://u:secret@db:x", "redis://db/x", "sentinel://a", "unix:x"):
            reason = self.assertRaises(InvalidValue, parse, text)
            self.assertNotIn("secret", str(reason))

    def test_password_hidden(self) -> None:
        """An address can be logged."""
        self.assertNotIn("secret", repr(parse("redis://u:secret@db")))
