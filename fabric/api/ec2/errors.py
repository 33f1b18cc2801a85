"""
What a client of EC2 is told when a request is refused.

The one mapping from the cloud's errors to EC2's codes and messages.  Where AWS
answers 500 for what is the user's affair or the cloud's fullness
(C{InsufficientInstanceCapacity}), this answers 400: clients take 5xx for a
broken server and repeat at once what can't succeed.

@see: U{https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabric import errors
from fabric.api.signature import SignatureRefused
from fabric.cloud.dry import WouldAct
from fabric.ids import PREFIXES, is_id


class EC2Error(Exception):
    """
    A refusal in EC2's own terms, raised where only EC2's door has the rule.

    @ivar code: as C{InvalidParameterValue}.
    @ivar status: of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = message
        self.status = status


def fault(error: BaseException, action: str) -> EC2Error | None:
    """
    @param action: what was asked, which some messages name.
    @return: what to answer; None for a failure that is nobody's answer, which
        is to be logged whole and answered by L{internal_error}.
    """
    if isinstance(error, EC2Error):
        return error
    if isinstance(error, SignatureRefused):
        return _SIGNATURES[error.why](error.message)
    explain = _FAULTS.get(type(error))
    return None if explain is None else explain(error, action)


def internal_error() -> EC2Error:
    """
    @return: the answer that tells nothing.
    """
    return EC2Error("InternalError", "An internal error has occurred", 500)


def would_succeed() -> EC2Error:
    """
    @return: the answer to a C{DryRun} that nothing stands against.
    """
    return EC2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def not_validated() -> EC2Error:
    """
    @return: the answer to an unknown access key and to a wrong signature alike.
    """
    return EC2Error("AuthFailure", "AWS was not able to validate the provided access credentials", 401)


def malformed_id(kind: str, text: str) -> EC2Error:
    """
    @return: the answer to an id that is none.
    """
    code = _KINDS.get(kind, ("InvalidParameterValue", "", ""))[0]
    return EC2Error(f"{code}.Malformed", f'Invalid id: "{text}" (expecting "{PREFIXES.get(kind, kind)}-...")')


_SIGNATURES: dict[str, Callable[[str], EC2Error]] = {
    "missing": lambda why: EC2Error(
        "MissingAuthenticationToken",
        "The request must contain either a valid (registered) AWS access key ID or X.509 certificate",
        403,
    ),
    "incomplete": lambda why: EC2Error("IncompleteSignature", why),
    "expired": lambda why: EC2Error("RequestExpired", why),
    "mismatch": lambda why: not_validated(),
}

_KINDS = {
    "instance": ("InvalidInstanceID", "The instance ID '{}' does not exist", "The instance IDs '{}' do not exist"),
    "image": ("InvalidAMIID", "The image id '[{}]' does not exist", "The image ids '[{}]' do not exist"),
    "kernel": ("InvalidAMIID", "The kernel id '{}' does not exist", "The kernel ids '{}' do not exist"),
    "ramdisk": ("InvalidAMIID", "The ramdisk id '{}' does not exist", "The ramdisk ids '{}' do not exist"),
    "key_pair": ("InvalidKeyPair", "The key pair '{}' does not exist", "The key pairs '{}' do not exist"),
    "group": ("InvalidGroup", "The security group '{}' does not exist", "The security groups '{}' do not exist"),
    "rule": (
        "InvalidSecurityGroupRuleId",
        "The security group rule ID '{}' does not exist",
        "The security group rule IDs '{}' do not exist",
    ),
    "network": ("InvalidSubnetID", "The subnet ID '{}' does not exist", "The subnet IDs '{}' do not exist"),
    "reservation": (
        "InvalidReservationID",
        "The reservation '{}' does not exist",
        "The reservations '{}' do not exist",
    ),
    "volume": ("InvalidVolume", "The volume '{}' does not exist.", "The volumes '{}' do not exist."),
    "snapshot": ("InvalidSnapshot", "The snapshot '{}' does not exist.", "The snapshots '{}' do not exist."),
}

_ALWAYS_IDS = ("instance", "image", "volume", "snapshot")
"""Kinds that have no names, so that what is not an id is malformed."""

_IMAGE_KINDS = ("image", "kernel", "ramdisk")


def _not_found(error: Any, action: str) -> EC2Error:
    if error.kind in _ABSENT:
        return _ABSENT[error.kind](error, action)
    asked = error.id.split(", ")
    if error.kind in _ALWAYS_IDS:
        kinds = _IMAGE_KINDS if error.kind == "image" else (error.kind,)
        for text in asked:
            if not any(is_id(kind, text) for kind in kinds):
                return malformed_id(error.kind, text)
    if error.kind == "permission":
        return EC2Error("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
    if error.kind not in _KINDS:
        return EC2Error("InvalidParameterValue", f"The {error.kind} '{error.id}' does not exist")
    code, one, many = _KINDS[error.kind]
    return EC2Error(f"{code}.NotFound", (one if len(asked) == 1 else many).format(error.id))


def _unknown_template(error: Any, action: str) -> EC2Error:
    return EC2Error(
        "InvalidLaunchTemplateId.NotFound",
        f"The specified launch template, with template ID {error.id}, does not exist.",
    )


def _unknown_template_name(error: Any, action: str) -> EC2Error:
    return EC2Error(
        "InvalidLaunchTemplateName.NotFoundException",
        f"The specified launch template, with template name {error.id}, does not exist.",
    )


def _unknown_version(error: Any, action: str) -> EC2Error:
    template, _, version = error.id.partition(" ")
    return EC2Error(
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version {version} for the launch template with ID {template}.",
    )


def _unknown_placement_group(error: Any, action: str) -> EC2Error:
    return EC2Error("InvalidPlacementGroup.Unknown", f"The Placement Group '{error.id}' is unknown.")


def _unknown_address(error: Any, action: str) -> EC2Error:
    if not error.id[:1].isdigit():
        ids = "allocation ID" if ", " not in error.id else "allocation IDs"
        verb = "does" if ", " not in error.id else "do"
        return EC2Error("InvalidAllocationID.NotFound", f"The {ids} '{error.id}' {verb} not exist")
    return EC2Error("InvalidAddress.NotFound", f"Address '{error.id}' not found.")


def _others_address(error: Any, action: str) -> EC2Error:
    return EC2Error("AuthFailure", f"The address '{error.id}' does not belong to you.")


def _unknown_association(error: Any, action: str) -> EC2Error:
    return EC2Error("InvalidAssociationID.NotFound", f"The association ID '{error.id}' does not exist")


def _unknown_range(error: Any, action: str) -> EC2Error:
    return EC2Error("InvalidPublicIpv4PoolID.NotFound", f"The PublicIpv4Pool ID '{error.id}' does not exist")


_ABSENT: dict[str, Callable[[Any, str], EC2Error]] = {
    "launch_template": _unknown_template,
    "launch_template_name": _unknown_template_name,
    "launch_template_version": _unknown_version,
    "placement_group": _unknown_placement_group,
    "address": _unknown_address,
    "allocation": _unknown_address,
    "others_address": _others_address,
    "others_image": lambda error, action: EC2Error("AuthFailure", f"Not authorized for image:{error.id}"),
    "association": _unknown_association,
    "floating": _unknown_range,
    "zone": lambda error, action: EC2Error("InvalidZone.NotFound", f"The zone '{error.id}' does not exist."),
    "device": lambda error, action: EC2Error(
        "InvalidInstanceAttributeValue", f"No device is currently mapped at {error.id}"
    ),
    "attachment": lambda error, action: EC2Error(
        "InvalidAttachment.NotFound", "The volume '{}' is not attached to '{}'.".format(*error.id.split(" ", 1))
    ),
}
"""Kinds of which EC2 says in words of their own that they are not there."""


def _already_exists(error: Any, action: str) -> EC2Error:
    if error.kind == "placement_group":
        return EC2Error("InvalidPlacementGroup.Duplicate", f"The placement group '{error.name}' already exists.")
    if error.kind == "launch_template":
        return EC2Error("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
    if error.kind == "image":
        return EC2Error("InvalidAMIName.Duplicate", f"AMI name {error.name} is already in use by AMI {error.holder}")
    if error.kind == "key_pair":
        return EC2Error("InvalidKeyPair.Duplicate", f"The keypair '{error.name}' already exists.")
    if error.kind == "rule":
        return EC2Error("InvalidPermission.Duplicate", f'the specified rule "{error.name}" already exists')
    if error.kind == "group":
        return EC2Error("InvalidGroup.Duplicate", f"The security group '{error.name}' already exists")
    return EC2Error("InvalidParameterValue", f"The {error.kind} '{error.name}' already exists")


_DONE = {
    "StartInstances": "started",
    "StopInstances": "stopped",
    "RebootInstances": "rebooted",
    "TerminateInstances": "terminated",
}


def _wrong_state(error: Any, action: str) -> EC2Error:
    if action == "AssociateAddress":
        message = f"The {error.found} instance '{error.id}' is not in a valid state for this operation."
        return EC2Error("InvalidInstanceID", message)
    if error.kind == "image":
        return EC2Error("InvalidAMIID.Unavailable", f"The image ID '{error.id}' is not available")
    code = "IncorrectInstanceState" if error.kind == "instance" else "IncorrectState"
    if action in ("AttachVolume", "DetachVolume"):
        return _wrong_state_of_attachment(error, action)
    if error.kind == "root":
        message = f"Invalid value '{error.id}' for instanceId. "
        message += f"Instance does not have a volume attached at root ({error.found})"
        return EC2Error("IncorrectState", message)
    if error.kind == "volume" and error.found == "modifying":
        return EC2Error("IncorrectModificationState", f"Volume {error.id} is being modified already.")
    if action in _DONE:
        message = f"The instance '{error.id}' is not in a state from which it can be {_DONE[action]}."
    else:
        wanted = "' or '".join(error.wanted)
        message = f"The {error.kind} '{error.id}' is not in the '{wanted}' state."
    return EC2Error(code, message)


def _wrong_state_of_attachment(error: Any, action: str) -> EC2Error:
    if error.kind == "instance":
        return EC2Error("IncorrectState", f"Instance '{error.id}' is not 'running'.")
    if action == "DetachVolume":
        return EC2Error("IncorrectState", f"Volume '{error.id}' is in the '{error.found}' state.")
    return EC2Error("IncorrectState", f"{error.id} is not 'available'.")


_QUOTAS = {
    "instances": (
        "InstanceLimitExceeded",
        "You have requested more instances ({wanted}) than your current instance limit of {limit} allows.",
    ),
    "cores": (
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit of {limit} allows.",
    ),
    "ram": (
        "MemoryLimitExceeded",
        "You have requested more memory ({wanted} MiB) than your current limit of {limit} MiB allows.",
    ),
    "volumes": ("VolumeLimitExceeded", "You have reached your limit of {limit} volumes."),
    "gigabytes": ("VolumeLimitExceeded", "You have exceeded your limit of {limit} GiB of volumes."),
    "snapshots": ("SnapshotLimitExceeded", "You have reached your limit of {limit} snapshots."),
    "key_pairs": ("KeyPairLimitExceeded", "You have reached your limit of {limit} key pairs."),
    "placement_groups": (
        "PlacementGroupLimitExceeded",
        "You have reached your limit of {limit} placement groups.",
    ),
    "launch_templates": (
        "LaunchTemplateLimitExceeded",
        "You have reached your limit of {limit} launch templates.",
    ),
    "images": ("AMILimitExceeded", "You have reached your limit of {limit} images."),
    "addresses": ("AddressLimitExceeded", "The maximum number of addresses has been reached."),
    "rules": (
        "RulesPerSecurityGroupLimitExceeded",
        "The maximum number of rules per security group has been reached.",
    ),
    "groups": ("SecurityGroupLimitExceeded", "You have reached your limit of {limit} security groups."),
}


def _quota(error: Any, action: str) -> EC2Error:
    code, message = _QUOTAS.get(
        error.resource, ("ResourceLimitExceeded", f"You have reached your limit of {{limit}} {error.resource}.")
    )
    return EC2Error(code, message.format(limit=error.limit, wanted=error.wanted, used=error.used))


def _limit(error: Any, action: str) -> EC2Error:
    if error.counter.startswith("uses:launch_template:"):
        return EC2Error(
            "VersionLimitExceeded", f"You have reached the limit of {error.limit} versions of this launch template."
        )
    return EC2Error("ResourceLimitExceeded", f"The limit of {error.limit} would be exceeded.")


def _no_capacity(error: Any, action: str) -> EC2Error:
    if action.endswith(("Volume", "Snapshot", "Snapshots", "Image")):
        return EC2Error("InsufficientVolumeCapacity", "There is not enough capacity to fulfill your request.")
    return EC2Error("InsufficientInstanceCapacity", "There is not enough capacity to fulfill your request.")


def _pool_empty(error: Any, action: str) -> EC2Error:
    if error.pool.startswith("fixed:"):
        message = "The specified subnet does not have enough free addresses to satisfy the request."
        return EC2Error("InsufficientFreeAddressesInSubnet", message)
    return EC2Error("InsufficientAddressCapacity", "Not enough available addresses to satisfy the request.")


def _taken(error: Any, action: str) -> EC2Error:
    return EC2Error("InvalidIPAddress.InUse", f"The address '{error.member}' is in use.")


_FORBIDDEN = {"disableApiTermination": "terminated", "disableApiStop": "stopped"}


def _protected(error: Any, action: str) -> EC2Error:
    if error.kind == "root":
        message = f"Unable to detach root volume '{error.id}' from instance '{error.attribute}'"
        return EC2Error("OperationNotPermitted", message)
    verb = _FORBIDDEN.get(error.attribute, "changed")
    return EC2Error(
        "OperationNotPermitted",
        f"The {error.kind} '{error.id}' may not be {verb}. "
        f"Modify its '{error.attribute}' {error.kind} attribute and try again.",
    )


def _in_use(error: Any, action: str) -> EC2Error:
    if error.kind == "placement_group":
        return EC2Error(
            "InvalidPlacementGroup.InUse", f"The placement group '{error.id}' is in use and may not be deleted."
        )
    if error.kind == "address" and action == "AssociateAddress":
        message = f"resource {error.id} is already associated with instance {error.by}"
        return EC2Error("Resource.AlreadyAssociated", message)
    if error.kind == "address":
        return EC2Error("InvalidIPAddress.InUse", f"Address '{error.id}' is in use by instance {error.by}.")
    if error.kind == "snapshot":
        return EC2Error("InvalidSnapshot.InUse", f"The snapshot {error.id} is currently in use by {error.by}")
    if error.kind == "volume" and action == "AttachVolume":
        return EC2Error("VolumeInUse", f"{error.id} is already attached to an instance")
    if error.kind == "volume":
        return EC2Error("VolumeInUse", f"Volume {error.id} is currently attached to {error.by}")
    return EC2Error("DependencyViolation", f"resource {error.id} has a dependent object")


def _invalid(error: Any, action: str) -> EC2Error:
    if error.name == "group":
        return EC2Error("CannotDelete", f'the specified group: "{error.value}" cannot be deleted by a user')
    if error.name == "InstanceType" and error.why == "not an instance type of this cloud":
        return EC2Error("InvalidParameterValue", f"Invalid value '{error.value}' for InstanceType.")
    if error.name == "userId":
        message = f'Invalid attribute item value "{error.value}" for userId item type.'
        return EC2Error("InvalidAMIAttributeItemValue", message)
    if error.name == "permission":
        return EC2Error("InvalidParameterValue", error.why)
    if error.name == "zone" and error.value.startswith("vol-"):
        message = f"The volume '{error.value}' is not in the same availability zone as the instance"
        return EC2Error("InvalidVolume.ZoneMismatch", message)
    if error.name == "blockDeviceMapping":
        return EC2Error("InvalidBlockDeviceMapping", error.why)
    if error.name == "PublicKeyMaterial":
        return EC2Error("InvalidKey.Format", error.why)
    return EC2Error(
        "InvalidParameterValue", f"Value ({error.value}) for parameter {error.name} is invalid. {error.why}"
    )


def _mismatched_token(error: Any, action: str) -> EC2Error:
    return EC2Error(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request. "
        "Do not reuse a client token with different requests, unless the requests are identical",
    )


def _spent_token(error: Any, action: str) -> EC2Error:
    return EC2Error(
        "IdempotentInstanceTerminated",
        "The request to launch an instance uses the same client token as a previous request for which the instance "
        "has been terminated.",
    )


def _denied(error: Any, action: str) -> EC2Error:
    return EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)


def _unsupported(error: Any, action: str) -> EC2Error:
    return EC2Error("UnsupportedOperation", f"The operation is not supported: {error.what}")


def _conflict(error: Any, action: str) -> EC2Error:
    return EC2Error("IncorrectState", f"The {error.kind} '{error.id}' is being changed by another request. Try again.")


def _unavailable(error: Any, action: str) -> EC2Error:
    return EC2Error("Unavailable", "The server can't handle the request now. Please try again shortly.", 503)


_FAULTS: dict[type[BaseException], Callable[[Any, str], EC2Error]] = {
    errors.NotFound: _not_found,
    errors.AlreadyExists: _already_exists,
    errors.WrongState: _wrong_state,
    errors.Conflict: _conflict,
    errors.LimitExceeded: _limit,
    errors.QuotaExceeded: _quota,
    errors.PoolEmpty: _pool_empty,
    errors.MemberTaken: _taken,
    errors.InvalidValue: _invalid,
    errors.InUse: _in_use,
    errors.IdempotencyMismatch: _mismatched_token,
    errors.TokenSpent: _spent_token,
    errors.Denied: _denied,
    errors.Protected: _protected,
    errors.Unsupported: _unsupported,
    errors.NoCapacity: _no_capacity,
    errors.Unavailable: _unavailable,
    errors.DeadlineExceeded: _unavailable,
    WouldAct: lambda error, action: would_succeed(),
}
