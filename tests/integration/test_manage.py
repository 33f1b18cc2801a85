"""
C{cloud-manage} and the admin door over a whole cloud: the real site on
loopback, the real client, an embedded directory and a real store.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from fabric.api.admin.door import PATH, AdminDoor
from fabric.api.admin.guests import GuestActions
from fabric.api.admin.images import ImageActions
from fabric.api.admin.machines import MachineActions
from fabric.api.admin.people import PeopleActions
from fabric.api.admin.quotas import QuotaActions
from fabric.api.admin.registry import actions
from fabric.api.site import Site
from fabric.cloud.addresses import Named
from fabric.cloud.launch import LaunchSpec
from fabric.errors import QuotaExceeded
from fabric.manage import cloudrc, main
from fabric.manage.client import Client, Credentials, Refused
from fabric.testing.cloud import CALLER, SAMPLE, make_cloud
from fabric.testing.processes import SOURCES
from fabric.users.bootstrap import bootstrap
from fabric.users.embedded import EmbeddedDirectoryServer
from tests.integration.test_rpc_tls import write_certificate

Steps = Generator[Deferred[Any], Any, None]
Listening: Any = reactor


class Ended:
    """
    What a run of the command left.
    """

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]


class ManageCase(TestCase):
    """
    A cloud of one host, with an admin door.
    """

    timeout = 120

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        path = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, path)
        server = EmbeddedDirectoryServer(reactor, path + "/people")
        yield server.start()
        self.addCleanup(server.stop)
        self.people = server.client()
        self.addCleanup(self.people.stop)
        self.root = yield bootstrap(self.people)
        self.under_test = yield make_cloud(self)
        cloud = self.under_test.cloud
        machines = (MachineActions(cloud, self.under_test.store, self.people), ImageActions(cloud, self.people))
        owners = (PeopleActions(self.people), QuotaActions(cloud.quotas, self.people), GuestActions(cloud), *machines)
        self.site = site = Site(Listening, {PATH: AdminDoor(self.people, actions(owners), Listening)})
        port = Listening.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        self.data = Path(path) / "data"
        self.data.mkdir()
        (self.data / "cloudrc").write_text(cloudrc.render(self.url, self.root.access_key, self.root.secret_key))

    def manage(self, *words: str) -> Deferred[Any]:
        """Run a command as the first user."""
        return self.run_with({}, "--data", str(self.data), *words)

    def run_with(self, environment: Mapping[str, str], *words: str) -> Deferred[Any]:
        """Run a command in an environment."""

        def run() -> Ended:
            out, err = io.StringIO(), io.StringIO()
            return Ended(main.run(words, environment, out, err), out.getvalue(), err.getvalue())

        return deferToThread(run)

    @inlineCallbacks
    def well(self, *words: str) -> Generator[Deferred[Any], Any, Any]:
        """Run a command that succeeds; the table's lines."""
        ended = yield self.manage(*words)
        self.assertEqual((ended.status, ended.err), (0, ""), words)
        return ended.lines

    @inlineCallbacks
    def json(self, *words: str) -> Generator[Deferred[Any], Any, Any]:
        """Run a command that succeeds; its JSON."""
        ended = yield self.manage("--json", *words)
        self.assertEqual((ended.status, ended.err), (0, ""), words)
        return json.loads(ended.out)

    @inlineCallbacks
    def refused(self, code: str, *words: str) -> Generator[Deferred[Any], Any, Any]:
        """Run a command that the cloud refuses: exit status 3, and one line that has the request's id."""
        ended = yield self.manage(*words)
        self.assertEqual((ended.status, ended.out), (3, ""), words)
        self.assertIn(f"cloud-manage: {code}: ", ended.err)
        self.assertRegex(ended.err, r"\(request [0-9a-zA-Z-]{8,}\)\n$")
        self.assertEqual(ended.err.count("\n"), 1)
        return ended.err

    def call(self, access_key: str, secret_key: str, action: str, **parameters: Any) -> Deferred[Any]:
        """Call an action as somebody."""
        return deferToThread(Client(Credentials(self.url, access_key, secret_key)).call, action, **parameters)


class PeopleTests(ManageCase):
    """
    Users, projects, members and roles.
    """

    @inlineCallbacks
    def test_users(self) -> Steps:
        """Users are made, listed, changed and removed; their secret is shown when it is made or set, only."""
        made = yield self.json("user", "create", "ann")
        self.assertEqual((made["id"], made["admin"]), ("ann", False))
        yield self.well("user", "admin", "bob", "--access-key", "BOB", "--secret-key", "sesame")
        lines = yield self.well("user", "list")
        self.assertEqual(lines[0], ["ID", "ACCESS_KEY", "ADMIN"])
        self.assertIn(["bob", "BOB", "yes"], lines)
        self.assertIn(["ann", made["access_key"], "no"], lines)
        listed = yield self.manage("--json", "user", "list")
        for secret in (made["secret_key"], "sesame", self.root.secret_key, "secret"):
            self.assertNotIn(secret, listed.out)
        changed = yield self.json("user", "modify", "ann", "--admin", "yes")
        self.assertEqual((changed["admin"], "secret_key" in changed), (True, False))
        changed = yield self.json("user", "modify", "ann", "--secret-key", "other")
        self.assertEqual((changed["admin"], changed["secret_key"]), (True, "other"))
        self.assertEqual((yield self.well("user", "delete", "bob")), [["done"]])
        self.assertEqual(len((yield self.json("user", "list"))), 2)

    @inlineCallbacks
    def test_user_errors(self) -> Steps:
        """Names taken, unknown, impossible or needed are told."""
        yield self.well("user", "create", "ann")
        yield self.refused("AlreadyExists", "user", "create", "ann")
        yield self.refused("AlreadyExists", "user", "create", "eve", "--access-key", self.root.access_key)
        yield self.refused("NotFound", "user", "delete", "nobody")
        yield self.refused("NotFound", "user", "modify", "nobody", "--admin", "no")
        for name in ("a b", "*", "x,ou=Users", "", "a" * 65, "a\n"):
            yield self.refused("InvalidValue", "user", "create", name)
        yield self.refused("InUse", "user", "delete", "admin")
        yield self.refused("InvalidValue", "user", "create", "eve", "--access-key", "A:B")

    @inlineCallbacks
    def test_projects(self) -> Steps:
        """Projects are made with members, changed, listed for one user, and removed."""
        for user in ("ann", "bob", "eve"):
            yield self.well("user", "create", user)
        made = yield self.json("project", "create", "web", "ann", "--description", "The web", "--member", "bob")
        self.assertEqual(sorted(made["members"]), ["ann", "bob"])
        yield self.well("project", "add", "web", "eve")
        yield self.well("project", "remove", "web", "bob")
        lines = yield self.well("project", "list", "--user", "eve")
        self.assertEqual(lines, [["ID", "MANAGER", "MEMBERS", "DESCRIPTION"], ["web", "ann", "ann,eve", "The", "web"]])
        changed = yield self.json("project", "modify", "web", "--manager", "bob")
        self.assertEqual((changed["manager"], "bob" in changed["members"]), ("bob", True))
        yield self.refused("InUse", "project", "remove", "web", "bob")
        yield self.refused("NotFound", "project", "create", "other", "nobody")
        yield self.refused("AlreadyExists", "project", "create", "web", "ann")
        yield self.refused("InvalidValue", "project", "create", "cloud", "ann")
        yield self.refused("NotFound", "project", "add", "web", "nobody")
        yield self.well("project", "delete", "web")
        yield self.refused("NotFound", "project", "delete", "web")

    @inlineCallbacks
    def test_roles(self) -> Steps:
        """Roles are given and taken, in a project or everywhere; C{has} says no by exit status 1."""
        yield self.well("user", "create", "ann")
        yield self.well("project", "create", "web", "ann")
        yield self.well("role", "add", "ann", "netadmin", "--project", "web")
        yield self.well("role", "add", "ann", "itsec")
        self.assertEqual((yield self.well("role", "has", "ann", "netadmin", "--project", "web")), [["yes"]])
        ended = yield self.manage("role", "has", "ann", "netadmin")
        self.assertEqual((ended.status, ended.out), (1, "no\n"))
        self.assertEqual((yield self.json("role", "list", "ann")), ["itsec"])
        yield self.well("role", "remove", "ann", "itsec")
        self.assertEqual((yield self.well("role", "list", "ann")), [["no", "roles"]])
        yield self.refused("InvalidValue", "role", "add", "ann", "king")
        yield self.refused("InvalidValue", "role", "add", "ann", "netadmin")
        yield self.refused("NotFound", "role", "add", "nobody", "itsec")

    @inlineCallbacks
    def test_environment(self) -> Steps:
        """A member's environment, kept in a file and sourced, is theirs in that project."""
        ann = yield self.json("user", "create", "ann")
        yield self.well("project", "create", "web", "ann")
        ended = yield self.manage("project", "environment", "web", "ann")
        self.assertEqual(ended.status, 0)
        file = self.data / "ann rc"
        file.write_text(ended.out)
        command = '. "$1"; printf "%s %s %s" "$AWS_ACCESS_KEY_ID" "$EC2_SECRET_KEY" "$CLOUD_URL"'
        found = yield deferToThread(subprocess.check_output, ["sh", "-c", command, "sh", str(file)], text=True)
        self.assertEqual(found.split(), [ann["access_key"] + ":web", ann["secret_key"], self.url])
        text = yield self.json("project", "environment", "web", "ann")
        self.assertEqual(text["cloudrc"], ended.out)

    @inlineCallbacks
    def test_environment_of_another_region(self) -> Steps:
        """A member's environment names the region that the operator's does."""
        yield self.well("user", "create", "ann")
        yield self.well("project", "create", "web", "ann")
        own = cloudrc.render(self.url, self.root.access_key, self.root.secret_key, "lab")
        (self.data / "cloudrc").write_text(own)
        text = (yield self.json("project", "environment", "web", "ann"))["cloudrc"]
        self.assertEqual(cloudrc.read(text)["AWS_DEFAULT_REGION"], "lab")

    @inlineCallbacks
    def test_environment_of_strangers(self) -> Steps:
        """Who is not a member has no environment there; who is cloudadmin has."""
        yield self.well("user", "create", "ann")
        yield self.well("user", "create", "eve")
        yield self.well("user", "admin", "bob")
        yield self.well("project", "create", "web", "ann")
        yield self.refused("NotFound", "project", "environment", "web", "eve")
        yield self.refused("NotFound", "project", "environment", "nothing", "ann")
        yield self.refused("NotFound", "project", "environment", "web", "nobody")
        self.assertIn("web", (yield self.json("project", "environment", "web", "bob"))["cloudrc"])

    @inlineCallbacks
    def test_who_may(self) -> Steps:
        """A manager may nothing here, nor cloudadmins of one project; itsec looks; a removed user is nobody."""
        ann = yield self.json("user", "create", "ann")
        eve = yield self.json("user", "create", "eve")
        yield self.well("project", "create", "web", "ann", "--member", "eve")
        yield self.well("role", "add", "ann", "cloudadmin", "--project", "web")
        for name, parameters in (("DescribeUsers", {}), ("GenerateCredentials", {"user": "admin"})):
            for key in (ann["access_key"], ann["access_key"] + ":web"):
                why = yield self.assertFailure(self.call(key, ann["secret_key"], name, **parameters), Refused)
                self.assertEqual(why.code, "Denied")
        yield self.well("role", "add", "eve", "itsec")
        users = yield self.call(eve["access_key"], eve["secret_key"], "DescribeUsers")
        self.assertNotIn("secret_key", users[0])
        forbidden: list[tuple[str, dict[str, Any]]] = [
            ("GenerateCredentials", {"user": "admin"}),
            ("ModifyUserRole", {"user": "eve", "role": "cloudadmin", "operation": "add"}),
            ("ModifyUser", {"id": "eve", "admin": True}),
            ("CheckState", {"repair": True}),
        ]
        for name, parameters in forbidden:
            why = yield self.assertFailure(self.call(eve["access_key"], eve["secret_key"], name, **parameters), Refused)
            self.assertEqual(why.code, "Denied", name)
        yield self.well("user", "delete", "eve")
        why = yield self.assertFailure(self.call(eve["access_key"], eve["secret_key"], "DescribeUsers"), Refused)
        self.assertEqual(why.code, "SignatureRefused")

    @inlineCallbacks
    def test_secrets_are_not_logged(self) -> Steps:
        """No secret key is in any event of the log."""
        events: list[Any] = []
        observe: Any = events.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        yield self.well("user", "create", "ann", "--secret-key", "open-sesame")
        yield self.well("user", "modify", "ann", "--secret-key", "shut-sesame")
        yield self.well("project", "create", "web", "ann")
        yield self.well("project", "environment", "web", "ann")
        self.assertTrue(events)
        self.assertNotIn("sesame", repr(events))
        self.assertNotIn(self.root.secret_key, repr(events))


class MachineTests(ManageCase):
    """
    Hosts, networks, quotas and the check.
    """

    @inlineCallbacks
    def launch(self) -> Generator[Deferred[Any], Any, Any]:
        """An instance of a project."""
        (instance,) = yield self.under_test.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, flavor="m1.small"))
        return instance

    @inlineCallbacks
    def test_hosts(self) -> Steps:
        """Hosts are listed with what they carry; nothing is placed on one that is disabled, until it is enabled."""
        lines = yield self.well("host", "list")
        self.assertEqual(lines[0][:4], ["SERVICE", "ZONE", "ALIVE", "DISABLED"])
        compute = next(line for line in lines if line[0] == "compute.node1")
        self.assertEqual(compute[1:4] + compute[5:8], ["nova", "yes", "no", "s", "ago", "0"])
        self.assertEqual((yield self.well("service", "list"))[0], lines[0])
        yield self.well("host", "disable", "node1", "--reason", "new disks")
        self.assertIn("new disks", (yield self.manage("host", "list")).out)
        refused = yield self.launch()
        yield self.under_test.until_state("terminated", refused.id)
        lines = yield self.well("host", "explain", refused.id)
        self.assertEqual((lines[0], lines[1][0]), (["HOST", "WHY"], "node1"))
        yield self.well("service", "enable", "node1", "--topic", "compute")
        instance = yield self.launch()
        yield self.under_test.until_state("running", instance.id)
        self.assertEqual((yield self.manage("host", "explain", instance.id)).out, "a host was chosen\n")
        hosts = yield self.json("host", "list")
        (compute,) = [host for host in hosts if host["id"] == "compute.node1"]
        self.assertEqual((compute["load"]["instances"], compute["disabled"]), (1, False))

    @inlineCallbacks
    def test_flavors(self) -> Steps:
        """Instance types are made, listed, launched and removed, by either of their names."""
        options = ("--ephemeral", "5", "--gpus", "2", "--requires", "gpu:10de:1db4")
        yield self.well("flavor", "create", "big.one", "2", "3000", "30", *options)
        self.assertIn(
            ["big.one", "2", "3000", "30", "5", "2", "gpu:10de:1db4"], (yield self.well("instance_type", "list"))
        )
        yield self.refused("AlreadyExists", "flavor", "create", "big.one", "2", "3000", "30")
        yield self.refused("InvalidValue", "flavor", "create", "none", "0", "1", "1")
        yield self.under_test.cloud.instances.run(CALLER, LaunchSpec(SAMPLE, flavor="big.one"))
        yield self.well("instance_type", "delete", "big.one")
        yield self.refused("NotFound", "flavor", "delete", "big.one")
        self.assertNotIn("big.one", (yield self.manage("flavor", "list")).out)

    @inlineCallbacks
    def test_migrate(self) -> Steps:
        """An instance is sent to another host, a host is emptied, and what can't be is told."""
        self.under_test.add_host("node2")
        alive = self.under_test.cloud.hosts.alive
        yield self.under_test.until(lambda: alive().addCallback(lambda names: "node2" in names))
        [made] = yield self.under_test.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        [running] = yield self.under_test.until_state("running", made.id)
        other = {"node1": "node2", "node2": "node1"}[running.host]
        self.assertIn(["destination", other], (yield self.well("instance", "migrate", made.id, "--to", other)))
        yield self.under_test.until(
            lambda: self.under_test.get(made.id).addCallback(lambda found: found[0].migration is None)
        )
        self.assertIn([made.id, running.host, "-"], (yield self.well("host", "evacuate", other)))
        yield self.refused("NotFound", "instance", "migrate", "i-0123456789abcdef0")
        yield self.refused("NotFound", "host", "evacuate", "nowhere")

    @inlineCallbacks
    def test_care(self) -> Steps:
        """A guest is paused, put to disk, rescued and back; what it used and printed is shown."""
        [made] = yield self.under_test.cloud.instances.run(CALLER, LaunchSpec(SAMPLE))
        yield self.under_test.until_state("running", made.id)
        hypervisor = self.under_test.hosts["node1"].hypervisor
        for verb, state, condition in (
            ("pause", "running", "paused"),
            ("unpause", "running", ""),
            ("suspend", "stopped", "suspended"),
            ("resume", "running", ""),
            ("rescue", "running", "rescue"),
            ("unrescue", "running", ""),
        ):
            self.assertEqual((yield self.well("instance", verb, made.id)), [["done"]])
            [domain] = yield hypervisor.domains()
            self.assertEqual((domain.state, domain.condition), (state, condition), verb)
        self.assertEqual((yield self.json("instance", "statistics", made.id))["memory_mb"], 64)
        self.assertIn("login:", (yield self.manage("instance", "console", made.id)).out)
        yield self.refused("NotFound", "instance", "pause", "i-0123456789abcdef0")
        yield self.under_test.cloud.instances.stop(CALLER, [made.id])
        yield self.under_test.until_state("stopped", made.id)
        yield self.refused("WrongState", "instance", "pause", made.id)

    @inlineCallbacks
    def test_host_errors(self) -> Steps:
        """A host or an instance that is not there is told."""
        yield self.refused("NotFound", "host", "disable", "nowhere")
        yield self.refused("NotFound", "host", "enable", "node1", "--topic", "nothing")
        yield self.refused("NotFound", "host", "explain", "i-00000000000000001")
        self.assertEqual((yield self.well("host", "strays")), [["HOST", "NAME", "HOLDINGS", "FOUND_AT", "REMOVE_AT"]])

    @inlineCallbacks
    def test_floating(self) -> Steps:
        """Ranges of floating addresses are made, listed, and removed unless an address is held."""
        made = yield self.json("floating", "create", "outside", "203.0.113.0/29")
        (row,) = yield self.json("floating", "list")
        self.assertEqual((row["id"], row["free"], row["addresses"]), (made["id"], 6, 6))
        held = yield self.under_test.cloud.addresses.allocate(CALLER)
        yield self.refused("InUse", "floating", "delete", made["id"])
        yield self.under_test.cloud.addresses.release(CALLER, Named(held.id))
        yield self.refused("AlreadyExists", "floating", "create", "outside", "203.0.113.0/29")
        for range_ in ("203.0.113.4/30", "everything", "10.0.0.0/8", "::/120", "203.0.113.1/24"):
            yield self.refused("InvalidValue", "floating", "create", "bad", range_)
        yield self.well("floating", "delete", made["id"])
        yield self.refused("NotFound", "floating", "delete", made["id"])

    @inlineCallbacks
    def test_networks(self) -> Steps:
        """Networks are made, listed with their free addresses, and removed unless in use."""
        made = yield self.json("network", "create", "extra", "10.9.0.0/29", "--dns", "10.9.0.2")
        (row,) = [each for each in (yield self.json("network", "list")) if each["label"] == "extra"]
        self.assertEqual((row["id"], row["free"], row["dns"]), (made["id"], row["addresses"], ["10.9.0.2"]))
        self.assertGreater(row["free"], 0)
        table = yield self.well("network", "list")
        self.assertIn("extra", [line[1] for line in table])
        self.assertRegex((yield self.manage("network", "create", "more", "10.8.0.0/29")).out, "created_at +20.* UTC")
        yield self.well("network", "delete", made["id"])
        yield self.refused("NotFound", "network", "delete", made["id"])
        for range_ in ("10.9.0.0/99", "everything", "", "::/0"):
            yield self.refused("InvalidValue", "network", "create", "bad", range_)
        for label in ("", " ", "a\nb"):
            yield self.refused("InvalidValue", "network", "create", label, "10.7.0.0/24")
            yield self.refused("InvalidValue", "floating", "create", label, "198.51.100.0/24")
        yield self.refused("AlreadyExists", "network", "create", "private", "10.7.0.0/24")
        instance = yield self.launch()
        yield self.under_test.until_state("running", instance.id)
        (private,) = [each for each in (yield self.json("network", "list")) if each["label"] == "private"]
        self.assertEqual(private["free"], private["addresses"] - 1)
        yield self.refused("InUse", "network", "delete", private["id"])
        self.assertIn("fixed:" + private["id"], [line[0] for line in (yield self.well("pool", "list"))])

    @inlineCallbacks
    def test_quotas(self) -> Steps:
        """Limits are set, shown with what is used of them, kept to, and returned to the default."""
        yield self.people.create_project("apples", "admin", "", ())
        instance = yield self.launch()
        yield self.under_test.until_state("running", instance.id)
        before = (yield self.json("quota", "list", "apples"))["instances"]["limit"]
        changed = yield self.json("quota", "set", "apples", "instances=1", "cores=0")
        self.assertEqual(changed["instances"], {"limit": 1, "used": 1})
        self.assertIn(["instances", "1", "1"], (yield self.well("quota", "list", "apples")))
        yield self.assertFailure(self.launch(), QuotaExceeded)
        yield self.well("quota", "set", "apples", "instances=-1")
        self.assertEqual((yield self.json("quota", "list", "apples"))["instances"]["limit"], before)
        yield self.refused("InvalidValue", "quota", "set", "apples", "dragons=3")
        yield self.refused("InvalidValue", "quota", "set", "apples", f"instances={10**20}")
        yield self.refused("InvalidValue", "quota", "set", "apples", f"instances={10**18}")

    @inlineCallbacks
    def test_quotas_of_nobody(self) -> Steps:
        """A project that is not there has no limits and gets none."""
        for words in (("list", "appels"), ("set", "appels", "instances=5")):
            yield self.refused("NotFound", "quota", *words)

    @inlineCallbacks
    def test_things_of_nobody(self) -> Steps:
        """A project that is not there gets no network, and no image: nothing is uploaded for it."""
        why = yield self.refused("NotFound", "network", "create", "its", "10.9.0.0/29", "--for-project", "appels")
        self.assertIn("appels", why)
        disk = self.data / "disk"
        disk.write_bytes(bytes(512))
        words = ("image", "add", "its", "--disk", str(disk), "--project")
        self.assertIn("appels", (yield self.refused("NotFound", *words, "appels")))
        yield self.people.create_project("apples", "admin", "", ())
        yield self.refused("Unsupported", *words, "apples")  # there is no object store here
        yield self.well("network", "create", "its", "10.9.0.0/29", "--for-project", "apples")

    @inlineCallbacks
    def test_check(self) -> Steps:
        """The check finds what was broken (exit status 1), repairs it, and then finds nothing."""
        instance = yield self.launch()
        yield self.under_test.until_state("running", instance.id)
        self.assertEqual((yield self.manage("check")).out, "all agrees\n")
        pool = self.redis.connect()  # type: ignore[attr-defined]
        self.addCleanup(pool.stopService)
        yield pool.call("HSET", "c", "quota:apples:instances", "7")
        ended = yield self.manage("check")
        self.assertEqual(ended.status, 1)
        self.assertIn("quota:apples:instances", ended.out)
        ended = yield self.manage("--json", "check", "--repair")
        self.assertEqual((ended.status, json.loads(ended.out)[0]["repaired"]), (0, True))
        self.assertEqual((yield self.json("check")), [])

    @inlineCallbacks
    def test_events(self) -> Steps:
        """The event stream is read from a position on, for one project or all."""
        yield self.launch()
        events = yield self.json("event", "list", "--project", "apples", "--limit", "1")
        self.assertEqual(len(events), 1)
        later = yield self.json("event", "list", "--after", events[0]["position"], "--limit", "1")
        self.assertNotEqual(later[0]["position"], events[0]["position"])
        self.assertEqual((yield self.json("event", "list", "--project", "pears")), [])
        self.assertEqual((yield self.well("event", "list", "--limit", "1"))[0][0], "POSITION")
        yield self.refused("InvalidValue", "event", "list", "--after", "yesterday")


class CommandTests(ManageCase):
    """
    The command itself.
    """

    def program(self, *words: str, **environment: str) -> Deferred[Any]:
        """Run it as a process in an empty directory."""
        return deferToThread(
            subprocess.run,
            [sys.executable, "-m", "fabric.manage.main", *words],
            cwd=self.data,
            env={"PYTHONPATH": str(SOURCES), **environment},
            capture_output=True,
            text=True,
        )

    @inlineCallbacks
    def test_environment(self) -> Steps:
        """A sourced cloudrc's variables name the cloud, and so does a file."""
        values = cloudrc.read((self.data / "cloudrc").read_text())
        ended = yield self.program("user", "list", **values)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        ended = yield self.program("--cloudrc", "cloudrc", "user", "list")
        self.assertEqual((ended.returncode, ended.stdout.split()[:3]), (0, ["ID", "ACCESS_KEY", "ADMIN"]))

    @inlineCallbacks
    def test_tls(self) -> Steps:
        """A door at an C{ssl:} endpoint answers clients that trust its certificate, and names its protocol."""
        pem = self.data / "door.pem"
        write_certificate(pem, "localhost")
        description = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
        door = yield serverFromString(reactor, description).listen(self.site)
        self.addCleanup(door.stopListening)
        values = cloudrc.read((self.data / "cloudrc").read_text())
        values |= {"CLOUD_URL": f"https://localhost:{door.getHost().port}", "SSL_CERT_FILE": str(pem)}
        ended = yield self.program("user", "list", **values)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    @inlineCallbacks
    def test_usage(self) -> Steps:
        """Without a command it prints what there is; a wrong one is exit status 2, and no traceback."""
        for noun in ("", "host", "quota"):
            ended = yield self.program(*noun.split())
            self.assertEqual((ended.returncode, ended.stderr), (2, ""))
            self.assertIn("usage: cloud-manage", ended.stdout)
        for words in (
            ("fly",),
            ("host", "fly"),
            ("user", "create"),
            ("quota", "set", "web"),
            ("quota", "set", "web", "instances"),
            ("quota", "set", "web", "instances=many"),
            ("quota", "set", "web", "=3"),
            ("network", "create", "a", "10.0.0.0/8", "--reserved", "x"),
        ):
            ended = yield self.program(*words)
            self.assertEqual((ended.returncode, ended.stdout), (2, ""), words)
            self.assertNotIn("Traceback", ended.stderr)
            self.assertIn("cloud-manage", ended.stderr)
        ended = yield self.program("host", "--help")
        self.assertEqual(ended.returncode, 0)
        self.assertIn("explain", ended.stdout)

    @inlineCallbacks
    def test_no_cloud(self) -> Steps:
        """Where no cloud is told or none answers it is exit status 4, and a line that says what to do."""
        ended = yield self.program("--data", "nowhere", "host", "list")
        self.assertEqual(ended.returncode, 4)
        self.assertIn("--data DIR", ended.stderr)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            silent = f"http://127.0.0.1:{taken.getsockname()[1]}"
            for url in (silent, "nonsense", "http://:8773", "http://host:port", "ftp://host", "http://[::1", ""):
                ended = yield self.run_with(
                    {"CLOUD_URL": url, "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}, "host", "list"
                )
                self.assertEqual((ended.status, ended.err.count("\n")), (4, 1), url)
                self.assertTrue(ended.err.startswith("cloud-manage: "), ended.err)
        ended = yield self.run_with(
            {"CLOUD_URL": self.url, "AWS_ACCESS_KEY_ID": "A\nB: c", "AWS_SECRET_ACCESS_KEY": "S"}, "host", "list"
        )
        self.assertEqual((ended.status, ended.err.count("\n")), (4, 1))

    @inlineCallbacks
    def test_stranger(self) -> Steps:
        """Wrong credentials are exit status 3."""
        values = {"CLOUD_URL": self.url, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "none"}
        ended = yield self.run_with(values, "host", "list")
        self.assertEqual(ended.status, 3)
        self.assertIn("SignatureRefused", ended.err)

    @inlineCallbacks
    def test_pipe(self) -> Steps:
        """A reader that goes away is no traceback."""
        line = f'"{sys.executable}" -m fabric.manage.main --cloudrc cloudrc user list | true'
        ended = yield deferToThread(
            subprocess.run,
            ["sh", "-c", line],
            cwd=self.data,
            env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        self.assertEqual(ended.stderr, "")

    @inlineCallbacks
    def test_unwritten(self) -> Steps:
        """An answer that a full disk does not take is one line and exit status 5."""
        ended = yield deferToThread(
            subprocess.run,
            ["sh", "-c", f'exec "{sys.executable}" -m fabric.manage.main --cloudrc cloudrc user list > /dev/full'],
            cwd=self.data,
            env={"PYTHONPATH": str(SOURCES), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        said = "cloud-manage: the answer can't be written: No space left on device\n"
        self.assertEqual((ended.returncode, ended.stderr), (5, said))

    @inlineCallbacks
    def test_locale(self) -> Steps:
        """A letter that the terminal's locale does not have is shown by its number."""
        yield self.well("host", "disable", "node1", "--reason", "M\u00fcll")
        ended = yield self.program("--cloudrc", "cloudrc", "host", "list", PYTHONIOENCODING="ascii")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("M\\xfcll", ended.stdout)
