"""
What a host's network is to be, all in one value: what links, DHCP servers and
packet filters are derived from.
"""

from __future__ import annotations

import attrs

from fabric.network.interface import Floating, GroupOrder, NetworkOrder, Plug


@attrs.frozen
class HostNetwork:
    """
    @ivar networks: by id.
    @ivar ports: by MAC.
    @ivar groups: security groups by id.
    @ivar floating: by public address.
    @ivar ending: whose flows are to end, since they no longer are whose they
        were: L{fabric.network.linux.conntrack.Side}s.
    """

    networks: dict[str, NetworkOrder] = attrs.field(factory=dict)
    ports: dict[str, Plug] = attrs.field(factory=dict)
    groups: dict[str, GroupOrder] = attrs.field(factory=dict)
    floating: dict[str, Floating] = attrs.field(factory=dict)
    ending: tuple[tuple[str, str], ...] = ()
