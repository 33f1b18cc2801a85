"""
The EC2 door over its site, on a connection in memory.
"""

from __future__ import annotations

import time
from typing import Any

import attrs
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import EC2QueryParser
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric import errors
from fabric.api.ec2.call import Call, Listing
from fabric.api.ec2.door import EC2Door
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.wire.model import load_model
from fabric.api.exchange import Exchange
from fabric.api.interface import IDoor, IExchange
from fabric.api.site import Limits, Site
from fabric.metrics import Metrics
from fabric.store.interface import Page
from fabric.users.interface import Identity

VERSION = "2016-11-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"


class Transport(StringTransport):
    """A connection that knows that it was aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing."""


@attrs.define
class Directory:
    """People of a test: one of them, or a failure."""

    identity: Identity
    failure: Exception | None = None

    def identify(self, access_key: str) -> Deferred[Identity]:
        """Ann's identity."""
        if self.failure is not None:
            return fail(self.failure)
        if access_key.partition(":")[0] != "AK":
            return fail(errors.NotFound("access key", access_key))
        return succeed(self.identity)


class DoorCase(SynchronousTestCase):
    """
    A site with an EC2 door whose actions answer what a test puts here.
    """

    limits = Limits(body=4096, header=8192, headers=40, idle=60.0, receive=30.0)

    def setUp(self) -> None:
        """A door with four actions that answer C{self.answer}."""
        self.clock = Clock()
        self.clock.advance(time.time())
        self.calls: list[Call] = []
        self.answer: Any = {}
        honoured = ("InstanceIds", "Filters", "MaxResults", "NextToken")
        registry = Registry(Action(name, self.act, honoured) for name in ("DescribeInstances",))
        for name in ("StartInstances", "TerminateInstances"):
            registry.add(Action(name, self.act, frozenset({"InstanceIds"})))
        registry.add(Action("CreateSecurityGroup", self.act, frozenset({"GroupName", "Description"})))
        self.directory = Directory(Identity("ann", "red", frozenset({"sysadmin"}), "AK", "secret"))
        self.metrics = Metrics()
        self.door = EC2Door(self.directory, registry, load_model(registry.names()), self.clock, self.metrics)
        routes = {"/services/Cloud": self.door, "/": self.door}
        self.site = Site(self.clock, routes, self.limits)
        self.transport = self.connect()

    def act(self, call: Call) -> Deferred[Any]:
        """Every action's handler."""
        self.calls.append(call)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return self.answer if isinstance(self.answer, Deferred) else succeed(self.answer)

    def connect(self) -> Transport:
        """A new connection."""
        transport = Transport()
        self.channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.channel.makeConnection(transport)
        return transport

    def signed(
        self, form: str, path: str = "/services/Cloud", secret: str = "secret", key: str = "AK", **extra: str
    ) -> bytes:
        """A POST as botocore signs it."""
        headers = {"Content-Type": FORM, **{name.replace("_", "-"): value for name, value in extra.items()}}
        request = AWSRequest("POST", f"http://cloud:8773{path}", data=form.encode(), headers=headers)
        SigV4Auth(Credentials(key, secret), "ec2", "nova").add_auth(request)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        lines += ["Host: cloud:8773", f"Content-Length: {len(form.encode())}"]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *lines])
        return f"{head}\r\n\r\n{form}".encode()

    def send(self, data: bytes) -> bytes:
        """What comes back at once."""
        self.transport.clear()
        self.channel.dataReceived(data)
        return bytes(self.transport.value())

    def ask(self, form: str, **options: str) -> tuple[int, bytes]:
        """Status and body of the answer to a signed form."""
        return self.split(self.send(self.signed(form, **options)))

    def split(self, data: bytes) -> tuple[int, bytes]:
        """Status and body."""
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    def code(self, body: bytes) -> str:
        """The code of a refusal, read by botocore."""
        found = EC2QueryParser().parse({"body": body, "headers": {}, "status_code": 400}, None)
        return str(found["Error"]["Code"])

    def refused(self, form: str, **options: str) -> tuple[int, str]:
        """Status and code of a refusal."""
        status, body = self.ask(form, **options)
        return status, self.code(body)


class DoorTests(DoorCase):
    """
    From request to handler and back.
    """

    def test_interface(self) -> None:
        """The door is one, and gets what an exchange promises."""
        verifyObject(IDoor, self.door)
        verifyObject(IExchange, Exchange(self.channel))

    def test_answer(self) -> None:
        """A signed request reaches its handler typed, and its answer comes back as XML with the request's id."""
        self.answer = {"StartingInstances": [{"InstanceId": "i-1"}]}
        data = self.send(self.signed(f"Action=StartInstances&Version={VERSION}&InstanceId.1=i-1"))
        status, body = self.split(data)
        (call,) = self.calls
        self.assertEqual((200, {"InstanceIds": ["i-1"]}), (status, call.parameters))
        self.assertEqual(("ann", "red"), (call.caller.user, call.caller.project))
        self.assertIn(f"x-amzn-RequestId: {call.caller.request_id}\r\n".encode(), data)
        self.assertIn(f"<requestId>{call.caller.request_id}</requestId>".encode(), body)
        self.assertIn(b"<instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>", body)
        self.assertNotIn(b"Twisted", data)

    def test_paths(self) -> None:
        """The door is at /services/Cloud, with and without a slash, and at /; nothing else is."""
        for path in ("/services/Cloud", "/services/Cloud/", "/"):
            self.assertEqual(200, self.ask("Action=DescribeInstances", path=path)[0], path)
        for path in ("/services", "/services/Cloud/x", "/services/Cloud//", "//"):
            self.assertEqual(404, self.ask("Action=DescribeInstances", path=path)[0], path)

    def test_version_comes_back(self) -> None:
        """The answer's namespace is that of the version that was asked; one that is no version is refused."""
        _, body = self.ask("Action=DescribeInstances&Version=2010-08-31")
        self.assertIn(b'xmlns="http://ec2.amazonaws.com/doc/2010-08-31/"', body)
        self.assertEqual((400, "NoSuchVersion"), self.refused('Action=DescribeInstances&Version="><x'))

    def test_actions(self) -> None:
        """An action of nobody's, one that is not built yet, and none at all are told apart."""
        self.assertEqual((400, "InvalidAction"), self.refused("Action=DescribeUnicorns"))
        self.assertEqual((400, "UnsupportedOperation"), self.refused("Action=CreateVpc"))
        self.assertEqual((400, "MissingAction"), self.refused("Version=2016-11-15"))

    def test_credentials(self) -> None:
        """A wrong secret and an unknown key get one and the same answer."""
        wrong = self.ask("Action=DescribeInstances", secret="other")
        unknown = self.ask("Action=DescribeInstances", key="XX")
        self.assertEqual((401, "AuthFailure"), (wrong[0], self.code(wrong[1])))
        self.assertEqual(wrong[1].split(b"<RequestID>")[0], unknown[1].split(b"<RequestID>")[0])
        self.directory.failure = errors.Denied("ann", "act in project blue")
        self.assertEqual((401, "AuthFailure"), self.refused("Action=DescribeInstances", key="AK:blue"))
        self.assertEqual([], self.calls)

    def test_unsigned(self) -> None:
        """Without a signature there is no answer; with an old one neither."""
        data = b"GET /?Action=DescribeInstances HTTP/1.1\r\nHost: a\r\n\r\n"
        status, body = self.split(self.send(data))
        self.assertEqual((403, "MissingAuthenticationToken"), (status, self.code(body)))
        request = self.signed("Action=DescribeInstances")
        self.clock.advance(1000)
        self.transport = self.connect()
        status, body = self.split(self.send(request))
        self.assertEqual((400, "RequestExpired"), (status, self.code(body)))

    def test_roles(self) -> None:
        """Who has not the role is refused before the parameters are looked at."""
        self.directory.identity = attrs.evolve(self.directory.identity, roles=frozenset({"developer"}))
        self.assertEqual((403, "UnauthorizedOperation"), self.refused("Action=TerminateInstances&Foo=1"))
        self.assertEqual(200, self.ask("Action=DescribeInstances")[0])

    def test_dry_run(self) -> None:
        """A dry run is checked and not done."""
        form = "Action=StartInstances&DryRun=true"
        self.assertEqual((412, "DryRunOperation"), self.refused(form + "&InstanceId.1=i-1"))
        self.assertEqual((400, "MissingParameter"), self.refused(form))
        self.assertEqual([], self.calls)
        self.assertEqual(200, self.ask("Action=StartInstances&DryRun=false&InstanceId.1=i-1")[0])
        self.assertNotIn("DryRun", self.calls[0].parameters)

    def test_malformed(self) -> None:
        """Twice the same parameter, in one place or in two, is no request."""
        self.assertEqual((400, "MalformedQueryString"), self.refused("Action=DescribeInstances&Action=CreateVpc"))
        data = self.signed("Action=DescribeInstances").replace(b"/services/Cloud", b"/?Action=CreateVpc", 1)
        self.assertEqual("MalformedQueryString", self.code(self.split(self.send(data))[1]))

    def test_methods(self) -> None:
        """PUT, DELETE and HEAD are refused, the last without a body."""
        for method in (b"PUT", b"DELETE"):
            self.assertEqual(405, self.split(self.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"))[0])
        self.assertEqual((405, b""), self.split(self.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")))

    def test_handler_fails(self) -> None:
        """The cloud's errors are told in EC2's words; an action's own pass as they are."""
        self.answer = errors.QuotaExceeded("instances", 1, 1, 2)
        self.assertEqual((400, "InstanceLimitExceeded"), self.refused("Action=DescribeInstances"))
        self.answer = EC2Error("InvalidParameterCombination", "no")
        self.assertEqual((400, "InvalidParameterCombination"), self.refused("Action=DescribeInstances"))

    def test_unknown_failure(self) -> None:
        """A failure that nobody expected is logged whole with the request's id, and tells the client nothing."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for answer in (RuntimeError("the password is 1234"), {"Nonsense": 1}):
            self.answer = answer
            status, body = self.ask("Action=DescribeInstances")
            self.assertEqual((500, "InternalError"), (status, self.code(body)))
            self.assertNotIn(b"1234", body)
        logged = [event for event in events if event.get("log_failure") is not None]
        wanted = [call.caller.request_id for call in self.calls]
        self.assertEqual(wanted, [event["request_id"] for event in logged])
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError, KeyError)))

    def test_directory_is_lost(self) -> None:
        """When people can't be asked, the answer is one that clients repeat."""
        self.directory.failure = errors.Unavailable("ldap", "connection lost")
        self.assertEqual((503, "Unavailable"), self.refused("Action=DescribeInstances"))
        self.flushLoggedErrors(errors.Unavailable)

    def test_log(self) -> None:
        """What changes something or was refused is logged with the request's id; what was only read is not."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for form in ("DescribeInstances", "StartInstances&InstanceId.1=i-1", "DescribeInstances&X=1", "Mallory"):
            self.ask(f"Action={form}")
        lines = [(event["action"], event["user"], event["code"]) for event in events if "code" in event]
        wanted = [
            ("StartInstances", "ann", "200"),
            ("DescribeInstances", "ann", "UnknownParameter"),
            ("A request", "nobody", "InvalidAction"),
        ]
        self.assertEqual(wanted, lines)

    def test_metrics(self) -> None:
        """Requests are counted by action and code, strangers' inventions not."""
        self.ask("Action=DescribeInstances")
        self.ask("Action=Mallory")
        text = self.metrics.exposition().decode()
        self.assertIn('action="DescribeInstances",code="200"', text)
        self.assertIn('action="unknown",code="InvalidAction"', text)
        self.assertNotIn("Mallory", text)

    def test_client_leaves(self) -> None:
        """A description that nobody waits for any more is cancelled; a verb is not."""
        cancelled: list[Any] = []
        for action, wanted in (("DescribeInstances", 1), ("StartInstances&InstanceId.1=i", 1)):
            self.answer = Deferred(cancelled.append)
            self.transport = self.connect()
            self.assertEqual(b"", self.send(self.signed(f"Action={action}")))
            self.channel.connectionLost(Failure(ConnectionError()))
            self.assertEqual(wanted, len(cancelled))
        self.answer.callback({})
        self.assertEqual([], self.flushLoggedErrors(CancelledError))


class ListingTests(DoorCase):
    """
    Answers that are made of pages.
    """

    def setUp(self) -> None:
        """Three pages of views, each asked for."""
        super().setUp()
        self.asked: list[str] = []
        self.pages: dict[str, Any] = {"b": Page([b"<item>2</item>"], "c"), "c": Page([b"<item>3</item>"], "")}
        self.answer = self.listing(Page([b"<item>1</item>"], "b"))

    def listing(self, first: Page, whole: bool = True) -> Listing:
        """A listing whose join counts its pages."""

        def join(views: list[bytes], state: Any) -> tuple[bytes, Any]:
            return (b"".join(views), (state or 0) + 1) if views else (b"<!--%d-->" % (state or 0), None)

        return Listing("reservationSet", self.page, first, whole, join)

    def page(self, cursor: str) -> Deferred[Page]:
        """A page after the first."""
        self.asked.append(cursor)
        found = self.pages[cursor]
        return found if isinstance(found, Deferred) else succeed(found)

    def chunks(self, data: bytes) -> bytes:
        """A chunked body put together; it must be whole."""
        body, rest = b"", data
        while True:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            body += rest[:length]
            rest = rest[length + 2 :]
            if not length:
                self.assertEqual(b"", rest)
                return body

    def test_one_page(self) -> None:
        """A listing of one page is sent with its length."""
        self.answer = self.listing(Page([b"<item>1</item>"], ""))
        data = self.send(self.signed("Action=DescribeInstances"))
        self.assertIn(b"Content-Length: ", data)
        self.assertIn(b"<reservationSet><item>1</item><!--1--></reservationSet></DescribeInstancesResponse>", data)

    def test_next_token(self) -> None:
        """Of a listing asked for by pages, one is sent with the token for the next."""
        self.answer = self.listing(Page([b"<item>1</item>"], "a<b"), whole=False)
        _, body = self.ask("Action=DescribeInstances&MaxResults=5")
        self.assertIn(b"</reservationSet><nextToken>a&lt;b</nextToken></DescribeInstancesResponse>", body)
        self.assertEqual([], self.asked)

    def test_pages_are_streamed(self) -> None:
        """A long listing is sent a page a turn of the reactor."""
        data = self.send(self.signed("Action=DescribeInstances"))
        self.assertIn(b"Transfer-Encoding: chunked", data)
        self.assertEqual([], self.asked)
        self.clock.pump([0] * 5)
        self.assertEqual(["b", "c"], self.asked)
        _, body = self.split(bytes(self.transport.value()))
        items = b"<item>1</item><item>2</item><item>3</item><!--3-->"
        self.assertIn(b"<reservationSet>" + items + b"</reservationSet></Desc", self.chunks(body))

    def test_next_request_on_the_connection(self) -> None:
        """A connection goes on after a streamed answer, and answers what was sent meanwhile."""
        self.send(self.signed("Action=DescribeInstances"))
        self.channel.dataReceived(self.signed("Action=DescribeUnicorns"))
        self.clock.pump([0] * 5)
        self.assertIn(b"0\r\n\r\nHTTP/1.1 400 Bad Request", self.transport.value())

    def test_slow_client(self) -> None:
        """No page is asked for while the client takes nothing."""
        self.send(self.signed("Action=DescribeInstances"))
        self.transport.producer.pauseProducing()
        self.clock.pump([0] * 5)
        self.assertEqual([], self.asked)
        self.transport.producer.resumeProducing()
        self.clock.pump([0] * 5)
        self.assertEqual(["b", "c"], self.asked)
        self.clock.advance(59)
        self.assertFalse(self.transport.aborted)

    def test_stalled_client(self) -> None:
        """A client that takes nothing for a minute is cut off, with what is held for it."""
        self.send(self.signed("Action=DescribeInstances"))
        self.transport.producer.pauseProducing()
        self.clock.advance(59)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_client_leaves(self) -> None:
        """When the client is gone no more pages are asked for, and a page that comes late is dropped."""
        self.pages["b"] = late = Deferred()
        self.send(self.signed("Action=DescribeInstances"))
        self.clock.advance(0)
        self.channel.connectionLost(Failure(ConnectionError()))
        late.callback(Page([], "c"))
        self.clock.pump([0] * 5)
        self.assertEqual(["b"], self.asked)

    def test_failure_in_the_middle(self) -> None:
        """A page that fails aborts the connection, so that half a listing is never taken for a whole one."""
        self.pages["c"] = fail(errors.Unavailable("store", "gone"))
        self.send(self.signed("Action=DescribeInstances"))
        self.clock.pump([0] * 5)
        self.assertTrue(self.transport.aborted)
        self.assertNotIn(b"\r\n0\r\n\r\n", self.transport.value())
        self.flushLoggedErrors(errors.Unavailable)

    def test_old_client(self) -> None:
        """A client of HTTP/1.0 gets the pages unframed until the connection closes."""
        request = self.signed("Action=DescribeInstances").replace(b"HTTP/1.1", b"HTTP/1.0")
        self.assertNotIn(b"chunked", self.send(request))
        self.clock.pump([0] * 5)
        self.assertTrue(self.transport.value().endswith(b"</DescribeInstancesResponse>"))
        self.assertTrue(self.transport.disconnecting)


class LimitTests(DoorCase):
    """
    What clients may not do to the server.
    """

    def test_long_body(self) -> None:
        """A body above the limit is refused in EC2's form and the connection lives on."""
        status, body = self.ask("Action=DescribeInstances&X=" + "x" * 5000)
        self.assertEqual((413, "RequestEntityTooLarge"), (status, self.code(body)))
        self.assertEqual(200, self.ask("Action=DescribeInstances")[0])

    def test_absurd_body(self) -> None:
        """A body far above it is refused unread, whether its length is known or not."""
        data = self.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        self.assertTrue(data.startswith(b"HTTP/1.1 413 "))
        self.assertTrue(self.transport.disconnecting)
        self.transport = self.connect()
        self.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(9):
            self.channel.dataReceived(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 413 "))
        self.assertTrue(self.transport.disconnecting)

    def test_headers(self) -> None:
        """Too many headers, or too long ones, end the connection."""
        for headers in (b"".join(b"X-%d: y\r\n" % n for n in range(60)), b"X: " + b"y" * 9000 + b"\r\n"):
            self.transport = self.connect()
            data = self.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
            self.assertTrue(data.startswith(b"HTTP/1.1 400 "))
            self.assertTrue(self.transport.disconnecting)

    def test_many_parameters(self) -> None:
        """More parameters than any action can have are refused."""
        form = "Action=DescribeInstances&" + "&".join(f"{n}" for n in range(700))
        self.assertEqual("UnknownParameter", self.refused(form)[1])

    def test_idle(self) -> None:
        """A connection on which nothing is asked is closed in time."""
        self.ask("Action=DescribeInstances")
        self.clock.advance(61)
        self.assertTrue(self.transport.disconnecting)

    def test_slow_request(self) -> None:
        """A request that comes a byte now and then is not waited for."""
        for byte in b"POST / HTTP/1.1\r\nHo":
            self.channel.dataReceived(bytes([byte]))
            self.clock.advance(2)
        self.assertTrue(self.transport.aborted)

    def test_slow_handler(self) -> None:
        """The time that an answer takes is not held against the client."""
        self.answer = Deferred()
        self.send(self.signed("Action=DescribeInstances"))
        self.clock.advance(300)
        self.assertFalse(self.transport.disconnecting)
        self.answer.callback({})
        self.assertEqual(200, self.split(self.transport.value())[0])

    def test_expect(self) -> None:
        """A client that asks first is told to go on."""
        request = self.signed("Action=DescribeInstances", Expect="100-continue")
        head, _, body = request.partition(b"\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.send(head + b"\r\n\r\n"))
        self.assertEqual(200, self.split(self.send(body))[0])

    def test_connection_close(self) -> None:
        """A client that wants the connection closed has it closed after its answer."""
        data = self.send(self.signed("Action=DescribeInstances", Connection="close"))
        self.assertIn(b"Connection: close", data)
        self.assertTrue(self.transport.disconnecting)

    def test_pipelined(self) -> None:
        """Hundreds of requests in one packet are answered in order."""
        one = b"GET / HTTP/1.1\r\n\r\n"
        data = self.send(one * 700)
        self.assertEqual(700, data.count(b"MissingAction"))

    def test_any_bytes(self) -> None:
        """Bytes that are no text get a refusal, never a traceback."""
        for target in (b"/\xff", b"/?\xff=%ff", b"/?Action=\xc3", b"*", b"http://[", b"/services/Cloud?%00"):
            self.transport = self.connect()
            data = self.send(
                b"GET " + target + b" HTTP/1.1\r\nHost: \xff\r\nAuthorization: AWS4-HMAC-SHA256 \xff\r\n\r\n"
            )
            self.assertIn(self.split(data)[0], (400, 403, 404), target)
