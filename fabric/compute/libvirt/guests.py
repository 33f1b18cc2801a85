"""
Questions and orders to libvirt about one guest.

Everything here blocks and is called with the open connection; each function
makes something so, and may be repeated.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, tostring

import attrs
import libvirt

from fabric.compute.interface import Domain, Statistics
from fabric.compute.libvirt import graphics
from fabric.compute.libvirt.domain import alias_of, uuid_of
from fabric.compute.libvirt.files import ImageFiles
from fabric.compute.libvirt.notes import NAMESPACE, PREFIX, Notes, parsed
from fabric.errors import NotFound, WrongState

RUNNING = (
    libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN,
    libvirt.VIR_DOMAIN_PMSUSPENDED,
)

ENDED = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "The guest shut itself down.",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "The guest was stopped from outside of the cloud.",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "The guest's kernel panicked, or its hypervisor was killed.",
    libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: "The guest was moved from outside of the cloud.",
    libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "The guest was suspended from outside of the cloud.",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "The guest's hypervisor failed.",
}
BROKEN_OFF = (libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN)
CRASHES = (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)

STANDING = {
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "The guest stands still, for a disk of it failed.",
    libvirt.VIR_DOMAIN_PAUSED_USER: "The guest was paused from outside of the cloud.",
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "The guest stands still, for its watchdog barked.",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "The guest stands still, for it crashed.",
}
"""Reasons for which a guest is paused; for others it is for a moment."""


@attrs.frozen
class Found:
    """
    A guest as libvirt has it.

    @ivar reason: why its state is so, one sentence for people.
    @ivar own: whether it is so by the guest's own doing.
    @ivar asleep: whether it is stopped, but active in order to be moved.
    @ivar targets: its disks, C{{alias: target}}, as it will be booted.
    @ivar live: the same as it runs; empty when it does not.
    """

    domain: Domain
    notes: Notes
    reason: str
    image: ImageFiles
    targets: dict[str, str]
    live: dict[str, str]
    own: bool = False
    asleep: bool = False


def handle(connection: Any, id: str) -> Any:
    """@return: libvirt's domain, None when there is none."""
    try:
        return connection.lookupByUUIDString(uuid_of(id))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def existing(connection: Any, id: str) -> Any:
    """@raise NotFound: there is none."""
    found = handle(connection, id)
    if found is None:
        raise NotFound(kind="guest", id=id)
    return found


def running(connection: Any, id: str) -> Any:
    """
    @raise NotFound: there is none.
    @raise WrongState: it does not run.
    """
    found = existing(connection, id)
    if not found.isActive() or asleep(found):
        raise WrongState(kind="guest", id=id, found="stopped", wanted=["running"])
    return found


def look(connection: Any, id: str) -> Found | None:
    """@return: None when there is none."""
    domain = handle(connection, id)
    return None if domain is None else describe(domain)


def look_at_all(connection: Any) -> list[Found]:
    """@return: every guest that the cloud made."""
    found = [describe(domain) for domain in connection.listAllDomains(0)]
    return [each for each in found if each is not None]


def describe(domain: Any) -> Found | None:
    """@return: None for one that the cloud did not make, or that went meanwhile."""
    try:
        element, notes = parsed(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        if notes is None:
            return None
        state, why = _state(domain)
        live: dict[str, str] = {}
        resting = False
        if state in RUNNING:
            running, said = parsed(domain.XMLDesc(0))
            live = disks_of(running)
            state, why = _state(domain)  # lest what was put to rest just now seems to run
            resting = said is not None and said.asleep
            if resting:
                live, state, why = {}, libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
        suspended = state not in RUNNING and bool(domain.hasManagedSaveImage(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    targets = disks_of(element)
    volumes = {at: volume for at, volume in notes.volumes.items() if alias_of(volume) in targets.keys() | live.keys()}
    condition, reason = _condition(state, why, suspended, notes.rescue)
    name = "running" if state in RUNNING else "stopped"
    if state == libvirt.VIR_DOMAIN_CRASHED or (name == "stopped" and why in CRASHES):
        name = "crashed"
    kernel, ramdisk = (element.findtext(f"os/{name}") or "" for name in ("kernel", "initrd"))
    image = ImageFiles(kernel=kernel, ramdisk=ramdisk, digests=notes.bases)
    shown = Domain(notes.id, name, notes.order, notes.addresses, volumes, condition, notes.quiet_until)
    own = name == "stopped" and why == libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
    return Found(shown, notes, reason, image, targets, live, own, resting)


def asleep(domain: Any) -> bool:
    """@return: whether an active domain is one that is stopped, and was started to be moved."""
    notes = parsed(domain.XMLDesc(0))[1]
    return notes is not None and notes.asleep


def rest(connection: Any, id: str) -> bool:
    """
    Have one that was started to be moved not be active any more, unless it is
    being moved now; nothing for all others.

    @return: whether that is done: False while it is being moved, of whose end
        libvirt says nothing.
    """
    domain = handle(connection, id)
    if domain is None or not domain.isActive() or not asleep(domain):
        return True
    if not domain.isPersistent() or domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE:
        return False
    kill(connection, id)
    return True


def disks_of(domain: Element) -> dict[str, str]:
    """@return: C{{alias: target}} of the disks of a domain's XML."""
    found = {}
    for disk in domain.findall("devices/disk"):
        alias, target = disk.find("alias"), disk.find("target")
        if alias is not None and target is not None:
            found[alias.get("name", "")] = target.get("dev", "")
    return found


def annotate(domain: Any, notes: Notes) -> None:
    """Have a domain say this of itself."""
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    text = tostring(notes.element(""), encoding="unicode")
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, PREFIX, NAMESPACE, flags)


def number(connection: Any, id: str, order: int) -> None:
    """
    Have the guest keep the number of the last order, and not be quiet any more, which ends with any order;
    nothing when it is not there.
    """
    domain = handle(connection, id)
    notes = None if domain is None else parsed(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))[1]
    if notes is not None and (notes.order, notes.quiet_until) != (order, 0.0):
        annotate(domain, attrs.evolve(notes, order=order, quiet_until=0.0))


def hush(connection: Any, id: str, until: float) -> bool:
    """
    Have one that runs, or is quiet, say that it is quiet until then.

    @return: whether it was so.
    """
    domain = handle(connection, id)
    found = None if domain is None else describe(domain)
    if found is None or not (found.domain.state == "running" or found.notes.quiet_until):
        return False
    annotate(domain, attrs.evolve(found.notes, quiet_until=until))
    return True


def wake(connection: Any, id: str) -> None:
    """Have one that is quiet run, and be it no more; nothing to any other."""
    found = look(connection, id)
    if found is not None and found.notes.quiet_until:
        boot(connection, id)
        number(connection, id, found.notes.order)


def define(connection: Any, id: str, xml: str) -> None:
    """Have it be this; nothing when it runs."""
    domain = handle(connection, id)
    if domain is None or not _started(domain):
        connection.defineXML(xml)


def boot(connection: Any, id: str, xml: str = "") -> None:
    """
    Have it run, booted from its disk.

    @param xml: what it is to be; as it is defined already if empty.
    @raise NotFound: it is not defined.
    """
    domain = handle(connection, id)
    if domain is not None and _started(domain):
        return
    if xml:
        domain = connection.defineXML(xml)
    if domain is None:
        raise NotFound(kind="guest", id=id)
    forget_memory(connection, id)
    _create(domain)


def forget_memory(connection: Any, id: str) -> None:
    """Have nothing on disk of what it had in memory; nothing when it is not there."""
    domain = handle(connection, id)
    if domain is not None and domain.hasManagedSaveImage(0):
        domain.managedSaveRemove(0)


def kill(connection: Any, id: str) -> None:
    """Have it not run, at once; nothing when it is not there."""
    domain = handle(connection, id)
    if domain is not None and domain.isActive():
        _tolerating(libvirt.VIR_ERR_OPERATION_INVALID, domain.destroy)


def press_power(connection: Any, id: str) -> None:
    """Ask the guest to shut down by its power button; nothing when it does not run."""
    domain = handle(connection, id)
    if domain is not None and domain.isActive():
        _tolerating(
            libvirt.VIR_ERR_OPERATION_INVALID,
            lambda: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN),
        )


def ask_reboot(connection: Any, id: str) -> None:
    """Ask the guest to shut down by its power button, to be started again then; nothing when it does not run."""
    domain = existing(connection, id)
    if domain.isActive():
        _tolerating(libvirt.VIR_ERR_OPERATION_INVALID, lambda: domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN))


def undefine(connection: Any, id: str) -> None:
    """Have it be no more; nothing when it is not there."""
    kill(connection, id)
    domain = handle(connection, id)
    if domain is not None:
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        _tolerating(libvirt.VIR_ERR_NO_DOMAIN, lambda: domain.undefineFlags(flags))


def pause(connection: Any, id: str) -> None:
    """
    Have it stand still.

    @raise NotFound: there is none.
    @raise WrongState: it does not run.
    """
    running(connection, id).suspend()


def unpause(connection: Any, id: str) -> None:
    """
    Have it go on; errors as L{pause}.
    """
    domain = running(connection, id)
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()


def suspend(connection: Any, id: str) -> None:
    """
    Have its memory on disk.

    @raise WrongState: it neither runs nor is suspended, or has GPUs.
    """
    domain = existing(connection, id)
    if domain.isActive() or not domain.hasManagedSaveImage(0):
        if graphics.given(parsed(running(connection, id).XMLDesc(0))[0]):
            raise WrongState(kind="guest", id=id, found="running with GPUs", wanted=["running without GPUs"])
        running(connection, id).managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)


def resume(connection: Any, id: str) -> None:
    """
    Have it go on from the memory that was suspended.

    @raise WrongState: there is none, and it does not run.
    """
    domain = existing(connection, id)
    if not domain.isActive():
        if not domain.hasManagedSaveImage(0):
            raise WrongState(kind="guest", id=id, found="stopped", wanted=["suspended"])
        _create(domain)


def screenshot(connection: Any, id: str, wake: bool) -> bytes:
    """
    @return: PNG, or PPM from a qemu that is too old for that.
    @raise WrongState: it does not run.
    """
    domain = running(connection, id)
    if wake:
        shift = 42
        domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 100, [shift], 1, 0)
    stream = connection.newStream(0)
    domain.screenshot(stream, 0, 0)
    received = bytearray()
    while True:
        part = stream.recv(65536)
        if not part:
            break
        received += part
    stream.finish()
    return bytes(received)


def statistics(connection: Any, id: str) -> Statistics:
    """
    What it has used since it was booted.

    @raise WrongState: it does not run.
    """
    [(_, used)] = connection.domainListGetStats([running(connection, id)], 0, 0)

    def total(group: str, what: str) -> int:
        return sum(int(used.get(f"{group}.{each}.{what}", 0)) for each in range(int(used.get(f"{group}.count", 0))))

    return Statistics(
        used.get("cpu.time", 0) / 1e9,
        int(used.get("balloon.current", 0)) // 1024,
        total("block", "rd.bytes"),
        total("block", "wr.bytes"),
        total("net", "rx.bytes"),
        total("net", "tx.bytes"),
    )


def _state(domain: Any) -> tuple[int, int]:
    """@return: libvirt's state and reason; shut off for one that is only being started."""
    state, why = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and why == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP:
        return libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN
    return state, why


def _condition(state: int, why: int, suspended: bool, rescue: bool) -> tuple[str, str]:
    """@return: as of L{Domain.condition}, and why the state is so."""
    if state == libvirt.VIR_DOMAIN_PAUSED and why in STANDING:
        return "paused", STANDING[why]
    if state in RUNNING:
        return ("rescue" if rescue else ""), "The guest was started from outside of the cloud."
    reason = ENDED.get(why, "The guest does not run any more; its hypervisor does not say why.")
    return ("suspended" if suspended else ""), reason


def _started(domain: Any) -> bool:
    """
    Whether it runs, and will.  One that was being started when libvirtd was
    killed seems to run until the next libvirtd has sorted it out, or stands
    still for ever.
    """
    if not domain.isActive():
        return False
    try:
        domain.memoryStats()  # waits until nobody else works on it
        state, why = domain.state()
        if (state == libvirt.VIR_DOMAIN_PAUSED and why in BROKEN_OFF) or asleep(domain):
            domain.destroy()
    except libvirt.libvirtError:
        if domain.isActive():
            raise
    return bool(domain.isActive())


def _create(domain: Any) -> None:
    """Start it, unless it was meanwhile."""
    try:
        domain.create()
    except libvirt.libvirtError:
        if not domain.isActive():
            raise


def _tolerating(code: int, act: Any) -> None:
    """Do what may have become needless just now."""
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() != code:
            raise
