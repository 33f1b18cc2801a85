"""
A guest such as users bring: Debian with cloud-init, on a real host, from an
image's upload to ssh.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.guest_image import GuestImage, cloud_init_guest
from fabric.testing.processes import SOURCES
from tests.integration.real_host import RealHost, until

BOOT = 900.0
"""Seconds that Debian may take without KVM on a busy machine."""

USER_DATA = """\
#cloud-config
write_files:
  - path: /etc/told
    content: by the user data
runcmd:
  - [sh, -c, "echo ran as $(id -un) on $(cat /etc/told) > /var/tmp/ran"]
"""


class CloudInitTests(SynchronousTestCase):
    """
    One guest, launched as the documentation has it.
    """

    def setUp(self) -> None:
        """The image and a host."""
        self.guest = cloud_init_guest()
        self.host = RealHost()
        self.addCleanup(self.host.remove)

    def add_image(self, guest: GuestImage) -> str:
        """
        @return: the id of an image that C{cloud-manage} made.
        """
        files = ["--disk", guest.disk, "--kernel", guest.kernel, "--ramdisk", guest.ramdisk]
        command = [sys.executable, "-m", "fabric.manage.main", "--data", str(self.host.cloud.data)]
        done = subprocess.run(
            self.host.namespaces.command("host", [*command, "image", "add", "debian", *files, "--public"]),
            env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        wanted = [{"Name": "name", "Values": ["debian"]}, {"Name": "image-type", "Values": ["machine"]}]
        [image] = self.host.ec2.describe_images(Filters=wanted)["Images"]
        return str(image["ImageId"])

    def ssh(self, key: Path, address: str, command: str) -> subprocess.CompletedProcess[str]:
        """
        Run a command in the guest, as the user that cloud-init gives the key to.
        """
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20"]
        options += ["BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none"]
        words = ["ssh", "-i", str(key), *(part for option in options for part in ("-o", option)), f"debian@{address}"]
        return subprocess.run(
            self.host.namespaces.command("out", [*words, command]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def test_from_upload_to_ssh(self) -> None:
        """Cloud-init finishes; the key opens ssh; the user data was carried out; the disk is as large as the type's."""
        host, image = self.host, self.add_image(self.guest)
        key, group = host.key_pair("mine"), host.open_group("ssh")
        made = host.launch(
            ImageId=image, InstanceType="t3.small", KeyName="mine", SecurityGroupIds=[group], UserData=USER_DATA
        )
        instance = made["InstanceId"]
        address, _ = host.floating(instance)
        until(lambda: re.search(r"Cloud-init .* finished at", host.console(instance)), "cloud-init finishes", BOOT, 2)
        until(lambda: self.ssh(key, address, "true").returncode == 0, "ssh lets us in", BOOT, 2)
        told = self.ssh(key, address, "hostname; cat /var/tmp/ran; cloud-init status; df --output=size -BG / | tail -1")
        name = "ip-" + made["PrivateIpAddress"].replace(".", "-")
        self.assertEqual(
            [line.strip() for line in told.stdout.splitlines()],
            [name, "ran as root on by the user data", "status: done", "8G"],
            told.stderr,
        )
        host.terminate(instance)
