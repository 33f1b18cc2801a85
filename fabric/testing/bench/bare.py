"""
The yardstick: a twisted.web resource that checks a signature and sends bytes.

C{python -m fabric.testing.bench.bare PORT ACCESS SECRET} answers a POST to
C{/SIZE} with SIZE bytes from memory, when Signature Version 4 is right.  It is
written as one would write it by hand, signing key kept, and does nothing else.
"""

from __future__ import annotations

import hmac
import sys

from twisted.internet import endpoints, reactor
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from fabric.testing.bench.sigv4 import signature, signing_key


class Bare(Resource):
    """
    Every path is a size.
    """

    isLeaf = True

    def __init__(self, access_key: str, secret_key: str) -> None:
        Resource.__init__(self)
        self._access_key = access_key
        self._secret_key = secret_key
        self._keys: dict[tuple[str, ...], bytes] = {}
        self._bodies: dict[str, bytes] = {}

    def render_POST(self, request: Request) -> bytes:
        """Check, then send."""
        path = request.uri.decode()
        if not self._genuine(request, path):
            request.setResponseCode(403)
            return b"no"
        request.setHeader(b"content-type", b"text/xml;charset=UTF-8")
        body = self._bodies.get(path)
        if body is None:
            body = self._bodies[path] = b"x" * int(path.strip("/"))
        return body

    def _genuine(self, request: Request, path: str) -> bool:
        header = request.getHeader("authorization") or ""
        fields = dict(part.strip().split("=", 1) for part in header.partition(" ")[2].split(","))
        access, *scope = fields["Credential"].split("/")
        if access != self._access_key:
            return False
        key = self._keys.get(tuple(scope))
        if key is None:
            key = self._keys[tuple(scope)] = signing_key(self._secret_key, scope[0], scope[1], scope[2])
        headers = {name: request.getHeader(name) or "" for name in fields["SignedHeaders"].split(";")}
        assert request.content is not None
        body = request.content.read()
        wanted = signature(key, "POST", path, headers, body, headers["x-amz-date"], "/".join(scope))
        return hmac.compare_digest(wanted, fields["Signature"])


def _main() -> None:
    port, access_key, secret_key = sys.argv[1:4]
    site = Site(Bare(access_key, secret_key))
    listening = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(site)
    listening.addErrback(_give_up)
    reactor.run()


def _give_up(failure: Failure) -> None:
    failure.printTraceback()
    reactor.stop()


if __name__ == "__main__":
    _main()
