"""
The commands about images.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from fabric.manage.client import Client
from fabric.manage.command import Command, argument, ask, done, pairs, rows
from fabric.manage.uploads import upload

FILES = (("disk", "a disk, raw or qcow2"), ("kernel", "what boots it, if it can't by itself"), ("ramdisk", "for that"))


def image_commands() -> list[Command]:
    """
    Images whose files are in the image store.
    """
    return [
        Command(
            "image list",
            "every image",
            (argument("--project", default="", help="only this project's"),),
            ask("DescribeAllImages", "project"),
            rows("id", "name", "type", "project", "public", "state", "size", "kernel", "ramdisk"),
        ),
        Command(
            "image add",
            "make an image of files, which are uploaded unless the store has them",
            (
                argument("name", metavar="NAME", help="kernel and ramdisk are named NAME-kernel and NAME-ramdisk"),
                *(argument(f"--{role}", metavar="FILE", required=role == "disk", help=what) for role, what in FILES),
                argument("--architecture", default="x86_64", choices=("x86_64", "i386", "arm64")),
                argument("--description", default=""),
                argument("--public", action="store_true", help="whether all projects may launch it"),
                argument("--project", default="", help="whose it is; your own project without it"),
            ),
            _add,
            pairs,
        ),
        Command(
            "image delete",
            "forget images; files that nothing uses any more are removed later",
            (argument("ids", metavar="IMAGE", nargs="+"),),
            _delete,
            done,
        ),
    ]


def _add(client: Client, given: argparse.Namespace) -> Any:
    paths = {role: getattr(given, role) for role, _ in FILES if getattr(given, role)}
    receipts = {role: upload(client, path, role, given.project) for role, path in paths.items()}
    return client.call(
        "RegisterImageFiles",
        name=given.name,
        receipts=list(receipts.values()),
        architecture=given.architecture,
        description=given.description or os.path.basename(given.disk),
        public=given.public,
        project=given.project,
    )


def _delete(client: Client, given: argparse.Namespace) -> Any:
    for id in given.ids:
        client.call("DeregisterAnyImage", id=id)
