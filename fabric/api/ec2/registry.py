"""
The table of EC2 actions that this cloud implements, and what of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from fabric.api.ec2.call import Handler


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@attrs.frozen
class Action:
    """
    One implemented action.

    @ivar name: as C{DescribeInstances}.
    @ivar handler: takes a L{Call}, returns a Deferred of its answer.
    @ivar honours: the members of the input shape (botocore's names, as
        C{InstanceIds}) that the handler makes true.  C{Placement} is all of
        that structure, C{Placement.AvailabilityZone} that member of it only;
        lists between are not named (C{TagSpecifications.Tags.Key}).
        Whatever else a client sends is refused by name, never dropped.
        C{DryRun} is honoured by the door and need not be listed.
    """

    name: str
    handler: Handler
    honours: frozenset[str] = attrs.field(converter=_names)


class Registry:
    """
    Actions by name.
    """

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self._actions: dict[str, Action] = {}
        for action in actions:
            self.add(action)

    def add(self, action: Action) -> None:
        """
        @raise ValueError: an action of that name is there.
        """
        if action.name in self._actions:
            raise ValueError(f"{action.name} is registered twice")
        self._actions[action.name] = action

    def action(self, name: str, *honours: str) -> Callable[[Handler], Handler]:
        """
        A decorator that adds a handler.
        """

        def register(handler: Handler) -> Handler:
            self.add(Action(name, handler, frozenset(honours)))
            return handler

        return register

    def find(self, name: str) -> Action | None:
        """
        @return: the action, None when it is not implemented.
        """
        return self._actions.get(name)

    def names(self) -> list[str]:
        """
        @return: what is implemented, sorted.
        """
        return sorted(self._actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())
