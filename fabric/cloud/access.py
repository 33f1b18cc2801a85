"""
Who asks for something.  The table of who may do what stands in this module.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Caller:
    """
    Who asks, on behalf of which project.

    @ivar request_id: follows the request through queue, workers and logs.
    """

    user: str
    project: str
    roles: frozenset[str] = frozenset()
    request_id: str = ""
