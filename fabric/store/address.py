"""
Where the store's server is, as one line of settings says it.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import attrs

from fabric.errors import InvalidValue

PORT = 6379
SENTINEL_PORT = 26379


@attrs.frozen
class Address:
    """
    @ivar hosts: C{(name, port)} of the server, or of each Sentinel.
    @ivar path: of a unix socket; empty for TCP.
    @ivar service: the name under which Sentinel knows the primary; empty
        without Sentinel.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    tls: bool = False
    service: str = ""
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0


def parse(text: str) -> Address:
    """
    Read C{redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]}, C{rediss://…} for
    the same over verified TLS, C{unix:/PATH}, or
    C{sentinel://[USER:PASSWORD@]HOST[:PORT],…/NAME}.

    @raise InvalidValue: it is none of these.
    """
    if text.startswith("unix:/"):
        return Address(path=text.removeprefix("unix:"))
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("redis", "rediss", "sentinel"):
        raise InvalidValue("store", text, "starts with none of redis://, rediss://, unix:/ and sentinel://")
    try:
        return _network(scheme, rest)
    except ValueError as reason:
        raise InvalidValue("store", text.rpartition("@")[2], str(reason)) from None


def _network(scheme: str, rest: str) -> Address:
    account, _, where = rest.rpartition("@")
    user, _, password = account.partition(":")
    places, _, name = where.partition("/")
    default = SENTINEL_PORT if scheme == "sentinel" else PORT
    if scheme == "sentinel" and not name:
        raise ValueError("a Sentinel address ends with /NAME of the primary")
    return Address(
        hosts=tuple(_host(place, default) for place in places.split(",")),
        tls=scheme == "rediss",
        service=name if scheme == "sentinel" else "",
        user=unquote(user),
        password=unquote(password),
        database=int(name) if name and scheme != "sentinel" else 0,
    )


def _host(place: str, default: int) -> tuple[str, int]:
    parts = urlsplit("//" + place)
    if not parts.hostname:
        raise ValueError("a host name is missing")
    return parts.hostname, parts.port or default
