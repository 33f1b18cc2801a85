"""
All of EC2's actions that this cloud has.
"""

from __future__ import annotations

from fabric.api.ec2.actions.addresses import AddressActions
from fabric.api.ec2.actions.attributes import AttributeActions
from fabric.api.ec2.actions.defaults import DefaultActions
from fabric.api.ec2.actions.flavors import FlavorActions
from fabric.api.ec2.actions.groups import GroupActions
from fabric.api.ec2.actions.guests import GuestActions
from fabric.api.ec2.actions.image_attributes import ImageAttributeActions
from fabric.api.ec2.actions.image_making import ImageMakingActions
from fabric.api.ec2.actions.images import ImageActions
from fabric.api.ec2.actions.instances import InstanceActions
from fabric.api.ec2.actions.keypairs import KeyPairActions
from fabric.api.ec2.actions.launch import LaunchActions
from fabric.api.ec2.actions.metadata_options import MetadataOptionsActions
from fabric.api.ec2.actions.placement_groups import PlacementGroupActions
from fabric.api.ec2.actions.places import PlaceActions
from fabric.api.ec2.actions.rules import RuleActions
from fabric.api.ec2.actions.snapshots import SnapshotActions
from fabric.api.ec2.actions.tags import TagActions
from fabric.api.ec2.actions.templates import TemplateActions
from fabric.api.ec2.actions.volumes import VolumeActions
from fabric.api.ec2.actions.vpc import VpcActions
from fabric.api.ec2.registry import Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud.cloud import Cloud


def ec2_actions(cloud: Cloud, views: EC2Views, region: str, endpoint: str) -> Registry:
    """
    @param views: the same as the store's.
    @param region: the name of the one region.
    @param endpoint: where DescribeRegions sends clients, C{host:port}.
    @return: every action with its handler and what it honours.
    """
    registry = Registry()
    LaunchActions(cloud.instances, cloud.hosts, cloud.templates, cloud.networks, views).register(registry)
    InstanceActions(cloud.instances, cloud.listings, views, cloud.hosts).register(registry)
    AttributeActions(cloud.instances, cloud.images, cloud.volumes).register(registry)
    FlavorActions(cloud.flavors, cloud.hosts, cloud.instances, region).register(registry)
    TemplateActions(cloud.templates, cloud.instances, cloud.listings, views).register(registry)
    PlacementGroupActions(cloud.placement_groups, cloud.listings, views).register(registry)
    GuestActions(cloud.guests, cloud.instances).register(registry)
    MetadataOptionsActions(cloud.metadata_settings).register(registry)
    DefaultActions().register(registry)
    KeyPairActions(cloud.key_pairs, cloud.listings, views).register(registry)
    ImageActions(cloud.listings, views).register(registry)
    ImageMakingActions(cloud.images, cloud.captures, region).register(registry)
    ImageAttributeActions(cloud.images).register(registry)
    GroupActions(cloud.groups, cloud.listings, views).register(registry)
    RuleActions(cloud.rules, views).register(registry)
    TagActions(cloud.tags, views).register(registry)
    PlaceActions(cloud.hosts, cloud.quotas, region, endpoint).register(registry)
    VpcActions(cloud.networks, cloud.hosts, cloud.listings, views).register(registry)
    AddressActions(cloud.addresses, cloud.listings, views, region).register(registry)
    VolumeActions(cloud.volumes, cloud.listings, views).register(registry)
    SnapshotActions(cloud.snapshots, cloud.listings, views, region).register(registry)
    return registry
