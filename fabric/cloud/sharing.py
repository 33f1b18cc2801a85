"""
With which projects an image or a snapshot is shared.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabric.errors import InvalidValue, LimitExceeded
from fabric.users.names import is_id

MOST = 1000
"""Projects that one thing may be shared with, as on EC2; all of them is another matter."""


def shared(owner: str, before: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    """
    @return: the projects that a thing of C{owner}'s is shared with when some
        were added, and then some removed.  Whether there are such projects is
        not asked.
    @raise InvalidValue: of C{userId}: what is added can't be a project.
    @raise LimitExceeded: they are more than L{MOST}.
    """
    for project in add:
        if not is_id(project):
            raise InvalidValue("userId", project[:64], "no project is called so")
    without = {owner, *remove}
    found = tuple(project for project in dict.fromkeys((*before, *add)) if project not in without)
    if len(found) > MOST and len(found) > len(before):
        raise LimitExceeded("sharing", MOST, len(before), len(found))
    return found
