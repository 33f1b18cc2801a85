"""
A running guest taken to another host.

Everything here blocks and is called with the open connection.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, fromstring, tostring

import libvirt

from fabric.compute.libvirt import guests
from fabric.errors import DriverFailure

OWN = ("ua-root", "ua-rescue", "ua-scratch")
"""Disks that are files of this host."""


def migrate(connection: Any, id: str, directory: str, destination: dict[str, str]) -> bool:
    """
    Have the guest run there, by libvirt itself from host to host, its own disks
    copied as far as they differ from the image.

    @param directory: of its files here.
    @param destination: C{uri}, C{address} (may be empty), C{directory},
        C{kernel}, C{ramdisk}, C{shared} (not empty when its files need not be
        copied).
    @return: False when it is not here.
    @raise WrongState: it does not run.
    """
    if guests.handle(connection, id) is None:
        return False
    domain = guests.running(connection, id)
    if destination.get("kind") != "libvirt":
        raise DriverFailure(what=f"{id} can't be moved to a host of kind {destination.get('kind')!r}")
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
    flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    live = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
    kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    parameters: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: _there(live, directory, destination),
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: _there(kept, directory, destination),
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
    return True


def _there(xml: str, directory: str, destination: dict[str, str]) -> str:
    """@return: the domain as it is to be on the other host: its files are elsewhere."""
    domain = fromstring(xml)
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
