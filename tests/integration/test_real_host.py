"""
Real guests on one real host, as users meet them: by boto3, ssh and the console.

What the first Nova's smoke tests claimed of instances, addresses, groups and keys
is claimed here again, each by a test of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.real_host import RealHost, real_host, until

HELLO = "#!/bin/sh\necho HELLO from $(hostname)\necho kept > /root/written\nsync\n"


class _Pair:
    """
    Two guests that were launched together, in a group that lets in ssh and
    pings; the first has an address.
    """

    def __init__(self, host: RealHost) -> None:
        host.terminate(host.launch()["InstanceId"])  # the network stays on a host that had a guest of it
        self.before = host.state()
        self.key, self.other_key = host.key_pair("first"), host.key_pair("second")
        self.group = host.open_group("smoke")
        made = host.ec2.run_instances(
            ImageId=host.image,
            MinCount=2,
            MaxCount=2,
            InstanceType="m1.tiny",
            KeyName="first",
            SecurityGroupIds=[self.group],
            UserData=HELLO,
        )
        self.first, self.second = (each["InstanceId"] for each in made["Instances"])
        host.until_state(self.first, "running")
        self.address, self.allocation = host.floating(self.first)
        for each in (self.first, self.second):
            host.until_said(each, "FABRIC ready")
        self.private = host.instance(self.first)["PrivateIpAddress"]
        self.neighbour = host.instance(self.second)["PrivateIpAddress"]


@cache
def pair() -> _Pair:
    """
    @return: the two guests; the test whose name sorts last ends them.
    """
    return _Pair(real_host())


class SmokeTests(SynchronousTestCase):
    """
    See L{_Pair}.
    """

    def setUp(self) -> None:
        """Have them running and ready."""
        self.host = real_host()
        vars(self).update(vars(pair()))

    def guest(self, command: str) -> str:
        """What a command in the first guest writes."""
        return self.host.until_ssh(self.key, self.address, command)

    def test_boots_and_says_so(self) -> None:
        """Console text arrives: the guest booted, got its address by DHCP, and found its metadata."""
        for id, address in ((self.first, self.private), (self.second, self.neighbour)):
            text = self.host.console(id)
            self.assertIn(f"FABRIC dhcp eth0 {address}/24", text)
            self.assertIn(f"FABRIC metadata {id}", text)

    def test_user_data_runs(self) -> None:
        """The guest runs its user data, under the name that EC2 gives it."""
        self.assertIn("HELLO from ip-" + self.private.replace(".", "-"), self.host.console(self.first))

    def test_has_private_address(self) -> None:
        """A running instance has an address of the network."""
        self.assertTrue(self.private.startswith("10.0.0."))
        self.assertNotEqual(self.private, self.neighbour)

    def test_ping(self) -> None:
        """A guest in a group that lets in pings answers them at its floating address."""
        self.host.namespaces.run("out", ["busybox", "ping", "-c", "1", "-W", "30", self.address])

    def test_ssh_with_key(self) -> None:
        """The key that was given at launch opens ssh through the floating address."""
        self.assertIn("ip-" + self.private.replace(".", "-"), self.guest("hostname"))

    def test_ssh_with_another_key(self) -> None:
        """Another key opens nothing."""
        self.guest("true")
        refused = self.host.ssh(self.other_key, self.address, "hostname")
        self.assertEqual((refused.returncode, refused.stdout), (255, ""))

    def test_private_address_from_outside(self) -> None:
        """A private address is not reached from outside."""
        self.host.namespaces.run("out", ["ip", "route", "replace", "10.0.0.0/24", "via", "192.0.2.1"])
        self.addCleanup(self.host.namespaces.run, "out", ["ip", "route", "del", "10.0.0.0/24"])
        self.assertFalse(self.host.opens(self.neighbour, 22))

    def test_metadata_is_its_own(self) -> None:
        """Each guest is told of itself."""
        read = "timeout 5 wget -q -O - http://169.254.169.254/latest/meta-data/"
        self.assertEqual(self.guest(f"{read}instance-id"), self.first)
        self.assertEqual(self.guest(f"{read}local-ipv4"), self.private)
        self.assertEqual(self.guest(f"{read}public-ipv4"), self.address)
        self.assertEqual(self.guest(f"{read}public-keys/"), "0=first")

    def test_guests_reach_one_another(self) -> None:
        """A guest reaches another one's ssh, whose group lets it in."""
        knocks = f"timeout 5 nc {self.neighbour} 22 < /dev/null | head -c 7"
        until(lambda: "SSH" in self.guest(knocks), "the neighbour's ssh answers")

    def test_seen_as_floating_address(self) -> None:
        """What a guest with a floating address sends out comes from that."""
        script = "import socket; s = socket.create_server(('192.0.2.2', 9999)); print(s.accept()[1][0])"
        listener = subprocess.Popen(
            self.host.namespaces.command("out", ["python3", "-uc", script]), stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(listener.kill)
        self.guest("for i in 1 2 3 4 5; do timeout 3 nc 192.0.2.2 9999 < /dev/null && break; usleep 300000; done; true")
        output, _ = listener.communicate(timeout=30)
        self.assertEqual(output.strip(), self.address)

    def test_address_moves(self) -> None:
        """An address that is taken from one guest and led to another reaches that one only."""
        self.guest("true")
        ec2 = self.host.ec2
        self.addCleanup(ec2.associate_address, AllocationId=self.allocation, InstanceId=self.first)
        ec2.associate_address(AllocationId=self.allocation, InstanceId=self.second)
        name = "ip-" + self.neighbour.replace(".", "-")
        until(lambda: name in self.host.ssh(self.key, self.address, "hostname").stdout, "the second guest answers")
        [association] = ec2.describe_addresses(AllocationIds=[self.allocation])["Addresses"]
        ec2.disassociate_address(AssociationId=association["AssociationId"])
        until(lambda: not self.host.opens(self.address, 22), "nobody answers at the address")

    def test_group_opens_and_closes(self) -> None:
        """A port is reached after a rule that lets it in, and not before nor after its end."""
        self.guest("killall nc 2>/dev/null; (while :; do echo hi | nc -l -p 8080; done) > /dev/null 2>&1 &")
        rule = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
        self.assertFalse(self.host.opens(self.address, 8080))
        self.host.ec2.authorize_security_group_ingress(GroupId=self.group, IpPermissions=[rule])
        until(lambda: self.host.opens(self.address, 8080), "the port is open", 90)
        self.host.ec2.revoke_security_group_ingress(GroupId=self.group, IpPermissions=[rule])
        until(lambda: not self.host.opens(self.address, 8080), "the port is closed", 90)

    def test_volume(self) -> None:
        """
        A volume of the right size comes to the guest, and goes again; one of a
        snapshot, that was taken while the guest had it, has what was written till then.
        """
        ec2, device, soon = self.host.ec2, "/dev/vdb", {"Delay": 1, "MaxAttempts": 90}
        snapshot = written = ""
        for _ in range(2):
            source = {"SnapshotId": snapshot} if snapshot else {"Size": 1}
            made = ec2.create_volume(AvailabilityZone="nova", **source)["VolumeId"]
            ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=soon)
            ec2.attach_volume(VolumeId=made, InstanceId=self.first, Device="/dev/sdf")
            until(lambda: "1073741824" in self.guest("blockdev --getsize64 /dev/vdb 2>&1; true"), "the guest has it")
            self.assertIn(written, self.guest(f"dd if={device} bs=10 count=1 2>/dev/null"))
            written = "remembered"
            self.guest(f"echo {written} | dd of={device} conv=notrunc 2>/dev/null; sync")
            snapshot = ec2.create_snapshot(VolumeId=made)["SnapshotId"]
            ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=soon)
            self.guest(f"echo otherwise | dd of={device} conv=notrunc 2>/dev/null; sync")
            ec2.detach_volume(VolumeId=made)
            ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig=soon)
            self.assertIn("none", self.guest(f"[ -b {device} ] || echo none"))
            ec2.delete_volume(VolumeId=made)
            ec2.get_waiter("volume_deleted").wait(VolumeIds=[made], WaiterConfig=soon)

    def test_screenshot(self) -> None:
        """The display can be seen."""
        picture = self.host.ec2.get_console_screenshot(InstanceId=self.first)
        self.assertTrue(len(picture["ImageData"]) > 100)

    def test_stop_and_start_keep_the_disk(self) -> None:
        """A guest that was stopped and started has its disk, its address and its name."""
        ec2 = self.host.ec2
        ec2.stop_instances(InstanceIds=[self.second])
        self.host.until_state(self.second, "stopped")
        ec2.start_instances(InstanceIds=[self.second])
        self.host.until_state(self.second, "running")
        self.assertEqual(self.host.instance(self.second)["PrivateIpAddress"], self.neighbour)
        ec2.associate_address(AllocationId=self.allocation, InstanceId=self.second)
        self.addCleanup(ec2.associate_address, AllocationId=self.allocation, InstanceId=self.first)
        self.assertIn("kept", self.host.until_ssh(self.key, self.address, "hostname; cat /root/written"))

    def test_reboot(self) -> None:
        """A rebooted guest is ready again, and was running all the time as EC2 has it."""
        times = self.host.console(self.second).count("FABRIC ready")
        self.host.ec2.reboot_instances(InstanceIds=[self.second])
        self.assertEqual(self.host.instance(self.second)["State"]["Name"], "running")
        self.host.until_said(self.second, "FABRIC ready", times + 1)

    def test_zz_leaves_nothing(self) -> None:
        """Terminated guests leave no link, port, rule, lease, file or domain on the host."""
        self.host.terminate(self.first, self.second)
        self.host.ec2.release_address(AllocationId=self.allocation)
        with contextlib.suppress(AssertionError):
            until(lambda: self.host.state() == self.before, "the host is as it was", 90)
        after = self.host.state()
        for what, was in self.before.items():
            self.assertEqual(after[what], was, what)
