"""
The one file in which a host's network is remembered.
"""

from __future__ import annotations

import os

import orjson
from twisted.logger import Logger

from fabric.errors import DriverFailure
from fabric.model.codec import decode, encode
from fabric.network.linux.host import HostNetwork


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """
    Put a file in the place of an old one at once: a reader, and whoever comes
    after a crash, sees the one or the other.

    @raise DriverFailure: it could not be written; the old one stays.
    """
    fresh = path + ".new"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(fresh, path)
    except OSError as error:
        raise DriverFailure(f"cannot write {path}: {error.strerror}") from error


class StateFile:
    """
    A L{HostNetwork} on disk.  Not synced to it: what it is about is the
    kernel's memory, which goes with the same power cut.
    """

    log = Logger()

    def __init__(self, directory: str) -> None:
        """
        @param directory: made when need be, for this account alone.
        """
        self._directory = directory
        self.path = os.path.join(directory, "network.json")

    def load(self) -> HostNetwork:
        """
        @return: what was saved last; an empty one when there is none, or
            nothing but its name is left of it.
        @raise DriverFailure: it can't be read, or is not what was saved.
        """
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with open(self.path, "rb") as file:
                data = file.read()
            if not data.strip(b"\0"):
                self.log.error(
                    "{path} is empty, as after a power cut: the cloud says what is to be here", path=self.path
                )
                return HostNetwork()
            return decode(HostNetwork, orjson.loads(data))
        except FileNotFoundError:
            return HostNetwork()
        except OSError as error:
            raise DriverFailure(f"cannot use {self._directory}: {error.strerror}") from error
        except (ValueError, TypeError, AttributeError) as error:
            what = f"{self.path} is damaged ({error}): move it away, and the cloud says anew what is to be here"
            raise DriverFailure(what) from error

    def save(self, host: HostNetwork) -> None:
        """
        @raise DriverFailure: it could not be written.
        """
        write_whole(self.path, orjson.dumps(encode(host)))
