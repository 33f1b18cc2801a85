"""
What a host offers to guests.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring
from xml.sax.saxutils import escape

import libvirt

from fabric.compute.libvirt import graphics
from fabric.compute.libvirt.domain import MODES, Abilities, processor_of
from fabric.model.host import Capacity
from fabric.settings import Libvirt

_PLAIN = """
<domain type="{virt_type}">
  <name>cloud-plain</name>
  <memory unit="MiB">32</memory>
  <os><type arch="{architecture}" machine="{machine}">hvm</type></os>
  <devices><emulator>{emulator}</emulator></devices>
</domain>
"""
"""A guest of which nothing is said, and which nobody defines."""


def capacity(
    connection: Any, options: Libvirt, host: Abilities, disk_gb: int, gpus: Iterable[graphics.Gpu] = ()
) -> Capacity:
    """
    What libvirt knows of the host, overcommit included; of its processors, what
    it can give to guests.  Blocks.

    @param gpus: that may be given to guests; those that another's domain has
        are not counted.
    """
    architecture, memory_mb, processors, *_ = connection.getInfo()
    model, features = _processor(connection, options, host)
    gpus = list(gpus)
    ours = graphics.lent(gpus, graphics.holders(connection)) if gpus else []
    return Capacity(
        int(processors * options.cpu_overcommit),
        max(0, int((memory_mb - options.reserved_memory_mb) * options.memory_overcommit)),
        disk_gb,
        architecture,
        host.virt_type,
        model,
        tuple(sorted({*features, *graphics.features(ours)})),
        len(ours),
    )


def _processor(connection: Any, options: Libvirt, host: Abilities) -> tuple[str, tuple[str, ...]]:
    """@return: the model that guests get, and all its flags; nothing where libvirt does not know."""
    wanted = processor_of(host, options)
    kind = (host.emulator, host.architecture, options.machine, host.virt_type)
    try:
        processor = Element("cpu", mode="custom", match="exact")
        if wanted in MODES:
            mode = fromstring(connection.getDomainCapabilities(*kind, 0)).find("cpu/mode[@name='host-model']")
            processor.extend(each for each in mode or () if each.tag in ("model", "vendor", "feature"))
        else:
            SubElement(processor, "model").text = wanted or _default(connection, options, host)
        if not processor.findtext("model"):
            return "", ()
        flag = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
        text = tostring(processor, encoding="unicode")
        expanded = fromstring(connection.baselineHypervisorCPU(*kind, [text], flag))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
            return "", ()
        raise
    features = {each.get("name", "") for each in expanded.findall("feature") if each.get("policy") != "disable"}
    return expanded.findtext("model") or "", tuple(sorted(features))


def _default(connection: Any, options: Libvirt, host: Abilities) -> str:
    """
    @return: the model of guests of which nothing is said, as libvirt would have
        qemu run one; empty where it leaves that to qemu.
    """
    plain = _PLAIN.format(
        virt_type=host.virt_type,
        architecture=host.architecture,
        machine=options.machine,
        emulator=escape(host.emulator),
    )
    words = shlex.split(connection.domainXMLToNative("qemu-argv", plain, 0))
    told = words[words.index("-cpu") + 1] if "-cpu" in words[:-1] else ""
    return told.partition(",")[0]
