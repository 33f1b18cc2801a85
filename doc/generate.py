"""
Pages that are made from the code.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

import fabric.model
from fabric.api.admin.guests import GuestActions
from fabric.api.admin.images import ImageActions
from fabric.api.admin.machines import MachineActions
from fabric.api.admin.people import PeopleActions
from fabric.api.admin.quotas import QuotaActions
from fabric.api.admin.registry import actions
from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.views import load_views
from fabric.api.ec2.wire.model import load_model
from fabric.cloud.cloud import Cloud
from fabric.model.lifecycle import Lifecycle
from fabric.settings import example
from fabric.settings.catalogue import known


def write_all(directory: Path, root: Path) -> None:
    """
    Write every generated page, touching only those that changed.
    """
    directory.mkdir(exist_ok=True)
    pages = {
        "lifecycles.rst": lifecycles(),
        "ec2.rst": ec2_coverage(),
        "admin.rst": admin_actions(),
        "settings.rst": settings(),
        "fabric.toml": example(),
        "faults.rst": fault_points(root),
    }
    for name, text in pages.items():
        path = directory / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def table(header: Iterable[str], rows: Iterable[Iterable[str]], widths: str) -> str:
    """
    A list-table of reStructuredText.
    """
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (header, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines) + "\n\n"


def literal(text: str) -> str:
    """
    A cell in the typewriter's face; empty for nothing.
    """
    return f"``{text}``" if text else ""


def lifecycles() -> str:
    """
    Every lifecycle table of the model: drawn, then as a table.
    """
    parts = []
    for info in pkgutil.iter_modules(fabric.model.__path__):
        module = importlib.import_module(f"fabric.model.{info.name}")
        for value in vars(module).values():
            if isinstance(value, Lifecycle):
                title = f"{value.kind.replace('_', ' ').capitalize()}"
                parts.append(f"{title}\n{'-' * len(title)}\n\n{drawing(value)}{moves(value)}{deadlines(value)}")
    return "\n".join(parts)


def drawing(lifecycle: Lifecycle) -> str:
    """
    Each state, with the arrows that leave it.
    """
    lines = []
    for state in sorted(lifecycle.states(), key=lambda state: (state != lifecycle.initial, state in lifecycle.final)):
        mark = " (initial)" if state == lifecycle.initial else " (final)" if state in lifecycle.final else ""
        lines.append(f"   [ {state} ]{mark}")
        leaving: dict[str, list[str]] = {}
        for verb, row in lifecycle.moves.items():
            if row.get(state, state) != state:
                leaving.setdefault(row[state], []).append(verb)
        arrows = sorted(leaving.items())
        for number, (target, verbs) in enumerate(arrows):
            corner = "`" if number == len(arrows) - 1 else "|"
            lines.append(f"       {corner}-- {', '.join(verbs)} --> {target}")
        lines.append("")
    return ".. code-block:: text\n\n" + "\n".join(lines) + "\n"


def moves(lifecycle: Lifecycle) -> str:
    """
    Verb by state.
    """
    states = lifecycle.states()
    rows = [
        [literal(verb), *(literal(row.get(state, "")) for state in states)] for verb, row in lifecycle.moves.items()
    ]
    widths = " ".join(["2"] * (len(states) + 1))
    return table(["verb", *map(literal, states)], rows, widths)


def deadlines(lifecycle: Lifecycle) -> str:
    """
    What ends a transitional state that lasts too long.
    """
    rows = [
        [literal(state), f"{deadline.seconds:g} s", literal(deadline.verb)]
        for state, deadline in lifecycle.deadlines.items()
    ]
    return table(["state", "may last", "then"], rows, "2 2 2") if rows else ""


def ec2_coverage() -> str:
    """
    Every action that the door answers, with what of its input it honours.
    """
    registry = ec2_actions(Cloud(*[None] * len(attrs.fields(Cloud))), load_views(), "nova", "")  # type: ignore[arg-type]
    rows = []
    for action in sorted(registry, key=lambda action: action.name):
        rows.append([literal(action.name), ", ".join(literal(name) for name in sorted(action.honours)) or "(nothing)"])
    of = len(load_model(()).actions)
    count = f"{len(rows)} of the {of} actions that EC2's current model names are implemented.\n\n"
    return count + table(["action", "parameters that are honoured"], rows, "3 8")


def admin_actions() -> str:
    """
    Every admin action, with its parameters.
    """
    nothing: Any = None
    machines = (
        MachineActions(nothing, nothing, nothing),
        ImageActions(nothing, nothing),
        GuestActions(nothing),
        QuotaActions(nothing, nothing),
    )
    found = actions((PeopleActions(nothing), *machines))
    rows = []
    for name, action in sorted(found.items()):
        asked = ", ".join(literal(each) + ("" if each in action.required else " (optional)") for each in action.hints)
        what = " ".join((inspect.getdoc(action.handler) or "").split("\n\n")[0].split())
        rows.append([literal(name), asked or "(none)", what.replace("C{", "``").replace("}", "``")])
    return table(["action", "parameters", "what it does"], rows, "3 4 6")


def settings() -> str:
    """
    Every setting.
    """
    rows = [
        [literal(path), setting.type, literal(_shown(setting.default)), setting.what]
        for path, setting in known().items()
    ]
    return table(["setting", "type", "default", "what it is"], rows, "4 1 4 8")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def fault_points(root: Path) -> str:
    """
    Every point that the code reaches, with the module that does.
    """
    found: dict[str, str] = {}
    for path in sorted((root / "fabric").rglob("*.py")):
        for name in re.findall(r'reach\("([a-z_.]+)"\)', path.read_text()):
            if "." in name and path.name != "faults.py":
                found[name] = ".".join(path.relative_to(root).with_suffix("").parts)
    return table(
        ["fault point", "reached in"], [[literal(name), literal(found[name])] for name in sorted(found)], "3 4"
    )
