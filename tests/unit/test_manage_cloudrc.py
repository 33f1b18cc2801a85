"""
Tests for L{fabric.manage.cloudrc}.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.manage import cloudrc
from fabric.manage.client import Credentials

KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85\xa0"), max_size=40)
URLS = st.sampled_from(["http://127.0.0.1:8773", "https://cloud.example", "http://[::1]:8773/", "http://a$b:1"])
FAMILIES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "EC2_ACCESS_KEY", "EC2_SECRET_KEY", "EC2_URL", "S3_URL")


class CloudrcTests(SynchronousTestCase):
    """
    The file, and where credentials are looked for.
    """

    def kept(self, text: str, name: str = "cloudrc") -> Path:
        """A data directory with a file of that text."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / name).write_text(text)
        return directory

    @given(URLS, KEYS, KEYS)
    def test_round_trip(self, url: str, access_key: str, secret_key: str) -> None:
        """What is written is read, whatever keys hold."""
        values = cloudrc.read(cloudrc.render(url, access_key, secret_key))
        self.assertEqual(values["CLOUD_URL"], url.rstrip("/"))
        for family in (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("EC2_ACCESS_KEY", "EC2_SECRET_KEY")):
            self.assertEqual([values[name] for name in family], [access_key, secret_key])

    @settings(max_examples=15, deadline=None)
    @given(KEYS, KEYS)
    def test_sourced(self, access_key: str, secret_key: str) -> None:
        """A real shell that sources it exports the same values, and runs nothing of them."""
        text = cloudrc.render("http://127.0.0.1:8773", access_key, secret_key)
        found = subprocess.run(
            ["sh", "-c", f"{text}\nenv -0"], env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, check=True
        )
        exported = dict(line.split("=", 1) for line in found.stdout.decode().split("\0") if line)
        self.assertEqual(
            {name: exported[name] for name in FAMILIES}, {name: cloudrc.read(text)[name] for name in FAMILIES}
        )
        self.assertEqual(exported["AWS_SECRET_ACCESS_KEY"], secret_key)

    def test_file_is_sourced(self) -> None:
        """C{. cloudrc} in a directory with a space works."""
        path = self.kept(cloudrc.render("http://h:1", "AK:web", "it's $HOME"), "my rc") / "my rc"
        found = subprocess.run(
            ["sh", "-c", f'. {shlex.quote(str(path.resolve()))}; printf %s "$EC2_SECRET_KEY"'],
            stdout=subprocess.PIPE,
            check=True,
        )
        self.assertEqual(found.stdout, b"it's $HOME")

    def test_object_store(self) -> None:
        """S3_URL is where the object store will be, and the file says that it is not there yet."""
        for url, s3 in (
            ("http://10.0.0.1:8773/", "http://10.0.0.1:3333"),
            ("https://cloud.example", "https://cloud.example:3333"),
            ("http://[::1]:8773", "http://[::1]:3333"),
        ):
            text = cloudrc.render(url, "AK", "secret")
            self.assertEqual(cloudrc.read(text)["S3_URL"], s3)
            self.assertIn("yet", text)
        self.assertEqual(cloudrc.read(cloudrc.render("http://h", "a", "b", s3_url="http://o"))["S3_URL"], "http://o")

    def test_order(self) -> None:
        """A file goes before a data directory, that before the environment."""
        one = self.kept(cloudrc.render("http://one:1", "AK", "secret"))
        two = self.kept(cloudrc.render("http://two:2", "AK", "secret"))
        environment = {"CLOUD_URL": "http://three:3", "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret"}
        self.assertEqual(cloudrc.credentials(str(two), str(one / "cloudrc"), environment).url, "http://one:1")
        self.assertEqual(cloudrc.credentials(str(two), None, environment).url, "http://two:2")
        self.assertEqual(cloudrc.credentials(None, None, environment), Credentials("http://three:3", "AK", "secret"))

    def test_none(self) -> None:
        """A file that is not there, is not one, or lacks something is told with what to do."""
        self.assertRaises(cloudrc.NoCloud, cloudrc.credentials, self.mktemp(), None, {})
        self.assertRaises(cloudrc.NoCloud, cloudrc.credentials, None, None, {"CLOUD_URL": "http://here:1"})
        for text in ("", "export CLOUD_URL=http://x:1\n", "export CLOUD_URL='http://x\n", "rm -rf /\n"):
            self.assertRaises(cloudrc.NoCloud, cloudrc.credentials, str(self.kept(text)), None, {})
        binary = self.kept("")
        (binary / "cloudrc").write_bytes(b"\xff\xfe")
        self.assertRaises(cloudrc.NoCloud, cloudrc.credentials, str(binary), None, {})

    def test_secret_is_not_shown(self) -> None:
        """Credentials that end up in a message or a traceback keep their secret."""
        self.assertNotIn("sesame", repr(Credentials("http://x:1", "AK", "sesame")))
