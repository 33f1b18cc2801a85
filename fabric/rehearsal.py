"""
Mishaps on demand: what the fake drivers are told to get wrong.

A mishap is a line of text, so that settings, tests and a file beside the
driver's data speak the same language::

    spawn fail            the next spawn fails
    spawn fail 3          the next three do
    spawn fail always i-0123456789abcdef0
    spawn lose            the next spawn is done, but its answer is lost
    * slow 2.5            everything takes 2.5 seconds longer
    spawn hang            the next spawn never answers
    crash i-0123456789abcdef0    a deed that the driver knows, done at once

Everything after C{#} is remark.  The file is read again when it has changed,
looked at no more often than L{LOOK} and only when the driver is used.  Deeds
that it has from before the start are not done again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from fabric.errors import DriverFailure, InvalidValue
from fabric.settings import Fake

T = TypeVar("T")

LOOK = 0.25
"""Seconds between looks at the file."""

KINDS = ("fail", "lose", "slow", "hang")


@attrs.define
class Mishap:
    """
    One thing that goes wrong.

    @ivar verb: the driver's method, C{*} for all.
    @ivar kind: one of L{KINDS}.
    @ivar times: how often it still happens.
    @ivar seconds: how much later, for C{slow}.
    @ivar id: of the only thing that it happens to; empty for any.
    """

    verb: str
    kind: str
    times: float = 1.0
    seconds: float = 0.0
    id: str = ""


class Rehearsal:
    """
    Carries out a driver's work, with the mishaps that were asked for.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        verbs: Iterable[str],
        lines: Iterable[str] = (),
        path: str = "",
        deeds: Mapping[str, Callable[[str], object]] | None = None,
    ) -> None:
        """
        @param verbs: the methods that can go wrong.
        @param lines: mishaps from the start.
        @param path: the file of further ones; need not be there.
        @param deeds: what a line C{DEED ID} does.
        @raise InvalidValue: one of C{lines} means nothing.
        """
        self._clock = clock
        self._verbs = frozenset(verbs) | {"*"}
        self._deeds = dict(deeds or {})
        self._path = path
        self._looked = -math.inf
        self._stamp: tuple[int, int, int] | None = None
        self._filed: list[Mishap] = []
        self._told: list[Mishap] = [self.parse(line) for line in lines]

    def tell(self, line: str) -> None:
        """
        Ask for a mishap, or do a deed.

        @raise InvalidValue: the line means nothing.
        """
        self._tell(line, True)

    def _tell(self, line: str, act: bool) -> None:
        words = line.split("#")[0].split()
        if len(words) == 2 and words[0] in self._deeds:
            if act:
                self._deeds[words[0]](words[1])
        elif words:
            self._told.append(self.parse(line))

    def forget(self) -> None:
        """Let nothing go wrong any more, but for what the file says anew."""
        self._told.clear()
        self._filed.clear()

    def parse(self, line: str) -> Mishap:
        """
        @return: what a line C{VERB KIND [VALUE] [ID]} asks for.
        @raise InvalidValue: it means nothing.
        """
        words = line.split("#")[0].split()
        try:
            verb, kind, *rest = words
            if verb not in self._verbs or kind not in KINDS:
                raise ValueError
            value = 1.0
            if kind == "slow" or (rest and _is_number(rest[0])):
                value = math.inf if rest[0] == "always" else float(rest[0])
                del rest[0]
            (id,) = rest or ("",)
        except (ValueError, IndexError):
            why = f"not VERB KIND [VALUE] [ID] with a verb of {sorted(self._verbs)} and a kind of {list(KINDS)}"
            raise InvalidValue(name="mishap", value=line, why=why) from None
        if kind == "slow":
            return Mishap(verb, kind, math.inf, value, id)
        return Mishap(verb, kind, value, 0.0, id)

    def perform(self, verb: str, id: str, work: Callable[[], Deferred[T] | T]) -> Deferred[T]:
        """
        Do the work, or what a rehearsal makes of it.

        @return: fires with the result of C{work}; fails with its errors, or
            with L{DriverFailure} when it was to fail or its answer to be lost.
        """
        now = self._clock.seconds()
        if self._path and not now - self._looked < LOOK:
            self._looked = now
            self._look()
        if not self._told and not self._filed:
            return _begin(work)
        return self._go_wrong(verb, id, work)

    def _go_wrong(self, verb: str, id: str, work: Callable[[], Deferred[T] | T]) -> Deferred[T]:
        struck = self._strike(verb, id)
        kinds = {mishap.kind for mishap in struck}
        delay = sum(mishap.seconds for mishap in struck)
        if "hang" in kinds:
            return Deferred()
        if "fail" in kinds:
            act: Callable[[], Any] = lambda: fail(DriverFailure(what=f"{verb} {id}: told to fail"))  # noqa: E731
        elif "lose" in kinds:
            act = lambda: _begin(work).addCallback(_lose, verb, id)  # noqa: E731
        else:
            act = lambda: _begin(work)  # noqa: E731
        return deferLater(self._clock, delay, act) if delay else act()

    def _strike(self, verb: str, id: str) -> list[Mishap]:
        """The mishaps that happen now, each counted as having happened."""
        struck = []
        for mishaps in (self._told, self._filed):
            for mishap in list(mishaps):
                if mishap.verb in (verb, "*") and mishap.id in (id, ""):
                    struck.append(mishap)
                    mishap.times -= 1
                    if mishap.times <= 0:
                        mishaps.remove(mishap)
        return struck

    def _look(self) -> None:
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8", errors="replace") as file:
                lines = file.read().splitlines()
        except OSError:
            stamp, lines = (0, 0, 0), []
            if stamp == self._stamp:
                return
        first, self._stamp = self._stamp is None, stamp
        told, self._told = self._told, []
        for line in lines:
            try:
                self._tell(line, not first)
            except InvalidValue as error:
                self.log.warn("{path}: {line!r} is {why}", path=self._path, line=line, why=error.why)
        self._told, self._filed = told, self._told


def rehearsed(options: Fake, verbs: Iterable[str]) -> list[str]:
    """
    The mishaps that settings ask for.

    @param verbs: the driver's methods; what is asked of others is left out.
    @return: lines for L{Rehearsal}.
    """
    lines = [f"{verb} fail" for verb in options.fail_next]
    lines += [f"{verb} lose" for verb in options.lose_next]
    lines += [f"{verb} slow {seconds}" for verb, _, seconds in (item.partition("=") for item in options.slow)]
    wanted = set(verbs) | {"*"}
    return [line for line in lines if line.split()[0] in wanted]


def _is_number(word: str) -> bool:
    return word == "always" or word.replace(".", "", 1).isdigit()


def _begin(work: Callable[[], Deferred[T] | T]) -> Deferred[T]:
    try:
        result = work()
    except Exception:
        return fail()
    return result if isinstance(result, Deferred) else succeed(result)


def _lose(result: object, verb: str, id: str) -> Any:
    raise DriverFailure(what=f"{verb} {id}: the answer was lost")
