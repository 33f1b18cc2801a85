"""
C{cloud-manage image add} of the tiny guest to C{twistd -n cloud}, and a launch of it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from fabric.testing.guest_image import tiny_guest
from fabric.testing.processes import SOURCES, await_true
from tests.integration.test_tap_process import Process


class ImageAddTests(TestCase):
    """
    The command, the door and a host, each as users have them.
    """

    timeout = 240

    def setUp(self) -> None:
        """A directory for the cloud."""
        self.directory = Path(tempfile.mkdtemp(prefix="cloud-"))
        self.addCleanup(shutil.rmtree, self.directory, True)

    def manage(self, *words: str) -> Any:
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fabric.manage.main", "--data", "data", "--json", *words],
            cwd=self.directory,
            env={"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )

    def told(self, *words: str) -> Any:
        """What it says, when it succeeds."""
        done = self.manage(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def ec2(self, process: Process) -> Any:
        """A client of EC2, by the cloudrc."""
        exported = dict(re.findall(r"export (\w+)=[\"']?([^\"'\n]*)", (process.data / "cloudrc").read_text()))
        return boto3.client(
            "ec2",
            region_name="nova",
            endpoint_url=exported["AWS_ENDPOINT_URL"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        )

    def test_whole(self) -> Deferred[None]:
        """
        Files are uploaded once, make an image that EC2 shows and launches, and
        the host is told of them; a killed cloud has them all again.
        """
        return deferToThread(self._whole)

    def _whole(self) -> None:
        guest = tiny_guest()
        files = ["--disk", guest.disk, "--kernel", guest.kernel, "--ramdisk", guest.ramdisk]
        process = Process(self.directory).well()
        try:
            made = self.told("image", "add", "tiny", *files, "--public")
            kept = sorted(os.listdir(process.data / "images" / "files"))
            self.assertEqual(len(kept), 3)
            self._launched(self.ec2(process), made, kept)
            self._captured(self.ec2(process), process.data / "images" / "files")
            kept = sorted(os.listdir(process.data / "images" / "files"))
            again = self.manage("image", "add", "tiny", *files)
            self.assertEqual((again.returncode, made["image"] in again.stderr or "exists" in again.stderr), (3, True))
            process.end(signal.SIGKILL)
            process = Process(self.directory, port=process.port).well()
            other = self.told("image", "add", "other", *files)
            self.assertEqual(sorted(os.listdir(process.data / "images" / "files")), kept)
            self.told("image", "delete", other["image"], other["kernel"], other["ramdisk"])
            listed = self.told("image", "list")
            self.assertIn(made["image"], {image["id"] for image in listed})
            self.assertNotIn(other["image"], {image["id"] for image in listed})
            self.assertEqual(self.told("check"), [])
        finally:
            process.end(signal.SIGTERM)

    def _launched(self, ec2: Any, made: dict[str, Any], kept: list[str]) -> None:
        [image] = ec2.describe_images(ImageIds=[made["image"]])["Images"]
        self.assertEqual((image["KernelId"], image["RamdiskId"]), (made["kernel"], made["ramdisk"]))
        self.assertEqual((image["State"], image["Public"]), ("available", True))
        run = ec2.run_instances(ImageId=made["image"], InstanceType="m1.tiny", MinCount=1, MaxCount=1)
        id = run["Instances"][0]["InstanceId"]

        await_true(lambda: "login:" in self.console(ec2, id), "the guest's console", 30)
        for role in ("disk", "kernel", "ramdisk"):
            named = re.search(rf"{role} ([0-9a-f]{{12}})", self.console(ec2, id))
            self.assertIsNotNone(named)
            self.assertTrue(any(digest.startswith(named[1]) for digest in kept))  # type: ignore[index]

    def _captured(self, ec2: Any, files: Path) -> None:
        """An image made of an instance is brought to the store, and so may be launched on any host."""
        [[instance]] = [each["Instances"] for each in ec2.describe_instances()["Reservations"]]
        before = set(os.listdir(files))
        image = ec2.create_image(InstanceId=instance["InstanceId"], Name="captured")["ImageId"]

        def state() -> str:
            return str(ec2.describe_images(ImageIds=[image])["Images"][0]["State"])

        await_true(lambda: state() != "pending", "the image", 30)
        self.assertEqual(state(), "available")
        [digest] = set(os.listdir(files)) - before
        run = ec2.run_instances(ImageId=image, InstanceType="m1.tiny", MinCount=1, MaxCount=1)
        id = run["Instances"][0]["InstanceId"]
        await_true(lambda: f"disk {digest[:12]}, kernel " in self.console(ec2, id).replace("ramdisk", "and"), "it", 30)

    def console(self, ec2: Any, id: str) -> str:
        """An instance's console."""
        output = ec2.get_console_output(InstanceId=id).get("Output", "")
        return output if "login:" in output else base64.b64decode(output or "").decode("utf-8", "replace")

    def test_refused(self) -> Deferred[None]:
        """A disk that guests may not be given is refused with the reason, and a file that is not there."""

        def check() -> None:
            odd = self.directory / "odd.vmdk"
            subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", str(odd), "1M"], check=True)
            process = Process(self.directory).well()
            try:
                done = self.manage("image", "add", "odd", "--disk", str(odd))
                self.assertEqual((done.returncode, "VMDK" in done.stderr), (3, True), done.stderr)
                done = self.manage("image", "add", "odd", "--disk", "/nowhere")
                self.assertEqual((done.returncode, "No such file" in done.stderr), (3, True), done.stderr)
                self.assertNotIn("request", done.stderr)
                self.assertEqual(os.listdir(process.data / "images" / "files"), [])
                self.assertEqual([*(process.data / "images" / "incoming").glob("*/[!l]*")], [])
            finally:
                process.end(signal.SIGTERM)

        return deferToThread(check)
