"""
The packet filters of this host: what is applied follows what is wanted.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.logger import Logger

from fabric.errors import DriverFailure
from fabric.network.linux.conntrack import Conntrack
from fabric.network.linux.host import HostNetwork
from fabric.network.linux.nft import Nft
from fabric.network.linux.ruleset import Outside, ruleset
from fabric.network.linux.tables import Ruleset, change, none, presence, whole


class PacketFilter:
    """
    Keeps our own tables as a host's network says; no other table is touched.
    """

    log = Logger()

    def __init__(self, nft: Nft, outside: Outside, conntrack: Conntrack | None = None) -> None:
        """
        @param conntrack: ends flows of addresses that went; None for letting
            them end by themselves.
        """
        self._nft = nft
        self._outside = outside
        self._conntrack = conntrack
        self._one_by_one = DeferredLock()
        self._wanted: HostNetwork | None = None
        self._done: HostNetwork | None = None
        self._applied: Ruleset | None = None
        self._parted: HostNetwork | None = None

    def apply(self, host: HostNetwork) -> Deferred[None]:
        """
        Filter as this says, in one transaction: all of it, or as before.
        Several calls at once may end as one transaction about the last.
        Flows that are to end do so after that.  Repeating is safe.

        @param host: everything on this host.  Its values are compared by
            identity first, so what did not change should stay the same object.
        @return: fires when it is so; L{DriverFailure} when nft refused.
        """
        self._wanted = host
        return self._one_by_one.run(self._follow).addCallback(self._part)

    def verify(self) -> Deferred[None]:
        """
        Load everything again should our tables be gone, as after somebody's
        C{nft flush ruleset}, or should the last L{apply} have failed.  Nothing
        before the first.

        @return: fires when they are there; L{DriverFailure} when nft refused.
        """
        return self._one_by_one.run(self._verify).addCallback(self._part)

    def remove(self) -> Deferred[None]:
        """Have none of our tables.  Repeating is safe."""
        return self._one_by_one.run(self._remove)

    @inlineCallbacks
    def _follow(self) -> Generator[Deferred[Any], Any, None]:
        wanted, before = self._wanted, self._applied
        if wanted is None or wanted is self._done:
            return
        after = ruleset(wanted, self._outside, before)
        self._applied = self._done = None  # until it is known
        if before is None or not (yield self._changed(before, after)):
            yield self._nft.apply(whole(after))
            self.log.info("Packet filters loaded for {ports} ports", ports=len(wanted.ports))
        self._applied, self._done = after, wanted

    @inlineCallbacks
    def _part(self, followed: None) -> Generator[Deferred[Any], Any, None]:
        """End the flows that are to end with what is applied, once."""
        done = self._done
        if done is not None and done is not self._parted and self._conntrack is not None:
            yield self._conntrack.forget(done.ending)
            self._parted = done

    @inlineCallbacks
    def _verify(self) -> Generator[Deferred[Any], Any, None]:
        if self._applied is not None:
            try:
                yield self._nft.check(presence())
            except DriverFailure as error:
                self.log.error("Packet filters were removed by somebody, loading all: {what}", what=error.what)
                self._applied = self._done = None
        yield self._follow()

    @inlineCallbacks
    def _changed(self, before: Ruleset, after: Ruleset) -> Generator[Deferred[Any], Any, bool]:
        """Whether the change was applied; somebody else may have touched our tables."""
        text = change(before, after)
        try:
            if text:
                yield self._nft.apply(text)
        except DriverFailure as error:
            self.log.warn("Packet filters are not as they were left, loading all: {what}", what=error.what)
            return False
        return True

    @inlineCallbacks
    def _remove(self) -> Generator[Deferred[Any], Any, None]:
        self._applied = self._done = self._wanted = None
        yield self._nft.apply(none())
