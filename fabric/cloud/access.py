"""
Who asks for something, and the table of who may do what.

Everybody with a project may look and may manage key pairs; C{sysadmin} and the
project's manager run machines; C{netadmin} and the project's manager own
groups and addresses; C{cloudadmin} may do everything.
"""

from __future__ import annotations

import attrs

from fabric.errors import Denied


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


_ANYBODY = frozenset({"*"})
_MACHINES = frozenset({"cloudadmin", "projectmanager", "sysadmin"})
_NETWORKS = frozenset({"cloudadmin", "projectmanager", "netadmin"})
_TAGGERS = _MACHINES | _NETWORKS
_OPERATORS = frozenset({"cloudadmin"})
_AUDITORS = frozenset({"cloudadmin", "itsec"})

TABLE: dict[str, frozenset[str]] = {
    "RunInstances": _MACHINES,
    "StartInstances": _MACHINES,
    "StopInstances": _MACHINES,
    "RebootInstances": _MACHINES,
    "TerminateInstances": _MACHINES,
    "ModifyInstanceAttribute": _MACHINES,
    "ResetInstanceAttribute": _MACHINES,
    "ModifyInstanceMetadataOptions": _MACHINES,
    "ModifyInstanceMetadataDefaults": _MACHINES,
    "GetInstanceMetadataDefaults": _ANYBODY,
    "ModifyInstancePlacement": _MACHINES,
    "MonitorInstances": _MACHINES,
    "UnmonitorInstances": _MACHINES,
    "GetConsoleScreenshot": _ANYBODY,
    "GetPasswordData": _MACHINES,
    "CreatePlacementGroup": _MACHINES,
    "DeletePlacementGroup": _MACHINES,
    "CreateLaunchTemplate": _MACHINES,
    "CreateLaunchTemplateVersion": _MACHINES,
    "ModifyLaunchTemplate": _MACHINES,
    "DeleteLaunchTemplate": _MACHINES,
    "DeleteLaunchTemplateVersions": _MACHINES,
    "GetLaunchTemplateData": _ANYBODY,
    "GetSerialConsoleAccessStatus": _ANYBODY,
    "GetEbsEncryptionByDefault": _ANYBODY,
    "GetSnapshotBlockPublicAccessState": _ANYBODY,
    "GetImageBlockPublicAccessState": _ANYBODY,
    "CreateVolume": _MACHINES,
    "DeleteVolume": _MACHINES,
    "AttachVolume": _MACHINES,
    "DetachVolume": _MACHINES,
    "ModifyVolume": _MACHINES,
    "ModifyVolumeAttribute": _MACHINES,
    "EnableVolumeIO": _MACHINES,
    "CreateSnapshot": _MACHINES,
    "CreateSnapshots": _MACHINES,
    "DeleteSnapshot": _MACHINES,
    "CopySnapshot": _MACHINES,
    "ModifySnapshotAttribute": _MACHINES,
    "ResetSnapshotAttribute": _MACHINES,
    "RegisterImage": _MACHINES,
    "DeregisterImage": _MACHINES,
    "CreateImage": _MACHINES,
    "CopyImage": _MACHINES,
    "ModifyImageAttribute": _MACHINES,
    "ResetImageAttribute": _MACHINES,
    "GetConsoleOutput": _ANYBODY,
    "CreateKeyPair": _ANYBODY,
    "ImportKeyPair": _ANYBODY,
    "DeleteKeyPair": _ANYBODY,
    "CreateTags": _TAGGERS,
    "DeleteTags": _TAGGERS,
    "AllocateAddress": _NETWORKS,
    "ReleaseAddress": _NETWORKS,
    "AssociateAddress": _NETWORKS,
    "DisassociateAddress": _NETWORKS,
    "CreateSecurityGroup": _NETWORKS,
    "DeleteSecurityGroup": _NETWORKS,
    "AuthorizeSecurityGroupIngress": _NETWORKS,
    "AuthorizeSecurityGroupEgress": _NETWORKS,
    "RevokeSecurityGroupIngress": _NETWORKS,
    "RevokeSecurityGroupEgress": _NETWORKS,
    "ModifySecurityGroupRules": _NETWORKS,
    "UpdateSecurityGroupRuleDescriptionsIngress": _NETWORKS,
    "UpdateSecurityGroupRuleDescriptionsEgress": _NETWORKS,
    "GetSecurityGroupsForVpc": _ANYBODY,
}
"""EC2 actions and the roles of which one is enough.  C{Describe*} is for all."""

ADMIN_READS = _AUDITORS
"""Admin actions whose names begin with Describe."""

ADMIN_WRITES = _OPERATORS
"""All other admin actions."""


def permit(caller: Caller, action: str) -> None:
    """
    @raise Denied: none of the caller's roles allows the EC2 action.
    """
    roles = TABLE.get(action)
    if roles is None:
        roles = _ANYBODY if action.startswith("Describe") else _OPERATORS
    if roles is not _ANYBODY and not roles & caller.roles:
        raise Denied(caller.user, action)


def permit_admin(caller: Caller, action: str) -> None:
    """
    @raise Denied: none of the caller's roles allows the admin action.
    """
    roles = ADMIN_READS if action.startswith("Describe") else ADMIN_WRITES
    if not roles & caller.roles:
        raise Denied(caller.user, action)
