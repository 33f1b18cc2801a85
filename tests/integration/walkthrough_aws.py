"""
The C{aws} command's walk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.integration.aws_command import AwsCommand, AwsFailed
from tests.integration.ec2_clients import Account
from tests.integration.walking import SERVER, Guest, equal, refused, until


class AwsWalk:
    """
    The whole domain, with the command's own shorthands.
    """

    def __init__(self, account: Account, guest: Guest, name: str) -> None:
        self.command = AwsCommand(account.url, account.access_key, account.secret_key)
        self.guest = guest
        self.name = name

    def run(self) -> None:
        """All of it."""
        try:
            self._run()
        finally:
            self.command.close()

    def _run(self) -> None:
        [self.image] = [
            image["ImageId"]
            for image in self.command.once("describe-images", "--filters", f"Name=name,Values={SERVER}")["Images"]
        ]
        self.ask("import-key-pair", key_name=self.name, public_key_material=f"file://{self.public()}")
        self.makes_groups()
        self.id = self.launches()
        self.waits()
        self.tells_its_password()
        self.is_protected()
        self.has_an_address()
        self.uses_volumes()
        self.uses_snapshots()
        self.makes_images()
        self.changes_while_stopped()
        self.goes_by_template()
        self.keeps_apart()
        self.sees_the_network()
        self.ends()

    def public(self) -> str:
        """A file with the public half of the guest's key."""
        path = self.guest.private.with_suffix(".pub")
        path.write_text(self.guest.public)
        return str(path)

    def ask(self, command: str, *arguments: str, **options: str | Sequence[str]) -> dict[str, Any]:
        """One command; options by their names with C{_} for C{-}."""
        for name, value in options.items():
            values = [value] if isinstance(value, str) else value
            arguments += (f"--{name.replace('_', '-')}", *values)
        return self.command.ask(command, *arguments)

    def refused(
        self, codes: str | Sequence[str], command: str, *arguments: str, **options: str | Sequence[str]
    ) -> None:
        """A command must be refused with one of these codes."""
        refused(codes, lambda error: str(error.code), AwsFailed, self.ask, command, *arguments, **options)

    def instance(self, id: str) -> dict[str, Any]:
        """One as it is shown."""
        [reservation] = self.ask("describe-instances", instance_ids=id)["Reservations"]
        return reservation["Instances"][0]  # type: ignore[no-any-return]

    def state(self, id: str, wanted: str) -> None:
        """Wait until an instance is in a state; then the command's waiter sees it too."""
        until(f"{id} {wanted}", lambda: self.instance(id)["State"]["Name"] == wanted)

    def makes_groups(self) -> None:
        """With rules in the old form and the new; of ranges and groups; described and changed."""
        ids = []
        for name in ("web", "db"):
            made = self.ask("create-security-group", group_name=f"{self.name}-{name}", description="of a walk")
            ids.append(made["GroupId"])
        self.web, self.db = ids
        self.ask("wait", "security-group-exists", group_ids=ids)
        allow = "authorize-security-group-ingress"
        self.ask(allow, group_id=self.web, protocol="tcp", port="80", cidr="0.0.0.0/0")
        self.ask(allow, group_id=self.db, protocol="tcp", port="5432-5433", source_group=self.web)
        permission = "IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=192.0.2.0/24,Description=office}]"
        self.ask(allow, group_id=self.web, ip_permissions=permission)
        self.refused("InvalidPermission.Duplicate", allow, group_id=self.web, ip_permissions=permission)
        equal(
            {(rule["FromPort"], rule.get("CidrIpv4")) for rule in self.rules(self.web)},
            {(22, "192.0.2.0/24"), (80, "0.0.0.0/0")},
        )
        [rule] = self.rules(self.db)
        equal((rule["ToPort"], rule["ReferencedGroupInfo"]["GroupId"]), (5433, self.web))
        changed = "IpProtocol=tcp,FromPort=22,ToPort=22,IpRanges=[{CidrIp=192.0.2.0/24,Description=home}]"
        self.ask("update-security-group-rule-descriptions-ingress", group_id=self.web, ip_permissions=changed)
        [ssh] = [rule for rule in self.rules(self.web) if rule["FromPort"] == 22]
        equal(ssh["Description"], "home")
        rule = {"IpProtocol": "tcp", "FromPort": 23, "ToPort": 23, "CidrIpv4": "192.0.2.0/25"}
        change = [{"SecurityGroupRuleId": ssh["SecurityGroupRuleId"], "SecurityGroupRule": rule}]
        self.ask("modify-security-group-rules", group_id=self.web, security_group_rules=json.dumps(change))
        self.ask("revoke-security-group-ingress", group_id=self.web, protocol="tcp", port="80", cidr="0.0.0.0/0")
        equal([(rule["FromPort"], rule["CidrIpv4"]) for rule in self.rules(self.web)], [(23, "192.0.2.0/25")])
        out = "IpProtocol=udp,FromPort=53,ToPort=53,IpRanges=[{CidrIp=10.0.0.0/8}]"
        self.ask("authorize-security-group-egress", group_id=self.db, ip_permissions=out)
        equal(len(self.rules(self.db, out=True)), 2)
        self.ask("revoke-security-group-egress", group_id=self.db, ip_permissions=out)
        equal([rule["IpProtocol"] for rule in self.rules(self.db, out=True)], ["-1"])
        self.refused("DependencyViolation", "delete-security-group", group_id=self.web)

    def rules(self, group: str, out: bool = False) -> list[dict[str, Any]]:
        """Of one direction."""
        found = self.ask("describe-security-group-rules", filters=f"Name=group-id,Values={group}")
        return [rule for rule in found["SecurityGroupRules"] if rule["IsEgress"] == out]

    def launches(self) -> str:
        """With a disk, tags, a key, groups and metadata options."""
        made = self.ask(
            "run-instances",
            image_id=self.image,
            instance_type="m1.tiny",
            key_name=self.name,
            security_group_ids=self.db,
            user_data="#!/bin/sh",
            metadata_options="HttpTokens=required,HttpPutResponseHopLimit=2",
            block_device_mappings="DeviceName=/dev/sdf,Ebs={VolumeSize=2,DeleteOnTermination=true}",
            tag_specifications=f"ResourceType=instance,Tags=[{{Key=walk,Value={self.name}}}]",
        )
        id: str = made["Instances"][0]["InstanceId"]
        self.state(id, "running")
        until("its disk", lambda: self.disks(id).get("/dev/sdf", {}).get("Status") == "attached")
        shown = self.instance(id)
        equal([group["GroupId"] for group in shown["SecurityGroups"]], [self.db])
        equal((shown["MetadataOptions"]["HttpTokens"], shown["KeyName"]), ("required", self.name))
        found = self.ask("describe-instances", filters=f"Name=tag:walk,Values={self.name}")
        equal([each["InstanceId"] for each in found["Reservations"][0]["Instances"]], [id])
        return id

    def disks(self, id: str) -> dict[str, Any]:
        """What is at which device."""
        return {disk["DeviceName"]: disk["Ebs"] for disk in self.instance(id)["BlockDeviceMappings"]}

    def waits(self) -> None:
        """The command's waiters agree."""
        for waiter in ("instance-exists", "instance-running", "instance-status-ok", "system-status-ok"):
            self.ask("wait", waiter, instance_ids=self.id)
        self.ask("wait", "key-pair-exists", key_names=self.name)
        picture = self.ask("get-console-screenshot", instance_id=self.id)
        assert picture["ImageData"], picture
        until("console", lambda: self.id in self.ask("get-console-output", instance_id=self.id).get("Output", ""))

    def tells_its_password(self) -> None:
        """The command opens it with the private half."""
        until("a password", lambda: self.ask("get-password-data", instance_id=self.id)["PasswordData"])
        self.ask("wait", "password-data-available", instance_id=self.id)
        found = self.ask("get-password-data", instance_id=self.id, priv_launch_key=str(self.guest.private))
        equal(found["PasswordData"], self.guest.password)

    def is_protected(self) -> None:
        """Against termination; monitoring and options change."""
        self.ask("modify-instance-attribute", "--disable-api-termination", instance_id=self.id)
        self.refused("OperationNotPermitted", "terminate-instances", instance_ids=self.id)
        self.ask("modify-instance-attribute", "--no-disable-api-termination", instance_id=self.id)
        found = self.ask("describe-instance-attribute", instance_id=self.id, attribute="disableApiTermination")
        equal(found["DisableApiTermination"]["Value"], False)
        self.ask("monitor-instances", instance_ids=self.id)
        equal(self.instance(self.id)["Monitoring"]["State"], "enabled")
        self.ask("unmonitor-instances", instance_ids=self.id)
        self.ask("modify-instance-metadata-options", instance_id=self.id, http_put_response_hop_limit="5")
        equal(self.instance(self.id)["MetadataOptions"]["HttpPutResponseHopLimit"], 5)
        self.refused("UnsupportedOperation", "describe-instance-credit-specifications", instance_ids=self.id)
        offers = self.ask("describe-instance-type-offerings", filters="Name=instance-type,Values=m1.tiny")
        equal([each["InstanceType"] for each in offers["InstanceTypeOfferings"]], ["m1.tiny"])

    def has_an_address(self) -> None:
        """While they are associated it is the instance's public one."""
        tags = f"ResourceType=elastic-ip,Tags=[{{Key=walk,Value={self.name}}}]"
        made = self.ask("allocate-address", domain="vpc", tag_specifications=tags)
        address, ip = made["AllocationId"], made["PublicIp"]
        done = self.ask("associate-address", allocation_id=address, instance_id=self.id)
        until("the address", lambda: self.instance(self.id).get("PublicIpAddress") == ip)
        self.refused("InvalidIPAddress.InUse", "release-address", allocation_id=address)
        [found] = self.ask("describe-addresses", filters=f"Name=tag:walk,Values={self.name}")["Addresses"]
        equal((found["PublicIp"], found["InstanceId"]), (ip, self.id))
        self.ask("disassociate-address", association_id=done["AssociationId"])
        until("no address", lambda: not self.instance(self.id).get("PublicIpAddress"))
        self.ask("describe-addresses-attribute", allocation_ids=address, attribute="domain-name")
        self.ask("release-address", allocation_id=address)
        self.refused("InvalidAllocationID.NotFound", "describe-addresses", allocation_ids=address)

    def volume_is(self, id: str, state: str) -> None:
        """Wait, then the command's waiter sees it too."""
        until(f"{id} {state}", lambda: self.ask("describe-volumes", volume_ids=id)["Volumes"][0]["State"] == state)
        self.ask("wait", f"volume-{state}", volume_ids=id)

    def uses_volumes(self) -> None:
        """Made, attached, grown, and well."""
        made = self.ask("create-volume", availability_zone="nova", size="1", volume_type="gp2")
        self.volume: str = made["VolumeId"]
        self.volume_is(self.volume, "available")
        self.ask("attach-volume", volume_id=self.volume, instance_id=self.id, device="/dev/sdh")
        until("attached", lambda: self.disks(self.id).get("/dev/sdh", {}).get("Status") == "attached")
        self.volume_is(self.volume, "in-use")
        self.refused("VolumeInUse", "delete-volume", volume_id=self.volume)
        self.ask("modify-volume", volume_id=self.volume, size="2")
        until("grown", lambda: self.ask("describe-volumes", volume_ids=self.volume)["Volumes"][0]["Size"] == 2)
        [change] = self.ask("describe-volumes-modifications", volume_ids=self.volume)["VolumesModifications"]
        equal((change["OriginalSize"], change["TargetSize"]), (1, 2))
        [status] = self.ask("describe-volume-status", volume_ids=self.volume)["VolumeStatuses"]
        equal(status["VolumeStatus"]["Status"], "ok")
        self.ask("modify-volume-attribute", "--auto-enable-io", volume_id=self.volume)
        found = self.ask("describe-volume-attribute", volume_id=self.volume, attribute="autoEnableIO")
        equal(found["AutoEnableIO"]["Value"], True)

    def uses_snapshots(self) -> None:
        """Made, all of an instance at once, copied, shared, restored, deleted."""
        one = self.ask("create-snapshot", volume_id=self.volume, description="of a walk")["SnapshotId"]
        both = self.ask("create-snapshots", instance_specification=f"InstanceId={self.id},ExcludeBootVolume=true")
        ids = [one, *(each["SnapshotId"] for each in both["Snapshots"])]
        equal({each["VolumeSize"] for each in both["Snapshots"]}, {2})
        self.complete(*ids)
        copied = self.ask("copy-snapshot", source_region="nova", source_snapshot_id=one)["SnapshotId"]
        self.complete(copied)
        permission = {"snapshot_id": one, "attribute": "createVolumePermission"}
        self.ask("modify-snapshot-attribute", **permission, operation_type="add", group_names="all")
        found = self.ask("describe-snapshot-attribute", **permission)["CreateVolumePermissions"]
        equal(found, [{"Group": "all"}])
        self.ask("reset-snapshot-attribute", **permission)
        restored = self.ask("create-volume", availability_zone="nova", snapshot_id=one)["VolumeId"]
        self.volume_is(restored, "available")
        self.ask("delete-volume", volume_id=restored)
        for id in (*ids, copied):
            self.ask("delete-snapshot", snapshot_id=id)
        wanted = f"Name=snapshot-id,Values={','.join((*ids, copied))}"
        until("none left", lambda: not self.ask("describe-snapshots", filters=wanted)["Snapshots"])

    def complete(self, *ids: str) -> None:
        """Wait until snapshots are."""

        def there() -> bool:
            found = self.ask("describe-snapshots", snapshot_ids=ids)["Snapshots"]
            return {each["State"] for each in found} == {"completed"}

        until("complete", there)
        self.ask("wait", "snapshot-completed", snapshot_ids=ids)

    def makes_images(self) -> None:
        """Of the instance; opened, copied, gone."""
        made = self.ask("create-image", "--no-reboot", instance_id=self.id, name=f"{self.name}-image")["ImageId"]
        self.image_is_available(made)
        self.ask("modify-image-attribute", image_id=made, launch_permission="Add=[{Group=all}]")
        found = self.ask("describe-image-attribute", image_id=made, attribute="launchPermission")
        equal(found["LaunchPermissions"], [{"Group": "all"}])
        self.ask("reset-image-attribute", image_id=made, attribute="launchPermission")
        copy = self.ask("copy-image", source_region="nova", source_image_id=made, name=f"{self.name}-copy")["ImageId"]
        self.image_is_available(copy)
        for id in (made, copy):
            self.ask("deregister-image", image_id=id)
        left = self.ask("describe-images", owners="self", filters=f"Name=name,Values={self.name}-*")["Images"]
        equal(left, [])

    def image_is_available(self, id: str) -> None:
        """Wait until an image is."""
        until(f"{id}", lambda: self.ask("describe-images", image_ids=id)["Images"][0]["State"] == "available")
        self.ask("wait", "image-available", image_ids=id)

    def changes_while_stopped(self) -> None:
        """The type; and groups at any time."""
        self.ask("modify-instance-attribute", instance_id=self.id, groups=self.web)
        equal([group["GroupId"] for group in self.instance(self.id)["SecurityGroups"]], [self.web])
        self.ask("stop-instances", instance_ids=self.id)
        self.state(self.id, "stopped")
        self.ask("wait", "instance-stopped", instance_ids=self.id)
        self.ask("modify-instance-attribute", instance_id=self.id, instance_type="m1.small")
        self.ask("start-instances", instance_ids=self.id)
        self.state(self.id, "running")
        equal(self.instance(self.id)["InstanceType"], "m1.small")

    def goes_by_template(self) -> None:
        """A launch by a template's latest version."""
        name = {"launch_template_name": self.name}
        data = f"ImageId={self.image},InstanceType=m1.tiny"
        self.ask("create-launch-template", **name, launch_template_data=data)
        self.ask(
            "create-launch-template-version", **name, source_version="1", launch_template_data="InstanceType=m1.medium"
        )
        made = self.ask("run-instances", launch_template=f"LaunchTemplateName={self.name},Version=$Latest")
        [instance] = made["Instances"]
        equal((instance["InstanceType"], instance["ImageId"]), ("m1.medium", self.image))
        self.state(instance["InstanceId"], "running")
        self.gone(instance["InstanceId"])
        self.ask("delete-launch-template", **name)
        missing = "InvalidLaunchTemplateName.NotFoundException"
        self.refused(missing, "describe-launch-templates", launch_template_names=self.name)

    def gone(self, id: str) -> None:
        """Terminate, and wait until it is."""
        self.ask("terminate-instances", instance_ids=id)
        self.state(id, "terminated")
        self.ask("wait", "instance-terminated", instance_ids=id)

    def keeps_apart(self) -> None:
        """A placement group with an instance in it is kept."""
        self.ask("create-placement-group", group_name=self.name, strategy="partition", partition_count="2")
        made = self.ask(
            "run-instances",
            image_id=self.image,
            instance_type="m1.tiny",
            placement=f"GroupName={self.name},PartitionNumber=2",
        )
        id = made["Instances"][0]["InstanceId"]
        self.state(id, "running")
        equal(self.instance(id)["Placement"]["PartitionNumber"], 2)
        self.refused("InvalidPlacementGroup.InUse", "delete-placement-group", group_name=self.name)
        self.gone(id)
        self.ask("delete-placement-group", group_name=self.name)
        self.refused("InvalidPlacementGroup.Unknown", "describe-placement-groups", group_names=self.name)

    def sees_the_network(self) -> None:
        """The instance is in the one VPC's subnet, where another is launched."""
        [vpc] = self.ask("describe-vpcs", filters="Name=is-default,Values=true")["Vpcs"]
        [subnet] = self.ask("describe-subnets", filters=f"Name=vpc-id,Values={vpc['VpcId']}")["Subnets"]
        equal(self.instance(self.id)["SubnetId"], subnet["SubnetId"])
        made = self.ask(
            "run-instances",
            image_id=self.image,
            instance_type="m1.tiny",
            subnet_id=subnet["SubnetId"],
            security_group_ids=[self.web, self.db],
        )
        id = made["Instances"][0]["InstanceId"]
        self.state(id, "running")
        equal({group["GroupId"] for group in self.instance(id)["SecurityGroups"]}, {self.web, self.db})
        port = f"Name=attachment.instance-id,Values={id}"
        [found] = self.ask("describe-network-interfaces", filters=port)["NetworkInterfaces"]
        equal(found["SubnetId"], subnet["SubnetId"])
        self.gone(id)
        self.refused("UnsupportedOperation", "create-subnet", vpc_id=vpc["VpcId"], cidr_block="10.0.9.0/24")

    def ends(self) -> None:
        """Nothing of it is left."""
        self.ask("create-tags", resources=self.id, tags="Key=late,Value=1")
        self.ask("delete-tags", resources=self.id, tags="Key=walk")
        found = self.ask("describe-tags", filters=f"Name=resource-id,Values={self.id}")["Tags"]
        equal({tag["Key"]: tag["Value"] for tag in found}, {"late": "1"})
        self.ask("detach-volume", "--force", volume_id=self.volume)
        self.volume_is(self.volume, "available")
        self.ask("delete-volume", volume_id=self.volume)
        disk = self.disks(self.id)["/dev/sdf"]["VolumeId"]
        self.gone(self.id)
        left = f"Name=volume-id,Values={disk},{self.volume}"
        until("no disks", lambda: not self.ask("describe-volumes", filters=left)["Volumes"])
        self.ask("wait", "volume-deleted", volume_ids=[disk, self.volume])
        for id in (self.db, self.web):
            self.ask("delete-security-group", group_id=id)
        self.ask("delete-key-pair", key_name=self.name)
        self.refused("InvalidKeyPair.NotFound", "describe-key-pairs", key_names=self.name)
