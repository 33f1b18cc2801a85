"""
Signed EC2 requests as bytes, ready for a socket.

Signing is done before the clock runs, and with nothing from the code that is
measured.  Source: AWS, "Create a signed AWS API request" (Signature Version 4).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import quote

import attrs

VERSION = "2016-11-15"


@attrs.frozen
class Endpoint:
    """
    Where a target answers, and as whom it is asked.

    @ivar path: of the EC2 service, as C{/services/Cloud}.
    @ivar access_key: may carry C{:project}.
    """

    host: str
    port: int
    path: str
    access_key: str
    secret_key: str = attrs.field(repr=False)

    def of_project(self, project: str) -> Endpoint:
        """
        The same person in another project.
        """
        return attrs.evolve(self, access_key=f"{self.access_key.split(':')[0]}:{project}")


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """
    The key that a day's requests to a service are signed with.
    """
    return _hmac(_hmac(_hmac(_hmac(b"AWS4" + secret.encode(), date), region), service), "aws4_request")


def signature(key: bytes, method: str, path: str, headers: dict[str, str], body: bytes, stamp: str, scope: str) -> str:
    """
    The signature in hexadecimal digits.

    @param headers: the signed ones, by lower-case name.
    @param stamp: as C{20261121T120000Z}.
    """
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    digest = hashlib.sha256(body).hexdigest()
    canonical = f"{method}\n{path}\n\n{lines}\n{';'.join(sorted(headers))}\n{digest}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def form(action: str, parameters: dict[str, str]) -> bytes:
    """
    The body of a query request.
    """
    pairs = {"Action": action, "Version": VERSION, **parameters}
    return "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs.items()).encode()


def request(endpoint: Endpoint, action: str, parameters: dict[str, str] | None = None) -> bytes:
    """
    A whole signed POST request; valid for the server's window, so it may be
    sent many times.
    """
    body = form(action, parameters or {})
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/us-east-1/ec2/aws4_request"
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": f"{endpoint.host}:{endpoint.port}",
        "x-amz-date": stamp,
    }
    key = signing_key(endpoint.secret_key, stamp[:8], "us-east-1", "ec2")
    signed = signature(key, "POST", endpoint.path, headers, body, stamp, scope)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={endpoint.access_key}/{scope}, "
        f"SignedHeaders={';'.join(sorted(headers))}, Signature={signed}"
    )
    head = (
        f"POST {endpoint.path} HTTP/1.1\r\n{lines}Authorization: {authorization}\r\n"
        f"Content-Length: {len(body)}\r\nAccept: */*\r\nUser-Agent: fabric-bench\r\n\r\n"
    )
    return head.encode() + body
