"""
What a host offers to guests.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

import libvirt

from fabric.compute.libvirt.domain import MODES, Abilities, processor_of
from fabric.model.host import Capacity
from fabric.settings import Libvirt


def capacity(connection: Any, options: Libvirt, host: Abilities, disk_gb: int) -> Capacity:
    """
    What libvirt knows of the host, overcommit included; of its processors, what
    it can give to guests.  Blocks.
    """
    architecture, memory_mb, processors, *_ = connection.getInfo()
    model, features = _processor(connection, options, host)
    return Capacity(
        int(processors * options.cpu_overcommit),
        max(0, int((memory_mb - options.reserved_memory_mb) * options.memory_overcommit)),
        disk_gb,
        architecture,
        host.virt_type,
        model,
        features,
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
        elif wanted:
            SubElement(processor, "model").text = wanted
        if processor.find("model") is None:
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
