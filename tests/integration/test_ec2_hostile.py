"""
Parameters that nobody in their right mind sends: of every action, in each of its
parameters.  Whatever comes, the answer is not that the server failed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from itertools import cycle, islice
from typing import Any

from botocore.model import ListShape, Shape, StructureShape
from twisted.internet.defer import inlineCallbacks

from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.registry import Action
from tests.integration.ec2_requests import REQUESTS
from tests.integration.ec2_world import WorldCase, filled
from tests.unit.ec2_stage import ANN, botocore_model

Steps = Generator[Any, Any, None]

TEXTS = (
    *("", " ", "x" * 70_000, "ü𝕏\u202e\u2028", "\x00", "a\x0bb\x1f\x7f", "\ufffe", "*", "\\", "]]>&<\"'", "\r\n"),
    *("-1", "0", "9" * 30, "1e400", "²", "٣", "i-", "..", "$Latest", "%s{0}{x}", "tag:", "0x10", "nan", "None"),
    *("10.0.0.0/33", "::/0", "1.2.3.4/x", "i-00000000000000009", "vol-00000000000000009", "sg-1", "all", "self"),
)
NUMBERS = (
    *("-1", "0", "1", "2147483647", "-2147483648", "2147483648", "4294967296", "9223372036854775807"),
    *("-9223372036854775808", "9223372036854775808", "9" * 40, "-0", "+1", "1.5", "1e9", "", " 1", "²", "nan"),
)
VALUES: dict[str, tuple[str, ...]] = {
    "string": TEXTS,
    "integer": NUMBERS,
    "long": NUMBERS,
    "float": NUMBERS,
    "double": NUMBERS,
    "boolean": ("true", "false", "TRUE", "1", "", "maybe", "2"),
    "timestamp": ("", "now", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "1" * 30),
    "blob": ("", "!", "AAAA", "/w==", "A" * 70_000, "c3NoLXJzYSBBQUFB", "="),
}
"""By the type that EC2's model says."""

AT_ONCE = 3
"""How many of its values each parameter gets; they go round, so that each value meets many parameters."""

LISTINGS = (
    *("DescribeInstances", "DescribeVolumes", "DescribeSnapshots", "DescribeImages", "DescribeKeyPairs"),
    *("DescribeSecurityGroups", "DescribeSecurityGroupRules", "DescribeAddresses", "DescribeTags"),
    *("DescribeLaunchTemplates", "DescribePlacementGroups"),
)
"""What would show what was stored."""

Fields = dict[str, str]


def parameters(action: Action) -> Iterator[tuple[str, str]]:
    """
    What an action honours.

    @return: the parameter's name as it is sent, with 1 for each index, and its
        type.
    """
    root = botocore_model().operation_model(action.name).input_shape
    for path in sorted(action.honours):
        yield from _along(root, path.split("."), "")


def filters(action: Action) -> list[str]:
    """
    The names of the filters that EC2's model describes for an action.
    """
    members = botocore_model().operation_model(action.name).input_shape.members
    described = members["Filters" if "Filters" in members else "Filter"].documentation
    return [
        name.replace("&lt;key&gt;", "of") for name in re.findall(r"<li> <p> <code>([a-zA-Z][^<]*)</code>", described)
    ]


def _along(shape: Any, path: list[str], sent: str) -> Iterator[tuple[str, str]]:
    if isinstance(shape, ListShape):
        yield from _along(shape.member, path, f"{sent}.1")
    elif not isinstance(shape, StructureShape):
        yield sent, shape.type_name
    else:
        for name in path[:1] or shape.members:
            member = shape.members[name]
            yield from _along(member, path[1:], f"{sent}.{_sent(name, member)}" if sent else _sent(name, member))


def _sent(name: str, shape: Shape) -> str:
    if "queryName" in shape.serialization:
        return str(shape.serialization["queryName"])
    text = str(shape.serialization.get("name", name))
    return text[0].upper() + text[1:]


class HostileTests(WorldCase):
    """
    No parameter makes the server fail.
    """

    timeout = 300

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        self.whole = yield self.kept()
        self.failures: list[Any] = []

    @inlineCallbacks
    def survive(self, name: str, fields: Fields) -> Steps:
        """See that the answer is one, or a refusal that is the client's fault."""
        try:
            yield self.answered(name, {"Action": name, **fields}, ANN)
        except EC2Error as refusal:
            if refusal.status >= 500:
                self.failures.append((name, _short(fields), refusal.code))
        except Exception as error:
            self.failures.append((name, _short(fields), repr(error)[:300]))

    @inlineCallbacks
    def look(self, name: str) -> Steps:
        """See that all that was stored can be shown, and agrees; then have the world as it was."""
        if name.startswith(("Describe", "Get")):
            return
        for listing in LISTINGS:
            try:
                yield self.ask(listing)
            except Exception as error:
                self.failures.append((name, listing, repr(error)[:300]))
        found = yield self.store.check(False)
        if found:
            self.failures.append((name, found))
        yield self.put_back(self.whole)

    def base(self, name: str, parameter: str) -> Fields:
        """A request that succeeds, if possible one that has the parameter."""
        forms = [self.fields(name, filled(request, self.ann)) for request in REQUESTS[name]]
        return next((form for form in forms if parameter in form), forms[0])

    @inlineCallbacks
    def test_values(self) -> Steps:
        """Each parameter of each action with values of all kinds."""
        rounds = {kind: cycle(values) for kind, values in VALUES.items()}
        for action in self.registry:
            for parameter, kind in parameters(action):
                base = self.base(action.name, parameter)
                if parameter.startswith("Filter.1.Value"):
                    base = {**base, "Filter.1.Name": "tag:of"}
                for value in islice(rounds[kind], min(AT_ONCE, len(VALUES[kind]))):
                    yield self.survive(action.name, {**base, parameter: value})
            yield self.look(action.name)
        self.assertEqual(self.failures, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_filters(self) -> Steps:
        """Each filter that EC2 documents, with values of all kinds."""
        texts = cycle(TEXTS)
        for action in self.registry:
            for name in filters(action) if {"Filters", "Filter"} & action.honours else ():
                base = {**self.base(action.name, ""), "Filter.1.Name": name}
                for value in islice(texts, 2):
                    yield self.survive(action.name, {**base, "Filter.1.Value.1": value, "Filter.1.Value.2": "*"})
        self.assertEqual(self.failures, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_lists(self) -> Steps:
        """Each list with nothing in it, the same twice, a thousand items, and gaps."""
        for action in self.registry:
            for parameter, kind in parameters(action):
                if not parameter.endswith(".1"):
                    continue
                stem, base = parameter[:-2], self.base(action.name, parameter)
                value = base.get(parameter, VALUES[kind][-4])
                without = {key: each for key, each in base.items() if not key.startswith(stem + ".")}
                for items in (
                    {stem: ""},
                    {f"{stem}.1": value, f"{stem}.2": value},
                    {f"{stem}.{n}": f"{value[:-4]}{n:04d}" for n in range(1, 1001)},
                    {f"{stem}.0": value, f"{stem}.99999": value},
                    {f"{stem}.1": value, f"{stem}.01": value},
                    {f"{stem}.-1": value},
                    {f"{stem}.1.1": value},
                ):
                    yield self.survive(action.name, without | items)
            yield self.look(action.name)
        self.assertEqual(self.failures, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_less(self) -> Steps:
        """Each request without each of its parameters, and with each of them empty."""
        for action in self.registry:
            for request in REQUESTS[action.name]:
                form = self.fields(action.name, filled(request, self.ann))
                for key in form:
                    rest = {other: value for other, value in form.items() if other != key}
                    yield self.survive(action.name, rest)
                    yield self.survive(action.name, {**rest, key: ""})
            yield self.look(action.name)
        self.assertEqual(self.failures, [])
        self.assertEqual(self.flushLoggedErrors(), [])


def _short(fields: Fields) -> Fields:
    return {key: value[:60] for key, value in list(fields.items())[:12] if key not in ("Action", "Version")}
