"""
GPUs of a host that guests can be given, whole, and which guest has which.

Which those are, an operator decides, by binding them to C{vfio-pci}; all others are
the host's own.  What was given is in the domains, and nowhere else.

@see: U{https://docs.kernel.org/driver-api/vfio.html}
@see: U{https://docs.kernel.org/PCI/sysfs-pci.html}
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import attrs
import libvirt

from fabric.compute.libvirt.notes import parsed
from fabric.errors import DriverFailure

DRIVER = "vfio-pci"

ALIAS = "ua-gpu-"
"""How the names begin that domains call them by."""

BRIDGE, DISPLAY = "06", "03"
"""PCI classes."""

_ADDRESS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_CLASS = re.compile(r"0x([0-9a-f]{2})[0-9a-f]{4}")
_NUMBER = re.compile(r"0x([0-9a-f]{4})")


@attrs.frozen
class Gpu:
    """
    A display controller that can be given to a guest.

    @ivar address: as C{0000:01:00.0}.
    @ivar vendor, device: PCI ids, four hexadecimal digits each.
    @ivar group: addresses of all that is in its IOMMU group, itself included:
        only one guest can have any of them.
    """

    address: str
    vendor: str
    device: str
    group: frozenset[str]

    @property
    def kind(self) -> str:
        """What types call it, as C{gpu:10de:1db4}."""
        return f"gpu:{self.vendor}:{self.device}"


@attrs.frozen
class Holder:
    """
    A domain that has devices of the host, running or not.

    @ivar instance: its id; empty for one that the cloud did not make.
    @ivar gpus: addresses of those that the cloud gave it, in the order of
        their aliases.
    @ivar devices: addresses of all PCI devices that it has, by whomever.
    """

    instance: str
    gpus: tuple[str, ...]
    devices: frozenset[str]


def offered(root: str = "/sys") -> list[Gpu]:
    """
    What may be given to guests, by address: display controllers that are bound to
    C{vfio-pci} and whose IOMMU group has nothing that is not, but for bridges.
    Of several in one group it is the first.  Virtual functions are none.  Blocks.

    @param root: where sysfs is.
    """
    place = os.path.join(root, "bus", "pci", "devices")
    found: dict[frozenset[str], Gpu] = {}
    for address in sorted(_listed(place)):
        gpu = _gpu(place, address)
        if gpu is not None:
            found.setdefault(gpu.group, gpu)
    return list(found.values())


def features(gpus: Iterable[Gpu]) -> set[str]:
    """@return: what types may require of a host that has these."""
    kinds = {gpu.kind for gpu in gpus}
    return kinds | {"gpu"} if kinds else set()


def holders(connection: Any) -> list[Holder]:
    """@return: all domains that have devices of the host.  Blocks."""
    found = []
    for domain in connection.listAllDomains(0):
        try:
            kept, notes = parsed(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            runs = parsed(domain.XMLDesc(0))[0] if domain.isActive() else kept
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            continue  # it went meanwhile
        gpus, devices = given(kept) or given(runs), frozenset((*_devices(kept), *_devices(runs)))
        if devices:
            found.append(Holder(notes.id if notes is not None else "", gpus, devices))
    return found


def lent(gpus: Iterable[Gpu], holding: Iterable[Holder]) -> list[Gpu]:
    """@return: those of a host's GPUs that no domain has which the cloud did not make."""
    others = {address for holder in holding if not holder.instance for address in holder.devices}
    return [gpu for gpu in gpus if not gpu.group & others]


def choose(
    instance: str, count: int, kinds: Collection[str], gpus: Sequence[Gpu], holding: Iterable[Holder]
) -> tuple[str, ...]:
    """
    @param kinds: of which it may be given; any if empty.
    @param gpus: what the host offers.
    @return: addresses of so many: those that it has, and then the first free
        ones.
    @raise DriverFailure: there are not so many.
    """
    holding = list(holding)
    own = next((holder.gpus for holder in holding if holder.instance == instance), ())
    taken = {address for holder in holding if holder.instance != instance for address in holder.devices}
    fit = {gpu.address: gpu for gpu in gpus if not kinds or gpu.kind in kinds}
    kept = [address for address in own if address in fit]
    free = [gpu.address for gpu in fit.values() if gpu.address not in kept and not gpu.group & taken]
    chosen = (kept + free)[:count]
    if len(chosen) < count:
        what = " or ".join(sorted(kinds)) or "any kind"
        raise DriverFailure(what=f"{count} GPUs of {what} wanted, {len(chosen)} free on this host")
    return tuple(chosen)


def element(address: str, number: int) -> Element:
    """
    @return: a device of the host as a domain has it.
    @raise DriverFailure: it is no PCI address.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise DriverFailure(what=f"{address!r} is no PCI device")
    top = Element("hostdev", mode="subsystem", type="pci", managed="yes")
    names = ("domain", "bus", "slot", "function")
    where = {name: "0x" + part for name, part in zip(names, parts.groups(), strict=True)}
    SubElement(SubElement(top, "source"), "address", where)
    SubElement(top, "alias", name=f"{ALIAS}{number}")
    return top


def given(domain: Element) -> tuple[str, ...]:
    """@return: addresses of the GPUs that the cloud gave a domain, in the order of their aliases."""
    found = {}
    for device in _hostdevs(domain):
        for source in device.findall("source/address"):
            found[_number(device)] = _address(source)
    return tuple(found[number] for number in sorted(found))


def remove(domain: Element) -> None:
    """Have a domain's XML give it no GPU."""
    devices = domain.find("devices")
    for device in _hostdevs(domain) if devices is not None else ():
        devices.remove(device)  # type: ignore[union-attr]


def _hostdevs(domain: Element) -> list[Element]:
    return [device for device in domain.findall("devices/hostdev") if _number(device) >= 0]


def _number(device: Element) -> int:
    """@return: of a GPU's alias; -1 for none."""
    alias = device.find("alias")
    number = "" if alias is None else alias.get("name", "").removeprefix(ALIAS)
    return int(number) if number.isdecimal() else -1


def _devices(domain: Element) -> list[str]:
    """All that is a PCI device of the host, whatever it is in the guest."""
    return [_address(source) for source in domain.findall("devices/*/source/address") if source.get("bus")]


def _address(source: Element) -> str:
    domain, bus, slot, function = (int(source.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _gpu(place: str, address: str) -> Gpu | None:
    """@return: None for all that is not to be given away."""
    if (
        not _ADDRESS.fullmatch(address)
        or _class(place, address) != DISPLAY
        or _driver(place, address) != DRIVER
        or os.path.lexists(os.path.join(place, address, "physfn"))
    ):
        return None
    vendor, device = (_NUMBER.fullmatch(_text(place, address, name)) for name in ("vendor", "device"))
    group = frozenset(_listed(os.path.join(place, address, "iommu_group", "devices")))
    apart = all(_driver(place, each) == DRIVER or _class(place, each) == BRIDGE for each in group)
    if vendor is None or device is None or address not in group or not apart:
        return None
    return Gpu(address, vendor[1], device[1], group)


def _class(place: str, address: str) -> str:
    """@return: the class's two digits; empty when it can't be told."""
    found = _CLASS.fullmatch(_text(place, address, "class"))
    return found[1] if found else ""


def _driver(place: str, address: str) -> str:
    """@return: the name of its driver; empty for none."""
    try:
        return os.path.basename(os.readlink(os.path.join(place, address, "driver")))
    except OSError:
        return ""


def _text(place: str, address: str, name: str) -> str:
    try:
        with open(os.path.join(place, address, name), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
