"""
One EC2 request after authentication and parsing, and what an action answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from fabric.cloud.access import Caller
from fabric.store.interface import Page


@attrs.frozen
class Call:
    """
    @ivar action: as C{RunInstances}.
    @ivar parameters: by the names of botocore's input shape, typed as it says
        (C{{"InstanceIds": ["i-1"], "MaxResults": 5, "Filters": [{"Name": …, "Values": […]}]}}).
        Only what the client sent is there.
    @ivar version: the API version that the client named.
    """

    action: str
    caller: Caller
    parameters: dict[str, Any]
    version: str


@attrs.frozen
class Listing:
    """
    An answer made of stored views, which may be long: it is sent page by page.

    @ivar element: the XML element around all items, as C{keySet}.
    @ivar page: gives the page after a cursor; "" is the first one.
    @ivar first: that first page, read already (so that errors are still errors).
    @ivar whole: whether to follow the cursors to the end; otherwise C{first}
        is all, and its cursor becomes the answer's C{nextToken}.
    @ivar join: turns a page's views into XML between C{<element>} and
        C{</element>}; given the state that it returned for the page before (None
        at first) and called once with an empty list at the end to close what
        is open.
    """

    element: str
    page: Callable[[str], Deferred[Page]]
    first: Page
    whole: bool
    join: Callable[[list[bytes], Any], tuple[bytes, Any]]


Answer = dict[str, Any] | Listing
"""A dict by the names of botocore's output shape, or a listing."""

Handler = Callable[[Call], Deferred[Answer]]
