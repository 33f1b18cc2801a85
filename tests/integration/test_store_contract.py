"""The contract of the store, on a real Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from fabric.testing.store import StoreContract, make_store


class RedisStoreTests(StoreContract, TestCase):
    """L{fabric.store.redis.RedisStore} keeps the contract."""

    def make(self) -> Deferred[Any]:
        """A store on a server of this test's own."""
        return make_store(self)
