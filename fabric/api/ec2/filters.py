"""
EC2's filters: from what a client names to what the store files.

Each Describe has a table from filter names to rules.  A rule answers with a
facet that the store looks up, with yes or no where the answer is the same for
all records, or, for what is rarely asked and so not filed, with a test of each
record that is left.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from fabric.api.ec2.errors import EC2Error
from fabric.cloud.access import Caller
from fabric.model.pattern import is_pattern, matches

MOST_VALUES = 200
"""EC2's limit of filter values in one request."""

Facet = tuple[str, tuple[str, ...]]
Test = Callable[[Any], bool]
Rule = Callable[[Caller, tuple[str, ...]], "Facet | Test | bool"]


@attrs.define
class Narrowing:
    """
    What the filters of a request come to.

    @ivar facets: for L{fabric.store.interface.Query}.
    @ivar tests: each must hold of a record, besides.
    @ivar nothing: no record can match.
    """

    facets: tuple[Facet, ...] = ()
    tests: tuple[Test, ...] = ()
    nothing: bool = False

    def add(self, outcome: Facet | Test | bool) -> None:
        """Join one more rule's outcome."""
        if isinstance(outcome, bool):
            self.nothing = self.nothing or not outcome
        elif isinstance(outcome, tuple):
            self.facets += (outcome,)
        else:
            self.tests += (outcome,)

    def passes(self, record: Any) -> bool:
        """Whether the tests, not the facets, let a record through."""
        return not self.nothing and all(test(record) for test in self.tests)


class FilterTable:
    """
    The filters of one Describe.

    @param rules: by filter name.
    @param tagged: whether C{tag:KEY}, C{tag-key} and C{tag-value} apply.
    @param private_tags: whether a listing may show records of others, whose
        tags the caller must not find them by; C{owner} is then their facet.
    """

    def __init__(self, rules: Mapping[str, Rule], tagged: bool = True, private_tags: bool = False) -> None:
        self._rules = dict(rules)
        if tagged:
            self._rules |= {"tag-key": facet("tag-key"), "tag-value": facet("tag-value")}
        self._tagged = tagged
        self._private_tags = private_tags

    def names(self) -> list[str]:
        """
        @return: every filter but C{tag:KEY}, sorted.
        """
        return sorted(self._rules)

    def narrow(self, caller: Caller, filters: Iterable[Mapping[str, Any]] | None) -> Narrowing:
        """
        @param filters: as botocore has them, C{[{"Name": …, "Values": […]}]}.
        @raise EC2Error: C{InvalidParameterValue} for a filter that this
            Describe does not know, C{FilterLimitExceeded} for too many values.
        """
        narrowing = Narrowing()
        if not filters:
            return narrowing
        count = 0
        for each in filters:
            name, values = each.get("Name"), tuple(each.get("Values") or ())
            if not name:
                raise EC2Error("InvalidParameterValue", "The filter 'null' is invalid")
            count += len(values)
            if count > MOST_VALUES:
                raise EC2Error(
                    "FilterLimitExceeded",
                    f"The maximum number of filter values specified on a single call is {MOST_VALUES}",
                )
            self._apply(narrowing, caller, name, values)
        return narrowing

    def _apply(self, narrowing: Narrowing, caller: Caller, name: str, values: tuple[str, ...]) -> None:
        rule = self._rule(name)
        if not values:
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' has no value")
        narrowing.add(rule(caller, values))
        if self._private_tags and name.startswith("tag"):
            narrowing.add(("owner", (literal(caller.project),)))

    def _rule(self, name: str) -> Rule:
        rule = self._rules.get(name)
        if rule is not None:
            return rule
        if self._tagged and name.startswith("tag:") and len(name) > 4:
            return facet(name)
        raise EC2Error("InvalidParameterValue", f"The filter '{name}' is invalid")


def facet(name: str) -> Rule:
    """
    The store files it under C{name}, with the values that EC2 shows.
    """
    return lambda caller, values: (name, values)


def choice(name: str, table: Mapping[str, tuple[str, ...]]) -> Rule:
    """
    The store files it under C{name}; C{table} gives its values for each one
    of EC2's.
    """

    def rule(caller: Caller, values: tuple[str, ...]) -> Facet | bool:
        fits = matcher(values)
        found = tuple(dict.fromkeys(own for shown, owns in table.items() if fits(shown) for own in owns))
        return (name, found) if found else False

    return rule


def constant(*shown: str) -> Rule:
    """
    It is the same for all records; without a value, no record has it.
    """

    def rule(caller: Caller, values: tuple[str, ...]) -> bool:
        fits = matcher(values)
        return any(fits(text) for text in shown)

    return rule


def own_project(caller: Caller, values: tuple[str, ...]) -> bool:
    """
    A rule: it is the caller's project.
    """
    return matcher(values)(caller.project)


def of_record(read: Callable[[Any], Iterable[str]]) -> Rule:
    """
    It is not filed: C{read} gives a record's values, one of which must match.
    """

    def rule(caller: Caller, values: tuple[str, ...]) -> Test:
        fits = matcher(values)
        return lambda record: any(fits(text) for text in read(record))

    return rule


def flag(read: Callable[[Any], bool]) -> Rule:
    """
    As L{of_record}, of something that is C{true} or C{false}.
    """
    return of_record(lambda record: ("true" if read(record) else "false",))


def literal(text: str) -> str:
    """
    @return: a filter value that matches C{text} and nothing else.
    """
    return re.sub(r"([\\*?])", r"\\\1", text)


def matcher(values: tuple[str, ...]) -> Callable[[str], bool]:
    """
    @return: whether a text matches one of the values, in which C{*} is any
        characters, C{?} is one, and a backslash takes the next literally.
    """
    plain = {value for value in values if not is_pattern(value)}
    patterns = [value for value in values if value not in plain]
    if not patterns:
        return plain.__contains__
    return lambda text: text in plain or any(matches(pattern, text) for pattern in patterns)
