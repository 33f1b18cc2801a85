"""
What a project meets at the end of its quotas, by boto3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.walking import equal
from tests.integration.walkthrough_boto3 import Boto3Base

QUOTAS = {
    "quota.addresses": "8",
    "quota.key_pairs": "14",
    "quota.groups": "15",
    "quota.placement_groups": "6",
    "quota.launch_templates": "4",
    "quota.volumes": "24",
}
"""Settings: enough for all walks at once, and soon at an end."""


class Boto3Quotas(Boto3Base):
    """
    Each noun until no more are given; one fewer, and there is one more.
    """

    def run(self) -> None:
        """All of them; nothing of the other walks may be going on."""
        ec2 = self.ec2
        self.fills(
            "addresses",
            "AddressLimitExceeded",
            lambda name: ec2.allocate_address()["AllocationId"],
            lambda id: ec2.release_address(AllocationId=id),
        )
        self.fills(
            "key_pairs",
            "KeyPairLimitExceeded",
            lambda name: ec2.import_key_pair(KeyName=name, PublicKeyMaterial=self.guest.public.encode())["KeyName"],
            lambda name: ec2.delete_key_pair(KeyName=name),
        )
        self.fills(
            "groups",
            "SecurityGroupLimitExceeded",
            lambda name: ec2.create_security_group(GroupName=name, Description="of a walk")["GroupId"],
            lambda id: ec2.delete_security_group(GroupId=id),
        )
        self.fills(
            "placement_groups",
            "PlacementGroupLimitExceeded",
            lambda name: ec2.create_placement_group(GroupName=name)["PlacementGroup"]["GroupName"],
            lambda name: ec2.delete_placement_group(GroupName=name),
        )
        self.fills(
            "launch_templates",
            "LaunchTemplateLimitExceeded",
            lambda name: ec2.create_launch_template(
                LaunchTemplateName=name, LaunchTemplateData={"ImageId": self.image}
            )["LaunchTemplate"]["LaunchTemplateId"],
            lambda id: ec2.delete_launch_template(LaunchTemplateId=id),
        )
        self.fills_with_volumes()

    def fills(self, noun: str, code: str, make: Callable[[str], str], remove: Callable[[str], Any]) -> None:
        """One noun whose removal is done at once."""
        made = self.made_until(code, make, int(QUOTAS[f"quota.{noun}"]))
        remove(made.pop())
        made.append(make(f"{self.name}-again"))
        for id in made:
            remove(id)

    def made_until(self, code: str, make: Callable[[str], str], most: int) -> list[str]:
        """As many as there may be; then one that is refused."""
        made: list[str] = []
        while len(made) <= most:
            try:
                made.append(make(f"{self.name}-{len(made)}"))
            except self.errors as error:
                equal(error.response["Error"]["Code"], code)
                assert made, f"none was made before {code}"
                return made
        raise AssertionError(f"{len(made)} of {most} were made")

    def fills_with_volumes(self) -> None:
        """By their number."""
        most = int(QUOTAS["quota.volumes"])
        made = self.made_until(
            "VolumeLimitExceeded",
            lambda name: self.ec2.create_volume(AvailabilityZone="nova", Size=1)["VolumeId"],
            most,
        )
        self.wait("volume_available", VolumeIds=made)
        for id in made:
            self.ec2.delete_volume(VolumeId=id)
        self.wait("volume_deleted", VolumeIds=made)
