"""
boto3's walk over instances: waiters, attributes, passwords, templates, groups.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.ec2_clients import Account
from tests.integration.walking import SERVER, Guest, equal, refused, until

QUICK = {"Delay": 0.1, "MaxAttempts": 600}
"""How boto3's waiters look: its own pauses are for Amazon's pace."""


class Boto3Base:
    """
    A session of its own, since walks go in threads.
    """

    def __init__(self, account: Account, guest: Guest, name: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ClientError

        self.errors = ClientError
        self.name = name
        self.guest = guest
        self.ec2: Any = boto3.session.Session().client(
            "ec2",
            endpoint_url=account.url,
            region_name="nova",
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret_key,
            config=Config(retries={"max_attempts": 1}),
        )
        [image] = self.ec2.describe_images(Filters=by(name=SERVER))["Images"]
        self.image: str = image["ImageId"]

    def refused(self, codes: str | Sequence[str], call: Callable[..., Any], **parameters: Any) -> None:
        """A call must be refused with one of these codes."""
        refused(codes, lambda error: str(error.response["Error"]["Code"]), self.errors, call, **parameters)

    def wait(self, waiter: str, **parameters: Any) -> None:
        """By boto3's own waiter."""
        self.ec2.get_waiter(waiter).wait(WaiterConfig=QUICK, **parameters)

    def run_one(self, **parameters: Any) -> str:
        """Launch one and wait until it runs; its id."""
        wanted = {"ImageId": self.image, "InstanceType": "m1.tiny", "MinCount": 1, "MaxCount": 1} | parameters
        [instance] = self.ec2.run_instances(**wanted)["Instances"]
        id: str = instance["InstanceId"]
        self.wait("instance_running", InstanceIds=[id])
        return id

    def instance(self, id: str) -> dict[str, Any]:
        """One as it is shown."""
        [reservation] = self.ec2.describe_instances(InstanceIds=[id])["Reservations"]
        [instance] = reservation["Instances"]
        return instance  # type: ignore[no-any-return]

    def end(self, *ids: str) -> None:
        """Terminate, and wait until they are gone."""
        self.ec2.terminate_instances(InstanceIds=list(ids))
        self.wait("instance_terminated", InstanceIds=list(ids))


def by(**filters: Any) -> list[dict[str, Any]]:
    """Filters, C{_} for C{-}; a value or a list of them."""
    return [
        {"Name": name.replace("_", "-"), "Values": value if isinstance(value, list) else [value]}
        for name, value in filters.items()
    ]


def tagged(kind: str, **tags: str) -> list[dict[str, Any]]:
    """C{TagSpecifications} of one kind."""
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


class Boto3Instances(Boto3Base):
    """
    What may be done with an instance.
    """

    def run(self) -> None:
        """All of it."""
        self.ec2.import_key_pair(KeyName=self.name, PublicKeyMaterial=self.guest.public.encode())
        self.wait("key_pair_exists", KeyNames=[self.name])
        self.id = self.run_one(KeyName=self.name, TagSpecifications=tagged("instance", walk=self.name))
        self.every_waiter()
        self.tells_its_password()
        self.is_seen()
        self.is_protected()
        self.is_watched()
        self.hides_its_metadata()
        self.changes_while_stopped()
        self.goes_by_template()
        self.keeps_apart()
        self.knows_the_offers()
        self.end(self.id)
        self.ec2.delete_key_pair(KeyName=self.name)
        self.refused("InvalidKeyPair.NotFound", self.ec2.describe_key_pairs, KeyNames=[self.name])

    def every_waiter(self) -> None:
        """What has a waiter gets there."""
        for waiter in ("instance_exists", "instance_running", "instance_status_ok", "system_status_ok"):
            self.wait(waiter, InstanceIds=[self.id])
        [status] = self.ec2.describe_instance_status(InstanceIds=[self.id])["InstanceStatuses"]
        equal((status["InstanceState"]["Name"], status["InstanceStatus"]["Status"]), ("running", "ok"))

    def tells_its_password(self) -> None:
        """The password that the guest sealed opens with the private half alone."""
        self.wait("password_data_available", InstanceId=self.id)
        sealed = self.ec2.get_password_data(InstanceId=self.id)["PasswordData"]
        equal(self.guest.opened(sealed.strip()), self.guest.password)

    def is_seen(self) -> None:
        """On its console and its screen, and by its tag."""
        until("console", lambda: self.id in self.ec2.get_console_output(InstanceId=self.id).get("Output", ""))
        picture = self.ec2.get_console_screenshot(InstanceId=self.id)
        equal(picture["InstanceId"], self.id)
        assert b64decode(picture["ImageData"])[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0"), picture["ImageData"][:9]
        filters = [{"Name": "tag:walk", "Values": [self.name[:-1] + "?"]}]
        pages = self.ec2.get_paginator("describe_instances").paginate(Filters=filters)
        equal([each["InstanceId"] for page in pages for each in page["Reservations"][0]["Instances"]], [self.id])

    def is_protected(self) -> None:
        """Against stops and termination, while the attributes say so."""
        change = self.ec2.modify_instance_attribute
        for attribute, call in (
            ("DisableApiTermination", self.ec2.terminate_instances),
            ("DisableApiStop", self.ec2.stop_instances),
        ):
            change(InstanceId=self.id, **{attribute: {"Value": True}})
            self.refused("OperationNotPermitted", call, InstanceIds=[self.id])
            equal(self.instance(self.id)["State"]["Name"], "running")
            change(InstanceId=self.id, **{attribute: {"Value": False}})
            name = attribute[0].lower() + attribute[1:]
            shown = self.ec2.describe_instance_attribute(InstanceId=self.id, Attribute=name)
            equal(shown[attribute], {"Value": False})

    def is_watched(self) -> None:
        """Monitoring goes on and off."""
        for call, state in ((self.ec2.monitor_instances, "enabled"), (self.ec2.unmonitor_instances, "disabled")):
            call(InstanceIds=[self.id])
            equal(self.instance(self.id)["Monitoring"]["State"], state)

    def hides_its_metadata(self) -> None:
        """Metadata options stay as they were set; burstable types aren't there."""
        options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "InstanceMetadataTags": "enabled"}
        self.ec2.modify_instance_metadata_options(InstanceId=self.id, **options)
        shown = self.instance(self.id)["MetadataOptions"]
        equal({name: shown[name] for name in options}, options)
        credit = self.ec2.describe_instance_credit_specifications
        self.refused("UnsupportedOperation", credit, InstanceIds=[self.id])
        equal(credit(Filters=by(instance_id=self.id))["InstanceCreditSpecifications"], [])

    def changes_while_stopped(self) -> None:
        """Type and user data change while it is stopped, and stay."""
        change = self.ec2.modify_instance_attribute
        self.refused("IncorrectInstanceState", change, InstanceId=self.id, InstanceType={"Value": "m1.small"})
        self.ec2.stop_instances(InstanceIds=[self.id])
        self.wait("instance_stopped", InstanceIds=[self.id])
        change(InstanceId=self.id, InstanceType={"Value": "m1.small"})
        change(InstanceId=self.id, UserData={"Value": b"#!/bin/sh\n"})
        self.ec2.start_instances(InstanceIds=[self.id])
        self.wait("instance_running", InstanceIds=[self.id])
        equal(self.instance(self.id)["InstanceType"], "m1.small")
        shown = self.ec2.describe_instance_attribute(InstanceId=self.id, Attribute="userData")
        equal(shown["UserData"]["Value"], "IyEvYmluL3NoCg==")
        self.ec2.modify_instance_attribute(InstanceId=self.id, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
        found = self.ec2.describe_instance_attribute(InstanceId=self.id, Attribute="instanceInitiatedShutdownBehavior")
        equal(found["InstanceInitiatedShutdownBehavior"], {"Value": "terminate"})

    def goes_by_template(self) -> None:
        """A launch by template has what its version says, and what the launch says instead."""
        data = {"ImageId": self.image, "InstanceType": "m1.tiny", "KeyName": self.name}
        data |= {"TagSpecifications": tagged("instance", role="by template")}
        name = {"LaunchTemplateName": self.name}
        self.ec2.create_launch_template(**name, LaunchTemplateData=data)
        change = {"InstanceType": "m1.medium"}
        self.ec2.create_launch_template_version(**name, SourceVersion="1", LaunchTemplateData=change)
        for version, extra, wanted in (
            ("$Default", {}, "m1.tiny"),
            ("$Latest", {}, "m1.medium"),
            ("2", {"InstanceType": "m1.small"}, "m1.small"),
        ):
            [made] = self.ec2.run_instances(
                LaunchTemplate={**name, "Version": version}, MinCount=1, MaxCount=1, **extra
            )["Instances"]
            equal((made["InstanceType"], made["KeyName"]), (wanted, self.name))
            shown = self.instance(made["InstanceId"])
            assert {"Key": "role", "Value": "by template"} in shown["Tags"], shown["Tags"]
            self.end(made["InstanceId"])
        self.ec2.modify_launch_template(**name, DefaultVersion="2")
        [found] = self.ec2.describe_launch_templates(LaunchTemplateNames=[self.name])["LaunchTemplates"]
        equal((found["DefaultVersionNumber"], found["LatestVersionNumber"]), (2, 2))
        self.ec2.delete_launch_template_versions(**name, Versions=["1"])
        versions = self.ec2.describe_launch_template_versions(**name)["LaunchTemplateVersions"]
        equal([version["VersionNumber"] for version in versions], [2])
        copied = self.ec2.get_launch_template_data(InstanceId=self.id)["LaunchTemplateData"]
        equal((copied["ImageId"], copied["InstanceType"], copied["KeyName"]), (self.image, "m1.small", self.name))
        self.ec2.delete_launch_template(**name)
        self.refused(
            "InvalidLaunchTemplateName.NotFoundException",
            self.ec2.describe_launch_templates,
            LaunchTemplateNames=[self.name],
        )

    def keeps_apart(self) -> None:
        """A placement group holds its instances, and is kept while it does."""
        self.ec2.create_placement_group(GroupName=self.name, Strategy="cluster")
        id = self.run_one(Placement={"GroupName": self.name})
        equal(self.instance(id)["Placement"]["GroupName"], self.name)
        found = self.ec2.describe_instances(Filters=by(placement_group_name=self.name))["Reservations"]
        equal([each["InstanceId"] for each in found[0]["Instances"]], [id])
        self.refused("InvalidPlacementGroup.InUse", self.ec2.delete_placement_group, GroupName=self.name)
        self.ec2.stop_instances(InstanceIds=[id])
        self.wait("instance_stopped", InstanceIds=[id])
        self.ec2.modify_instance_placement(InstanceId=id, GroupName="")
        self.ec2.delete_placement_group(GroupName=self.name)
        self.refused("InvalidPlacementGroup.Unknown", self.ec2.describe_placement_groups, GroupNames=[self.name])
        self.end(id)

    def knows_the_offers(self) -> None:
        """What is offered here is what can be launched."""
        kind = by(instance_type="m1.tiny")
        found = self.ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=kind)
        equal(
            [(each["InstanceType"], each["Location"]) for each in found["InstanceTypeOfferings"]], [("m1.tiny", "nova")]
        )
        [described] = self.ec2.describe_instance_types(InstanceTypes=["m1.tiny"])["InstanceTypes"]
        equal((described["VCpuInfo"]["DefaultVCpus"], described["MemoryInfo"]["SizeInMiB"]), (1, 512))
        self.refused("InvalidInstanceType", self.ec2.describe_instance_types, InstanceTypes=["m9.none"])
        wanted = {"ImageId": self.image, "MinCount": 1, "MaxCount": 1}
        self.refused("InvalidParameterValue", self.ec2.run_instances, InstanceType="m9.none", **wanted)
