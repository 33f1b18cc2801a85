"""
The cloud's logic, one module a noun: what every door and worker calls.
"""

from __future__ import annotations

import attrs

from fabric.cloud.groups import Groups
from fabric.cloud.hosts import Hosts
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.keypairs import KeyPairs
from fabric.cloud.listings import Listings
from fabric.cloud.networks import Networks
from fabric.cloud.quotas import Quotas
from fabric.cloud.tags import Tags


@attrs.frozen
class Cloud:
    """
    All that a door needs.
    """

    instances: Instances
    key_pairs: KeyPairs
    images: Images
    groups: Groups
    tags: Tags
    hosts: Hosts
    networks: Networks
    quotas: Quotas
    listings: Listings
