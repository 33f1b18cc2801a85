"""
What a domain says of itself: the cloud's part of its C{<metadata>}.

All that the driver must remember of a guest is there, so that it keeps nothing
aside, and a guest that moves to another host takes it along.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, fromstring

import attrs

NAMESPACE = "urn:cloud-fabric:instance:1"
PREFIX = "cloud"


@attrs.frozen
class Notes:
    """
    @ivar id: the instance's.
    @ivar order: of the last order that was carried out.
    @ivar addresses: fixed ones.
    @ivar volumes: C{{device: volume id}}, those that are about to come or have
        just gone included; what the domain really has is in its devices.
    @ivar bases: digests of the image's files that it needs.
    @ivar rescue: whether it is to boot from the rescue disk.
    @ivar quiet_until: as of L{Domain}.
    @ivar asleep: of a guest that is stopped: it was started to be moved, and
        executes nothing.
    """

    id: str
    project: str
    order: int
    image: str = ""
    flavor: str = ""
    addresses: tuple[str, ...] = ()
    volumes: dict[str, str] = attrs.field(factory=dict)
    bases: tuple[str, ...] = ()
    rescue: bool = False
    asleep: bool = False
    quiet_until: float = 0.0

    def element(self, prefix: str = PREFIX + ":") -> Element:
        """
        @param prefix: of the elements' names, its meaning declared; empty for
            names without, as C{virDomainSetMetadata} wants them.
        """
        top = Element(prefix + "instance", {f"xmlns:{PREFIX}": NAMESPACE} if prefix else {})
        top.set("id", self.id)
        for name, value in (
            ("project", self.project),
            ("image", self.image),
            ("flavor", self.flavor),
            ("order", str(self.order)),
        ):
            SubElement(top, prefix + name).text = value
        for address in self.addresses:
            SubElement(top, prefix + "address").text = address
        for device, volume in self.volumes.items():
            SubElement(top, prefix + "volume", device=device).text = volume
        for digest in self.bases:
            SubElement(top, prefix + "base").text = digest
        for name in ("rescue", "asleep"):
            if getattr(self, name):
                SubElement(top, prefix + name)
        if self.quiet_until:
            SubElement(top, prefix + "quiet-until").text = str(self.quiet_until)
        return top


def read(domain: Element) -> Notes | None:
    """
    @param domain: a whole domain.
    @return: None for one that the cloud did not make.
    """
    top = domain.find(f"metadata/{{{NAMESPACE}}}instance")
    if top is None:
        return None

    def texts(name: str) -> list[str]:
        return [found.text or "" for found in top.findall(f"{{{NAMESPACE}}}{name}")]

    def text(name: str) -> str:
        return next(iter(texts(name)), "")

    volumes = {found.get("device", ""): found.text or "" for found in top.findall(f"{{{NAMESPACE}}}volume")}
    return Notes(
        top.get("id", ""),
        text("project"),
        int(text("order") or 0),
        text("image"),
        text("flavor"),
        tuple(texts("address")),
        volumes,
        tuple(texts("base")),
        bool(texts("rescue")),
        bool(texts("asleep")),
        float(text("quiet-until") or 0),
    )


def parsed(xml: str) -> tuple[Element, Notes | None]:
    """@return: a domain's XML as elements, and its notes."""
    domain = fromstring(xml)
    return domain, read(domain)
