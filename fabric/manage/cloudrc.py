"""
C{cloudrc}: the file that a shell sources to use the cloud.

It exports both families of names that EC2's clients read.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fabric.manage.client import REGION, Credentials

NAME = "cloudrc"
DATA = "cloud-data"
"""Where a cloud keeps its data, unless it is told otherwise."""

_HEADING = """\
# Source this to use the cloud; keep it to yourself, it holds a secret key.
# Nothing answers at S3_URL yet: it is where the object store will be.
"""
_OBJECTS_PORT = 3333
_EXPORT = re.compile(r"^export ([A-Z0-9_]+)=(.*)$", re.MULTILINE)


class NoCloud(Exception):
    """
    There is no telling which cloud is meant; the text says what to do.
    """


def render(url: str, access_key: str, secret_key: str, region: str = REGION, s3_url: str = "") -> str:
    """
    @param url: of the endpoint, as C{http://127.0.0.1:8773}.
    @param access_key: may name a project: C{KEY:PROJECT}.
    @param s3_url: of the object store; without it, where one will be.
    @return: the file's text.
    """
    root = url.rstrip("/")
    values = {
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_ENDPOINT_URL": root,
        "AWS_ENDPOINT_URL_EC2": root + "/services/Cloud",
        "EC2_ACCESS_KEY": access_key,
        "EC2_SECRET_KEY": secret_key,
        "EC2_URL": root + "/services/Cloud",
        "S3_URL": s3_url or _objects(root),
        "CLOUD_URL": root,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return _HEADING + "\n".join(lines) + "\n"


def _objects(url: str) -> str:
    """
    @return: where the object store of a cloud at C{url} is to be: the first
        Nova's port on the same host.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{_OBJECTS_PORT}"


def read(text: str) -> dict[str, str]:
    """
    What a file's text exports.
    """
    try:
        return {name: "".join(shlex.split(value)) for name, value in _EXPORT.findall(text)}
    except ValueError:
        return {}


def credentials(data: str | None, file: str | None, environment: Mapping[str, str]) -> Credentials:
    """
    Which cloud to talk to, and as whom: by file, else by data directory, else
    by the environment that a sourced C{cloudrc} left, else C{./cloud-data}.

    @raise NoCloud: none of these tells.
    """
    if file is None and data is None and "CLOUD_URL" in environment:
        values: Mapping[str, str] = environment
        source = "the environment"
    else:
        path = Path(file) if file is not None else Path(data or DATA) / NAME
        source = os.fspath(path)
        try:
            values = read(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NoCloud(f"{path}: {error.strerror}. Name the cloud by --data DIR or source its cloudrc.") from None
        except UnicodeDecodeError:
            raise NoCloud(f"{path} is no cloudrc") from None
    try:
        keys = values["CLOUD_URL"], values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]
    except KeyError as error:
        raise NoCloud(f"{source} has no {error.args[0]}; source a cloudrc") from None
    return Credentials(*keys, values.get("AWS_DEFAULT_REGION") or REGION)
