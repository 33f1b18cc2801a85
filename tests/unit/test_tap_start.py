"""
Tests for L{fabric.tap.start}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.logger import ILogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.errors import Unavailable
from fabric.logs import observer
from fabric.tap.start import Refusal, Sequenced, Step, explain


class Reactor:
    """
    As much of a reactor as starting needs.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []
        self.stopped = 0

    def callWhenRunning(self, what: Callable[[], Any]) -> None:
        """Remember what to call when it runs."""
        self.waiting.append(what)

    def run(self) -> None:
        """Call what was waiting."""
        while self.waiting:
            self.waiting.pop(0)()

    def stop(self) -> None:
        """Note it."""
        self.stopped += 1


class SequencedTests(SynchronousTestCase):
    """
    Parts start in order, stop in reverse, and a failure is one line.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.told: list[str] = []
        self.lines: list[str] = []

    def step(self, name: str, start: Any = None, stop: Any = None) -> Step:
        """A step that tells of itself, with what its two halves return."""

        def told(what: str, answer: Any) -> Any:
            self.told.append(f"{what} {name}")
            return answer() if callable(answer) else answer

        return Step(name, lambda: told("start", start), lambda: told("stop", stop))

    def service(self, *steps: Step) -> Sequenced:
        """A service of these steps whose reactor runs."""
        service = Sequenced(self.reactor, "cloud", steps, None, self.lines.append)
        service.startService()
        self.reactor.run()
        return service

    def test_interface(self) -> None:
        """It is a service of Twisted's."""
        self.assertTrue(verifyObject(IService, Sequenced(self.reactor, "cloud", (), None, self.lines.append)))

    def test_order(self) -> None:
        """A part starts when the one before is up, and stops before it."""
        first: Deferred[None] = Deferred()
        service = self.service(self.step("a", first), self.step("b"))
        self.assertEqual(self.told, ["start a"])
        first.callback(None)
        self.successResultOf(service.stopService())
        self.assertEqual(self.told, ["start a", "start b", "stop b", "stop a"])

    def test_failure(self) -> None:
        """When a part can't start, one line says why and the reactor stops."""
        self.service(
            self.step("a"),
            self.step("b", lambda: fail(Unavailable(service="Redis", why="no\nroom"))),
            self.step("c"),
        )
        self.assertEqual(self.lines, ["cloud: Redis is not available: no room"])
        self.assertEqual(self.reactor.stopped, 1)

    def test_failure_stops(self) -> None:
        """What had started before the failure is stopped."""
        service = self.service(self.step("a"), self.step("b", lambda: fail(Refusal("no"))))
        self.successResultOf(service.stopService())
        self.assertEqual(self.told, ["start a", "start b", "stop a"])

    def test_stopped_while_starting(self) -> None:
        """A start that hangs does not hinder the stop, and nobody complains."""
        service = self.service(self.step("a"), self.step("b", Deferred()), self.step("c"))
        self.successResultOf(service.stopService())
        self.assertEqual(self.told, ["start a", "start b", "stop a"])
        self.assertEqual(self.lines, [])

    def test_stop_fails(self) -> None:
        """A part that fails to stop is logged, and the others are stopped."""
        service = self.service(self.step("a"), self.step("b", None, lambda: fail(ValueError("stuck"))))
        self.successResultOf(service.stopService())
        self.assertEqual(self.told[-2:], ["stop b", "stop a"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopped_before_running(self) -> None:
        """Nothing starts when the service was stopped before the reactor ran."""
        service = Sequenced(self.reactor, "cloud", [self.step("a")], None, self.lines.append)
        service.startService()
        self.successResultOf(service.stopService())
        self.reactor.run()
        self.assertEqual(self.told, [])

    def test_observer(self) -> None:
        """Its log observer becomes the application's."""
        lines = observer("json", "info", None)  # type: ignore[arg-type]
        application = Application("cloud")
        Sequenced(self.reactor, "cloud", (), lines, self.lines.append).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), lines)

    def test_waits_for_stop(self) -> None:
        """The service has stopped when the last part has."""
        slow: Deferred[None] = Deferred()
        stopping = self.service(self.step("a", None, slow)).stopService()
        self.assertNoResult(stopping)
        slow.callback(None)
        self.successResultOf(stopping)


class ExplainTests(SynchronousTestCase):
    """
    One line for whoever started it.
    """

    def line(self, error: Exception) -> str:
        """The line for an error."""
        return explain(Failure(error))

    def test_port_taken(self) -> None:
        """A port that is taken is named."""
        line = self.line(CannotListenError("127.0.0.1", 8773, OSError(98, "Address already in use")))
        self.assertEqual(line, "can't listen at 127.0.0.1 port 8773: Address already in use")

    def test_files(self) -> None:
        """A file's error names the file."""
        self.assertEqual(self.line(PermissionError(13, "Permission denied", "/x/y")), "/x/y: Permission denied")

    def test_others(self) -> None:
        """Anything else is one line too."""
        self.assertEqual(self.line(ValueError("a\nb")), "ValueError: a b")
        self.assertEqual(self.line(Refusal("redis-server is not installed")), "redis-server is not installed")
