"""
The bench's own parts: what is signed, what is read, and how it judges.
"""

from __future__ import annotations

import os
import socket
import threading

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.bench.load import Plan, Wire, run
from fabric.testing.bench.processes import cpu_seconds, memory_bytes, tree
from fabric.testing.bench.report import Results, Sample, Verdict, document, table
from fabric.testing.bench.sigv4 import Endpoint, request


class SigningTests(SynchronousTestCase):
    """The signer."""

    def test_like_botocore(self) -> None:
        """It signs as botocore does."""
        raw = request(Endpoint("127.0.0.1", 8773, "/services/Cloud", "AK", "SK"), "DescribeInstances", {"A.1": "é &"})
        head, _, body = raw.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        signed = {name: headers[name] for name in ("content-type", "host")}
        asked = AWSRequest("POST", "http://127.0.0.1:8773/services/Cloud", signed, body)
        asked.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(Credentials("AK", "SK"), "ec2", "us-east-1")
        asked.headers["X-Amz-Date"] = headers["x-amz-date"]
        canonical = signer.canonical_request(asked)
        wanted = signer.signature(signer.string_to_sign(asked, canonical), asked)
        self.assertIn(f"Signature={wanted}", headers["Authorization"])


class Answering:
    """
    A server in a thread that answers each request with the next of some bytes.
    """

    def __init__(self, answers: list[list[bytes]]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for parts in self._answers:
            connection.recv(65536)
            for part in parts:
                connection.sendall(part)
        connection.close()

    def stop(self) -> None:
        """End it."""
        self._listening.close()
        self._thread.join(5.0)


class LoadTests(SynchronousTestCase):
    """The load generator."""

    def answering(self, *answers: list[bytes]) -> int:
        """The port of a server that gives these answers."""
        server = Answering(list(answers))
        self.addCleanup(server.stop)
        return server.port

    def test_reads_lengths(self) -> None:
        """An answer with a length is read to its end, however it is cut."""
        port = self.answering([b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\nab", b"cd"])
        wire = Wire("127.0.0.1", port)
        self.addCleanup(wire.close)
        self.assertEqual(wire.ask(b"x"), b"abcd")

    def test_reads_chunks(self) -> None:
        """A chunked answer is read to its last chunk, however it is cut."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        port = self.answering([head, b"3\r\nabc\r\n", b"1\r\nd\r\n0\r", b"\n\r\n"])
        wire = Wire("127.0.0.1", port)
        self.addCleanup(wire.close)
        self.assertEqual(wire.ask(b"x"), b"abcd")

    def test_counts(self) -> None:
        """Every answer is counted, and those that are not 200 as failures."""
        good, bad = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        outcome = run(Plan("127.0.0.1", self.answering([good], [bad], [good]), (b"x",), 1, 0.0, 3))
        self.assertEqual((outcome.count, outcome.failures), (3, 1))

    def test_refusal(self) -> None:
        """A single request that is refused raises with what was said."""
        wire = Wire("127.0.0.1", self.answering([b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nwhy"]))
        self.addCleanup(wire.close)
        self.assertIn("why", str(self.assertRaises(ValueError, wire.ask, b"x")))


class ProcessesTests(SynchronousTestCase):
    """What is read of processes."""

    def test_self(self) -> None:
        """This process is in its own tree, and has used something."""
        self.assertIn(os.getpid(), tree([os.getpid()]))
        self.assertGreater(cpu_seconds([os.getpid()]), 0.0)
        self.assertGreater(memory_bytes([os.getpid()]), 1_000_000)


class ReportTests(SynchronousTestCase):
    """Medians and verdicts."""

    def results(self) -> Results:
        """Three rounds of ours, one of a peer's."""
        results = Results()
        for cpu in (30.0, 10.0, 20.0):
            results.add(Sample("cell", "fabric", 1, cpu, 1.0, 1.0, 1.0))
        results.add(Sample("cell", "bare", 1, 10.0, 1.0, 1.0, 1.0))
        return results

    def test_median(self) -> None:
        """A figure is the median of its rounds, and a ratio that of two medians."""
        self.assertEqual(self.results().median("cell", "fabric", "cpu_us"), 20.0)
        self.assertEqual(self.results().ratio(("cell", "fabric"), ("cell", "bare")), 2.0)

    def test_words(self) -> None:
        """A verdict says whether the bound was held, from the right side, or that nothing was measured."""
        found = [Verdict("a", 2.0, 1.0), Verdict("a", 2.0, 1.0, least=True), Verdict("a", None, 1.0)]
        self.assertEqual([verdict.word for verdict in found], ["MISSED", "met", "not measured"])

    def test_shown(self) -> None:
        """Table and document have every cell and verdict."""
        verdicts = [Verdict("costs little", 2.0, 3.0)]
        shown = table(self.results(), verdicts)
        self.assertIn("costs little", shown)
        self.assertIn("20.0", shown)
        self.assertEqual(len(document(self.results(), verdicts)["medians"]), 2)
