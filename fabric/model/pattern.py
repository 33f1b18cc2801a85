"""
EC2's wildcards: C{*} is any text, C{?} any character, C{\\} takes the next one
literally.
"""

from __future__ import annotations

import re
from fnmatch import translate
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
    # The shell's patterns are translated so that a star never backtracks over
    # another: no client's pattern takes long.
    return re.compile(translate(re.sub(r"\\(.)|\[", _in_shell, pattern, flags=re.DOTALL)))


def _in_shell(found: re.Match[str]) -> str:
    character = found[1] or "["
    return f"[{character}]" if character in "*?[" else character
