"""
Key pairs: made off the reactor and ahead of need, or imported.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from fabric.cloud.access import Caller
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.errors import AlreadyExists, InvalidValue, LimitExceeded, NotFound
from fabric.ids import new_id
from fabric.model.keypair import KeyPair
from fabric.store.interface import IStore, Want

_PEM = serialization.Encoding.PEM
_DER = serialization.Encoding.DER
_CLEAR = serialization.NoEncryption()
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
_PKCS8 = serialization.PrivateFormat.PKCS8


@attrs.frozen
class Material:
    """
    A fresh key pair.

    @ivar private: PEM, which is given to the user once and kept nowhere.
    @ivar public: one line in OpenSSH's format.
    @ivar fingerprint: as EC2 computes it for keys that it made.
    """

    private: str = attrs.field(repr=False)
    public: str
    fingerprint: str


class KeyPool:
    """
    Keeps some RSA keys ready, since making one takes a tenth of a second of
    CPU.  It makes keys only after some were used.

    @param defer: runs a function in a thread, as C{threads.deferToThread}.
    @param size: how many to keep ready.
    """

    log = Logger()

    def __init__(self, defer: Callable[..., Deferred[Material]], size: int = 8) -> None:
        self._defer = defer
        self._size = size
        self._ready: deque[Material] = deque()
        self._making: Deferred[None] | None = None

    def take(self) -> Deferred[Material]:
        """
        A key that nobody else gets.
        """
        if not self._ready:
            self.fill()
            return self._defer(make_rsa)
        material = self._ready.popleft()
        self.fill()
        return succeed(material)

    def fill(self) -> None:
        """
        Begin to make the keys that are missing, one after another.
        """
        if self._making is None and len(self._ready) < self._size:
            self._making = self._make()
            self._making.addErrback(lambda failure: self.log.failure("making a key ahead failed", failure))

    @inlineCallbacks
    def _make(self) -> Generator[Deferred[Any], Any, None]:
        try:
            while len(self._ready) < self._size:
                material = yield self._defer(make_rsa)
                self._ready.append(material)
        finally:
            self._making = None


class KeyPairs:
    """
    Makes, imports and removes key pairs.
    """

    def __init__(self, store: IStore, quotas: Quotas, pool: KeyPool, clock: IReactorTime) -> None:
        self._store = store
        self._quotas = quotas
        self._pool = pool
        self._clock = clock

    @inlineCallbacks
    def create(
        self, caller: Caller, name: str, key_type: str = "rsa", tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, tuple[KeyPair, str]]:
        """
        @return: the record, and the private key as PEM.
        @raise AlreadyExists: the project has a key pair of that name.
        @raise QuotaExceeded: it has as many as it may.
        """
        if key_type not in ("rsa", "ed25519"):
            raise InvalidValue("KeyType", key_type, "rsa or ed25519")
        yield self._refuse_taken(caller, name)
        material: Material = (yield self._pool.take()) if key_type == "rsa" else make_ed25519()
        pair = self._pair(caller, name, key_type, material.fingerprint, material.public, tags)
        yield self._write(caller, pair)
        return pair, material.private

    @inlineCallbacks
    def import_key(
        self, caller: Caller, name: str, public_key: bytes, tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, KeyPair]:
        """
        @param public_key: OpenSSH's one line, or PEM or DER of the public key.
        @raise InvalidValue: it is none of these, or of another kind of key.
        """
        key_type, public, fingerprint = read_public(public_key)
        pair = self._pair(caller, name, key_type, fingerprint, public, tags)
        yield self._write(caller, pair)
        return pair

    @inlineCallbacks
    def delete(self, caller: Caller, name: str = "", id: str = "") -> Generator[Deferred[Any], Any, str | None]:
        """
        Remove a key pair.  Running instances keep the public key.

        @return: its id, or None where a name names none (EC2 calls that
            success).
        @raise NotFound: C{id} names none.
        """
        want = Want(KeyPair, id=id) if id else Want(KeyPair, name=_unique(caller.project, name))
        [stored] = yield self._store.gather([want])
        if stored is None or stored.record.project != caller.project:
            if id:
                raise NotFound("key_pair", id)
            return None
        transaction = self._store.transaction(caller.request_id)
        transaction.delete(stored)
        yield self._store.commit(transaction)
        return stored.record.id  # type: ignore[no-any-return]

    def _pair(
        self, caller: Caller, name: str, kind: str, fingerprint: str, public: str, tags: Mapping[str, str] | None
    ) -> KeyPair:
        return KeyPair(
            new_id("key_pair"), caller.project, name, fingerprint, public, kind, self._clock.seconds(), dict(tags or {})
        )

    @inlineCallbacks
    def _refuse_taken(self, caller: Caller, name: str) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.gather([Want(KeyPair, name=_unique(caller.project, name))])
        if stored is not None:
            raise AlreadyExists("key_pair", name, stored.record.id)

    @inlineCallbacks
    def _write(self, caller: Caller, pair: KeyPair) -> Generator[Deferred[Any], Any, None]:
        limits = yield self._quotas.limits(caller.project)
        transaction = self._store.transaction(caller.request_id)
        transaction.create(pair)
        transaction.limit(counter(caller.project, "key_pairs"), limits["key_pairs"])
        try:
            yield self._store.commit(transaction)
        except AlreadyExists as error:
            raise AlreadyExists("key_pair", pair.name, error.holder) from None
        except LimitExceeded as error:
            raise quota_error(error) from None


def _unique(project: str, name: str) -> str:
    return f"key_pair:{project}:{name}"


def make_rsa() -> Material:
    """
    A fresh RSA key of 2048 bits; takes about a tenth of a second.
    """
    key = rsa.generate_private_key(65537, 2048)
    digest = hashlib.sha1(key.private_bytes(_DER, _PKCS8, _CLEAR)).digest()
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.TraditionalOpenSSL, _CLEAR)
    return Material(pem.decode(), _openssh(key.public_key()), digest.hex(":"))


def make_ed25519() -> Material:
    """
    A fresh Ed25519 key.
    """
    key = ed25519.Ed25519PrivateKey.generate()
    public = _openssh(key.public_key())
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.OpenSSH, _CLEAR)
    return Material(pem.decode(), public, _sha256(public))


def read_public(data: bytes) -> tuple[str, str, str]:
    """
    @return: C{(key type, OpenSSH line, fingerprint as EC2 gives imported keys)}.
    @raise InvalidValue: not a public key that instances can use.
    """
    key = _parse_public(data.strip())
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in (1024, 2048, 4096):
            raise InvalidValue("PublicKeyMaterial", "", "RSA keys have 1024, 2048 or 4096 bits")
        return "rsa", _openssh(key), hashlib.md5(key.public_bytes(_DER, _SPKI)).digest().hex(":")
    if isinstance(key, ed25519.Ed25519PublicKey):
        public = _openssh(key)
        return "ed25519", public, _sha256(public)
    raise InvalidValue("PublicKeyMaterial", "", "Key is not in valid OpenSSH public key format")


def _parse_public(data: bytes) -> Any:
    readers = (
        serialization.load_ssh_public_key,
        serialization.load_pem_public_key,
        lambda raw: serialization.load_der_public_key(base64.b64decode(raw, validate=True)),
        serialization.load_der_public_key,
    )
    for read in readers:
        try:
            return read(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
    return None


def _openssh(key: Any) -> str:
    raw: bytes = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return raw.decode("ascii")


def _sha256(public: str) -> str:
    return base64.b64encode(hashlib.sha256(base64.b64decode(public.split()[1])).digest()).decode("ascii")
