"""
Tests for L{fabric.compute.libvirt.host}, over what a libvirt says.
"""

from __future__ import annotations

import libvirt
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.libvirt.domain import Abilities
from fabric.compute.libvirt.graphics import Gpu
from fabric.compute.libvirt.host import capacity
from fabric.settings import Libvirt

QEMU = Abilities("qemu", "/usr/bin/qemu-system-x86_64")
CARD = Gpu("0000:01:00.0", "10de", "1db4", frozenset({"0000:01:00.0"}))


class Said:
    """
    A connection that knows one processor.
    """

    def __init__(self, command: str = "", refuses: int = 0) -> None:
        """
        @param command: what it would have qemu run.
        @param refuses: the code of the error instead.
        """
        self.command = command
        self.refuses = refuses
        self.expanded: list[str] = []

    def getInfo(self) -> list[object]:
        """Two processors."""
        return ["x86_64", 4096, 2, 2000, 1, 1, 2, 1]

    def domainXMLToNative(self, form: str, xml: str, flags: int) -> str:
        """See C{virConnectDomainXMLToNative}."""
        if self.refuses:
            error = libvirt.libvirtError("no")
            error.err = (self.refuses, 0, "no", 2, "", "", "", 0, 0)
            raise error
        return self.command

    def baselineHypervisorCPU(self, *arguments: object) -> str:
        """See C{virConnectBaselineHypervisorCPU}."""
        self.expanded += arguments[4]
        return "<cpu><model>small</model><feature name='sse2'/><feature policy='disable' name='avx'/></cpu>"

    def listAllDomains(self, flags: int) -> list[object]:
        """None."""
        return []


class ProcessorTests(SynchronousTestCase):
    """
    The processor of guests of which nothing is said.
    """

    def test_default(self) -> None:
        """It is the one with which libvirt would start qemu, and its flags are expanded by libvirt."""
        said = Said("LC_ALL=C /usr/bin/qemu -name guest=x -cpu small,hv_time=on -m 32")
        found = capacity(said, Libvirt(), QEMU, 1)
        self.assertEqual((found.cpu_model, found.features), ("small", ("sse2",)))
        self.assertIn("<model>small</model>", said.expanded[0])

    def test_left_to_qemu(self) -> None:
        """Where libvirt leaves it to qemu, nothing is known."""
        for command in ("/usr/bin/qemu -m 32", "/usr/bin/qemu -m 32 -cpu"):
            found = capacity(Said(command), Libvirt(), QEMU, 1)
            self.assertEqual((found.cpu_model, found.features), ("", ()))

    def test_unable(self) -> None:
        """A libvirt that can't say it is none that fails; any other trouble is told."""
        for code in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
            found = capacity(Said(refuses=code), Libvirt(), QEMU, 1, [CARD])
            self.assertEqual((found.cpu_model, found.features, found.gpus), ("", ("gpu", "gpu:10de:1db4"), 1))
        broken = Said(refuses=libvirt.VIR_ERR_INTERNAL_ERROR)
        self.assertRaises(libvirt.libvirtError, capacity, broken, Libvirt(), QEMU, 1)
