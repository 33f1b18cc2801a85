"""
Tests for L{fabric.logs}.
"""

from __future__ import annotations

import json
from io import StringIO

from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric import logs


class Lines:
    """
    A logger of a room, and what it wrote.
    """

    def __init__(self, format: str, level: str = "info") -> None:
        self.out = StringIO()
        self.observer = logs.observer(format, level, self.out)
        self.log = Logger(namespace="fabric.compute.manager", observer=self.observer)


class ObserverTests(SynchronousTestCase):
    """
    What both formats share.
    """

    def test_interface(self) -> None:
        """An observer provides Twisted's interface."""
        self.assertTrue(verifyObject(ILogObserver, Lines("text").observer))

    def test_level(self) -> None:
        """What is below the level is not written."""
        for format in ("text", "json"):
            lines = Lines(format, "warn")
            lines.log.info("small")
            self.assertEqual(lines.out.getvalue(), "")
            lines.log.warn("large")
            self.assertIn("large", lines.out.getvalue())

    def test_not_unicode(self) -> None:
        """A line about bytes that are no text, as a stranger's path may have, is written like any other."""
        for format in ("text", "json"):
            path = self.mktemp()
            with open(path, "w", encoding="utf-8") as out:
                log = Logger(namespace="fabric.api", observer=logs.observer(format, "info", out))
                log.info("asked for {path}", path="/\udcff")
            with open(path, encoding="utf-8") as written:
                self.assertIn("asked for /\\udcff", written.read())


class TextTests(SynchronousTestCase):
    """
    Lines for people.
    """

    def test_line(self) -> None:
        """A line has the room, the level, the request and what happened."""
        lines = Lines("text")
        lines.log.info("spawned {id}", id="i-1", request_id="req-7")
        self.assertTrue(lines.out.getvalue().endswith(" [fabric.compute.manager#info] [req-7] spawned i-1\n"))

    def test_whole_format(self) -> None:
        """Attributes, numbers and calls in a format are shown as Twisted shows them."""
        lines = Lines("text")
        lines.log.info("{fact.real} {part:.2f} {made()}", fact=3, part=0.126, made=lambda: "now")
        lines.log.info("{fact.real} {part:.2f}", fact=3, part=0.126)
        shown = lines.out.getvalue().splitlines()
        self.assertTrue(shown[0].endswith(" 3 0.13 now"))
        self.assertTrue(shown[1].endswith(" 3 0.13"))

    def test_broken_format(self) -> None:
        """A format whose field is missing is a line that says so, not an error."""
        lines = Lines("text")
        lines.log.info("spawned {id}")
        self.assertIn("spawned {id}", lines.out.getvalue())

    def test_without_request(self) -> None:
        """An event that no request caused shows none."""
        lines = Lines("text")
        lines.log.info("started")
        self.assertTrue(lines.out.getvalue().endswith("#info] started\n"))

    def test_forged_line(self) -> None:
        """A newline within a value can't begin a line that looks like ours."""
        lines = Lines("text")
        lines.log.info("name {name}", name="x\n2026-01-01 forged\r")
        text = lines.out.getvalue()
        self.assertEqual(len([line for line in text.splitlines() if not line.startswith("\t")]), 1)

    def test_traceback(self) -> None:
        """A failure's traceback is written."""
        lines = Lines("text")
        lines.log.failure("broken", Failure(ValueError("bad")))
        self.assertIn("ValueError: bad", lines.out.getvalue())


class JsonTests(SynchronousTestCase):
    """
    Lines for machines.
    """

    def line(self, **fields: object) -> dict[str, object]:
        """The object that an event with these fields becomes."""
        lines = Lines("json")
        lines.log.info("did {what}", what="it", **fields)
        [text] = lines.out.getvalue().splitlines()
        found: dict[str, object] = json.loads(text)
        return found

    def test_fields(self) -> None:
        """An event's fields, room, level and request are members of the object."""
        found = self.line(request_id="req-7", count=3, odd={1})
        self.assertEqual(found["text"], "did it")
        self.assertEqual(found["request_id"], "req-7")
        self.assertEqual(found["room"], "fabric.compute.manager")
        self.assertEqual(found["level"], "info")
        self.assertEqual(found["fields"], {"what": "it", "count": 3, "odd": "{1}"})

    def test_secrets(self) -> None:
        """A field that is secret by its name is left out."""
        self.assertNotIn("hunter2", json.dumps(self.line(password="hunter2", secret_key="hunter2")))

    def test_traceback(self) -> None:
        """A failure is one line too, with the traceback as a member."""
        lines = Lines("json")
        lines.log.failure("broken", Failure(ValueError("bad")))
        [text] = lines.out.getvalue().splitlines()
        self.assertIn("ValueError: bad", json.loads(text)["traceback"])
