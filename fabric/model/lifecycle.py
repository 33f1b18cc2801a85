"""
Lifecycles as literal tables: state and verb give the next state.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Deadline:
    """
    How long a transitional state may last, and what follows.

    @ivar seconds: how long.
    @ivar verb: the verb that the sweep applies when the time has passed.
    """

    seconds: float
    verb: str


@attrs.frozen
class Lifecycle:
    """
    One kind's table.

    @ivar kind: whose lifecycle it is.
    @ivar initial: the state in which a record is made.
    @ivar final: the states that nothing leaves.
    @ivar moves: C{{verb: {state: next state}}}.
    @ivar deadlines: C{{state: Deadline}}, one for every transitional state.
    """

    kind: str
    initial: str
    final: frozenset[str]
    moves: dict[str, dict[str, str]]
    deadlines: dict[str, Deadline]

    def next_state(self, verb: str, state: str) -> str | None:
        """
        @return: the state that C{verb} leads to, None where the table has no
            such move.
        """
        return self.moves[verb].get(state)

    def sources(self, verb: str) -> list[str]:
        """
        @return: the states in which C{verb} is lawful, sorted.
        """
        return sorted(self.moves[verb])

    def states(self) -> list[str]:
        """
        @return: every state that the table names, sorted.
        """
        found = {self.initial} | set(self.final)
        for row in self.moves.values():
            found |= set(row) | set(row.values())
        return sorted(found)
