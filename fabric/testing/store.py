"""
A store for tests.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from fabric.model.group import SecurityGroup
from fabric.model.host import Service, Stray
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.keypair import KeyPair
from fabric.model.network import Network
from fabric.model.quota import Quota
from fabric.model.record import Record
from fabric.model.reservation import Reservation
from fabric.store.interface import IViews
from fabric.store.redis import RedisStore
from fabric.testing.redis import RedisServer

KINDS: Mapping[str, type[Record]] = {
    cls.kind: cls for cls in (Instance, Reservation, KeyPair, Image, SecurityGroup, Network, Service, Stray, Quota)
}
"""Every kind of record that there is."""


@implementer(IViews)
@attrs.frozen
class PlainViews:
    """
    Views that say kind and id, for tests that look at no door's.
    """

    def render(self, record: Record) -> dict[str, bytes]:
        """See L{IViews.render}."""
        return {"ec2": f"<{record.kind} {record.id} {record!r}>".encode()}


@inlineCallbacks
def make_store(
    test: Any, views: IViews | None = None, kinds: Mapping[str, type[Record]] = KINDS, metrics: Any = None
) -> Generator[Deferred[Any], Any, RedisStore]:
    """
    Start a private server for a trial test case, which stops it when it ends.

    @return: the store on it; C{test.redis} is its L{RedisServer} from then on.
    """
    from twisted.internet import reactor

    server = RedisServer(reactor)
    test.addCleanup(server.stop)
    yield server.start()
    pool = server.connect()
    test.addCleanup(pool.stopService)
    store = RedisStore(pool, views or PlainViews(), kinds, metrics)
    test.redis = server
    return store
