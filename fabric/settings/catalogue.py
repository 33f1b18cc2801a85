"""
Every setting by name, for those who read settings and those who document them.
"""

from __future__ import annotations

import typing
from typing import Any

import attrs

from fabric.settings.values import Settings

PREFIX = "FABRIC_"
"""How the environment's variables begin."""


@attrs.frozen
class Setting:
    """
    One setting as documents show it.

    @ivar path: C{key} or C{section.key}.
    @ivar type: C{str}, C{int}, C{float}, C{bool} or C{list}.
    """

    path: str
    type: str
    default: Any
    what: str

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.path.replace(".", "_").upper()


def known() -> dict[str, Setting]:
    """
    @return: every setting by its path, in the order of the file.
    """
    found = {}
    for field, hint in fields(Settings):
        if not attrs.has(hint):
            found[field.name] = _described(field.name, field, hint)
    for field, hint in fields(Settings):
        if attrs.has(hint):
            for inner, inner_hint in fields(hint):
                path = f"{field.name}.{inner.name}"
                found[path] = _described(path, inner, inner_hint)
    return found


def fields(cls: Any) -> list[tuple[Any, Any]]:
    """The attributes of a section, each with its type."""
    hints = typing.get_type_hints(cls)
    return [(field, hints[field.name]) for field in attrs.fields(cls)]


def _described(path: str, field: Any, hint: Any) -> Setting:
    kind = "list" if typing.get_origin(hint) is tuple else hint.__name__
    return Setting(path, kind, field.default, field.metadata["what"])


def example() -> str:
    """
    @return: a commented C{fabric.toml} with every setting at its default;
        C{etc/fabric.toml} is this.
    """
    lines = [
        "# Settings of the cloud, all at their defaults.  Each may also be given as",
        "# FABRIC_SECTION_KEY in the environment or --set section.key=value to twistd.",
    ]
    whats = {field.name: field.metadata["what"] for field, _ in fields(Settings)}
    section = ""
    for path, setting in known().items():
        head, dot, _ = path.rpartition(".")
        if dot and head != section:
            section = head
            lines += ["", f"# {whats[head]}", f"[{head}]"]
        lines += ["", f"# {setting.what}", f"#{path.rpartition('.')[2]} = {_toml(setting.default)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
