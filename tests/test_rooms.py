"""
The rooms of the house: who may import whom, and what no module does.

C{doc/architecture.rst} tells why.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]

LEVELS = (
    ("tap",),
    ("manage",),
    ("api",),
    ("cloud",),
    ("scheduler", "compute", "network", "volume", "image", "objectstore"),
    ("worker", "heartbeat", "journal", "rehearsal"),
    ("store", "rpc", "users"),
    ("model",),
)
"""
Imports go down this list only.  The fifth row are modules that all workers share; modules that are in no
row are the ground below it.
"""

ASIDE = "testing"
"""For tests: may import everything but C{tap}, and no room imports it."""

INTERFACE_ONLY = {
    "compute": {"fabric.cloud.interface"},
    "network": {"fabric.cloud.interface"},
    "scheduler": {"fabric.cloud.interface"},
    "volume": {"fabric.cloud.interface"},
    "heartbeat": {"fabric.cloud.interface"},
}
"""Upward imports: workers report to the controller, and so know what it answers to."""

CLOUD_SEES = (
    "fabric.scheduler.interface",
    "fabric.scheduler.algorithms",
    "fabric.scheduler.groups",
    "fabric.compute.interface",
    "fabric.network.interface",
    "fabric.volume.interface",
    "fabric.volume.interface",
)
"""All that C{cloud} knows of the workers: what they answer to, and the pure functions that compare hosts."""

LONGEST = 480
"""Lines of a module, but for C{testing}, whose contract suites are lists of promises."""

DRAWERS = {"utils", "util", "common", "helpers", "misc", "interfaces"}
"""Names of modules that would hold whatever found no place."""


@cache
def modules() -> dict[str, ast.Module]:
    """
    The syntax tree of every module of the package, by dotted name.
    """
    found = {}
    for path in sorted((ROOT / "fabric").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def imported(name: str) -> Iterator[str]:
    """
    Every module that a module of the package imports, as written.
    """
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield whole if whole in modules() else source


def room(name: str) -> str:
    """
    The room of a module; empty for the ground.
    """
    parts = name.split(".")
    rooms = {room for level in LEVELS for room in level} | {ASIDE}
    return parts[1] if len(parts) > 1 and parts[1] in rooms else ""


def level(name: str) -> int:
    """
    How far down a room is; the ground is below all.
    """
    return next((number for number, rooms in enumerate(LEVELS) if room(name) in rooms), len(LEVELS))


def within(name: str) -> Iterator[tuple[str, str]]:
    """
    C{(importer, imported)} for each import of another room of ours.
    """
    for other in imported(name):
        if other.split(".")[0] == "fabric" and room(other) != room(name):
            yield name, other


def lawful(name: str, other: str) -> bool:
    """
    Whether a module may import another of ours.
    """
    if room(name) == ASIDE:
        return room(other) != "tap"
    if room(other) == ASIDE:
        return False
    if level(other) > level(name):
        return True
    sideways = level(other) == level(name) and (room(name) in LEVELS[4] or other.endswith(".interface"))
    return sideways or other in INTERFACE_ONLY.get(room(name), ())


class ImportTests(SynchronousTestCase):
    """
    Imports go down.
    """

    def test_down(self) -> None:
        """No module imports one of a room above it, or beside it but for its interface."""
        unlawful = [pair for name in modules() for pair in within(name) if not lawful(*pair)]
        self.assertEqual(unlawful, [])

    def test_cloud_orders_by_queue(self) -> None:
        """The controller's logic knows of workers only what they answer to."""
        workers = {"scheduler", "compute", "network", "volume"}
        seen = {other for name in modules() if room(name) == "cloud" for _, other in within(name)}
        self.assertEqual([other for other in sorted(seen) if room(other) in workers and other not in CLOUD_SEES], [])

    def test_workers_hold_no_store(self) -> None:
        """Compute, network and volume workers can't reach the store or the people."""
        pairs = [pair for name in modules() if room(name) in ("compute", "network", "volume") for pair in within(name)]
        self.assertEqual([pair for pair in pairs if room(pair[1]) in ("store", "users")], [])

    def test_command_is_a_client(self) -> None:
        """C{cloud-manage} knows the admin door's wire, and nothing behind it."""
        pairs = [pair for name in modules() if room(name) == "manage" for pair in within(name)]
        self.assertEqual([pair for pair in pairs if room(pair[1]) not in ("api", "")], [])

    def test_model_is_pure(self) -> None:
        """The model imports no Twisted, and nothing that does I/O."""
        worldly = {"twisted", "os", "socket", "subprocess", "threading", "io", "pathlib"}
        names = [name for name in modules() if room(name) == "model"]
        seen = [(name, other) for name in names for other in imported(name) if other.split(".")[0] in worldly]
        self.assertEqual(seen, [])


class DialectTests(SynchronousTestCase):
    """
    One way of doing things.
    """

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
        """Every node of these kinds, with its module's name."""
        for name, tree in modules().items():
            yield from ((name, node) for node in ast.walk(tree) if isinstance(node, kinds))

    def test_deferreds(self) -> None:
        """There is one dialect of asynchrony."""
        kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
        self.assertEqual([(name, node.lineno) for name, node in self.nodes(*kinds)], [])  # type: ignore[attr-defined]
        self.assertEqual([name for name in modules() if "asyncio" in imported(name)], [])

    def test_print(self) -> None:
        """Only what talks to a person at a terminal prints."""
        names = {
            name for name, node in self.nodes(ast.Call) if isinstance(node.func, ast.Name) and node.func.id == "print"
        }  # type: ignore[attr-defined]
        self.assertEqual([name for name in sorted(names) if room(name) not in ("manage", "tap", "testing")], [])

    def test_globals(self) -> None:
        """No function changes a name of its module."""
        self.assertEqual([(name, node.names) for name, node in self.nodes(ast.Global)], [])  # type: ignore[attr-defined]

    def test_reactor(self) -> None:
        """The reactor is passed in: only C{tap} and C{manage} import it."""
        names = [name for name in modules() if "twisted.internet.reactor" in reactors(name)]
        self.assertEqual([name for name in names if room(name) not in ("tap", "manage", "testing")], [])


def reactors(name: str) -> Iterator[str]:
    """
    C{twisted.internet.reactor} where a module imports it by either form.
    """
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
            yield from (f"twisted.internet.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


class ShapeTests(SynchronousTestCase):
    """
    A module is one noun, and not a long one.
    """

    def test_length(self) -> None:
        """No module is longer than a person reads in one go."""
        paths = [path for path in (ROOT / "fabric").rglob("*.py") if ASIDE not in path.parts]
        lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
        self.assertEqual([path for path, length in lengths.items() if length > LONGEST], [])

    def test_names(self) -> None:
        """No module is a drawer."""
        self.assertEqual([name for name in modules() if name.rpartition(".")[2] in DRAWERS], [])

    def test_docstrings(self) -> None:
        """Every module that holds anything says what it is."""
        self.assertEqual([name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)], [])


class PluginTests(SynchronousTestCase):
    """
    C{twistd --help} stays quick: plugins only name modules.
    """

    def test_plugins(self) -> None:
        """A plugin imports nothing of ours, and names modules of C{tap}."""
        for path in (ROOT / "twisted" / "plugins").glob("fabric_*.py"):
            tree = ast.parse(path.read_text())
            sources = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            self.assertEqual(sources, ["twisted.application.service"])
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            named = [ast.literal_eval(call.args[1]) for call in calls]
            self.assertEqual([name for name in named if not (name in modules() and room(name) == "tap")], [])
