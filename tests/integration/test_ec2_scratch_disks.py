"""
Scratch disks of instances, on a whole cloud.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.metadata.tree import Place, metadata
from fabric.cloud.sources import Guest
from fabric.model.flavor import Flavor
from fabric.model.network import Network
from fabric.testing.cloud import OPERATOR
from tests.integration.test_ec2_launch_root import MAPPING, RootCase
from tests.unit.ec2_stage import SERVER

Steps = Generator[Deferred[Any], Any, Any]


class ScratchTests(RootCase):
    """
    C{VirtualName}: the scratch disk of an instance's type.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        yield self.cloud.flavors.create(OPERATOR, Flavor("x1.scratch", 1, 512, 2, 7))

    @inlineCallbacks
    def where(self, *mappings: Any, type: str = "x1.scratch", image: str = SERVER) -> Steps:
        """Where an instance has its scratch disk: as the host was told, and as the metadata door says."""
        record = yield self.running(*mappings, ImageId=image, InstanceType=type)
        text = (yield self.host.hypervisor.console_output(record.id)).decode()
        told = text.partition("scratch 7 GiB at ")[2].partition(" ")[0].rstrip(",")
        [network] = yield self.store.read(Network, [record.ports[0].network])
        devices = metadata(Guest(record, network.record), Place("r", "s"), "latest")["block-device-mapping"]
        said = {name: at.decode() for name, at in devices.items() if name.startswith("ephemeral")}
        self.assertEqual(said, {"ephemeral0": told} if told else {})
        return told

    @inlineCallbacks
    def test_where(self) -> Steps:
        """It is where the mapping says, at /dev/sdb by itself, and nowhere when that is left out or taken."""
        volume = {"Ebs": {"VolumeSize": 1}}
        for mappings, wanted in (
            ([], "/dev/sdb"),
            ([{"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"}], "/dev/sdc"),
            ([{"DeviceName": "/dev/sdb", "NoDevice": ""}], ""),
            ([{"DeviceName": "/dev/sdb", **volume}], ""),
            ([{"DeviceName": "sdb", **volume}, {"DeviceName": "sdc", "VirtualName": "ephemeral0"}], "sdc"),
        ):
            self.assertEqual((yield self.where(*mappings)), wanted, mappings)
        self.assertEqual((yield self.where(image=self.image)), "/dev/sdb")

    @inlineCallbacks
    def test_more_than_there_are(self) -> Steps:
        """As on EC2, disks that the type has not are of no account."""
        mapping = {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"}
        self.assertEqual((yield self.where(mapping, type="m1.tiny")), "")
        self.assertEqual((yield self.where({"DeviceName": "/dev/sdc", "VirtualName": "ephemeral1"})), "/dev/sdb")

    @inlineCallbacks
    def test_taken(self) -> Steps:
        """Nothing is attached where it is."""
        record = yield self.running(ImageId=SERVER, InstanceType="x1.scratch")
        volume = yield self.volume(1)
        where = {"VolumeId": volume, "InstanceId": record.id, "Device": "/dev/sdb"}
        yield self.refused("InvalidParameterValue", "AttachVolume", **where)

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """A name that is none, or given twice, or to a volume is refused."""
        wanted = {"ImageId": SERVER, "InstanceType": "x1.scratch", "MinCount": 1, "MaxCount": 1}
        one = {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral0"}
        for code, mappings in (
            (MAPPING, [one | {"VirtualName": "floppy0"}]),
            (MAPPING, [one | {"VirtualName": "ephemeral24"}]),
            (MAPPING, [one | {"VirtualName": "ephemeral01"}]),
            (MAPPING, [one, one | {"DeviceName": "/dev/sdd"}]),
            (MAPPING, [one, one | {"VirtualName": "ephemeral1"}]),
            (MAPPING, [one, {"DeviceName": "/dev/sdc", "Ebs": {"VolumeSize": 1}}]),
            ("InvalidParameterCombination", [one | {"Ebs": {"VolumeSize": 1}}]),
            ("InvalidParameterValue", [one | {"DeviceName": "disk"}]),
            ("MissingParameter", [{"VirtualName": "ephemeral0"}]),
        ):
            yield self.refused(code, "RunInstances", **wanted, BlockDeviceMappings=mappings)
        self.assertEqual((yield self.listed()), [])
