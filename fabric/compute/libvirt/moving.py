"""
A guest taken to another host, running or not.

One that is stopped is started for that, paused, and stays so: then libvirt copies
its disks, and has them and the definition there or here, never both, as for one
that runs.  It executes nothing on either host.  Its volumes and GPUs stay aside: it is given
them when it is booted.

Everything here blocks and is called with the open connection.
"""

from __future__ import annotations

import time
from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import attrs
import libvirt

from fabric.compute.libvirt import graphics, guests
from fabric.compute.libvirt.notes import NAMESPACE, read
from fabric.errors import DriverFailure, WrongState

OWN = ("ua-root", "ua-rescue", "ua-scratch")
"""Disks that are files of this host."""

LOOK = 0.5
"""Seconds between looks at what libvirt still does."""


def migrate(connection: Any, id: str, directory: str, destination: dict[str, str], order: int) -> bool:
    """
    Have the guest there as it is here, by libvirt itself from host to host, its
    own disks copied as far as they differ from the image.

    @param directory: of its files here.
    @param destination: C{uri}, C{address} (may be empty), C{directory},
        C{kernel}, C{ramdisk}, C{shared} (not empty when its files need not be
        copied).
    @param order: its number there.
    @return: False when it is not here.
    @raise WrongState: its memory is on disk, or it runs with GPUs.
    """
    _let_finish(connection, id)
    guests.rest(connection, id)
    if (domain := guests.handle(connection, id)) is None:
        return False
    if destination.get("kind") != "libvirt":
        raise DriverFailure(what=f"{id} can't be moved to a host of kind {destination.get('kind')!r}")
    if domain.isActive():
        if graphics.given(fromstring(domain.XMLDesc(0))):
            raise WrongState(kind="guest", id=id, found="running with GPUs", wanted=["stopped"])
        _send(domain, directory, destination, order)
        return True
    if domain.hasManagedSaveImage(0):
        raise WrongState(kind="guest", id=id, found="suspended", wanted=["running", "stopped"])
    domain = connection.createXML(_asleep(domain), libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        _send(domain, directory, destination, order)
    finally:
        guests.rest(connection, id)
    return True


def number(connection: Any, id: str, order: int) -> None:
    """Have the guest keep a number, when it is not being moved any more; nothing when it is not here."""
    _let_finish(connection, id)
    guests.number(connection, id, order)


def _let_finish(connection: Any, id: str) -> None:
    """libvirt goes on with a move of which the one who ordered it was killed; wait for its end."""
    while (domain := guests.handle(connection, id)) is not None and domain.isActive():
        if domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
            return
        time.sleep(LOOK)


def _send(domain: Any, directory: str, destination: dict[str, str], order: int) -> None:
    """Have libvirt move an active domain; one that is paused stays paused."""
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
    flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    live = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
    kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: _there(live, directory, destination, order),
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: _there(kept, directory, destination, order),
    }
    own = [target for alias, target in guests.disks_of(fromstring(live)).items() if alias in OWN]
    if own and not destination.get("shared"):
        flags |= libvirt.VIR_MIGRATE_NON_SHARED_INC
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = own
    else:
        flags |= libvirt.VIR_MIGRATE_UNSAFE
    if destination.get("address"):
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = destination["address"]
    domain.migrateToURI3(destination["uri"], parameters, flags)


def _asleep(domain: Any) -> str:
    """@return: a stopped domain, to be started without volumes and GPUs, and saying that it is stopped."""
    element = fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    devices = element.find("devices")
    assert devices is not None, domain.name()
    for disk in _volumes(element):
        devices.remove(disk)
    graphics.remove(element)
    _note(element, asleep=True)
    return tostring(element, encoding="unicode")


def _note(domain: Element, **changes: Any) -> None:
    """Have a domain's XML say this of itself, besides what it says."""
    metadata, notes = domain.find("metadata"), read(domain)
    assert metadata is not None and notes is not None, domain.findtext("name")
    for known in metadata.findall(f"{{{NAMESPACE}}}instance"):
        metadata.remove(known)
    metadata.append(attrs.evolve(notes, **changes).element())


def _volumes(domain: Element) -> list[Element]:
    disks = [(disk, disk.find("alias")) for disk in domain.findall("devices/disk")]
    return [disk for disk, alias in disks if alias is None or alias.get("name") not in OWN]


def _there(xml: str, directory: str, destination: dict[str, str], order: int) -> str:
    """@return: the domain as it is to be on the other host: its files are elsewhere, its number is newer."""
    domain = fromstring(xml)
    _note(domain, order=order)
    graphics.remove(domain)  # it is given others when it is booted there
    for name in ("kernel", "initrd"):
        element = domain.find(f"os/{name}")
        if element is not None:
            element.text = destination["kernel" if name == "kernel" else "ramdisk"] or element.text
    for disk in domain.findall("devices/disk"):
        for chain in disk.findall("backingStore"):
            disk.remove(chain)
    for element in domain.iter():
        _moved(element, directory, destination["directory"])
    return tostring(domain, encoding="unicode")


def _moved(element: Element, here: str, there: str) -> None:
    path = element.get("file", "")
    if path.startswith(here + "/"):
        element.set("file", there + path[len(here) :])
