"""
The queue, the store and the directory that settings name, each with the steps that bring it up.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from fabric.errors import FabricError
from fabric.metrics import Metrics
from fabric.model.kinds import KINDS
from fabric.settings import Settings
from fabric.settings.values import Ldap
from fabric.store.address import Address, parse
from fabric.store.connection import RedisPool
from fabric.store.embedded import EmbeddedRedis
from fabric.store.interface import IViews
from fabric.store.redis import RedisStore
from fabric.tap.queueing import EMBEDDED, nothing, quoted
from fabric.tap.start import Refusal, Step
from fabric.users.embedded import EmbeddedDirectoryServer
from fabric.users.ldap import LDAPDirectory
from fabric.users.memo import Ages
from fabric.users.names import Layout
from fabric.users.session import Security, Server


def store(reactor: Any, settings: Settings, metrics: Metrics, views: IViews) -> tuple[RedisStore, Step]:
    """
    @return: the store at a server, and its step.
    """
    try:
        address = parse(settings.store.url)
    except FabricError as failure:
        raise Refusal(f"store.url: {failure}") from None
    return _store_at(address, reactor, settings, metrics, views)


def any_store(reactor: Any, settings: Settings, metrics: Metrics, views: IViews) -> tuple[RedisStore, list[Step]]:
    """
    @return: the store, whose server may be a child of this process, and its steps.
    """
    if settings.store.url != EMBEDDED:
        state, step = store(reactor, settings, metrics, views)
        return state, [step]
    redis = EmbeddedRedis(reactor, os.path.join(settings.data_dir, "redis"), settings.store.durable)
    state, step = _store_at(redis.address, reactor, settings, metrics, views)
    return state, [Step("redis", redis.start, redis.stopService), step]


def _store_at(
    address: Address, reactor: Any, settings: Settings, metrics: Metrics, views: IViews
) -> tuple[RedisStore, Step]:
    pool = RedisPool(reactor, address, settings.store.connections, settings.store.seconds)
    return RedisStore(pool, views, KINDS, metrics), Step("store", pool.startService, pool.stopService)


def layout(ldap: Ldap) -> Layout:
    """
    Where the subtrees are.
    """
    named = {"users": ldap.users, "projects": ldap.projects, "roles": ldap.roles}
    return Layout(ldap.base, **{name: dn for name, dn in named.items() if dn})


def directory(reactor: Any, settings: Settings) -> tuple[LDAPDirectory, Step]:
    """
    @return: the directory at a server, and its step.
    """
    ldap = settings.ldap
    people = LDAPDirectory(reactor, _server(ldap), layout(ldap), _ages(ldap))
    return people, Step("directory", nothing, people.stop)


def any_directory(reactor: Any, settings: Settings) -> tuple[LDAPDirectory, list[Step]]:
    """
    @return: the directory, whose server may be in this process, and its steps.
    """
    ldap = settings.ldap
    if ldap.url != EMBEDDED:
        people, step = directory(reactor, settings)
        return people, [step]
    where = layout(ldap)
    server = EmbeddedDirectoryServer(reactor, os.path.join(settings.data_dir, "ldap"), where)
    people = LDAPDirectory(reactor, server.server, where, _ages(ldap), _EmbeddedEndpoint(reactor, server))
    return people, [Step("directory server", server.start, server.stop), Step("directory", nothing, people.stop)]


def _ages(ldap: Ldap) -> Ages:
    return Ages(ldap.memo_seconds, max(ldap.stale_seconds, ldap.memo_seconds))


@implementer(IStreamClientEndpoint)
class _EmbeddedEndpoint:
    """
    The socket of an embedded directory, whose place is known only once it was started.
    """

    def __init__(self, reactor: Any, server: EmbeddedDirectoryServer) -> None:
        self._reactor = reactor
        self._server = server

    def connect(self, factory: Any) -> Any:
        return UNIXClientEndpoint(self._reactor, self._server.path).connect(factory)


def _server(ldap: Ldap) -> Server:
    scheme, _, rest = ldap.url.partition(":")
    if scheme == "ldapi" and rest.startswith("/"):
        return Server(f"unix:path={quoted(rest)}", ldap.bind_dn, ldap.password, timeout=ldap.seconds)
    parts = urlsplit(ldap.url)
    if scheme not in ("ldap", "ldaps") or not parts.hostname:
        raise Refusal("ldap.url must be ldap://host:port, ldaps://host:port or ldapi:/path")
    port = parts.port or (636 if scheme == "ldaps" else 389)
    mode = "ldaps" if scheme == "ldaps" else "starttls" if ldap.start_tls else ""
    security = Security(mode, parts.hostname, ldap.authority)
    endpoint = f"tcp:{quoted(parts.hostname)}:{port}"
    return Server(endpoint, ldap.bind_dn, ldap.password, security, ldap.seconds)
