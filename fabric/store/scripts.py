"""
The scripts that run on the server, each with the hash that it is called by.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

import attrs


@attrs.frozen
class Script:
    """
    @ivar text: Lua, of Redis 6.2.
    @ivar sha: what EVALSHA knows it by.
    """

    name: str
    text: str
    sha: str


def load(name: str) -> Script:
    """
    @return: the script in the file C{NAME.lua} beside this module.
    """
    text = files("fabric.store").joinpath(name + ".lua").read_text("utf-8")
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


COMMIT = load("commit")
LIST = load("list")
GATHER = load("gather")
LEVELS = load("levels")
VERIFY = load("verify")
