"""
Tests for L{fabric.tap.options} and what services make of it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from fabric.settings import FILE_VARIABLE
from fabric.tap.options import DoorOptions, ServiceOptions

SERVICES = {
    "cloud",
    "cloud-api",
    "cloud-compute",
    "cloud-controller",
    "cloud-network",
    "cloud-scheduler",
    "cloud-volume",
}


class OptionsTests(SynchronousTestCase):
    """
    A command line becomes settings, or one line.
    """

    def options(self, *arguments: str) -> DoorOptions:
        """Options of that command line."""
        self.patch(os, "environ", {})
        options = DoorOptions()
        options.parseOptions(list(arguments))
        return options

    def test_shorthands(self) -> None:
        """Each option sets its setting."""
        settings = self.options("--data", "/d", "--ec2", "tcp:1", "--host", "n1", "--store", "redis://r").settings
        self.assertEqual(
            (settings.data_dir, settings.api.endpoint, settings.host, settings.store.url),
            ("/d", "tcp:1", "n1", "redis://r"),
        )

    def test_set(self) -> None:
        """Any setting can be set, also several times, and overrides the shorthand."""
        settings = self.options("--host", "n1", "--set", "host=n2", "--set", "quota.cores=3").settings
        self.assertEqual((settings.host, settings.quota.cores), ("n2", 3))

    def test_set_malformed(self) -> None:
        """C{--set} without a value is a usage error."""
        self.assertRaises(usage.UsageError, self.options, "--set", "host")

    def test_file(self) -> None:
        """A file is named by the option, or by the environment."""
        path = self.mktemp()
        Path(path).write_text('zone = "far"\n')
        self.assertEqual(self.options("--settings", path).settings.zone, "far")
        self.patch(os, "environ", {FILE_VARIABLE: path})
        options = ServiceOptions()
        options.parseOptions([])
        self.assertEqual(options.settings.zone, "far")

    def test_refused(self) -> None:
        """Settings that can't be meant end the process with one line."""
        line = str(self.assertRaises(SystemExit, self.options, "--set", "quota.core=3"))
        self.assertIn("the nearest known one is quota.cores", line)
        self.assertNotIn("\n", line)


class PluginTests(SynchronousTestCase):
    """
    What C{twistd} finds.
    """

    def plugins(self) -> dict[str, IServiceMaker]:
        """The cloud's plugins by name."""
        return {plugin.tapname: plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname in SERVICES}

    def test_listed(self) -> None:
        """C{twistd} lists every service."""
        self.assertEqual(set(self.plugins()), SERVICES)

    def test_options(self) -> None:
        """Each has the common options."""
        for plugin in self.plugins().values():
            self.assertIsInstance(plugin.options(), ServiceOptions)

    def test_makes(self) -> None:
        """Each makes a service, and acts not at all while doing so."""
        self.patch(os, "environ", {})
        for name, plugin in self.plugins().items():
            directory = self.mktemp()
            options = namedAny(plugin.module).Options()
            arguments = ["--data", directory, "--queue", "amqp://u:p@127.0.0.1:1/", "--store", "redis://127.0.0.1:1"]
            options.parseOptions([*arguments, "--ldap", "ldap://127.0.0.1:1"])
            service = plugin.makeService(options)
            self.assertTrue(IService.providedBy(service), name)
            self.assertFalse(os.path.exists(directory), name)

    def test_needs_servers(self) -> None:
        """A service of its own process refuses parts that are within another."""
        self.patch(os, "environ", {})
        for name, plugin in self.plugins().items():
            if name != "cloud":
                options = namedAny(plugin.module).Options()
                options.parseOptions([])
                line = str(self.assertRaises(SystemExit, plugin.makeService, options))
                self.assertIn("queue.url must name a server", line)
