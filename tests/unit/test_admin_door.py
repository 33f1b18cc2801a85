"""
The admin door over its site, on a connection in memory.
"""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric import errors
from fabric.api.admin.door import PATH, AdminDoor
from fabric.api.admin.registry import action, actions
from fabric.api.interface import IDoor
from fabric.api.site import Limits, Site
from fabric.cloud.access import Caller
from fabric.manage.client import Credentials, sign
from fabric.metrics import Metrics
from fabric.users.interface import Identity

HOST = "cloud:8773"


class Actions:
    """
    Actions of a test.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Caller, dict[str, Any]]] = []
        self.answer: Any = None

    @action
    def DescribeThings(self, caller: Caller, kind: str = "any", limit: int | None = None) -> Deferred[Any]:
        """Looks."""
        return self._act(caller, kind=kind, limit=limit)

    @action
    def ModifyThing(
        self,
        caller: Caller,
        id: str,
        on: bool = False,
        names: list[str] = [],  # noqa: B006
        sizes: dict[str, int] = {},  # noqa: B006
    ) -> Deferred[Any]:
        """Changes."""
        return self._act(caller, id=id, on=on, names=names, sizes=sizes)

    def hidden(self, caller: Caller) -> Deferred[Any]:
        """Is no action."""
        return self._act(caller)

    def _act(self, caller: Caller, **given: Any) -> Deferred[Any]:
        self.calls.append((caller, given))
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class Directory:
    """
    One user, with roles in a project and roles everywhere.
    """

    def __init__(self) -> None:
        self.in_project = frozenset({"projectmanager"})
        self.everywhere = frozenset({"cloudadmin"})
        self.failure: Exception | None = None

    def identify(self, access_key: str) -> Deferred[Identity]:
        """Ann."""
        if self.failure is not None:
            return fail(self.failure)
        if access_key.partition(":")[0] != "AK":
            return fail(errors.NotFound("access key", access_key))
        return succeed(Identity("ann", "red", self.in_project | self.everywhere, "AK", "sesame"))

    def roles(self, user: str, project: str | None) -> Deferred[frozenset[str]]:
        """Ann's."""
        return succeed(self.in_project if project else self.everywhere)


class AdminDoorTests(SynchronousTestCase):
    """
    What the door answers.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(time.time())
        self.owner, self.directory, self.metrics = Actions(), Directory(), Metrics()
        people: Any = self.directory
        self.door = AdminDoor(people, actions([self.owner]), self.clock, self.metrics)
        self.site = Site(self.clock, {PATH: self.door}, Limits(body=10_000))

    def send(self, body: bytes, headers: dict[str, str], target: str = PATH, method: str = "POST") -> tuple[int, Any]:
        """Status and JSON of an answer."""
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport = StringTransport()
        channel.makeConnection(transport)
        lines = [f"{method} {target} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        channel.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, content = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)

    def raw(self, body: bytes, key: str = "AK", secret: str = "sesame", late: float = 0.0) -> tuple[int, Any]:
        """A signed body."""
        now = time.gmtime(self.clock.seconds() - late)
        return self.send(body, dict(sign(Credentials("", key, secret), HOST, body, now)))

    def ask(self, name: Any, /, **parameters: Any) -> tuple[int, Any]:
        """A signed action."""
        return self.raw(json.dumps({"action": name, "parameters": parameters}).encode())

    def refused(self, answer: tuple[int, Any], status: int, code: str) -> Any:
        """See that it is this error; its message."""
        self.assertEqual((answer[0], answer[1]["error"]["code"]), (status, code), answer)
        self.assertTrue(answer[1]["request_id"])
        self.assertEqual(self.owner.calls, [])
        return answer[1]["error"]["message"]

    def test_interface(self) -> None:
        """It is a door."""
        self.assertTrue(verifyObject(IDoor, self.door))

    def test_answer(self) -> None:
        """A result comes back with the request's id, which the action has too."""
        self.owner.answer = [{"a": 1}]
        status, answer = self.ask("DescribeThings", kind="x", limit=3)
        ((caller, given_),) = self.owner.calls
        self.assertEqual((status, answer["result"]), (200, [{"a": 1}]))
        self.assertEqual((caller.user, caller.request_id), ("ann", answer["request_id"]))
        self.assertEqual(given_, {"kind": "x", "limit": 3})

    def test_no_parameters(self) -> None:
        """Parameters may be left out altogether."""
        self.assertEqual(self.raw(b'{"action": "DescribeThings"}')[0], 200)

    def test_unknown_action(self) -> None:
        """An action is one of those marked, and nothing else that objects have."""
        for name in ("Nothing", "hidden", "_act", "__init__", "", 5, None, ["DescribeThings"], {"a": 1}):
            self.refused(self.ask(name), 400, "InvalidValue")

    def test_parameters(self) -> None:
        """A parameter that is unknown, missing or of another type is named, and what was sent is not repeated."""
        for parameters, name in (
            ({"id": 5}, "Id"),
            ({"id": None}, "Id"),
            ({"id": "a", "on": 1}, "On"),
            ({"id": "a", "on": "true"}, "On"),
            ({"id": "a", "names": "ann"}, "Names"),
            ({"id": "a", "names": ["ann", 1]}, "Names"),
            ({"id": "a", "sizes": {"x": "1"}}, "Sizes"),
            ({"id": "a", "sizes": {"x": True}}, "Sizes"),
            ({"id": "a", "sizes": {"x": 1 << 60}}, "Sizes"),
            ({"id": "a", "sizes": {"x": 1.5}}, "Sizes"),
            ({"id": "a", "caller": "b"}, "Caller"),
            ({"id": "a", "handler": "b"}, "Handler"),
            ({"id": "a", "secret_kye": "sesame"}, "Secret_kye"),
            ({}, "Id"),
        ):
            message = self.refused(self.ask("ModifyThing", **parameters), 400, "InvalidValue")
            self.assertTrue(message.startswith(name + ": "), message)
            self.assertNotIn("sesame", message)

    def test_bodies(self) -> None:
        """What is not an object with an action is refused."""
        for body in (
            b"",
            b"{",
            b"[]",
            b"null",
            b"5",
            b'"action"',
            b"\xff",
            b"{}",
            b"[" * 9000,
            b'{"action": "\\ud800"}',
        ):
            self.refused(self.raw(body), 400, "InvalidValue")
        self.refused(self.raw(b'{"action": "DescribeThings", "parameters": []}'), 400, "InvalidValue")

    @given(st.binary(max_size=200))
    def test_any_body(self, body: bytes) -> None:
        """No body makes the door fail."""
        self.assertIn(self.raw(body)[0], (200, 400))

    def test_too_long(self) -> None:
        """A body beyond the limit is refused in the door's own form."""
        answer = self.raw(b" " * 20_000)
        self.refused((answer[0], {**answer[1], "request_id": answer[1]["request_id"]}), 413, "InvalidValue")

    def test_methods(self) -> None:
        """Requests are POSTs, without a query that the signature leaves out."""
        body = b'{"action": "DescribeThings"}'
        headers = dict(sign(Credentials("", "AK", "sesame"), HOST, body, time.gmtime(self.clock.seconds())))
        self.refused(self.send(body, headers, PATH + "?action=ModifyThing"), 400, "InvalidValue")
        self.refused(self.send(b"", headers, method="GET"), 400, "InvalidValue")

    def test_signature(self) -> None:
        """Who does not sign, signs wrongly, for another body, too late, or is not known, is refused alike."""
        body = b'{"action": "DescribeThings"}'
        good = dict(sign(Credentials("", "AK", "sesame"), HOST, body, time.gmtime(self.clock.seconds())))
        self.refused(self.send(body, {"Host": HOST}), 401, "SignatureRefused")
        self.refused(self.send(body + b" ", good), 401, "SignatureRefused")
        self.refused(self.send(body, {**good, "Host": "other:1"}), 401, "SignatureRefused")
        self.refused(self.send(body, {**good, "Authorization": "Basic abc"}), 401, "SignatureRefused")
        self.refused(self.raw(body, late=1000.0), 401, "SignatureRefused")
        self.refused(self.raw(body, late=-1000.0), 401, "SignatureRefused")
        wrong = self.refused(self.raw(body, secret="Sesame"), 401, "SignatureRefused")
        unknown = self.refused(self.raw(body, key="nobody"), 401, "SignatureRefused")
        self.assertIn("signature", wrong)
        self.assertIn("signature", unknown)

    def test_absurd_date(self) -> None:
        """A date beyond all numbers is refused too."""
        headers = dict(sign(Credentials("", "AK", "sesame"), HOST, b"{}", time.gmtime()))
        del headers["X-Amz-Date"]
        headers["Date"] = "Sat, 21 Nov 99999999999999999999 12:00:00 GMT"
        body = b'{"action": "DescribeThings"}'
        self.refused(self.send(body, headers), 401, "SignatureRefused")

    def test_not_a_member(self) -> None:
        """A key with somebody else's project tells no more than an unknown key."""
        self.directory.failure = errors.Denied("ann", "act in project blue")
        self.refused(self.ask("DescribeThings"), 401, "SignatureRefused")

    def test_operators_only(self) -> None:
        """A user without a role for the whole cloud is refused: 403."""
        self.directory.everywhere = frozenset()
        for name in ("DescribeThings", "ModifyThing"):
            self.refused(self.ask(name, **({"id": "a"} if name == "ModifyThing" else {})), 403, "Denied")

    def test_role_in_a_project(self) -> None:
        """Being cloudadmin or itsec in one project opens nothing here, which is the whole cloud."""
        self.directory.in_project, self.directory.everywhere = frozenset({"cloudadmin", "itsec"}), frozenset()
        for name in ("DescribeThings", "ModifyThing"):
            self.refused(self.ask(name, **({"id": "a"} if name == "ModifyThing" else {})), 403, "Denied")

    def test_auditors_look(self) -> None:
        """itsec may describe, and change nothing."""
        self.directory.everywhere = frozenset({"itsec"})
        self.refused(self.ask("ModifyThing", id="a"), 403, "Denied")
        self.assertEqual(self.ask("DescribeThings")[0], 200)

    def test_errors(self) -> None:
        """Each error has its status, its name, its fields and a sentence."""
        for error, status, text in (
            (errors.NotFound("user", "bob"), 404, "There is no user bob"),
            (errors.AlreadyExists("user", "bob", "x"), 409, "User bob exists already"),
            (errors.InUse("network", "net-1", "i-1"), 409, "Network net-1 is in use by i-1"),
            (errors.Unavailable("ldap", "gone"), 503, "Ldap is not available: gone"),
            (errors.InvalidValue("cidr", "x", "no range"), 400, "Cidr 'x': no range"),
            (errors.Unsupported("network manager x"), 400, "Network manager x is not supported"),
            (errors.LimitExceeded("web", 2, 1, 3), 400, "Web would become 3, above its limit of 2"),
            (errors.LimitExceeded("load:node1:room", 0, 0, 1), 400, "There is no room for that on node1"),
            (errors.Conflict("quota", "web"), 409, "Quota web was changed by somebody else; try again"),
            (errors.DeadlineExceeded("check", 3.0), 503, "No answer in 3 s: check; it may have been done"),
        ):
            self.owner.answer = error
            found, answer = self.ask("DescribeThings")
            self.assertEqual((found, answer["error"]["code"]), (status, type(error).__name__))
            self.assertEqual(answer["error"]["message"], text)
            self.assertEqual(answer["error"]["fields"], errors.to_wire(error)["fields"])

    def test_failure(self) -> None:
        """A bug is a 500 that tells nothing, and its traceback is in the log."""
        for answer in (RuntimeError("the sky"), object()):
            self.owner.answer = answer
            status, found = self.ask("DescribeThings")
            self.assertEqual((status, found["error"]["code"]), (500, "InternalError"))
            self.assertNotIn("sky", json.dumps(found))
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_directory_is_lost(self) -> None:
        """Without the directory nobody is refused as a stranger: 503."""
        self.directory.failure = errors.Unavailable("ldap", "gone")
        self.refused(self.ask("DescribeThings"), 503, "Unavailable")

    def test_log(self) -> None:
        """Who asks for what is logged, with the request's id; what was sent is not."""
        events: list[Any] = []
        observe: Any = events.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        _, answer = self.ask("ModifyThing", id="very-secret")
        ours = [event for event in events if event.get("request_id") == answer["request_id"]]
        self.assertEqual([(event["user"], event["action"]) for event in ours], [("ann", "ModifyThing")])
        self.assertNotIn("very-secret", repr(events))

    def test_metrics(self) -> None:
        """Requests are counted by action and outcome; strangers invent no labels."""
        self.ask("DescribeThings")
        self.ask("Invented")
        text = self.metrics.exposition().decode()
        self.assertIn('action="DescribeThings"', text)
        self.assertNotIn("Invented", text)
