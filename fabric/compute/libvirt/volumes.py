"""
The volumes of a guest: put into its domain and taken out, running or not.

Everything here blocks and is called with the open connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import tostring

import attrs
import libvirt

from fabric.compute.interface import DiskOrder
from fabric.compute.libvirt.domain import alias_of, secret_xml, target_for, uuid_of, volume_element
from fabric.compute.libvirt.guests import Found, annotate, describe, existing, handle
from fabric.errors import DriverFailure, NotFound, WrongState


def know(connection: Any, disks: Iterable[DiskOrder]) -> None:
    """Have libvirt know the passwords of these volumes' targets."""
    for disk in disks:
        password = disk.connection.get("secret", "")
        if disk.connection.get("user") and password:
            connection.secretDefineXML(secret_xml(disk.volume)).setValue(password.encode())


def forget(connection: Any, volumes: Iterable[str]) -> None:
    """Have libvirt know no passwords of these volumes' targets."""
    for volume in volumes:
        try:
            connection.secretLookupByUUIDString(uuid_of(volume)).undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                raise


def attach(connection: Any, disk: DiskOrder) -> None:
    """
    Have the guest see a volume.

    @raise NotFound: no such guest.
    @raise WrongState: it has another at that device, or is suspended.
    """
    domain = existing(connection, disk.instance)
    found = describe(domain)
    if found is None:
        raise NotFound(kind="guest", id=disk.instance)
    holder = found.domain.disks.get(disk.device, disk.volume)
    if holder != disk.volume:
        raise WrongState(kind="device", id=disk.device, found=holder, wanted=[disk.volume])
    alias, flags = alias_of(disk.volume), 0
    if alias not in found.targets:
        _awake(found)
    if alias not in found.targets:
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if found.domain.state == "running" and alias not in found.live:
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    # Said first and done then: what a crash leaves said only, is not shown.
    volumes = {at: volume for at, volume in found.domain.disks.items() if volume != disk.volume}
    volumes[disk.device] = disk.volume
    if volumes != found.notes.volumes:
        annotate(domain, attrs.evolve(found.notes, volumes=volumes))
    if flags:
        know(connection, [disk])
        target = target_for(disk.device, (*found.targets.values(), *found.live.values()))
        domain.attachDeviceFlags(tostring(volume_element(disk, target), encoding="unicode"), flags)


def detach(connection: Any, id: str, volume: str) -> str:
    """
    Have the guest not see a volume, as soon as it lets go; to be called again
    until it has.

    @return: empty when the guest does not have it any more, else why it does.
    @raise WrongState: it is suspended.
    """
    domain = handle(connection, id)
    found = None if domain is None else describe(domain)
    if found is None:
        return ""
    alias = alias_of(volume)
    if alias in found.live:
        return _ask(domain, alias) or "the guest does not let go of it"
    if alias in found.targets:
        _awake(found)
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    if volume in found.notes.volumes.values():
        left = {at: what for at, what in found.notes.volumes.items() if what != volume}
        annotate(domain, attrs.evolve(found.notes, volumes=left))
    forget(connection, [volume])
    return ""


def _awake(found: Found) -> None:
    """
    @raise WrongState: what it has in memory knows its disks as they are.
    """
    if found.domain.condition == "suspended":
        raise WrongState(kind="guest", id=found.domain.id, found="suspended", wanted=["running", "stopped"])


def _ask(domain: Any, alias: str) -> str:
    """Ask the guest to let go; @return: what qemu said against it."""
    try:
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_OPERATION_INVALID):
            return ""
        # A guest that boots, or was asked already: qemu says so, and is asked again.
        if error.get_error_domain() == libvirt.VIR_FROM_QEMU or "device_del" in str(error):
            return str(error)
        raise DriverFailure(what=str(error)) from error
    return ""
