"""
EC2's wildcards: C{*} is any text, C{?} any character, C{\\} takes the next one
literally.
"""

from __future__ import annotations

import re
from functools import lru_cache


def is_pattern(text: str) -> bool:
    """
    Whether a filter value has a wildcard or an escape.
    """
    return "*" in text or "?" in text or "\\" in text


def matches(pattern: str, text: str) -> bool:
    """
    Whether C{text} as a whole is what C{pattern} means.
    """
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return re.compile("".join(_part(part) for part in parts), re.DOTALL)


def _part(part: str) -> str:
    if part == "*":
        return ".*"
    if part == "?":
        return "."
    return re.escape(part[1:] if len(part) == 2 else part)
