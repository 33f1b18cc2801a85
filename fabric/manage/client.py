"""
The admin door's client: one signed request at a time, with the standard library.

@see: U{https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html}
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

PATH = "/services/Admin"
SECONDS = 120.0
"""For an answer."""

CONNECT_SECONDS = 10.0
"""For a connection, with TLS where that is spoken."""

REGION = "nova"
"""Of a cloud that is not told another."""

_SCOPE = ("nova", "admin", "aws4_request")
_ADVICE = "Is the cloud running? Start it by scripts/cloud, or name another by --data DIR or --cloudrc FILE."


class Refused(Exception):
    """
    The door's answer was an error.

    @ivar code: as C{NotFound}.
    """

    def __init__(self, code: str, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class Unreachable(Exception):
    """
    There was no answer.
    """


@attrs.frozen
class Credentials:
    """
    Where the cloud is, and who asks.

    @ivar url: of the endpoint, as C{http://127.0.0.1:8773}.
    @ivar region: of the cloud.
    """

    url: str
    access_key: str
    secret_key: str = attrs.field(repr=False)
    region: str = REGION


class Client:
    """
    Calls admin actions.
    """

    def __init__(self, credentials: Credentials) -> None:
        """
        @raise Unreachable: the credentials' URL is none.
        """
        self._credentials = credentials
        try:
            self._parts = urlsplit(credentials.url)
        except ValueError:
            raise _no_address(credentials.url) from None

    def call(self, action: str, **parameters: Any) -> Any:
        """
        @return: the action's result.  Parameters that are None are left out.
        @raise Refused: the door said no.
        @raise Unreachable: no door answered.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        body = json.dumps({"action": action, "parameters": given}).encode()
        status, raw = self._post(body)
        try:
            answer = json.loads(raw)
        except ValueError:
            raise Unreachable(f"{self._credentials.url} answered {status}, and not as a cloud's admin door") from None
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            error = answer["error"]
            raise Refused(str(error.get("code")), str(error.get("message")), str(answer.get("request_id", "")))
        if not isinstance(answer, dict) or "result" not in answer:
            raise Unreachable(f"{self._credentials.url} answered {status}, and not as a cloud's admin door")
        return answer["result"]

    def _post(self, body: bytes) -> tuple[int, bytes]:
        secure = self._parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self._parts.hostname or "", self._port(), timeout=CONNECT_SECONDS)
        headers = sign(self._credentials, self._parts.netloc, body, time.gmtime())
        try:
            connection.connect()
            connection.sock.settimeout(SECONDS)
            connection.request("POST", PATH, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no answer from {self._credentials.url}: {error}. {_ADVICE}") from None
        except ValueError as error:
            raise Unreachable(f"the credentials for {self._credentials.url} can't be sent: {error}") from None
        finally:
            connection.close()

    def _port(self) -> int | None:
        try:
            port = self._parts.port
        except ValueError:
            port = 0
        if port == 0 or not self._parts.hostname or self._parts.scheme not in ("http", "https"):
            raise _no_address(self._credentials.url)
        return port


def _no_address(url: str) -> Unreachable:
    return Unreachable(f"{url!r} is no cloud's address; it looks like http://127.0.0.1:8773")


def sign(credentials: Credentials, host: str, body: bytes, now: time.struct_time) -> Mapping[str, str]:
    """
    @return: the headers of a signed POST of C{body} to L{PATH}.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", now)
    scope = (stamp[:8], *_SCOPE)
    digest = hashlib.sha256(body).hexdigest()
    canonical = f"POST\n{PATH}\n\nhost:{host}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{digest}"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + credentials.secret_key.encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    return {
        "Host": host,
        "X-Amz-Date": stamp,
        "Content-Type": "application/json",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{'/'.join(scope)}, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }
