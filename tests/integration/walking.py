"""
What the walks of all clients share: where they go, and how they look.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PATIENCE = 90.0
"""Seconds until what was asked for must be there."""

SERVER = "sample-server"
"""The name of the image that walks launch."""


@attrs.frozen
class Guest:
    """
    What the fake guests know, as Windows does: a password that only the owner
    of a key pair can read.

    @ivar public: the key pair's public half, as OpenSSH writes it.
    @ivar private: a PEM file of its private half.
    @ivar password: in clear.
    @ivar sealed: base64 of it, encrypted; what guests print.
    """

    public: str
    private: Path
    password: str
    sealed: str

    @classmethod
    def make(cls, directory: Path) -> Guest:
        """A new key in a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        key = rsa.generate_private_key(65537, 2048)
        half = key.public_key()
        private = directory / "guest.pem"
        form, none = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))
        openssh = serialization.PublicFormat.OpenSSH
        public = half.public_bytes(serialization.Encoding.OpenSSH, openssh).decode()
        sealed = b64encode(half.encrypt(b"correct horse", padding.PKCS1v15())).decode()
        return cls(f"{public} guest", private, "correct horse", sealed)

    def opened(self, sealed: str) -> str:
        """What a password reads with the private half."""
        key = serialization.load_pem_private_key(self.private.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key.decrypt(b64decode(sealed), padding.PKCS1v15()).decode()


def until(what: str, probe: Callable[[], Any], pause: float = 0.1) -> Any:
    """
    Look again and again.

    @return: what the probe found at last.
    @raise AssertionError: it found nothing in time.
    """
    ends = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < ends, f"not in time: {what}"
        time.sleep(pause)
    return found


def equal(found: Any, wanted: Any) -> None:
    """
    @raise AssertionError: they differ; it shows both.
    """
    assert found == wanted, f"{found!r}, not {wanted!r}"


def refused(
    codes: str | Sequence[str],
    code_of: Callable[[Any], str],
    errors: Any,
    call: Callable[..., Any],
    *args: Any,
    **more: Any,
) -> None:
    """
    A call must be refused with one of these codes.

    @param code_of: from one of the client's C{errors} to EC2's code.
    """
    wanted = (codes,) if isinstance(codes, str) else tuple(codes)
    try:
        answer = call(*args, **more)
    except errors as error:
        assert code_of(error) in wanted, f"{wanted} expected, not {error}"
    else:
        raise AssertionError(f"{wanted} expected, not {answer!r}")
