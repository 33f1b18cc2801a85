"""
Image files: the store in a directory, its door on the loopback, and a host's cache.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from fabric.errors import DriverFailure, InvalidValue, NotFound, Unavailable
from fabric.image import appender as appender_module
from fabric.image import store as store_module
from fabric.image.cache import ImageCache
from fabric.image.download import Downloader
from fabric.image.inspection import Inspector
from fabric.image.interface import FileOrder, IImageCache, IImageStore, IIncoming
from fabric.image.store import FileStore
from fabric.image.upload import Uploader
from fabric.manage.uploads import upload
from fabric.objectstore.images import Images
from fabric.objectstore.links import IMAGES, Signer, image_path
from fabric.objectstore.remote import StoreDoor
from fabric.objectstore.site import Site
from tests.integration.test_rpc_tls import write_certificate

Steps = Generator[Deferred[Any], Any, None]

LARGEST = 32 << 20
GUEST_SEES = 1 << 30

_reactor: Any = reactor


def digest_of(data: bytes) -> str:
    """The name of a file."""
    return hashlib.sha256(data).hexdigest()


class StoreCase(TestCase):
    """
    A store in a directory.
    """

    def setUp(self) -> Any:
        """Start it."""
        assert shutil.which("qemu-img"), "needs qemu-img, of Debian's package qemu-utils"
        self.directory = Path(self.mktemp()).absolute()
        self.store = self.opened()
        self.addCleanup(lambda: self.store.stop())
        return self.store.start()

    def opened(self) -> FileStore:
        """A store in the directory."""
        inspector = Inspector(_reactor, GUEST_SEES)
        return FileStore(str(self.directory), inspector, _reactor, deferToThread, LARGEST)

    def disk(self, *arguments: str) -> bytes:
        """A disk that C{qemu-img create} makes."""
        path = Path(self.mktemp()).absolute()
        subprocess.run(["qemu-img", "create", "-q", *arguments[:-1], str(path), arguments[-1]], check=True)
        return path.read_bytes()

    def put(self, data: bytes, role: str = "disk", digest: str = "") -> Any:
        """Bring a file into the store."""
        incoming = self.store.receive(digest or digest_of(data), role)
        for start in range(0, len(data), 70_000):
            incoming.write(data[start : start + 70_000])
        return incoming.finish()

    def left(self) -> list[str]:
        """What is half done, of all processes."""
        return [each.name for each in self.directory.glob("incoming/*/*") if each.name != "lock"]


class StoreTests(StoreCase):
    """
    What the store takes, keeps and gives back.
    """

    def test_interfaces(self) -> None:
        """It provides what its interfaces say."""
        verifyObject(IImageStore, self.store)
        verifyObject(IIncoming, self.store.receive("0" * 64, "disk"))

    @inlineCallbacks
    def test_kept(self) -> Steps:
        """A disk is kept by its digest, read-only, with what guests see of it."""
        data = self.disk("-f", "qcow2", "64M")
        stored = yield self.put(data)
        self.assertEqual((stored.format, stored.size, stored.disk_bytes), ("qcow2", len(data), 64 << 20))
        again = yield self.opened().find(digest_of(data), False)
        self.assertEqual(attrs.evolve(again, used_at=0), attrs.evolve(stored, used_at=0))
        read = yield self.store.read(stored.digest, 0, 1 << 30)
        self.assertEqual(read, data)
        mode = (self.directory / "files" / stored.digest).stat().st_mode & 0o777
        self.assertEqual((mode, self.left()), (0o440, []))

    @inlineCallbacks
    def test_raw(self) -> Steps:
        """What is of no format is a raw disk; kernels are not looked into."""
        stored = yield self.put(b"\0" * 1_048_576)
        self.assertEqual((stored.format, stored.disk_bytes), ("raw", 1_048_576))
        stored = yield self.put(b"KDMV" * 100, "kernel")
        self.assertEqual((stored.format, stored.disk_bytes), ("raw", 0))

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """What is not what its digest says, or not a disk for guests, leaves nothing."""
        base = Path(self.mktemp()).absolute()
        base.write_bytes(self.disk("-f", "qcow2", "1M"))
        odd = {
            "another digest": self.put(b"\0" * 512, digest="0" * 64),
            "a backing file": self.put(self.disk("-f", "qcow2", "-F", "qcow2", "-b", str(base), "1M")),
            "a data file": self.put(self.disk("-f", "qcow2", "-o", f"data_file={base}.data", "1M")),
            "a foreign format": self.put(self.disk("-f", "vmdk", "1M")),
            "another foreign format": self.put(self.disk("-f", "vhdx", "8M")),
            "too large a disk": self.put(self.disk("-f", "qcow2", "2G")),
            "half a disk": self.put(self.disk("-f", "qcow2", "1M")[:200]),
            "nothing": self.put(b""),
        }
        for what, putting in odd.items():
            [outcome] = yield putting.addBoth(lambda outcome: [outcome])
            self.assertEqual(getattr(outcome, "type", outcome), InvalidValue, what)
        files = yield self.store.files()
        self.assertEqual((files, self.left()), ([], []))

    @inlineCallbacks
    def test_too_long(self) -> Steps:
        """More than the store takes is refused while it comes."""
        incoming = self.store.receive("0" * 64, "kernel")
        incoming.write(b"0" * LARGEST)
        self.assertRaises(InvalidValue, incoming.write, b"0")
        yield incoming.abandon()
        self.assertEqual(self.left(), [])

    @inlineCallbacks
    def test_abandoned(self) -> Steps:
        """What was given up leaves nothing, how often that may be said."""
        incoming = self.store.receive("0" * 64, "kernel")
        incoming.write(b"0" * 1_000_000)
        yield gatherResults([incoming.abandon(), incoming.abandon()])
        yield incoming.abandon()
        self.assertEqual(self.left(), [])

    @inlineCallbacks
    def test_crash(self) -> Steps:
        """A start removes what a killed process left half done, and nothing else."""
        stored = yield self.put(b"kernel", "kernel")
        incoming = self.store.receive("0" * 64, "kernel")
        yield incoming.write(b"0" * 1_000_000)
        (self.directory / "facts" / ("1" * 64)).write_text("{}")
        (self.directory / "incoming" / "of an earlier version").write_text("half")
        (self.directory / "incoming" / "killed at once").mkdir()
        self.assertEqual(len(self.left()), 1)
        yield self.store.stop()  # its lock goes as with the process
        store = self.opened()
        yield store.start()
        files = yield store.files()
        self.assertEqual(([each.digest for each in files], self.left()), ([stored.digest], []))
        self.assertEqual(os.listdir(self.directory / "facts"), [stored.digest])
        self.assertEqual(len(os.listdir(self.directory / "incoming")), 1)
        yield incoming.abandon()
        yield store.stop()

    @inlineCallbacks
    def test_beside(self) -> Steps:
        """A start leaves alone what another process that lives is about to take."""
        incoming = self.store.receive(digest_of(b"kernel"), "kernel")
        yield incoming.write(b"kern")
        other = self.opened()
        yield other.start()
        incoming.write(b"el")
        stored = yield incoming.finish()
        yield other.stop()
        self.assertEqual((stored.size, self.left()), (6, []))

    @inlineCallbacks
    def test_deleted(self) -> Steps:
        """A file goes unless it was used lately; one that is gone is gone."""
        stored = yield self.put(b"kernel", "kernel")
        kept = yield self.store.delete(stored.digest, time.time() - 100)
        gone = yield self.store.delete(stored.digest, float("inf"))
        again = yield self.store.delete(stored.digest, 0)
        self.assertEqual((kept, gone, again), (False, True, True))
        yield self.assertFailure(self.store.find(stored.digest, True), NotFound)
        yield self.assertFailure(self.store.read(stored.digest, 0, 1), NotFound)

    @inlineCallbacks
    def test_used_while_deleted(self) -> Steps:
        """A file that is asked for while it is removed is not said to be there."""
        stored = yield self.put(b"kernel", "kernel")
        unlink, asked = os.unlink, []

        def slow(path: str) -> None:
            if not asked:
                asked.append(deferToThread(self.store._find, stored.digest, True))
                time.sleep(0.2)
            unlink(path)

        self.patch(store_module.os, "unlink", slow)
        yield self.store.delete(stored.digest, stored.used_at + 1)
        yield self.assertFailure(asked[0], NotFound)

    @inlineCallbacks
    def test_power_cut(self) -> Steps:
        """What was found out about a file is on the disk before the file has its name."""
        steps: list[str] = []
        sync = store_module._sync

        def noting(directory: str) -> None:
            steps.append(f"{os.path.basename(directory)} {len(os.listdir(self.directory / 'files'))}")
            sync(directory)

        self.patch(store_module, "_sync", noting)
        yield self.put(b"kernel", "kernel")
        self.assertEqual(steps, ["facts 0", "files 1"])

    def test_names(self) -> None:
        """Only digests name files."""
        for odd in ("", "../../etc/passwd", "0" * 63, "0" * 65, "G" * 64, "A" * 64):
            self.assertRaises(InvalidValue, self.store.receive, odd, "disk")
        self.assertRaises(InvalidValue, self.store.receive, "0" * 64, "floppy")
        return self.assertFailure(self.store.find("../facts", False), NotFound)  # type: ignore[return-value]


class DoorCase(StoreCase):
    """
    A store with its door.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """Open it on the loopback."""
        yield super().setUp()
        self.signer = Signer(lambda: b"secret", lambda: self.url, _reactor)
        site = Site(_reactor, {IMAGES: Images(self.store, self.signer, LARGEST).start}, idle=10.0)
        endpoint = serverFromString(_reactor, "tcp:0:interface=127.0.0.1")
        self.port = yield endpoint.listen(site)
        self.addCleanup(self.port.stopListening)
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"

    def ask(self, method: str, url: str, body: bytes = b"", **headers: str) -> Deferred[Any]:
        """C{(status, headers, body)} of a request."""
        return deferToThread(_ask, method, url, body, headers)

    def link(self, method: str, data: bytes, **more: str) -> str:
        """A link to a file."""
        return self.signer.link(method, image_path(digest_of(data)), 60, **more)


def _ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


class DoorTests(DoorCase):
    """
    The door.
    """

    @inlineCallbacks
    def test_put_and_get(self) -> Steps:
        """What is put by one link is had by another, and both answers bear a receipt."""
        data = os.urandom(3_000_000)
        status, headers, _ = yield self.ask("PUT", self.link("PUT", data, role="kernel"), data)
        role, stored = self.signer.redeem(headers["x-receipt"])
        self.assertEqual((status, role, stored.digest, stored.size), (200, "kernel", digest_of(data), len(data)))
        status, headers, body = yield self.ask("GET", self.link("GET", data))
        self.assertEqual((status, body == data, headers["content-length"]), (200, True, str(len(data))))
        status, headers, body = yield self.ask("HEAD", self.link("GET", data, role="kernel"))
        self.assertEqual((status, body, self.signer.redeem(headers["x-receipt"])[0]), (200, b"", "kernel"))

    @inlineCallbacks
    def test_ranges(self) -> Steps:
        """A part may be asked for; one that is not there is said so."""
        data = os.urandom(1000)
        yield self.put(data, "kernel")
        link = self.link("GET", data)
        status, headers, body = yield self.ask("GET", link, Range="bytes=990-")
        self.assertEqual((status, body, headers["content-range"]), (206, data[990:], "bytes 990-999/1000"))
        status, headers, _ = yield self.ask("GET", link, Range="bytes=1000-")
        self.assertEqual((status, headers["content-range"]), (416, "bytes */1000"))

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """What is forged, expired, unknown or wrong is the client's fault, and is said so."""
        data = b"kernel"
        late = self.signer.link("GET", image_path(digest_of(data)), -1)
        asked = {
            "forged": (self.ask("GET", self.link("GET", data)[:-1] + "x"), 403),
            "expired": (self.ask("GET", late), 403),
            "not for this": (self.ask("PUT", self.link("GET", data), data), 403),
            "not signed": (self.ask("PUT", self.url + image_path(digest_of(data)), data), 403),
            "unknown": (self.ask("GET", self.link("GET", data)), 404),
            "elsewhere": (self.ask("GET", self.url + "/bucket/key"), 404),
            "no digest": (self.ask("PUT", self.signer.link("PUT", IMAGES + "/../x", 60, role="disk"), b"x"), 400),
            "no role": (self.ask("PUT", self.link("PUT", data), data), 400),
            "another digest": (self.ask("PUT", self.link("PUT", b"other", role="kernel"), data), 400),
            "no disk": (self.ask("PUT", self.link("PUT", b"KDMV", role="disk"), b"KDMV"), 400),
            "no method": (self.ask("POST", self.signer.link("POST", image_path(digest_of(data)), 60), data), 405),
        }
        for what, (asking, wanted) in asked.items():
            status, _, _ = yield asking
            self.assertEqual(status, wanted, what)
        files = yield self.store.files()
        self.assertEqual(files, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_too_long(self) -> Steps:
        """A body longer than the store takes is refused, by its length or as it comes."""
        link = self.link("PUT", b"", role="kernel")
        status = yield deferToThread(_claim, link, f"Content-Length: {LARGEST + 1}\r\n", b"0" * 1000)
        self.assertIn(status, (b"", b"HTTP/1.1 413"))
        status = yield deferToThread(_claim, link, "Transfer-Encoding: chunked\r\n", b"%x\r\n" % (LARGEST * 3))
        self.assertEqual((yield self.store.files()), [])

    @inlineCallbacks
    def test_odd_headers(self) -> Steps:
        """Headers that are no text are as good as none, or refused."""
        data = b"kernel"
        yield self.put(data, "kernel")
        status, _, body = yield self.ask("GET", self.link("GET", data), range="bytes=\xff-")
        self.assertEqual((status, body), (200, data))
        status, _, body = yield self.ask(
            "POST", self.signer.link("POST", IMAGES, 60, role="disk"), data, **{"X-Digest": "\xff"}
        )
        self.assertEqual(status, 400)

    @inlineCallbacks
    def test_kernel_as_disk(self) -> Steps:
        """Nobody gets a receipt for a disk that was never looked into."""
        data = self.disk("-f", "qcow2", "1M")
        yield self.put(data, "kernel")
        link = self.link("GET", data, role="disk")
        status, headers, _ = yield self.ask("HEAD", link)
        self.assertEqual((status, headers.get("x-receipt")), (404, None))
        yield self.put(data)
        status, headers, _ = yield self.ask("HEAD", link)
        role, stored = self.signer.redeem(headers["x-receipt"])
        self.assertEqual((status, role, stored.format, stored.disk_bytes), (200, "disk", "qcow2", 1 << 20))

    @inlineCallbacks
    def test_client_leaves(self) -> Steps:
        """A client that leaves in the middle of an upload leaves nothing."""
        link = self.link("PUT", b"", role="kernel")
        begun = partial(_until, lambda: bool(self.left()))
        yield deferToThread(_claim, link, "Content-Length: 9000000\r\n", b"0" * 500_000, begun)
        yield deferToThread(_until, lambda: not self.left())

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """A file is removed by a link, unless it was used lately."""
        data = b"kernel"
        yield self.put(data, "kernel")
        status, _, _ = yield self.ask("DELETE", self.link("DELETE", data, unused_since=str(time.time() - 60)))
        self.assertEqual(status, 409)
        for _ in range(2):
            status, _, _ = yield self.ask("DELETE", self.link("DELETE", data))
            self.assertEqual(status, 204)
        self.assertEqual((yield self.store.files()), [])


class UploadTests(DoorCase):
    """
    A host that brings a file.
    """

    @inlineCallbacks
    def test_brought(self) -> Steps:
        """A file is brought by a link that was made before its digest was known."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(os.urandom(3 << 20))
        link = self.signer.link("POST", IMAGES, 60, role="disk")
        receipt = yield Uploader(_reactor, deferToThread).upload(link, str(path))
        role, stored = self.signer.redeem(receipt)
        self.assertEqual((role, stored.digest, stored.disk_bytes), ("disk", digest_of(path.read_bytes()), 3 << 20))
        self.assertEqual((yield self.store.read(stored.digest, 0, 9 << 20)), path.read_bytes())

    @inlineCallbacks
    def test_not_taken(self) -> Steps:
        """What the store does not take, or what is not there, is said with the reason."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"KDMV")
        uploader = Uploader(_reactor, deferToThread)
        link = self.signer.link("POST", IMAGES, 60, role="disk")
        error = yield self.assertFailure(uploader.upload(link, str(path)), DriverFailure)
        self.assertIn("VMDK", str(error))
        error = yield self.assertFailure(uploader.upload(link[:-1] + "x", str(path)), DriverFailure)
        self.assertIn("signature", str(error))
        error = yield self.assertFailure(uploader.upload(link, str(path) + "-not"), DriverFailure)
        self.assertIn("No such file", str(error))


class TLSTests(DoorCase):
    """
    A door that speaks TLS, as C{objectstore.endpoint = "ssl:…"} has it.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """One with a certificate that this process trusts."""
        yield super().setUp()
        pem = Path(self.mktemp()).absolute()
        write_certificate(pem, "localhost")
        self.trust(pem)
        description = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
        secure = yield serverFromString(_reactor, description).listen(self.port.factory)
        self.addCleanup(secure.stopListening)
        self.url = f"https://localhost:{secure.getHost().port}"

    def trust(self, authority: Path) -> None:
        """Have this process trust it, as an operator does."""
        self.addCleanup(os.environ.update, dict(os.environ))
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(authority)

    @inlineCallbacks
    def test_files(self) -> Steps:
        """Files are uploaded, looked up, fetched and removed by links that are https."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(os.urandom(9 << 20))
        link = self.signer.link("POST", IMAGES, 60, role="disk")
        receipt = yield Uploader(_reactor, deferToThread).upload(link, str(path))
        _, stored = self.signer.redeem(receipt)
        order = FileOrder("disk", stored.digest, "raw", stored.size, 0, self.link("GET", path.read_bytes()))
        downloader = Downloader(_reactor, deferToThread, 5.0)
        cache = ImageCache(self.mktemp(), downloader, _reactor, deferToThread, 16 << 20)
        found = yield cache.fetch(order)
        self.assertEqual(Path(found).read_bytes(), path.read_bytes())
        client: Any = Links(self.signer)
        again = yield deferToThread(upload, client, str(path), "disk")
        self.assertEqual(self.signer.redeem(again)[1].digest, stored.digest)
        kernel = Path(self.mktemp()).absolute()
        kernel.write_bytes(b"kernel" * 100_000)
        yield deferToThread(upload, client, str(kernel), "kernel")
        door = StoreDoor(_reactor, self.signer)
        self.assertEqual(len((yield door.files())), 2)
        yield door.delete(stored.digest, float("inf"))
        self.assertEqual(len((yield door.files())), 1)

    @inlineCallbacks
    def test_distrusted(self) -> Steps:
        """A store whose certificate nobody vouches for is not believed to be one."""
        other = Path(self.mktemp()).absolute()
        write_certificate(other, "localhost")
        os.environ["SSL_CERT_FILE"] = str(other)
        yield self.assertFailure(StoreDoor(_reactor, self.signer).files(), Unavailable)


class Links:
    """
    What the admin door answers.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def call(self, action: str, role: str, digest: str, **more: Any) -> dict[str, str]:
        """Links to find a file, and to put it."""
        methods = {"find": "GET", "put": "PUT"}
        return {name: self._signer.link(method, image_path(digest), 60, role=role) for name, method in methods.items()}


def _claim(link: str, header: str, body: bytes, meanwhile: Callable[[], None] = lambda: None) -> bytes:
    """Begin a PUT by hand, and leave after C{meanwhile}; the first line of what came, if something did."""
    parts = urlsplit(link)
    with socket.create_connection((parts.hostname, parts.port), 30) as connection:
        connection.settimeout(0.5)
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: store\r\n{header}\r\n"
        connection.sendall(head.encode() + body)
        meanwhile()
        try:
            return connection.recv(1000)[:12]
        except (TimeoutError, ConnectionError):
            return b""


def _until(true: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class CacheTests(DoorCase):
    """
    A host's cache.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        """A cache with room for four files of a megabyte."""
        yield super().setUp()
        self.place = Path(self.mktemp()).absolute()
        self.cache = self.made()

    def made(self) -> ImageCache:
        """A cache in the directory."""
        downloader = Downloader(_reactor, deferToThread, 5.0)
        return ImageCache(str(self.place), downloader, _reactor, deferToThread, 4 << 20)

    @inlineCallbacks
    def order(self, data: bytes, link: str = "") -> Generator[Deferred[Any], Any, FileOrder]:
        """Put a file into the store, and make a host's order of it."""
        stored = yield self.put(data, "kernel")
        return FileOrder("kernel", stored.digest, "raw", stored.size, 0, link or self.link("GET", data))

    def counted(self) -> list[str]:
        """Have the door note the requests that come; the list grows."""
        seen: list[str] = []
        start = self.port.factory.start

        def noting(request: Any) -> Any:
            seen.append(request.header("range"))
            return start(request)

        self.port.factory.start = noting
        return seen

    def test_interface(self) -> None:
        """It provides what its interface says."""
        verifyObject(IImageCache, self.cache)

    @inlineCallbacks
    def test_single_flight(self) -> Steps:
        """Many launches at once fetch a file once; later ones not at all; nobody may write to it."""
        data, seen = os.urandom(1 << 20), self.counted()
        order = yield self.order(data)
        cancelled = self.cache.fetch(order)
        fetching = [self.cache.fetch(order) for _ in range(20)]
        cancelled.cancel()
        yield cancelled.addErrback(lambda _: None)
        paths = set((yield gatherResults(fetching)))
        paths.add((yield self.made().fetch(order)))
        [path] = paths
        self.assertEqual(Path(path).read_bytes(), data)
        self.assertEqual((os.stat(path).st_mode & 0o777, seen), (0o440, [""]))

    @inlineCallbacks
    def test_resumes(self) -> Steps:
        """What an earlier process had fetched is not fetched again."""
        data, seen = os.urandom(1 << 20), self.counted()
        order = yield self.order(data)
        (self.place / "partial").mkdir(parents=True)
        (self.place / "partial" / order.digest).write_bytes(data[:1000])
        path = yield self.cache.fetch(order)
        self.assertEqual((Path(path).read_bytes() == data, seen), (True, ["bytes=1000-"]))

    @inlineCallbacks
    def test_resumes_anew(self) -> Steps:
        """What an earlier process left and a power cut spoilt is fetched from its beginning."""
        data, seen = os.urandom(1 << 20), self.counted()
        order = yield self.order(data)
        for spoilt in (1000, len(data)):
            cache = self.made()
            (self.place / "partial").mkdir(parents=True, exist_ok=True)
            (self.place / "partial" / order.digest).write_bytes(b"\0" * spoilt)
            path = yield cache.fetch(order)
            self.assertEqual(Path(path).read_bytes(), data)
            os.unlink(path)
        self.assertEqual(seen, ["bytes=1000-", "", ""])

    @inlineCallbacks
    def test_cut(self) -> Steps:
        """A connection that is cut is gone on from where it was."""
        data = os.urandom(1 << 20)
        order = yield self.order(data)
        proxy = yield serverFromString(_reactor, "tcp:0:interface=127.0.0.1").listen(Cutting(order.link, data))
        self.addCleanup(proxy.stopListening)
        link = f"http://127.0.0.1:{proxy.getHost().port}/file"
        path = yield self.cache.fetch(attrs.evolve(order, link=link))
        self.assertEqual(Path(path).read_bytes(), data)
        self.assertGreater(proxy.factory.connections, 2)

    @inlineCallbacks
    def test_wrong_bytes(self) -> Steps:
        """Bytes that are not what the digest says are thrown away, and never had."""
        data = os.urandom(1 << 20)
        order = yield self.order(data)
        wrong = attrs.evolve(order, digest="0" * 64)
        error = yield self.assertFailure(self.cache.fetch(wrong), DriverFailure)
        self.assertIn("digest", str(error))
        self.assertEqual([os.listdir(self.place / name) for name in ("files", "partial")], [[], []])

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """A link that has expired, or leads nowhere, is said so at once."""
        order = yield self.order(b"kernel")
        late = attrs.evolve(order, link=self.signer.link("GET", image_path(order.digest), -1))
        error = yield self.assertFailure(self.cache.fetch(late), DriverFailure)
        self.assertIn("expired", str(error))
        gone = attrs.evolve(order, digest="0" * 64, link=self.signer.link("GET", image_path("0" * 64), 60))
        error = yield self.assertFailure(self.cache.fetch(gone), DriverFailure)
        self.assertIn("does not have", str(error))

    @inlineCallbacks
    def test_room(self) -> Steps:
        """The files used longest ago make room for others, but not those that guests are built on."""
        orders = []
        for _ in range(4):
            orders.append((yield self.order(os.urandom(1 << 20))))
        for order in orders:
            yield self.cache.fetch(order)
        cache = self.made()
        fifth = yield self.order(os.urandom(1 << 20))
        error = yield self.assertFailure(cache.fetch(fifth), DriverFailure)
        self.assertIn("no room", str(error))
        yield cache.keep(frozenset({orders[0].digest}))
        yield cache.fetch(fifth)
        wanted = sorted(order.digest for order in (orders[0], *orders[2:], fifth))
        self.assertEqual(sorted(os.listdir(self.place / "files")), wanted)

    @inlineCallbacks
    def test_room_of_two(self) -> Steps:
        """Files that come at the same time don't count on the same room."""
        orders = []
        for _ in range(2):
            orders.append((yield self.order(os.urandom(3 << 20))))
        yield self.cache.keep(frozenset())
        fetching = [self.cache.fetch(order) for order in orders]
        outcomes = yield DeferredList(fetching, consumeErrors=True)
        self.assertEqual([whole for whole, _ in outcomes], [True, False])
        self.assertIn("no room", str(outcomes[1][1].value))

    @inlineCallbacks
    def test_full_disk(self) -> Steps:
        """On a disk that is full what nobody needs makes room; without that nothing stays of what was begun."""
        orders = []
        for _ in range(3):
            orders.append((yield self.order(os.urandom(1 << 20))))
        for order in orders[:2]:
            yield self.cache.fetch(order)
        files = self.place / "files"

        def full(descriptor: int, data: Any) -> int:
            if len(os.listdir(files)) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return os.write(descriptor, data)

        cache = self.made()
        yield cache.keep(frozenset(order.digest for order in orders[:2]))
        names = ("open", "close", "fsync", "O_WRONLY", "O_CREAT", "O_APPEND")
        disk = SimpleNamespace(write=full, **{name: getattr(os, name) for name in names})
        self.patch(appender_module, "os", disk)
        error = yield self.assertFailure(cache.fetch(orders[2]), DriverFailure)
        self.assertIn("No space left", str(error))
        self.assertEqual(os.listdir(self.place / "partial"), [])
        yield cache.keep(frozenset({orders[0].digest}))
        path = yield cache.fetch(orders[2])
        self.assertTrue(os.path.exists(path))
        self.assertEqual(sorted(os.listdir(files)), sorted(order.digest for order in (orders[0], orders[2])))

    @inlineCallbacks
    def test_asked_for_while_removed(self) -> Steps:
        """A file that is asked for while it is removed to make room is not given out."""
        orders = []
        for size in (1, 2, 2):
            orders.append((yield self.order(os.urandom(size << 20))))
        for order in orders[:2]:
            yield self.cache.fetch(order)
        go: list[Deferred[Any]] = []

        def held_back(function: Any, *arguments: Any) -> Deferred[Any]:
            if function.__name__ == "_make_room" and not go:
                go.append(Deferred())
                return go[0].addCallback(lambda _: deferToThread(function, *arguments))
            return deferToThread(function, *arguments)

        cache = self.made()
        yield cache.keep(frozenset({orders[1].digest}))
        self.patch(cache, "_in_thread", held_back)
        coming = cache.fetch(orders[2])
        while not go:
            yield deferLater(_reactor, 0.01)
        wanted = cache.fetch(orders[0])
        yield deferLater(_reactor, 0.2)
        go[0].callback(None)
        yield coming
        error = yield self.assertFailure(wanted, DriverFailure)
        self.assertIn("no room", str(error))

    @inlineCallbacks
    def test_no_room(self) -> Steps:
        """A file larger than all the room is refused before it is asked for."""
        yield self.cache.keep(frozenset())
        order = yield self.order(os.urandom(5 << 20))
        error = yield self.assertFailure(self.cache.fetch(order), DriverFailure)
        self.assertIn("no room", str(error))


class Cutting(Factory):
    """
    A server that cuts its connections after 400,000 bytes.
    """

    noisy = False

    def __init__(self, link: str, data: bytes) -> None:
        self.data = data
        self.connections = 0

    def buildProtocol(self, addr: Any) -> Protocol:
        """One connection."""
        self.connections += 1
        return _Cut(self.data)


class _Cut(Protocol):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def dataReceived(self, data: bytes) -> None:
        """Answer with a part of the rest."""
        text = data.decode().lower()
        start = int(text.partition("range: bytes=")[2].partition("-")[0]) if "range:" in text else 0
        rest = self._data[start:]
        status = "206 Partial Content" if start else "200 OK"
        assert self.transport is not None
        self.transport.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(rest)}\r\n\r\n".encode() + rest[:400_000])
        self.transport.loseConnection()
