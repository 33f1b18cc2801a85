"""
All of EC2's actions that this cloud has.
"""

from __future__ import annotations

from fabric.api.ec2.actions.attributes import AttributeActions
from fabric.api.ec2.actions.flavors import FlavorActions
from fabric.api.ec2.actions.groups import GroupActions
from fabric.api.ec2.actions.images import ImageActions
from fabric.api.ec2.actions.instances import InstanceActions
from fabric.api.ec2.actions.keypairs import KeyPairActions
from fabric.api.ec2.actions.launch import LaunchActions
from fabric.api.ec2.actions.places import PlaceActions
from fabric.api.ec2.actions.tags import TagActions
from fabric.api.ec2.registry import Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud import Cloud
from fabric.model.flavor import BUILT_IN


def ec2_actions(cloud: Cloud, views: EC2Views, region: str, endpoint: str) -> Registry:
    """
    @param views: the same as the store's.
    @param region: the name of the one region.
    @param endpoint: where DescribeRegions sends clients, C{host:port}.
    @return: every action with its handler and what it honours.
    """
    registry = Registry()
    LaunchActions(cloud.instances, cloud.hosts, views).register(registry)
    InstanceActions(cloud.instances, cloud.listings, views).register(registry)
    AttributeActions(cloud.instances, cloud.images).register(registry)
    FlavorActions(BUILT_IN).register(registry)
    KeyPairActions(cloud.key_pairs, cloud.listings, views).register(registry)
    ImageActions(cloud.listings, views).register(registry)
    GroupActions(cloud.groups, cloud.listings, views).register(registry)
    TagActions(cloud.tags, views).register(registry)
    PlaceActions(cloud.hosts, cloud.quotas, region, endpoint).register(registry)
    return registry
