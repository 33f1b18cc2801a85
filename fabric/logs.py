"""
How log events become lines: text for people, or JSON for machines.

Both show the request's id where an event has one (the field C{request_id}), so
that one C{grep} follows a request from the door to the driver.  JSON carries
the event's fields too, but for those whose names say that they are secret.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
    formatTime,
)
from twisted.python.failure import Failure

SECRET = frozenset({"secret", "secret_key", "password", "signature", "user_data", "pem", "key_material", "token"})
"""Fields that are never written."""


def observer(format: str, level: str, out: TextIO) -> ILogObserver:
    """
    An observer that writes lines.

    @param format: C{text} or C{json}.
    @param level: the least level that is written, as C{info}.  Of Twisted and
        others only warnings are, unless the level is C{debug}.
    """
    shape = as_json if format == "json" else as_text
    lines = FileLogObserver(out, lambda event: _written(shape(event)))
    ours = LogLevel.levelWithName(level)
    others = ours if level == "debug" else max(ours, LogLevel.warn)
    predicate = LogLevelFilterPredicate(defaultLogLevel=others)
    predicate.setLogLevelForNamespace("fabric", ours)
    return FilteringLogObserver(lines, [predicate])


def _written(text: str) -> str:
    """Bytes that are no text came as surrogates, which no file takes: they are shown as such."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_text(event: LogEvent) -> str:
    """
    @return: C{time [room#level] [request id] what happened}, a traceback after
        it where there is one.
    """
    if "log_failure" in event:
        stamp, _, what = eventAsText(event, includeSystem=False).partition(" ")
    else:
        moment = event.get("log_time")
        stamp, what = "-" if moment is None else _stamp(int(moment)), _message(event)
    if not what.strip():
        return ""
    request_id = event.get("request_id")
    level = event.get("log_level", LogLevel.info).name
    request = f" [{request_id}]" if request_id else ""
    return f"{stamp} [{event.get('log_namespace', '-')}#{level}]{request} {_clean(what)}\n"


@lru_cache(maxsize=8)
def _stamp(second: int) -> str:
    """A second as text: many lines share it, and making it takes longer than all the rest."""
    return formatTime(second)


def _message(event: LogEvent) -> str:
    """What Twisted makes of an event, by the shorter way where its format asks for no calls."""
    template = event.get("log_format")
    if type(template) is str and "()" not in template and "log_flattened" not in event:
        try:
            return template.format_map(event)
        except Exception:
            return formatEvent(event)  # which says in the line what was wrong with it
    return formatEvent(event)


def _clean(text: str) -> str:
    """Continuation lines are indented, so that no user's text looks like a line of ours."""
    return text.rstrip("\n").replace("\r", "\\r").replace("\n", "\n\t")


def as_json(event: LogEvent) -> str:
    """
    @return: one JSON object and a newline: C{time}, C{level}, C{room}, C{text}, C{request_id}
        and C{traceback} where there are, and the event's own fields in C{fields}.
    """
    text = formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is None:
        return ""
    line: dict[str, Any] = {
        "time": event.get("log_time"),
        "level": event.get("log_level", LogLevel.info).name,
        "room": event.get("log_namespace"),
        "text": text,
    }
    if event.get("request_id"):
        line["request_id"] = event["request_id"]
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    fields = {name: _plain(value) for name, value in event.items() if _shown(name)}
    if fields:
        line["fields"] = fields
    return json.dumps(line, ensure_ascii=False, default=str) + "\n"


_OF_TWISTED = frozenset({"message", "time", "system", "format", "isError", "request_id", "failure", "why"})


def _shown(name: str) -> bool:
    return not name.startswith("log_") and name not in SECRET and name not in _OF_TWISTED


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
