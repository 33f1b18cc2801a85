"""
The queue of a process, by the settings; all that a worker on a host is connected to.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from fabric.metrics import Metrics
from fabric.rpc.amqp.queue import AMQPQueue
from fabric.rpc.local import LocalQueue
from fabric.settings import Settings
from fabric.tap.start import Refusal, Step

LOCAL = "local:"
EMBEDDED = "embedded:"


def nothing() -> None:
    """A half of a step that needs none."""


def require_shared(settings: Settings, *sections: str) -> None:
    """
    A service of its own process can't use parts that are inside another.

    @raise Refusal: a section's URL is C{local:} or C{embedded:}.
    """
    for section in sections:
        url = getattr(settings, section).url
        if url in (LOCAL, EMBEDDED):
            raise Refusal(f"{section}.url must name a server; {url} is within twistd cloud only")


def queue(reactor: Any, settings: Settings, metrics: Metrics) -> tuple[Any, Step]:
    """
    @return: a provider of L{fabric.rpc.interface.IQueue}, and its step.
    """
    wanted = settings.queue
    if wanted.url == LOCAL:
        local = LocalQueue(reactor, metrics)
        return local, Step("queue", nothing, local.stop)
    parts = urlsplit(wanted.url)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise Refusal("queue.url must be local: or amqp://user:password@host:port/vhost")
    secure = parts.scheme == "amqps"
    host = quoted(parts.hostname)
    endpoint = wanted.endpoint or f"{'tls' if secure else 'tcp'}:{host}:{parts.port or (5671 if secure else 5672)}"
    amqp = AMQPQueue(
        reactor,
        endpoint,
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        unquote(parts.path[1:]) or "/",
        wanted.exchange,
        metrics,
        wanted.heartbeat,
        wanted.type,
        wanted.seconds,
    )
    return amqp, Step("queue", amqp.start, amqp.stop)


def quoted(text: str) -> str:
    """As an argument within an endpoint's description."""
    return text.replace("\\", "\\\\").replace(":", "\\:")
