"""
What a new cloud needs before anybody can use it: somebody who may, and their C{cloudrc}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.command import Commands
from fabric.errors import AlreadyExists
from fabric.manage import cloudrc
from fabric.settings import Settings
from fabric.tap.listening import Listening
from fabric.tap.queueing import nothing
from fabric.tap.start import Refusal, Step
from fabric.users.bootstrap import bootstrap
from fabric.users.interface import User
from fabric.users.ldap import LDAPDirectory

FIRST_IMAGE = {"disk": "root.qcow2", "kernel": "vmlinux", "ramdisk": "initrd.gz"}
"""The files of the first image, by what they are."""


def administrator(settings: Settings, people: LDAPDirectory, front: Listening) -> Step:
    """
    @return: the step that has the first user, and leaves a C{cloudrc} of
        theirs in the data directory.
    """
    name = settings.ldap.first_user or "admin"

    @inlineCallbacks
    def start() -> Generator[Deferred[Any], Any, None]:
        try:
            user = yield bootstrap(people, name)
        except AlreadyExists:  # made by another process in this moment
            user = yield bootstrap(people, name)
        write_cloudrc(settings, user, front.url(settings.api.url))

    return Step("administrator", start, nothing)


def data_directory(settings: Settings) -> Step:
    """
    @return: the step that makes the directory for this account alone, or
        shuts the one that is there; guests may be let through by the compute
        driver, when they have an account of their own.
    """

    def start() -> None:
        path = Path(settings.data_dir)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o066:  # made by hand; guests' user data is kept below
            path.chmod(0o700)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()

    return Step("data directory", start, nothing)


def write_cloudrc(settings: Settings, user: User, url: str) -> None:
    """
    Write the file, readable for this account alone, in place of the old one.
    """
    path = cloudrc_path(settings)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    text = cloudrc.render(url, user.access_key, user.secret_key, settings.region)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
    os.replace(fresh, path)


def cloudrc_path(settings: Settings) -> Path:
    """
    Where the first user's C{cloudrc} is.
    """
    return Path(settings.data_dir) / cloudrc.NAME


def first_image(commands: Commands, settings: Settings) -> Step:
    """
    @return: the step that has an image made of the files that the settings
        name, by C{cloud-manage} as the first user; nothing when it is there.
    """

    @inlineCallbacks
    def start() -> Generator[Deferred[Any], Any, None]:
        directory = settings.objectstore.first_image
        if not directory:
            return
        files = {role: os.path.join(directory, name) for role, name in FIRST_IMAGE.items()}
        given = [word for role, path in files.items() if os.path.exists(path) for word in (f"--{role}", path)]
        manage = [sys.executable, "-m", "fabric.manage.main", "--cloudrc", os.fspath(cloudrc_path(settings))]
        finished = yield commands.run([*manage, "image", "add", "tiny", "--public", *given])
        if finished.status and "AlreadyExists" not in finished.complaint:
            raise Refusal(f"the image of {directory} can't be made: {finished.complaint}")

    return Step("first image", start, nothing)


def greeting(settings: Settings, front: Listening) -> Step:
    """
    @return: the step that tells whoever started a cloud what to do next.
    """

    def start() -> None:
        out = sys.__stdout__
        if out is not None:
            out.write(_welcome(settings, front.url(settings.api.url)))
            out.flush()

    return Step("greeting", start, nothing)


def _welcome(settings: Settings, url: str) -> str:
    path = _shown(cloudrc_path(settings))
    manage = _shown(Path(sys.executable).with_name("cloud-manage"))
    return f"""
The cloud is up.
    EC2 endpoint   {url}/services/Cloud
    credentials    {path}

Try in another terminal:
    . {path}
    aws ec2 describe-images
    aws ec2 run-instances --image-id {_image(settings)} --instance-type m1.small
    aws ec2 describe-instances
    {manage} host list

"""


def _image(settings: Settings) -> str:
    """The image that everybody may try; of real ones only the list tells."""
    return "ami-00000000000000001" if settings.compute.driver == "fake" else "AMI"


def _shown(path: Path) -> str:
    """As short as it can be typed from here."""
    path = path.absolute()
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
