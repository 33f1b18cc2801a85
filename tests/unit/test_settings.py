"""
Tests for L{fabric.settings}.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fabric import settings
from fabric.settings import BadSettings, Settings, load

EXAMPLE = Path(__file__).resolve().parents[2] / "etc" / "fabric.toml"


class LoadTests(SynchronousTestCase):
    """
    File, environment and options become one value, or one line.
    """

    def file(self, text: str) -> str:
        """A settings file of that text."""
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def refused(self, *arguments: object) -> str:
        """The one line with which settings are refused."""
        line = str(self.assertRaises(BadSettings, load, *arguments))
        self.assertNotIn("\n", line)
        return line

    def test_defaults(self) -> None:
        """Nothing needs to be set."""
        self.assertEqual(load(None, {}), Settings())

    def test_file(self) -> None:
        """A file sets keys of the top and of sections, with TOML's types."""
        found = load(self.file('host = "n1"\nfaults = ["a.b"]\n[quota]\ninstances = 3\n[fake]\nboot_seconds = 2\n'), {})
        self.assertEqual((found.host, found.faults, found.quota.instances), ("n1", ("a.b",), 3))
        self.assertIsInstance(found.fake.boot_seconds, float)

    def test_precedence(self) -> None:
        """The environment overrides the file, and options override both."""
        file = self.file("[quota]\ninstances = 1\ncores = 1\nram = 1\n")
        environment = {"FABRIC_QUOTA_CORES": "2", "FABRIC_QUOTA_RAM": "2", "HOME": "/"}
        quota = load(file, environment, [("quota.ram", "3")]).quota
        self.assertEqual((quota.instances, quota.cores, quota.ram), (1, 2, 3))

    def test_unknown_in_file(self) -> None:
        """An unknown key of a file is refused, naming the nearest known one."""
        self.assertIn("nearest known one is quota.instances", self.refused(self.file("[quota]\ninstance = 1\n"), {}))
        self.assertIn("nearest known one is data_dir", self.refused(self.file('data_dri = "x"\n'), {}))

    def test_unknown_section(self) -> None:
        """An unknown section is refused, naming the nearest known one."""
        self.assertIn("nearest known one is quota", self.refused(self.file("[quotas]\ninstances = 1\n"), {}))

    def test_unknown_in_environment(self) -> None:
        """So is an unknown variable with our prefix."""
        self.assertIn("FABRIC_STORE_URL", self.refused(None, {"FABRIC_STORE_URI": "x"}))

    def test_unknown_option(self) -> None:
        """So is an unknown option."""
        self.assertIn("store.url", self.refused(None, {}, [("store.uri", "x")]))

    def test_types(self) -> None:
        """A value of another type is refused, wherever it stands."""
        self.assertIn("a whole number", self.refused(self.file('[quota]\ninstances = "many"\n'), {}))
        self.assertIn("a whole number", self.refused(self.file("[quota]\ninstances = true\n"), {}))
        self.assertIn("a whole number", self.refused(None, {"FABRIC_QUOTA_INSTANCES": "many"}))
        self.assertIn("true or false", self.refused(None, {"FABRIC_API_ADMIN": "perhaps"}))
        self.assertIn("a list", self.refused(self.file("faults = [1]\n"), {}))

    def test_values(self) -> None:
        """A value that can't be meant is refused with what could."""
        self.assertIn("queue, chance, simple, zone", self.refused(None, {}, [("scheduler.algorithm", "best")]))
        self.assertIn("at least", self.refused(None, {}, [("queue.prefetch", "0")]))

    def test_places(self) -> None:
        """What guests reach is named by address and port, and nothing else is taken for that."""
        file = self.file('[network]\nguests_reach = ["api", "192.0.2.1:8774", "[::]:8774"]\n')
        self.assertEqual(load(file, {}).network.guests_reach, ("api", "192.0.2.1:8774", "[::]:8774"))
        for wrong in ("8774", "localhost:8774", "192.0.2.1", "192.0.2.1:http", "192.0.2.1:0", "[fe80::1%a]:80", "all"):
            self.assertIn("network.guests_reach", self.refused(None, {"FABRIC_NETWORK_GUESTS_REACH": wrong}))

    def test_file_unreadable(self) -> None:
        """A file that isn't there, or is not TOML, is refused in one line."""
        self.assertIn("can't read /nowhere/x.toml", self.refused("/nowhere/x.toml", {}))
        self.assertIn("is not TOML", self.refused(self.file("[[["), {}))

    def test_file_variable(self) -> None:
        """The variables that name the file, or are for tests, are not taken for settings."""
        self.assertEqual(load(None, {"FABRIC_SETTINGS": "/x", "FABRIC_TEST_AWS": "/y"}), Settings())

    def test_lists_as_text(self) -> None:
        """A list is separated by commas in the environment."""
        self.assertEqual(load(None, {"FABRIC_FAULTS": "a.b, c.d"}).faults, ("a.b", "c.d"))


class SettingsTests(SynchronousTestCase):
    """
    The value itself.
    """

    def test_frozen(self) -> None:
        """Settings don't change while the cloud works."""
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            Settings().zone = "other"  # type: ignore[misc]

    def test_secrets(self) -> None:
        """No secret is in the text that a log or traceback would show."""
        options = [
            ("queue.url", "amqp://user:hunter2@host/"),
            ("store.url", "redis://:hunter2@host:6379/0"),
            ("ldap.password", "hunter2"),
        ]
        self.assertNotIn("hunter2", repr(load(None, {}, options)))

    def test_variables_distinct(self) -> None:
        """No two settings share a variable."""
        variables = [setting.variable for setting in settings.known().values()]
        self.assertEqual(len(variables), len(set(variables)))

    def test_host_name(self) -> None:
        """A host without a name of its own has the system's."""
        self.assertEqual(Settings(host="n1").host_name, "n1")
        self.assertTrue(Settings().host_name)


class ExampleTests(SynchronousTestCase):
    """
    The commented file that is shipped.
    """

    def test_shipped(self) -> None:
        """It is what the settings say."""
        self.assertEqual(EXAMPLE.read_text(), settings.example())

    def test_means_the_defaults(self) -> None:
        """With every line uncommented, it sets what is the default anyway."""
        path = self.mktemp()
        Path(path).write_text(re.sub(r"(?m)^#(?=\w)", "", settings.example()))
        self.assertEqual(load(path, {}), Settings())
