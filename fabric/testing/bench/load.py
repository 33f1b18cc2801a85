"""
The load generator: keep-alive connections on one epoll loop, nothing else.

It parses no more of an answer than its status and its end, so that it takes as
little as it can of the cores that the servers need.  It runs in a process of
its own: C{python -m fabric.testing.bench.load} takes one L{Plan} as JSON.
"""

from __future__ import annotations

import base64
import json
import selectors
import socket
import subprocess
import sys
import time
from typing import Any

import attrs


@attrs.frozen
class Plan:
    """
    @ivar requests: whole requests, sent in turn.
    @ivar in_flight: connections, each with one request under way.
    @ivar seconds: stop sending after so long; 0 for no such end.
    @ivar count: stop after so many; 0 for no such end.
    """

    host: str
    port: int
    requests: tuple[bytes, ...]
    in_flight: int = 1
    seconds: float = 0.0
    count: int = 0


@attrs.define
class Outcome:
    """
    @ivar seconds: from the first request to the last answer.
    @ivar latencies: seconds, one an answer.
    @ivar failures: answers that were not 200.
    @ivar body: the last answer's body (that of the first failure if any).
    """

    seconds: float = 0.0
    latencies: list[float] = attrs.field(factory=list)
    failures: int = 0
    size: int = 0
    body: bytes = b""

    @property
    def count(self) -> int:
        """How many answers came."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.seconds if self.seconds else 0.0

    def quantile(self, part: float) -> float:
        """A latency quantile in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


@attrs.define(eq=False)
class _Connection:
    """
    One connection; a server that hangs up after each answer (as moto's does)
    is connected to again, at its own expense.
    """

    host: str
    port: int
    socket: socket.socket = attrs.field(init=False)
    sent_at: float = 0.0
    chunks: list[bytes] = attrs.field(factory=list)
    have: int = 0
    wanted: int = -1
    chunked: bool = False
    head: bytes = b""

    def __attrs_post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection((self.host, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def spent(self) -> bool:
        """Whether the server closes after the answer that was read."""
        return b"\nconnection: close" in self.head

    def send(self, request: bytes) -> None:
        self.chunks, self.have, self.wanted, self.chunked, self.head = [], 0, -1, False, b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> bool:
        """Take what came; whether the answer is whole."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.chunks.append(data)
        self.have += len(data)
        if not self.head:
            self._read_head()
        if self.chunked:
            return self._tail() == b"\r\n0\r\n\r\n"
        return bool(self.head) and self.have >= self.wanted

    def _read_head(self) -> None:
        whole = b"".join(self.chunks)
        end = whole.find(b"\r\n\r\n")
        if end < 0:
            return
        self.head = whole[:end].lower()
        self.chunked = b"transfer-encoding: chunked" in self.head
        if not self.chunked:
            length = self.head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.wanted = end + 4 + int(length)

    def _tail(self) -> bytes:
        last = self.chunks[-1][-7:]
        return last if len(last) == 7 else b"".join(self.chunks[-7:])[-7:]

    def body(self) -> bytes:
        whole = b"".join(self.chunks)[len(self.head) + 4 :]
        if not self.chunked:
            return whole
        parts = []
        while whole:
            length, _, whole = whole.partition(b"\r\n")
            size = int(length, 16)
            parts.append(whole[:size])
            whole = whole[size + 2 :]
        return b"".join(parts)


class Wire:
    """
    One connection for one request after the other.
    """

    def __init__(self, host: str, port: int) -> None:
        self._connection = _Connection(host, port)

    def ask(self, request: bytes) -> bytes:
        """
        The answer's body.

        @raise ValueError: the answer was not 200.
        """
        connection = self._connection
        if connection.spent:
            connection.socket.close()
            connection.connect()
        connection.send(request)
        while not connection.read():
            pass
        if not connection.head.startswith(b"http/1.1 200"):
            raise ValueError((connection.head + b"\n" + connection.body()).decode(errors="replace"))
        return connection.body()

    def close(self) -> None:
        """Hang up."""
        self._connection.socket.close()


def run(plan: Plan) -> Outcome:
    """
    Carry a plan out in this process; blocks until its end.

    @raise ConnectionError: the server hung up.
    """
    selector = selectors.DefaultSelector()
    connections = [_Connection(plan.host, plan.port) for _ in range(plan.in_flight)]
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    try:
        return _drive(plan, connections, selector)
    finally:
        selector.close()
        for connection in connections:
            connection.socket.close()


def _drive(plan: Plan, connections: list[_Connection], selector: selectors.BaseSelector) -> Outcome:
    outcome, sent, open_ones = Outcome(), 0, 0
    begun = time.perf_counter()

    def more() -> bool:
        if plan.count and sent >= plan.count:
            return False
        return not plan.seconds or time.perf_counter() - begun < plan.seconds

    for connection in connections:
        if more():
            connection.send(plan.requests[sent % len(plan.requests)])
            sent, open_ones = sent + 1, open_ones + 1
    while open_ones:
        for key, _ in selector.select():
            connection = key.data
            if not connection.read():
                continue
            _note(outcome, connection)
            if more():
                if connection.spent:
                    _renew(connection, selector)
                connection.send(plan.requests[sent % len(plan.requests)])
                sent += 1
            else:
                selector.unregister(connection.socket)
                open_ones -= 1
    outcome.seconds = time.perf_counter() - begun
    return outcome


def _renew(connection: _Connection, selector: selectors.BaseSelector) -> None:
    selector.unregister(connection.socket)
    connection.socket.close()
    connection.connect()
    selector.register(connection.socket, selectors.EVENT_READ, connection)


def _note(outcome: Outcome, connection: _Connection) -> None:
    outcome.latencies.append(time.perf_counter() - connection.sent_at)
    if not connection.head.startswith(b"http/1.1 200"):
        outcome.failures += 1
        if outcome.failures == 1:
            outcome.body = connection.head + b"\n" + connection.body()
    elif not outcome.failures:
        outcome.size = connection.have
        if outcome.count == 1:
            outcome.body = connection.body()


class Background:
    """
    A plan carried out by a process of its own, meanwhile.
    """

    def __init__(self, plan: Plan) -> None:
        data = attrs.asdict(plan) | {"requests": [base64.b64encode(one).decode() for one in plan.requests]}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(data))
        self._process.stdin.close()

    def result(self) -> Outcome:
        """
        Wait for its end.
        """
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        self._process.wait()
        data: dict[str, Any] = json.loads(text)
        return Outcome(data["seconds"], data["latencies"], data["failures"], data["size"], b"")


def _main() -> None:
    data = json.load(sys.stdin)
    data["requests"] = tuple(base64.b64decode(one) for one in data["requests"])
    outcome = run(Plan(**data))
    shown = attrs.asdict(outcome)
    del shown["body"]
    json.dump(shown, sys.stdout)


if __name__ == "__main__":
    _main()
