"""
Which files of images the guests of a host are built on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Bases:
    """
    Digests of files by guest: what the cache of images must keep.

    @ivar changes: grows with every change.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._of: dict[str, frozenset[str]] = {}

    def refresh(self, found: Mapping[str, Iterable[str]], changes: int) -> None:
        """
        Learn what guests say.

        @param changes: as it was before they were asked: when it is not so any
            more, nothing is forgotten that they did not say.
        """
        here = {id: frozenset(digests) for id, digests in found.items()}
        self._of = here if changes == self.changes else self._of | here

    def add(self, id: str, digests: Iterable[str]) -> None:
        """A guest is about to be built on these, too."""
        self.put(id, self._of.get(id, frozenset()) | frozenset(digests))

    def put(self, id: str, digests: Iterable[str]) -> None:
        """A guest is built on these; on none when it is not there."""
        self.changes += 1
        self._of[id] = frozenset(digests)
        if not self._of[id]:
            del self._of[id]

    def all(self) -> frozenset[str]:
        """@return: what is needed by any."""
        return frozenset().union(*self._of.values())
