"""
A process that is the compute driver of a host, for tests that have it run as somebody.

C{python -m tests.integration.compute_process DIRECTORY URI KERNEL RAMDISK DISK LINE} boots
two guests of one image, says so, captures the disk of one, ends both, and says what it left.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import attrs
import libvirt
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from fabric.compute.libvirt.driver import LibvirtHypervisor
from fabric.image.interface import FileOrder
from fabric.settings import Libvirt
from fabric.testing.compute import Heard, machine
from tests.integration.libvirt_guests import FLAVOR, KeptFiles


def say(words):
    """Tell the test."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def kept(directory, files):
    """The image's files as a host's cache has them."""
    place = Path(directory, "images", "files")
    place.mkdir(parents=True)
    paths = {role: shutil.copy(path, place / role) for role, path in files.items()}
    for path in paths.values():
        os.chmod(path, 0o440)
    return {role: str(path) for role, path in paths.items()}


def confinement(uri):
    """Of each guest, whether libvirt has put it under the host's rules, and they are in force."""
    connection = libvirt.open(uri)
    labels = [domain.securityLabel() for domain in connection.listAllDomains(0)]
    connection.close()
    return [bool(label and label[0] and label[1]) for label in labels]


@inlineCallbacks
def serve(reactor, directory, uri, kernel, ramdisk, disk, line):
    """Do what a host is asked for."""
    paths = kept(directory, {"kernel": kernel, "ramdisk": ramdisk, "disk": disk})
    options = Libvirt(uri=uri, virt_type="auto", kernel_line=line, cpu_shares=0, shutdown_seconds=0.5)
    driver = LibvirtHypervisor(directory, reactor, KeptFiles(**paths), options)
    yield driver.start(Heard())
    files = tuple(
        FileOrder(role, role * 8, "qcow2" if role == "disk" else "raw", os.path.getsize(path), 2**26 * (role == "disk"))
        for role, path in paths.items()
    )
    orders = [attrs.evolve(machine(number, 1), flavor=FLAVOR, files=files) for number in (1, 2)]
    for order in orders:
        yield driver.spawn(order)
    found = yield driver.domains()
    say("running " + " ".join(sorted(each.state for each in found)))
    say(f"confined {all((yield deferToThread(confinement, uri)))}")
    yield driver.capture(orders[0].id, "ami-1", False)
    copy = yield driver.captured_file("ami-1")
    with open(copy, "rb") as opened:
        say(f"captured {opened.read(3).decode()}")
    console = yield driver.console_output(orders[0].id)
    say(f"console {len(console) >= 0}")
    yield driver.shut_down(orders[1].id, True, 2)
    yield driver.spawn(attrs.evolve(orders[1], order=3))
    for order in orders:
        yield driver.destroy(order.id)
    say("left " + " ".join(os.listdir(os.path.join(directory, "guests"))))
    yield driver.stop()


if __name__ == "__main__":
    react(serve, sys.argv[1:])
