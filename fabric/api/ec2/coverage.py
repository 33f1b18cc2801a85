"""
What of EC2 this cloud does, as a page for its documentation.

C{python -m fabric.api.ec2.coverage > doc/ec2-coverage.rst}
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from fabric.api.ec2.actions.catalog import ec2_actions
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import load_views
from fabric.api.ec2.wire.model import VERSION, ServiceModel, load_model

TITLE = "EC2 actions"

_INTRODUCTION = f"""\
This page is made from the table that the EC2 door answers by, and from EC2's own model of version {VERSION}.
The door takes requests of every version; parameters have the names of botocore's model here.  A parameter that is not
listed is refused by its name with ``UnsupportedOperation``, and so is an action that is not listed.  ``DryRun`` is
honoured everywhere."""

_verb = re.compile("[A-Z][a-z]+").match


def page(registry: Registry, model: ServiceModel) -> str:
    """
    @param model: of the registry's actions.
    @return: the page, in reStructuredText.
    """
    return "\n".join(_lines(registry, model)) + "\n"


def _lines(registry: Registry, model: ServiceModel) -> Iterator[str]:
    yield from _heading(TITLE, "=")
    yield from (_INTRODUCTION, "")
    done = registry.names()
    yield from _heading(f"Implemented: {len(done)} of {len(model.actions)}", "-")
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 25 45 30", "")
    yield from _row("Action", "Parameters honoured", "Not yet")
    for action in sorted(registry, key=lambda action: action.name):
        yield from _row(f"``{action.name}``", _literals(sorted(action.honours)), _literals(_refused(action, model)))
    yield ""
    yield from _heading("Not yet", "-")
    yield from _by_verb(model.actions - set(done))


def _heading(text: str, underline: str) -> Iterator[str]:
    yield from (text, underline * len(text), "")


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'  ' if number else '* '}- {cell}".rstrip()


def _literals(names: Iterable[str]) -> str:
    return ", ".join(f"``{name}``" for name in names)


def _refused(action: Action, model: ServiceModel) -> list[str]:
    shape = model.inputs[action.name]
    honoured = {name.partition(".")[0] for name in action.honours} | {"DryRun"}
    members = model.shapes[shape]["members"] if shape else {}
    return sorted(set(members) - honoured)


def _by_verb(names: Iterable[str]) -> Iterator[str]:
    verbs: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found = _verb(name)
        verbs[found.group() if found else name].append(name)
    few = sorted(name for group in verbs.values() if len(group) < 5 for name in group)
    for verb, group in verbs.items():
        if len(group) >= 5:
            yield from (f"**{verb}**: {', '.join(group)}", "")
    yield from (f"**Others**: {', '.join(few)}", "")


class _Nothing:
    """
    Stands where handlers keep what they would act on; here none does.
    """

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self


def whole_registry() -> Registry:
    """
    @return: every action with what it honours, its handlers over nothing.
    """
    nothing: Any = _Nothing()
    return ec2_actions(nothing, load_views(), "nova", "")


def main() -> None:
    """
    Print the page.
    """
    registry = whole_registry()
    sys.stdout.write(page(registry, load_model(registry.names())))


if __name__ == "__main__":
    main()
