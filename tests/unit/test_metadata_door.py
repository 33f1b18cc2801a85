"""
Tests for L{fabric.api.metadata}: what a machine sees, and what it doesn't.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.api.ec2 import views
from fabric.api.interface import IDoor
from fabric.api.metadata import sessions
from fabric.api.metadata.door import PATH, MetadataDoor
from fabric.api.metadata.tree import DOMAIN, Place
from fabric.api.metadata.versions import VERSIONS
from fabric.api.site import Limits, Site
from fabric.cloud.sources import Guest
from fabric.errors import Unavailable
from fabric.metrics import Metrics
from fabric.model.flavor import Flavor
from fabric.model.instance import Disk, GroupName, Instance, Port, Public
from fabric.model.metadata_options import MetadataOptions
from fabric.model.network import Network
from fabric.model.placement_group import Membership

MAC = "02:00:00:00:00:07"
NETWORK = Network("net-1", "private", "10.0.0.0/16", "10.0.0.1")
KEY = "ssh-ed25519 AAAA web"
SCRIPT = gzip.compress(b"#!/bin/sh\n")
INSTANCE = Instance(
    "i-0000000000000000a",
    "apples",
    "r-1",
    3,
    "ami-1",
    Flavor("m1.large", 4, 8192, 80, 10),
    launched_at=1000.0,
    changed_at=1000.0,
    state="running",
    zone="nova",
    host="node1",
    on_host=True,
    image_location="images/one",
    kernel="aki-1",
    ramdisk="ari-1",
    key_name="web",
    key_material=KEY,
    groups=(GroupName("sg-1", "default"), GroupName("sg-2", "web")),
    ports=(Port("net-1", MAC, "10.0.0.7", "ip-10-0-0-7"),),
    disks=(Disk("vol-1", "/dev/sdf", "attached", 1.0),),
    scratch_device="/dev/sdb",
    user_data=base64.b64encode(SCRIPT).decode(),
    placement=None,
    tags={"Name": "one", "a/b": "two", "with space": "three"},
)
OTHER = attrs.evolve(
    INSTANCE,
    id="i-0000000000000000b",
    project="pears",
    launch_index=0,
    key_name="",
    key_material="",
    user_data="",
    kernel="",
    ramdisk="",
    ports=(Port("net-1", "02:00:00:00:00:08", "10.0.0.8", "ip-10-0-0-8"),),
    disks=(),
)


class Known:
    """
    Machines by address, in place of L{fabric.cloud.sources.Sources}.
    """

    def __init__(self, *instances: Instance) -> None:
        self.by_address = {each.ports[0].address: each for each in instances}
        self.asked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def find(self, address: str, network: str = "") -> Deferred[Guest | None]:
        """Whose address it is."""
        self.asked.append((address, network))
        if self.error:
            return fail(self.error)
        found = self.by_address.get(address)
        return succeed(Guest(found, NETWORK) if found else None)

    def launched_with(self, instance: Instance) -> Deferred[list[Instance]]:
        """All of a launch."""
        return succeed([each for each in self.by_address.values() if each.reservation == instance.reservation])

    def secret(self) -> Deferred[bytes]:
        """Always the same."""
        return succeed(b"secret")


class Reply:
    """
    An answer, parsed.
    """

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}

    @property
    def lines(self) -> list[str]:
        """The body's lines."""
        return self.body.decode().split("\n")


class Stage(SynchronousTestCase):
    """
    A door before two machines of two projects.
    """

    trusting = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(2000)
        self.metrics = Metrics()
        self.known = Known(INSTANCE, OTHER)
        place = Place("here", "cloud.example.com")
        self.door = MetadataDoor(self.known, place, self.clock, self.metrics, self.trusting)  # type: ignore[arg-type]

    def ask(self, path: str, method: str = "GET", source: Any = "10.0.0.7", **headers: str) -> Reply:
        """Send a request from an address; C{_} in a header's name is a dash."""
        if isinstance(source, str):
            source = IPv4Address("TCP", source, 40000)
        channel = Site(self.clock, {PATH: self.door}, Limits(body=1024)).buildProtocol(source)
        transport = StringTransport(peerAddress=source)
        channel.makeConnection(transport)
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        channel.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{named}\r\n".encode())
        return Reply(transport.value())

    def text(self, path: str, **keywords: Any) -> str:
        """The body of what is there."""
        reply = self.ask(path, **keywords)
        self.assertEqual(reply.status, 200, path)
        return reply.body.decode()

    def evolve(self, **changes: Any) -> None:
        """Change the machine."""
        self.known.by_address["10.0.0.7"] = attrs.evolve(self.known.by_address["10.0.0.7"], **changes)

    def token(self, seconds: str = "60", **keywords: Any) -> str:
        """A session token."""
        keywords["X_aws_ec2_metadata_token_ttl_seconds"] = seconds
        return self.text("/latest/api/token", method="PUT", **keywords)


class TreeTests(Stage):
    """
    Paths as EC2 has them.
    """

    def test_door(self) -> None:
        """It is a door."""
        self.assertTrue(verifyObject(IDoor, self.door))

    def test_domain(self) -> None:
        """Names are those that the EC2 door shows."""
        self.assertEqual(DOMAIN, views.DOMAIN)

    def test_versions(self) -> None:
        """The root lists every version, and each is a prefix of the same leaves."""
        for path in ("/", "//"):
            self.assertEqual(self.ask(path).lines, [*VERSIONS, "latest"])
        for version in (*VERSIONS, "latest"):
            self.assertEqual(self.text(f"/{version}/meta-data/instance-id"), INSTANCE.id)
        for version in ("2009-04-05", "LATEST", "0.9"):
            self.assertEqual(self.ask(f"/{version}/meta-data/instance-id").status, 404)

    def test_old_versions_lack_what_came_later(self) -> None:
        """A dated prefix has what there was at that date."""
        self.assertNotIn("network/", self.ask("/2009-04-04/meta-data/").lines)
        self.assertEqual(self.ask("/2009-04-04/meta-data/mac").status, 404)
        self.assertEqual(self.ask("/2008-09-01/dynamic/").status, 404)
        self.assertEqual(self.ask("/2008-09-01/").lines, ["meta-data", "user-data"])
        self.assertIn("placement/", self.ask("/2009-04-04/meta-data/").lines)

    def test_top(self) -> None:
        """A version lists what it has, user data only where there is some."""
        for path in ("/latest", "/latest/"):
            self.assertEqual(self.ask(path).lines, ["dynamic", "meta-data", "user-data"])
        self.assertEqual(self.ask("/latest/", source="10.0.0.8").lines, ["dynamic", "meta-data"])

    def test_leaves(self) -> None:
        """Every leaf that a plain machine has."""
        device = "/dev/sda1"
        interface = f"network/interfaces/macs/{MAC}"
        wanted = {
            "ami-id": "ami-1",
            "ami-launch-index": "3",
            "ami-manifest-path": "images/one",
            "block-device-mapping/ami": device,
            "block-device-mapping/root": device,
            "block-device-mapping/ebs1": "/dev/sdf",
            "block-device-mapping/ephemeral0": "/dev/sdb",
            "hostname": "ip-10-0-0-7.ec2.internal",
            "instance-action": "none",
            "instance-id": INSTANCE.id,
            "instance-life-cycle": "on-demand",
            "instance-type": "m1.large",
            "kernel-id": "aki-1",
            "local-hostname": "ip-10-0-0-7.ec2.internal",
            "local-ipv4": "10.0.0.7",
            "mac": MAC,
            "mpi": "10.0.0.8 slots=4\n10.0.0.7 slots=4",
            "placement/availability-zone": "nova",
            "placement/region": "here",
            "public-keys/0/openssh-key": KEY,
            "ramdisk-id": "ari-1",
            "reservation-id": "r-1",
            "security-groups": "default\nweb",
            "services/domain": "cloud.example.com",
            "services/partition": "aws",
            f"{interface}/device-number": "0",
            f"{interface}/local-hostname": "ip-10-0-0-7.ec2.internal",
            f"{interface}/local-ipv4s": "10.0.0.7",
            f"{interface}/mac": MAC,
            f"{interface}/owner-id": "apples",
            f"{interface}/security-group-ids": "sg-1\nsg-2",
            f"{interface}/security-groups": "default\nweb",
            f"{interface}/subnet-ipv4-cidr-block": "10.0.0.0/16",
            f"{interface}/vpc-ipv4-cidr-block": "10.0.0.0/16",
        }
        for path, text in wanted.items():
            self.assertEqual(self.text("/latest/meta-data/" + path), text, path)

    def leaves(self, path: str, **keywords: Any) -> Iterator[str]:
        """Every leaf below a directory, by its listings."""
        for name in self.text(path, **keywords).split("\n"):
            if name.endswith("/"):
                yield from self.leaves(path + name, **keywords)
            elif "=" in name and "public-keys" in path:
                yield from self.leaves(f"{path}{name.partition('=')[0]}/", **keywords)
            else:
                yield path + name

    def test_listings_tell_the_truth(self) -> None:
        """All that is listed, at any depth, is there and is not empty; directories end in a slash."""
        self.evolve(
            metadata_options=MetadataOptions(tags="enabled"), placement=Membership("pg-1", "near", "partition", 2)
        )
        for source in ("10.0.0.7", "10.0.0.8"):
            found = list(self.leaves("/latest/meta-data/", source=source))
            self.assertTrue(all(self.text(path, source=source) for path in found))
        self.assertGreater(len(found), 25)

    def test_keys(self) -> None:
        """Public keys are listed by number and name."""
        self.assertEqual(self.text("/latest/meta-data/public-keys/"), "0=web")
        self.assertEqual(self.text("/latest/meta-data/public-keys/0/"), "openssh-key")
        self.assertEqual(self.ask("/latest/meta-data/public-keys/", source="10.0.0.8").status, 404)

    def test_public(self) -> None:
        """A floating address shows while it leads here."""
        self.assertEqual(self.ask("/latest/meta-data/public-ipv4").status, 404)
        public = Public("203.0.113.9", "eipalloc-1", "eipassoc-1")
        self.evolve(ports=(attrs.evolve(INSTANCE.ports[0], public=public),))
        self.assertEqual(self.text("/latest/meta-data/public-ipv4"), "203.0.113.9")
        self.assertEqual(self.text("/latest/meta-data/public-hostname"), "ec2-203-0-113-9.ec2.internal")
        interface = f"/latest/meta-data/network/interfaces/macs/{MAC}"
        self.assertEqual(self.text(f"{interface}/public-ipv4s"), "203.0.113.9")
        self.assertEqual(self.text(f"{interface}/ipv4-associations/203.0.113.9"), "10.0.0.7")

    def test_user_data(self) -> None:
        """User data is given byte for byte, compressed or not, to the largest size."""
        reply = self.ask("/latest/user-data")
        self.assertEqual((reply.body, reply.headers["content-type"]), (SCRIPT, "application/octet-stream"))
        large = bytes(range(256)) * 64
        self.evolve(user_data=base64.b64encode(large).decode())
        self.assertEqual(self.ask("/2009-04-04/user-data").body, large)
        self.assertEqual(self.ask("/latest/user-data", source="10.0.0.8").status, 404)

    def test_identity(self) -> None:
        """The identity document is there, and no signature of it."""
        document = json.loads(self.text("/latest/dynamic/instance-identity/document"))
        self.assertEqual((document["instanceId"], document["privateIp"]), (INSTANCE.id, "10.0.0.7"))
        self.assertEqual((document["region"], document["pendingTime"]), ("here", "1970-01-01T00:16:40Z"))
        for path in ("/latest/dynamic/instance-identity", "/latest/dynamic/instance-identity/"):
            self.assertEqual(self.text(path), "document")
        for signature in ("pkcs7", "signature", "rsa2048"):
            self.assertEqual(self.ask(f"/latest/dynamic/instance-identity/{signature}").status, 404)

    def test_tags(self) -> None:
        """Tags show when the instance's options say so, those whose keys can stand in a path."""
        self.assertEqual(self.ask("/latest/meta-data/tags/instance/Name").status, 404)
        self.evolve(metadata_options=MetadataOptions(tags="enabled"))
        self.assertEqual(self.text("/latest/meta-data/tags/instance/"), "Name")
        self.assertEqual(self.text("/latest/meta-data/tags/instance/Name"), "one")
        self.assertEqual(self.ask("/2018-09-24/meta-data/tags/instance/Name").status, 404)

    def test_absent(self) -> None:
        """What is not there is 404, roles among it."""
        for path in ("iam/", "iam/security-credentials/", "nothing", "instance-id/more", "placement/group-name"):
            self.assertEqual(self.ask("/latest/meta-data/" + path).status, 404, path)
        for path in ("/latest/x", "/latest/user-data/x", "/x", "/latest/api/token", "/latest/meta-data/../user-data"):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_escapes(self) -> None:
        """A path may be escaped."""
        self.assertEqual(self.text(f"/latest/meta-data/network/interfaces/macs/{MAC.replace(':', '%3a')}/mac"), MAC)


class SessionTests(Stage):
    """
    The second version's tokens.
    """

    def test_token(self) -> None:
        """A token opens all, says how long it is good, and ends then."""
        reply = self.ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
        self.assertEqual((reply.status, reply.headers["x-aws-ec2-metadata-token-ttl-seconds"]), (200, "60"))
        token = reply.body.decode()
        self.evolve(metadata_options=MetadataOptions(tokens="required"))
        path = "/latest/meta-data/instance-id"
        self.assertEqual(self.text(path, X_aws_ec2_metadata_token=token), INSTANCE.id)
        self.clock.advance(59)
        self.assertEqual(self.ask(path, X_aws_ec2_metadata_token=token).status, 200)
        self.clock.advance(2)
        self.assertEqual(self.ask(path, X_aws_ec2_metadata_token=token).status, 401)

    def test_required(self) -> None:
        """Without a token nothing is told to a machine that needs one."""
        self.evolve(metadata_options=MetadataOptions(tokens="required"))
        for path in ("/", "/latest/", "/latest/user-data", "/latest/meta-data/instance-id", "/nothing"):
            self.assertEqual(self.ask(path).status, 401, path)

    def test_seconds(self) -> None:
        """A token is for 1 to 21600 seconds."""
        for seconds in ("1", "21600"):
            self.token(seconds)
        for seconds in ("", "0", "21601", "-1", "+5", "1.5", "x", "\u0665", "9" * 400):
            reply = self.ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds=seconds)
            self.assertEqual(reply.status, 400, seconds)
        self.assertEqual(self.ask("/latest/api/token", "PUT").status, 400)

    def test_forwarded(self) -> None:
        """A forwarded request gets no token: an open proxy in a guest would hand it out."""
        headers = {"X_aws_ec2_metadata_token_ttl_seconds": "60", "X_Forwarded_For": "1.2.3.4"}
        self.assertEqual(self.ask("/latest/api/token", "PUT", **headers).status, 403)

    def test_other_paths(self) -> None:
        """Tokens are put at one path only."""
        for path in ("/2021-03-23/api/token", "/latest/meta-data", "/"):
            self.assertEqual(self.ask(path, "PUT", X_aws_ec2_metadata_token_ttl_seconds="60").status, 403, path)

    def test_methods(self) -> None:
        """Nothing can be posted or deleted."""
        for method in ("POST", "DELETE", "PATCH"):
            self.assertEqual(self.ask("/latest/meta-data/", method).status, 405)
        self.assertEqual(self.ask("/latest/meta-data/", "HEAD").body, b"")

    def test_another_machine(self) -> None:
        """A token is of no use to another machine."""
        reply = self.ask("/latest/", source="10.0.0.8", X_aws_ec2_metadata_token=self.token())
        self.assertEqual(reply.status, 401)

    @given(token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80))
    def test_made_up(self, token: str) -> None:
        """A token that was not issued opens nothing, even where none is needed."""
        self.assertEqual(self.ask("/latest/", X_aws_ec2_metadata_token=token).status, 401)

    @given(st.integers(0, 319))
    def test_changed(self, bit: int) -> None:
        """A token of which any bit was changed opens nothing."""
        token = sessions.issue(b"s", "i-1", 0.0, 100)
        raw = bytearray(base64.urlsafe_b64decode(token))
        raw[bit // 8] ^= 1 << bit % 8
        self.assertTrue(sessions.good(b"s", "i-1", 1.0, token))
        self.assertFalse(sessions.good(b"s", "i-1", 1.0, base64.urlsafe_b64encode(raw).decode()))

    def test_endpoint(self) -> None:
        """A machine whose endpoint is switched off is told nothing."""
        self.evolve(metadata_options=MetadataOptions(endpoint="disabled"))
        self.assertEqual(self.ask("/latest/meta-data/instance-id").status, 403)
        reply = self.ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
        self.assertEqual(reply.status, 403)


class SourceTests(Stage):
    """
    Who asks is who sends.
    """

    def test_unknown(self) -> None:
        """A stranger finds nothing at any path."""
        for path in ("/", "/latest/", "/latest/meta-data/instance-id", "/latest/user-data"):
            self.assertEqual(self.ask(path, source="10.0.0.9").status, 404)
        reply = self.ask("/latest/api/token", "PUT", "10.0.0.9", X_aws_ec2_metadata_token_ttl_seconds="60")
        self.assertEqual(reply.status, 404)

    def test_headers_are_not_believed(self) -> None:
        """No header makes one machine another."""
        for name in ("X_Forwarded_For", "X_Real_IP", "Forwarded", "X_Network", "X_Instance_ID", "Host"):
            for source in ("10.0.0.7", "127.0.0.1"):
                reply = self.ask("/latest/meta-data/instance-id", source=source, **{name: "10.0.0.8"})
                self.assertNotIn(OTHER.id.encode(), reply.body)
        self.assertEqual(set(self.known.asked), {("10.0.0.7", ""), ("127.0.0.1", "")})

    def test_mapped(self) -> None:
        """An IPv4 source is itself on a socket of IPv6, too."""
        source = IPv6Address("TCP", "::ffff:10.0.0.7", 40000)
        self.assertEqual(self.text("/latest/meta-data/instance-id", source=source), INSTANCE.id)

    def test_store_away(self) -> None:
        """While the store does not answer, machines are told to come again."""
        self.known.error = Unavailable("store", "away")
        self.assertEqual(self.ask("/latest/").status, 503)

    def test_bug(self) -> None:
        """A failure of ours is logged and told blankly."""
        self.known.error = RuntimeError("secret")
        reply = self.ask("/latest/")
        self.assertEqual((reply.status, b"secret" in reply.body), (500, False))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_metrics(self) -> None:
        """Requests are counted by the first part of their path, of a fixed set."""
        self.text("/latest/meta-data/instance-id")
        self.ask("/latest/invented-by-a-guest")
        text = self.metrics.exposition()
        self.assertIn(b'action="meta-data",code="200",door="metadata"', text)
        self.assertNotIn(b"invented", text)


class TrustingTests(Stage):
    """
    Behind a proxy on this host.
    """

    trusting = True

    def test_proxy(self) -> None:
        """The proxy says for whom it asks, and in which network."""
        headers = {"X_Forwarded_For": "10.0.0.7", "X_Network": "private"}
        path = "/latest/meta-data/instance-id"
        self.assertEqual(self.text(path, source="127.0.0.1", **headers), INSTANCE.id)
        self.assertEqual(self.known.asked, [("10.0.0.7", "private")])

    def test_what_a_guest_wrote(self) -> None:
        """What stands before the proxy's own word was written by the guest."""
        headers = {"X_Forwarded_For": "10.0.0.8, 10.0.0.7"}
        self.assertEqual(self.text("/latest/meta-data/instance-id", source="127.0.0.1", **headers), INSTANCE.id)
        headers["X_aws_ec2_metadata_token_ttl_seconds"] = "60"
        self.assertEqual(self.ask("/latest/api/token", "PUT", "127.0.0.1", **headers).status, 403)

    def test_token(self) -> None:
        """Tokens come through the proxy."""
        token = self.token(source="127.0.0.1", X_Forwarded_For="10.0.0.7")
        self.assertEqual(self.ask("/latest/", X_aws_ec2_metadata_token=token).status, 200)

    def test_others(self) -> None:
        """Nobody else is believed."""
        reply = self.ask("/latest/meta-data/instance-id", source="10.0.0.7", X_Forwarded_For="10.0.0.8")
        self.assertEqual(reply.body.decode(), INSTANCE.id)
