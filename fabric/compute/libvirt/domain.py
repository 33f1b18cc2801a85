"""
A machine as libvirt is told of it: domain XML as a pure function.

@see: U{https://libvirt.org/formatdomain.html}
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from string import ascii_lowercase
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import attrs

from fabric.compute.interface import DiskOrder, MachineOrder, PortOrder
from fabric.compute.libvirt import graphics
from fabric.compute.libvirt.files import GuestFiles, ImageFiles
from fabric.compute.libvirt.notes import Notes
from fabric.errors import DriverFailure
from fabric.network.interface import device_name
from fabric.settings import Libvirt

MOST_SHARES = 10_000
"""What control groups of version 2 know as the greatest weight."""

MODES = ("host-model", "host-passthrough", "maximum")
"""Values of the setting C{cpu} that are no model's name."""


@attrs.frozen
class Abilities:
    """
    What a host's libvirt can do for a guest.

    @ivar virt_type: C{kvm} or C{qemu}.
    @ivar emulator: path of qemu.
    """

    virt_type: str
    emulator: str
    architecture: str = "x86_64"


def uuid_of(id: str) -> str:
    """@return: the domain's uuid, made from the instance's id, so that it is the same wherever it is."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "urn:cloud-fabric:" + id))


def alias_of(volume: str) -> str:
    """@return: what a domain calls the disk that is this volume."""
    return "ua-" + volume


def serial_of(volume: str) -> str:
    """@return: the serial number that the guest reads: the id in the twenty letters that virtio has room for."""
    return volume.replace("-", "")[:20]


def domain_xml(
    machine: MachineOrder,
    files: GuestFiles,
    image: ImageFiles,
    host: Abilities,
    options: Libvirt,
    rescue: bool = False,
    gpus: Sequence[str] = (),
) -> str:
    """
    @param image: what is booted, by its kernel if it has one.
    @param rescue: whether to boot from the rescue disk, with the own one as
        the second.
    @param gpus: PCI addresses of those that it gets.
    @raise DriverFailure: the order can't be met.
    """
    domain = Element("domain", type=host.virt_type)
    _add(domain, "name", machine.id)
    _add(domain, "uuid", uuid_of(machine.id))
    _add(domain, "metadata").append(notes_of(machine, image, rescue).element())
    _add(domain, "memory", str(machine.flavor.memory_mb), unit="MiB")
    _add(domain, "vcpu", str(machine.flavor.vcpus), placement="static")
    if options.cpu_shares:
        shares = min(MOST_SHARES, options.cpu_shares * machine.flavor.vcpus)
        _add(_add(domain, "cputune"), "shares", str(shares))
    _system(domain, machine, image, host, options)
    _add(domain, "on_poweroff", "destroy")
    _add(domain, "on_reboot", "restart")
    _add(domain, "on_crash", "destroy")
    own = [graphics.element(address, number) for number, address in enumerate(gpus)]
    _devices(domain, machine, files, host, options, rescue, own)
    indent(domain)
    return str(tostring(domain, encoding="unicode")) + "\n"


def notes_of(machine: MachineOrder, image: ImageFiles, rescue: bool = False) -> Notes:
    """@return: what the domain is to say of itself."""
    return Notes(
        machine.id,
        machine.project,
        machine.order,
        machine.image,
        machine.flavor.name,
        tuple(port.address for port in machine.ports),
        {disk.device: disk.volume for disk in machine.disks},
        image.digests,
        rescue,
    )


def processor_of(host: Abilities, options: Libvirt) -> str:
    """@return: one of L{MODES} or a model's name; empty for what libvirt gives guests by itself."""
    return options.cpu or ("host-model" if host.virt_type == "kvm" else "")


def volume_element(disk: DiskOrder, target: str) -> Element:
    """
    @param disk: with its connection: C{{"kind": "file" or "block", "path"}}, or
        C{{"kind": "iscsi", "host", "port", "iqn", "lun", "initiator",
        "user", "secret"}}, the last two for CHAP, the last three optional.
    @param target: what the domain calls it, C{vdb}.
    @raise DriverFailure: a connection of another kind.
    """
    connection = disk.connection
    kind = connection.get("kind", "")
    types = {"file": "file", "block": "block", "iscsi": "network"}
    if kind not in types:
        raise DriverFailure(what=f"libvirt has no way to reach {disk.volume}, whose connection is of kind {kind!r}")
    element = Element("disk", type=types[kind], device="disk")
    form = connection.get("format", "raw")
    SubElement(element, "driver", name="qemu", type=form, cache="none", discard="unmap")
    if kind == "iscsi":
        _iscsi(element, disk)
    else:
        SubElement(element, "source", {"file" if kind == "file" else "dev": connection["path"]})
    SubElement(element, "target", dev=target, bus="virtio")
    _add(element, "serial", serial_of(disk.volume))
    SubElement(element, "alias", name=alias_of(disk.volume))
    return element


def secret_xml(volume: str) -> str:
    """@return: the secret by which a volume's iSCSI target knows us; libvirt forgets it when it ends."""
    secret = Element("secret", ephemeral="yes", private="yes")
    _add(secret, "uuid", uuid_of(volume))
    _add(_add(secret, "usage", type="iscsi"), "target", volume)
    return tostring(secret, encoding="unicode")


def target_for(device: str, taken: Iterable[str]) -> str:
    """
    @param device: the user's name, as C{/dev/sdf}.
    @return: C{vdf} if it is free, else the first that is.
    """
    taken = set(taken)
    wanted = "vd" + device.rstrip("0123456789")[-1:]
    if device and wanted[2:] in set(ascii_lowercase) and wanted not in taken:
        return wanted
    for first in ("", "a", "b"):
        for last in ascii_lowercase:
            if (name := f"vd{first}{last}") not in taken:
                return name
    raise DriverFailure(what="no room for a further disk")


def _add(parent: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    element = SubElement(parent, name, attributes)
    element.text = text
    return element


def _iscsi(element: Element, disk: DiskOrder) -> None:
    """Reached by qemu itself, which needs no initiator on the host."""
    connection = disk.connection
    if connection.get("user"):
        auth = SubElement(element, "auth", username=connection["user"])
        SubElement(auth, "secret", type="iscsi", usage=disk.volume)
    name = f"{connection['iqn']}/{connection.get('lun', '1')}"
    source = SubElement(element, "source", protocol="iscsi", name=name)
    SubElement(source, "host", name=connection["host"], port=str(connection.get("port", "3260")))
    if connection.get("initiator"):
        SubElement(SubElement(source, "initiator"), "iqn", name=connection["initiator"])


def _system(domain: Element, machine: MachineOrder, image: ImageFiles, host: Abilities, options: Libvirt) -> None:
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch=host.architecture, machine=options.machine)
    if image.kernel:
        _add(system, "kernel", image.kernel)
        if image.ramdisk:
            _add(system, "initrd", image.ramdisk)
        _add(system, "cmdline", options.kernel_line)
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    cpu = processor_of(host, options)
    if cpu in MODES:
        _add(domain, "cpu", mode=cpu)
    elif cpu:
        _add(_add(domain, "cpu", mode="custom", match="exact", check="none"), "model", cpu, fallback="forbid")
    _add(domain, "clock", offset="utc")


def _devices(
    domain: Element,
    machine: MachineOrder,
    files: GuestFiles,
    host: Abilities,
    options: Libvirt,
    rescue: bool,
    gpus: list[Element],
) -> None:
    devices = _add(domain, "devices")
    _add(devices, "emulator", host.emulator)
    disks = list(_disks(machine, files, options, rescue))
    if options.machine.startswith(("q35", "pc-q35")):
        _add(devices, "controller", type="pci", index="0", model="pcie-root")
        # Three for the balloon, the random source and what else libvirt adds.
        for _ in range(len(disks) + len(machine.ports) + len(gpus) + 3 + options.hotplug_ports):
            _add(devices, "controller", type="pci", model="pcie-root-port")
    _add(devices, "controller", type="usb", model="none")
    devices.extend(disks)
    for port in machine.ports:
        devices.append(_interface(port, options.mtu))
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=files.console, append="on")
    _add(serial, "target", port="0")
    _add(_add(devices, "console", type="pty"), "target", type="serial", port="0")
    _add(devices, "graphics", type="vnc", port="-1", autoport="yes", listen=options.vnc_listen)
    _add(_add(devices, "video"), "model", type="vga", vram="16384", heads="1")
    devices.extend(gpus)
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(_add(devices, "memballoon", model="virtio"), "stats", period="10")
    if host.architecture in ("x86_64", "i686"):
        _add(devices, "panic", model="isa")


def _disks(machine: MachineOrder, files: GuestFiles, options: Libvirt, rescue: bool) -> Iterator[Element]:
    """All disks in the order of their targets' claims: the one that is booted from is the first."""
    taken: list[str] = []

    def target(device: str = "") -> str:
        taken.append(target_for(device, taken))
        return taken[-1]

    own = [("ua-rescue", files.rescue, "qcow2")] if rescue else []
    if not machine.root_volume:
        own.append(("ua-root", files.root, "qcow2"))
    volumes = sorted(machine.disks, key=lambda disk: disk.volume != machine.root_volume)
    elements = [_own(alias, path, form, target(), options) for alias, path, form in own]
    elements += [volume_element(disk, target()) for disk in volumes[:1] if disk.volume == machine.root_volume]
    if machine.flavor.ephemeral_gb:
        elements.append(_own("ua-scratch", files.scratch, "raw", target(machine.scratch_device), options))
    elements += [volume_element(disk, target(disk.device)) for disk in volumes if disk.volume != machine.root_volume]
    if elements:
        SubElement(elements[0], "boot", order="1")
    return iter(elements)


def _own(alias: str, path: str, form: str, target: str, options: Libvirt) -> Element:
    element = Element("disk", type="file", device="disk")
    SubElement(element, "driver", name="qemu", type=form, cache=options.disk_cache, discard="unmap")
    SubElement(element, "source", file=path)
    SubElement(element, "target", dev=target, bus="virtio")
    SubElement(element, "alias", name=alias)
    return element


def _interface(port: PortOrder, mtu: int) -> Element:
    element = Element("interface", type="bridge")
    SubElement(element, "mac", address=port.mac)
    SubElement(element, "source", bridge=port.bridge)
    SubElement(element, "target", dev=device_name(port.mac))
    SubElement(element, "model", type="virtio")
    if mtu:
        SubElement(element, "mtu", size=str(mtu))
    SubElement(element, "rom", enabled="no")
    return element
