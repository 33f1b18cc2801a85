"""
Admin actions on images whose files are in the image store.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.admin.registry import action
from fabric.cloud.access import Caller
from fabric.cloud.cloud import Cloud
from fabric.cloud.image_files import FilesSpec
from fabric.model.codec import encode
from fabric.users.interface import IDirectory

Result = Generator[Deferred[Any], Any, Any]


class ImageActions:
    """
    Answers from the cloud's logic; images are made for projects that there are.
    """

    def __init__(self, cloud: Cloud, directory: IDirectory) -> None:
        self._cloud = cloud
        self._directory = directory

    @action
    @inlineCallbacks
    def DescribeAllImages(self, caller: Caller, project: str = "") -> Result:
        """Every image of every project, or of one."""
        images = yield self._cloud.image_files.all(project)
        return [encode(image) for image in images]

    @action
    @inlineCallbacks
    def LinkImageFile(self, caller: Caller, role: str, digest: str, project: str = "") -> Result:
        """
        Links by which a file may be looked for in the image store (HEAD), and
        put there (PUT): before anything is sent for a project that is not there.
        """
        yield self._directory.project(project or caller.project)
        return self._cloud.image_files.links(role, digest)

    @action
    @inlineCallbacks
    def RegisterImageFiles(
        self,
        caller: Caller,
        name: str,
        receipts: list[str],
        architecture: str = "x86_64",
        description: str = "",
        public: bool = False,
        project: str = "",
    ) -> Result:
        """Make an image, its kernel and its ramdisk of files for which the image store gave receipts."""
        yield self._directory.project(project or caller.project)
        spec = FilesSpec(name, tuple(receipts), architecture, description, public)
        image = yield self._cloud.image_files.add(caller, spec, project or caller.project)
        return {"image": image.id, "kernel": image.kernel, "ramdisk": image.ramdisk, "size": image.size}

    @action
    def DeregisterAnyImage(self, caller: Caller, id: str) -> Deferred[None]:
        """Forget an image of any project."""
        return self._cloud.image_files.forget(caller, id)
