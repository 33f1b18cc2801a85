"""
AWS's request signatures, version 4 and version 2, as a server checks them.

Checking is in two steps, since the secret is somewhere else: L{claim} says who
claims to have signed and what exactly, and L{Verifier.check} compares the
signature with the one that the secret gives.  The scope of a version 4
signature (date, region, service) is taken as the client states it: boto 2
guesses nonsense from the host's name, and the secret binds it anyway.

@see: U{https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html}
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from calendar import timegm
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from urllib.parse import quote

import attrs

WINDOW = 900.0
"""Seconds by which a client's clock may differ."""

LONGEST_PRESIGNED = 604800
_MOST_KEYS = 2048
_ALGORITHM = "AWS4-HMAC-SHA256"
_OLD_DIGESTS = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}


class SignatureRefused(Exception):
    """
    @ivar why: C{missing}, C{incomplete}, C{expired} or C{mismatch}; each door
        has its own words for them.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(why, message)
        self.why = why
        self.message = message


@attrs.frozen
class Presented:
    """
    A request as it came.

    @ivar path: still escaped, with a trailing slash when there was one.
    @ivar query: fields of the query string.
    @ivar form: fields of a form in the body, else empty.
    @ivar headers: values by lower-case name, several joined by commas.
    """

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Claim:
    """
    What a client claims: that the holder of C{access_key} signed C{texts}.

    @ivar texts: what may have been signed; more than one where old clients
        disagree on whether the host has its port.
    @ivar scope: date, region and service of version 4; empty for version 2.
    @ivar digest: of version 2, C{sha256} or C{sha1}.
    @ivar signature: hexadecimal for version 4, base64 for version 2.
    """

    access_key: str
    texts: tuple[bytes, ...]
    signature: str
    scope: tuple[str, ...] = ()
    digest: str = "sha256"


def claim(request: Presented, now: float) -> Claim:
    """
    @param now: seconds since the epoch.
    @raise SignatureRefused: no signature, half of one, or one too old.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return _claim_of_header(request, authorization, now)
    if "X-Amz-Signature" in request.query:
        return _claim_of_query(request, now)
    fields = request.form if "Signature" in request.form else request.query
    if "Signature" in fields:
        return _claim_of_version_2(request, fields, now)
    raise SignatureRefused("missing", "The request is not signed")


class Verifier:
    """
    Compares signatures, and keeps the signing keys of version 4 that were
    right, since each takes four rounds of HMAC to make.
    """

    def __init__(self) -> None:
        self._keys: dict[tuple[str, tuple[str, ...]], bytes] = {}

    def check(self, made: Claim, secret: str) -> None:
        """
        @raise SignatureRefused: C{mismatch}.
        """
        if made.scope:
            self._check_version_4(made, secret)
        else:
            _check_version_2(made, secret)

    def check_nobody(self, made: Claim) -> None:
        """
        Take as long as L{check} does for a key that does not exist, so that
        time does not tell which keys do.

        @raise SignatureRefused: always, C{mismatch}.
        """
        self.check(attrs.evolve(made, signature=""), "nobody")
        raise _mismatch()

    def _check_version_4(self, made: Claim, secret: str) -> None:
        known = (secret, made.scope)
        key = self._keys.get(known) or _signing_key(secret, made.scope)
        expected = hmac.digest(key, made.texts[0], "sha256").hex()
        if not _same(expected, made.signature):
            raise _mismatch()
        if known not in self._keys:
            while len(self._keys) >= _MOST_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[known] = key


def _signing_key(secret: str, scope: tuple[str, ...]) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (*scope, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _check_version_2(made: Claim, secret: str) -> None:
    found = False
    for text in made.texts:
        expected = b64encode(hmac.digest(secret.encode(), text, made.digest)).decode()
        found |= _same(expected, made.signature)
    if not found:
        raise _mismatch()


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))


def _mismatch() -> SignatureRefused:
    return SignatureRefused("mismatch", "The signature does not match")


def _claim_of_header(request: Presented, authorization: str, now: float) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM or not rest.isascii():
        raise SignatureRefused("incomplete", f"Authorization is not of the kind {_ALGORITHM}")
    parts = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise SignatureRefused("incomplete", f"Authorization lacks {name}")
    access_key, scope = _credential(parts["Credential"])
    stamp = _stamp_of_headers(request.headers)
    _check_window(_moment(stamp), now)
    signed = parts["SignedHeaders"]
    text = _text_to_sign(request, stamp, scope, signed, request.query)
    return Claim(access_key, (text,), parts["Signature"], scope)


def _claim_of_query(request: Presented, now: float) -> Claim:
    query = dict(request.query)
    signature = query.pop("X-Amz-Signature")
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders"):
        if not query.get(name):
            raise SignatureRefused("incomplete", f"The request lacks {name}")
    if query["X-Amz-Algorithm"] != _ALGORITHM:
        raise SignatureRefused("incomplete", f"X-Amz-Algorithm is not {_ALGORITHM}")
    access_key, scope = _credential(query["X-Amz-Credential"])
    stamp = query["X-Amz-Date"]
    _check_presigned(_moment(stamp), query.get("X-Amz-Expires", str(int(WINDOW))), now)
    text = _text_to_sign(request, stamp, scope, query["X-Amz-SignedHeaders"], query)
    return Claim(access_key, (text,), signature, scope)


def _credential(text: str) -> tuple[str, tuple[str, ...]]:
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not parts[0] or parts[4] != "aws4_request":
        raise SignatureRefused("incomplete", "Credential is not KEY/DATE/REGION/SERVICE/aws4_request")
    return parts[0], tuple(parts[1:4])


def _stamp_of_headers(headers: Mapping[str, str]) -> str:
    stamp = headers.get("x-amz-date")
    if stamp is not None:
        return stamp
    try:
        return f"{parsedate_to_datetime(headers['date']):%Y%m%dT%H%M%SZ}"
    except (KeyError, ValueError, TypeError, OverflowError):
        raise SignatureRefused("incomplete", "The request has neither X-Amz-Date nor Date") from None


def _moment(stamp: str) -> float:
    try:
        if len(stamp) != 16 or stamp[8] != "T" or stamp[15] != "Z":
            raise ValueError(stamp)
        day = (int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8]))
        return timegm((*day, int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15])))
    except ValueError:
        raise SignatureRefused("incomplete", "The date is not of the form 20261121T100000Z") from None


def _check_window(moment: float, now: float) -> None:
    if abs(now - moment) > WINDOW:
        raise SignatureRefused("expired", "Request has expired: its time differs too much from the server's")


def _check_presigned(moment: float, expires: str, now: float) -> None:
    if not (expires.isascii() and expires.isdigit() and len(expires) < 10 and int(expires) <= LONGEST_PRESIGNED):
        raise SignatureRefused("incomplete", f"X-Amz-Expires is not a number of seconds up to {LONGEST_PRESIGNED}")
    if moment > now + WINDOW or now > moment + int(expires):
        raise SignatureRefused("expired", "Request has expired")


def _text_to_sign(request: Presented, stamp: str, scope: tuple[str, ...], signed: str, query: dict[str, str]) -> bytes:
    if stamp[:8] != scope[0]:
        raise SignatureRefused("mismatch", "The date differs from the credential's")
    lines = []
    for name in signed.split(";"):
        value = request.headers.get(name)
        if value is None:
            raise SignatureRefused("mismatch", f"The signed header {name[:100]} is not there")
        lines.append(f"{name}:{' '.join(value.split()) if '  ' in value else value}\n")
    if not lines or "host" not in signed.split(";"):
        raise SignatureRefused("mismatch", "The header host must be signed")
    path = request.path if "%" not in request.path else quote(request.path, safe="/-_.~", errors="surrogateescape")
    canonical = (
        f"{request.method}\n{path}\n{_canonical_query(query) if query else ''}\n"
        f"{''.join(lines)}\n{signed}\n{sha256(request.body).hexdigest()}"
    )
    digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{_ALGORITHM}\n{stamp}\n{'/'.join(scope)}/aws4_request\n{digest}".encode()


def _canonical_query(fields: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in fields.items())
    return "&".join([f"{name}={value}" for name, value in pairs])


def _claim_of_version_2(request: Presented, fields: dict[str, str], now: float) -> Claim:
    for name in ("AWSAccessKeyId", "SignatureMethod"):
        if not fields.get(name):
            raise SignatureRefused("incomplete", f"The request lacks {name}")
    digest = _OLD_DIGESTS.get(fields["SignatureMethod"])
    if digest is None or fields.get("SignatureVersion") != "2":
        raise SignatureRefused("incomplete", "Signatures are of version 2 with HmacSHA256 or HmacSHA1, or of version 4")
    _check_old_time(fields, now)
    if request.query.keys() & request.form.keys():  # else one time is checked and another one signed
        raise SignatureRefused("incomplete", "A parameter is given in the query and in the body")
    signed = {**request.query, **request.form}
    signature = signed.pop("Signature")
    pairs = "&".join(f"{quote(name, safe='-_.~')}={quote(signed[name], safe='-_.~')}" for name in sorted(signed))
    host = request.headers.get("host", "").lower()
    hosts = dict.fromkeys((host, host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host))
    ways = (f"{request.method}\n{name}\n{request.path}\n{pairs}" for name in hosts)
    texts = tuple(way.encode("utf-8", "surrogateescape") for way in ways)
    return Claim(fields["AWSAccessKeyId"], texts, signature, (), digest)


def _check_old_time(fields: Mapping[str, str], now: float) -> None:
    if "Expires" in fields:
        if now > _old_moment(fields["Expires"]):
            raise SignatureRefused("expired", "Request has expired")
    elif "Timestamp" in fields:
        _check_window(_old_moment(fields["Timestamp"]), now)
    else:
        raise SignatureRefused("incomplete", "The request has neither Timestamp nor Expires")


def _old_moment(text: str) -> float:
    try:
        return timegm(datetime.fromisoformat(text).utctimetuple())
    except (ValueError, OverflowError):
        raise SignatureRefused("incomplete", "The date is not of the form 2026-11-21T10:00:00Z") from None
