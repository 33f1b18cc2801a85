"""
Every kind of record that this version writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.model.address import Address, FloatingRange
from fabric.model.flavor import InstanceType
from fabric.model.group import SecurityGroup
from fabric.model.host import Service, Stray
from fabric.model.image import Image
from fabric.model.instance import Instance
from fabric.model.keypair import KeyPair
from fabric.model.metadata_options import MetadataDefaults
from fabric.model.network import Network
from fabric.model.placement_group import PlacementGroup
from fabric.model.project_range import ProjectRange
from fabric.model.quota import Quota
from fabric.model.record import Record
from fabric.model.reservation import Reservation
from fabric.model.secret import Secret
from fabric.model.snapshot import Snapshot
from fabric.model.template import LaunchTemplate, LaunchTemplateVersion
from fabric.model.volume import Volume

KINDS: Mapping[str, type[Record]] = {
    cls.kind: cls
    for cls in (
        Instance,
        Reservation,
        Image,
        KeyPair,
        SecurityGroup,
        Network,
        ProjectRange,
        Service,
        Stray,
        Quota,
        InstanceType,
        PlacementGroup,
        LaunchTemplate,
        LaunchTemplateVersion,
        MetadataDefaults,
        Volume,
        Secret,
        Snapshot,
        Address,
        FloatingRange,
    )
}
"""By what a record says that it is."""
