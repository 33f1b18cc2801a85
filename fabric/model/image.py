"""
An image's entry: what a launch may boot, and who may.
"""

from __future__ import annotations

import attrs

from fabric.model.record import ALL, PUBLIC, Derived, Record, tag_facets


@attrs.frozen
class Image(Record):
    """
    @ivar type: C{machine}, C{kernel} or C{ramdisk}.
    @ivar location: where its bytes are, in the image store's terms.
    @ivar shared_with: projects that may launch it besides its owner.
    """

    kind = "image"
    taggable = True

    id: str
    project: str
    name: str
    location: str
    description: str = ""
    type: str = "machine"
    architecture: str = "x86_64"
    kernel: str = ""
    ramdisk: str = ""
    public: bool = False
    shared_with: tuple[str, ...] = ()
    state: str = "available"
    created_at: float = 0.0
    size: int = 0
    tags: dict[str, str] = attrs.field(factory=dict)

    def derived(self) -> Derived:
        """Filed for the owner, for those it is shared with, and for all."""
        return Derived(
            scopes=(self.project, ALL, *((PUBLIC,) if self.public else ()), *self.shared_with),
            facets=(
                ("id", self.id),
                ("name", self.name),
                ("description", self.description),
                ("location", self.location),
                ("type", self.type),
                ("architecture", self.architecture),
                ("state", self.state),
                ("owner", self.project),
                ("public", "true" if self.public else "false"),
                *((("kernel", self.kernel),) if self.kernel else ()),
                *((("ramdisk", self.ramdisk),) if self.ramdisk else ()),
                *tag_facets(self.tags),
            ),
            unique=(f"image:{self.project}:{self.name}",),
            references=tuple(("image", part) for part in (self.kernel, self.ramdisk) if part),
        )
