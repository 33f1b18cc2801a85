"""
One process of the cloud: its reactor, its log, and its steps or the reason why there are none.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from fabric.errors import FabricError
from fabric.faults import ArmedFaults, IFaults, NoFaults
from fabric.logs import observer
from fabric.settings import Settings
from fabric.tap.options import ServiceOptions
from fabric.tap.start import Refusal, Sequenced, Step, complain_and_fail, explain

Build = Callable[[Any, Settings], Sequence[Step]]

log = Logger()


def process(options: ServiceOptions, name: str, build: Build) -> IService:
    """
    @param build: given the reactor and the settings, makes the steps; acts not
        at all.
    @return: the service that C{twistd} runs.
    @raise SystemExit: with one line, when settings can't be carried out.
    """
    from twisted.internet import reactor

    settings = options.settings
    try:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}", settings.host_name):
            raise Refusal(f"{settings.host_name!r} can't be a host's name")
        steps = build(reactor, settings)
    except (Refusal, FabricError, OSError) as failure:
        raise SystemExit(f"{name}: {explain(Failure(failure))}") from None
    steps = [*steps, Step("memory", _settle, lambda: None)]
    complain = _complain_in_log if _is_daemon(options) else complain_and_fail
    return Sequenced(reactor, name, steps, _observer(options, settings), complain)


def running(name: str, service: Any) -> Step:
    """
    @return: the step that runs a service of Twisted's.
    """
    return Step(name, service.startService, service.stopService)


def _settle() -> None:
    """
    Have the garbage collector pass over what a started service keeps for good,
    modules and compiled wire formats, which is most of what there is.
    """
    gc.collect()
    gc.freeze()


def _is_daemon(options: ServiceOptions) -> bool:
    return options.parent is not None and not (options.twistd("nodaemon") or options.twistd("debug"))


def _complain_in_log(line: str) -> None:
    log.critical("{line}", line=line)
    complain_and_fail(line)


def _observer(options: ServiceOptions, settings: Settings) -> ILogObserver | None:
    """None where C{twistd} was told to log in a way of its own."""
    if options.twistd("logger") or options.twistd("syslog"):
        return None
    name = options.twistd("logfile")
    if not name and _is_daemon(options):
        name = "twistd.log"
    out = sys.stdout if name in (None, "", "-") else LogFile.fromFullPath(name)
    return observer(settings.log.format, settings.log.level, out)


def faults(settings: Settings) -> IFaults:
    """
    The fault points that settings arm.
    """
    return ArmedFaults(settings.faults) if settings.faults else NoFaults()
