"""
All nouns of the cloud's logic together, for doors.
"""

from __future__ import annotations

import attrs

from fabric.cloud.addresses import Addresses
from fabric.cloud.captures import Captures
from fabric.cloud.care import Care
from fabric.cloud.flavors import Flavors
from fabric.cloud.groups import Groups
from fabric.cloud.guests import Guests
from fabric.cloud.hosts import Hosts
from fabric.cloud.image_files import ImageFiles
from fabric.cloud.images import Images
from fabric.cloud.instances import Instances
from fabric.cloud.keypairs import KeyPairs
from fabric.cloud.listings import Listings
from fabric.cloud.metadata_options import MetadataSettings
from fabric.cloud.migrations import Migrations
from fabric.cloud.networks import Networks
from fabric.cloud.placement_groups import PlacementGroups
from fabric.cloud.quotas import Quotas
from fabric.cloud.ranges import Ranges
from fabric.cloud.rules import Rules
from fabric.cloud.snapshots import Snapshots
from fabric.cloud.tags import Tags
from fabric.cloud.templates import Templates
from fabric.cloud.volumes import Volumes


@attrs.frozen
class Cloud:
    """
    All that a door needs.
    """

    instances: Instances
    key_pairs: KeyPairs
    images: Images
    groups: Groups
    rules: Rules
    tags: Tags
    hosts: Hosts
    networks: Networks
    quotas: Quotas
    listings: Listings
    volumes: Volumes
    snapshots: Snapshots
    captures: Captures
    addresses: Addresses
    ranges: Ranges
    placement_groups: PlacementGroups
    templates: Templates
    flavors: Flavors
    metadata_settings: MetadataSettings
    guests: Guests
    image_files: ImageFiles
    migrations: Migrations
    care: Care
