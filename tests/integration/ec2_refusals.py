"""
How EC2 refuses ids and names of what is not there: the codes, by what of
L{tests.integration.ec2_world} is named.
"""

from __future__ import annotations

from tests.integration.ec2_world import PREFIXES

_INSTANCES = ("instance", "stopped", "protected")
_VOLUMES = ("volume", "attached", "on_stopped")
_GROUPS = ("group", "source_group")
_IMAGES = ("image", "kernel", "ramdisk")
_RULES = ("rule", "egress_rule")
_INTERFACES = ("interface", "interface_stopped")
_ALLOCATIONS = ("allocation", "held")
_PUBLIC = ("public_ip", "held_ip")

NOT_FOUND = {
    **dict.fromkeys(_INSTANCES, "InvalidInstanceID.NotFound"),
    **dict.fromkeys(_VOLUMES, "InvalidVolume.NotFound"),
    **dict.fromkeys((*_GROUPS, "group_name", "source_name"), "InvalidGroup.NotFound"),
    **dict.fromkeys(_IMAGES, "InvalidAMIID.NotFound"),
    **dict.fromkeys(_RULES, "InvalidSecurityGroupRuleId.NotFound"),
    **dict.fromkeys(_INTERFACES, "InvalidNetworkInterfaceID.NotFound"),
    **dict.fromkeys(_ALLOCATIONS, "InvalidAllocationID.NotFound"),
    **dict.fromkeys(_PUBLIC, "InvalidAddress.NotFound"),
    **dict.fromkeys(("key", "key_name"), "InvalidKeyPair.NotFound"),
    **dict.fromkeys(("placement_group", "placement_name"), "InvalidPlacementGroup.Unknown"),
    "snapshot": "InvalidSnapshot.NotFound",
    "association": "InvalidAssociationID.NotFound",
    "template": "InvalidLaunchTemplateId.NotFound",
    "template_name": "InvalidLaunchTemplateName.NotFoundException",
    "vpc": "InvalidVpcID.NotFound",
    "subnet": "InvalidSubnetID.NotFound",
    "route_table": "InvalidRouteTableID.NotFound",
    "gateway": "InvalidInternetGatewayID.NotFound",
    "dhcp": "InvalidDhcpOptionsID.NotFound",
    "acl": "InvalidNetworkAclID.NotFound",
}
"""Of what does not exist."""

MALFORMED = {
    **dict.fromkeys(_INSTANCES, "InvalidInstanceID.Malformed"),
    **dict.fromkeys(_VOLUMES, "InvalidVolumeID.Malformed"),
    **dict.fromkeys(_GROUPS, "InvalidGroupId.Malformed"),
    **dict.fromkeys(_IMAGES, "InvalidAMIID.Malformed"),
    **dict.fromkeys(_RULES, "InvalidSecurityGroupRuleId.Malformed"),
    **dict.fromkeys(_INTERFACES, "InvalidNetworkInterfaceId.Malformed"),
    **dict.fromkeys(_PUBLIC, "InvalidParameterValue"),
    "snapshot": "InvalidSnapshotID.Malformed",
    "template": "InvalidLaunchTemplateId.Malformed",
    "placement_group": "InvalidPlacementGroupId.Malformed",
    # Of these EC2 says, whatever the text, that they do not exist.
    **{
        name: NOT_FOUND[name]
        for name in (
            *("allocation", "held", "association", "key"),
            *("vpc", "subnet", "route_table", "gateway", "dhcp", "acl"),
        )
    },
}
"""Of what can't be an id, or an address."""

TAGGING = ("CreateTags", "DeleteTags")

MALFORMED_TO_TAG = "InvalidID"
"""What L{TAGGING} say of a text that is no id: they can't know of what."""


def not_found(action: str, name: str) -> str:
    """
    The code of the refusal where C{name} stands for nobody's.
    """
    if (action, name) == ("DetachVolume", "stopped"):
        return "InvalidAttachment.NotFound"
    if action.startswith("Revoke") and name in ("source_group", "source_name"):
        return "InvalidPermission.NotFound"  # rules may be about groups that are gone
    return NOT_FOUND[name]


def not_ones_own(action: str, name: str) -> str:
    """
    The code of the refusal where C{name} stands for another project's.  Whether
    somebody holds a public address is no secret, as everybody may try to take it.
    """
    if name in _PUBLIC and not action.startswith("Describe"):
        return "AuthFailure"
    return not_found(action, name)


def unknown(name: str) -> str:
    """
    What could be there, and is not.
    """
    if name in PREFIXES:
        return f"{PREFIXES[name]}-00000000000000009"
    return "198.51.100.7" if name in _PUBLIC else "nobodys"


def malformed(name: str) -> str:
    """
    What can't be.
    """
    return "203.0.113" if name in _PUBLIC else f"{PREFIXES[name]}-xyz"
