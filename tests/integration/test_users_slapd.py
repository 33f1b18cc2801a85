"""
The LDAP directory against OpenLDAP, configured by the example in C{etc/ldap}.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import TestCase

from fabric import errors
from fabric.testing.slapd import EXAMPLES, LAYOUT, Slapd
from fabric.testing.users import DirectoryContract
from fabric.users import session as wire
from fabric.users.bootstrap import bootstrap
from fabric.users.ldap import LDAPDirectory
from fabric.users.memo import Ages
from fabric.users.session import Security, Server, Session

Steps = Generator[Deferred[Any], Any, None]


class _Slapd(TestCase):
    """Starts a server, stops it, and makes clients of it."""

    @inlineCallbacks
    def start(self, page_limit: int = 500) -> Steps:
        self.slapd = Slapd(reactor, page_limit)
        self.addCleanup(self.slapd.stop)
        yield self.slapd.start()

    def server(self, **changes: Any) -> Server:
        given = Server(self.slapd.endpoint, self.slapd.bind_dn, self.slapd.password, retry=0.0)
        return attrs.evolve(given, **changes)

    def client(self, ages: Ages | None = None, **changes: Any) -> LDAPDirectory:
        directory = LDAPDirectory(reactor, self.server(**changes), LAYOUT, ages)
        self.addCleanup(directory.stop)
        return directory


class SlapdDirectoryTests(DirectoryContract, _Slapd):
    """The contract of a directory, on OpenLDAP with pages of 20."""

    @inlineCallbacks
    def make_directory(self) -> Generator[Deferred[Any], Any, LDAPDirectory]:
        yield self.start(page_limit=20)
        return self.client(page=20)


class SharedDirectoryTests(_Slapd):
    """Several clients of one server."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield self.start()

    @inlineCallbacks
    def test_prepare(self) -> Steps:
        """The entries that others stand under are made where they are missing."""
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        yield session.delete(LAYOUT.roles)
        directory = self.client()
        admin = yield bootstrap(directory)
        self.assertEqual((yield bootstrap(directory)), admin)
        yield directory.add_role("admin", "itsec", None)
        self.assertEqual((yield directory.roles("admin", None)), {"cloudadmin", "itsec"})

    @inlineCallbacks
    def test_othersChangesAreSeenInTime(self) -> Steps:
        """What another client changed is seen when the memory has aged."""
        one, two = self.client(), self.client(Ages(fresh=0.0, refusal=0.0))
        yield bootstrap(one)
        yield two.create_user("ann", "ANN", "S", False)
        yield two.add_member("admin", "ann")
        self.assertEqual((yield one.identify("ANN")).roles, frozenset())
        yield one.add_role("ann", "sysadmin", "admin")
        self.assertEqual((yield two.identify("ANN")).roles, {"sysadmin"})

    @inlineCallbacks
    def test_sameKeyAtOnce(self) -> Steps:
        """Two clients that give one access key at once don't both succeed."""
        one, two = self.client(), self.client()
        yield bootstrap(one)
        made = yield gatherResults(
            [
                directory.create_user(id, "KEY", "S", False).addErrback(lambda why: why.trap(errors.AlreadyExists))
                for directory, id in ((one, "ann"), (two, "bob"))
            ]
        )
        kept = [each.id for each in made if each is not errors.AlreadyExists]
        self.assertLessEqual(len(kept), 1)
        holders = [user.id for user in (yield one.users()) if user.access_key == "KEY"]
        self.assertEqual(holders, kept)

    @inlineCallbacks
    def test_company(self) -> Steps:
        """People at any depth below the users' subtree are found, and join projects."""
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        yield session.add(f"ou=Berlin,{LAYOUT.users}", {"objectClass": ["organizationalUnit"], "ou": ["Berlin"]})
        person = {
            "objectClass": ["inetOrgPerson", "novaUser"],
            "uid": ["ann"],
            "cn": ["Ann Größe"],
            "sn": ["Größe"],
            "accessKey": ["ANN"],
            "secretKey": ["S"],
        }
        yield session.add(f"UID=ann, OU=Berlin,{LAYOUT.users}", person)
        directory = self.client()
        yield bootstrap(directory)
        yield directory.create_project("web", "ann", "", ())
        self.assertEqual((yield directory.user("ann")).name, "Ann Größe")
        self.assertEqual((yield directory.project("web")).manager, "ann")
        self.assertEqual((yield directory.identify("ANN")).roles, {"projectmanager"})

    @inlineCallbacks
    def test_namesakes(self) -> Steps:
        """Of two people with one id, at two places, neither has what is the other's."""
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        directory = self.client()
        yield bootstrap(directory)
        yield directory.create_user("ann", "ANN", "S", False)
        yield directory.create_project("web", "ann", "", ())
        yield session.add(f"ou=Berlin,{LAYOUT.users}", {"objectClass": ["organizationalUnit"], "ou": ["Berlin"]})
        other = {"objectClass": ["inetOrgPerson", "novaUser"], "uid": ["ann"], "cn": ["x"], "sn": ["x"]}
        dn = f"uid=ann,ou=Berlin,{LAYOUT.users}"
        yield session.add(dn, {**other, "accessKey": ["ANN2"], "secretKey": ["S"]})
        yield session.modify(LAYOUT.project("web"), [(wire.ADD, "member", [dn])])
        self.assertEqual((yield directory.identify("ANN2:web")).roles, frozenset())
        yield self.assertFailure(self.client().user("ann"), errors.NotFound)

    @inlineCallbacks
    def test_lastOfAProject(self) -> Steps:
        """One who alone is in a project is not deleted, nor the project."""
        directory = self.client()
        yield bootstrap(directory)
        yield directory.create_user("ann", None, None, False)
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        yield directory.create_project("web", "ann", "", ())
        yield session.modify(LAYOUT.project("web"), [(wire.REPLACE, "projectManager", [LAYOUT.user("admin")])])
        why = yield self.assertFailure(directory.delete_user("ann"), errors.InUse)
        self.assertEqual((why.id, why.by), ("ann", "web"))
        self.assertEqual((yield directory.project("web")).members, ("ann",))

    @inlineCallbacks
    def test_keyByOtherTools(self) -> Steps:
        """The server refuses to give a user another's key, whoever writes it."""
        directory = self.client()
        yield bootstrap(directory)
        yield directory.create_user("ann", "ANN", "S", True)
        yield directory.create_user("bob", "BOB", "S", True)
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        why = yield self.assertFailure(
            session.modify(LAYOUT.user("bob"), [(wire.REPLACE, "accessKey", ["ANN"])]), wire.Refused
        )
        self.assertEqual(why.code, wire.CONSTRAINT_VIOLATION)


class LostServerTests(_Slapd):
    """What happens when the server goes away."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield self.start()

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """After a kill and a restart the next question is answered."""
        directory = self.client(Ages(fresh=0.0, stale=0.0))
        admin = yield bootstrap(directory)
        yield self.slapd.kill()
        yield self.assertFailure(directory.user("admin"), errors.Unavailable)
        yield self.slapd.start()
        self.assertEqual((yield directory.user("admin")), admin)

    @inlineCallbacks
    def test_restartUnnoticed(self) -> Steps:
        """A server that was restarted between two questions is not noticed."""
        directory = self.client(Ages(fresh=0.0, stale=0.0))
        admin = yield bootstrap(directory)
        yield self.slapd.kill()
        yield self.slapd.start()
        self.assertEqual((yield directory.user("admin")), admin)
        yield directory.create_user("ann", None, None, False)

    @inlineCallbacks
    def test_oldAnswers(self) -> Steps:
        """While the server is gone, who was known is still known; others are not refused but unknown."""
        directory = self.client(Ages(fresh=0.0, stale=60.0, refusal=0.0))
        admin = yield bootstrap(directory)
        identity = yield directory.identify(admin.access_key)
        yield self.slapd.kill()
        self.assertEqual((yield directory.identify(admin.access_key)), identity)
        yield self.assertFailure(directory.identify("OTHER"), errors.Unavailable)
        yield self.assertFailure(directory.create_user("ann", None, None, False), errors.Unavailable)

    @inlineCallbacks
    def test_silentServer(self) -> Steps:
        """A server that does not answer is given up in time, and used again when it does."""
        directory = self.client(Ages(fresh=0.0, stale=0.0), timeout=1.5)
        yield bootstrap(self.client())
        yield directory.user("admin")
        self.slapd.freeze()
        why = yield self.assertFailure(directory.user("admin"), errors.Unavailable)
        self.assertIn("no answer in 1.5 s", why.why)
        why = yield self.assertFailure(directory.user("admin"), errors.Unavailable)
        self.assertIn("no session within 1.5 s", why.why)
        self.slapd.thaw()
        self.assertEqual((yield directory.user("admin")).id, "admin")

    @inlineCallbacks
    def test_killedAtWork(self) -> Steps:
        """Questions under way when the server dies end with an error, all of them."""
        directory = self.client(Ages(fresh=0.0, stale=0.0))
        yield bootstrap(directory)
        self.slapd.freeze()
        asked = [directory.user(f"u{n}") for n in range(20)] + [directory.create_user("ann", None, None, False)]
        yield self.slapd.kill()
        for each in asked:
            yield self.assertFailure(each, errors.Unavailable)

    @inlineCallbacks
    def test_wrongPassword(self) -> Steps:
        """A wrong password is told as such, without the password."""
        why = yield self.assertFailure(self.client(password="geheim").users(), errors.Unavailable)
        self.assertIn(f"refused to bind {self.slapd.bind_dn}: invalidCredentials", why.why)
        self.assertNotIn("geheim", str(why))

    @inlineCallbacks
    def test_noRights(self) -> Steps:
        """An account without rights sees nobody, and can change nothing."""
        session = Session(reactor, self.server())
        self.addCleanup(session.stop)
        other = {
            "objectClass": ["organizationalRole", "simpleSecurityObject"],
            "cn": ["other"],
            "userPassword": ["other"],
        }
        yield session.add(f"cn=other,{LAYOUT.base}", other)
        yield bootstrap(self.client())
        directory = self.client(bind_dn=f"cn=other,{LAYOUT.base}", password="other")
        self.assertEqual((yield directory.users()), [])
        yield self.assertFailure(directory.create_user("ann", None, None, False), errors.Unavailable)

    @inlineCallbacks
    def test_nobodyThere(self) -> Steps:
        """Where nothing listens, the error says where."""
        directory = self.client(endpoint="unix:path=/nonexistent/ldapi")
        why = yield self.assertFailure(directory.users(), errors.Unavailable)
        self.assertIn("/nonexistent/ldapi", str(why))


class SecurityTests(_Slapd):
    """TLS, and that it is verified."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield self.start()

    def secure(self, mode: str, hostname: str, authority: str) -> LDAPDirectory:
        port = self.slapd.tls_port if mode == "ldaps" else self.slapd.port
        return self.client(
            endpoint=f"tcp:127.0.0.1:{port}", security=Security(mode, hostname=hostname, authority=authority)
        )

    @inlineCallbacks
    def test_verified(self) -> Steps:
        """StartTLS and LDAPS work with the right authority and name."""
        for mode in ("starttls", "ldaps"):
            for name in ("localhost", "127.0.0.1"):
                self.assertEqual((yield self.secure(mode, name, self.slapd.authority).users()), [])

    @inlineCallbacks
    def test_otherName(self) -> Steps:
        """A certificate for another name is refused."""
        for mode in ("starttls", "ldaps"):
            directory = self.secure(mode, "ldap.example.com", self.slapd.authority)
            why = yield self.assertFailure(directory.users(), errors.Unavailable)
            self.assertIn("certificate", why.why.lower())

    @inlineCallbacks
    def test_otherAuthority(self) -> Steps:
        """A certificate of an unknown authority is refused."""
        for mode in ("starttls", "ldaps"):
            why = yield self.assertFailure(self.secure(mode, "localhost", "").users(), errors.Unavailable)
            self.assertIn("certificate", why.why.lower())


class SchemaTests(TestCase):
    """The files in C{etc/ldap}."""

    def test_configForm(self) -> None:
        """The schema's cn=config form is accepted by slapadd."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        parts = ["dn: cn=config\nobjectClass: olcGlobal\ncn: config\n"]
        parts.append("dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n")
        parts += [Path(f"/etc/ldap/schema/{name}.ldif").read_text() for name in ("core", "cosine", "inetorgperson")]
        parts.append((EXAMPLES / "fabric.ldif").read_text())
        (directory / "all.ldif").write_text("\n".join(parts))
        (directory / "config").mkdir()
        command = ["/usr/sbin/slapadd", "-n", "0", "-F", directory / "config", "-l", directory / "all.ldif"]
        done = subprocess.run(command, capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())

    def test_sameNames(self) -> None:
        """Both forms of the schema define the same names by the same numbers."""
        schema = (EXAMPLES / "fabric.schema").read_text()
        config = (EXAMPLES / "fabric.ldif").read_text()
        for name in ("accessKey", "secretKey", "isNovaAdmin", "projectManager", "novaUser", "novaProject"):
            number = schema.split(f"NAME '{name}'")[0].rsplit("nova", 1)[1].strip()
            self.assertIn(f"nova{number} NAME '{name}'", config)
