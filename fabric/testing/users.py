"""
What every L{IDirectory} must do.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from zope.interface.verify import verifyObject

from fabric import errors
from fabric.users.interface import Identity, IDirectory, Project, User

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Case
else:
    _Case = object

Steps = Generator[Deferred[Any], Any, None]

HOSTILE = (
    "*",
    ")(uid=*",
    "A*",
    "\\2a",
    "A)(|(accessKey=*)",
    "\0",
    "",
    ":",
    "*:web",
    "admin,ou=Users",
    "ключ",
    "\ud800",
)
"""Access keys and ids that would match if they were taken for syntax."""


class DirectoryContract(_Case):
    """
    Mix in before L{twisted.trial.unittest.TestCase} and implement
    L{make_directory}.
    """

    directory: IDirectory

    def make_directory(self) -> Deferred[IDirectory]:
        """
        @return: an empty directory.  It is stopped after the test.
        """
        raise NotImplementedError

    @inlineCallbacks
    def setUp(self) -> Steps:  # type: ignore[override]
        self.directory = yield self.make_directory()
        self.addCleanup(lambda: self.directory.stop())

    @inlineCallbacks
    def populate(self) -> Steps:
        """Ann manages web, of which Bob is sysadmin; Root is cloudadmin."""
        here = self.directory
        for id, key, admin in (("ann", "ANN", False), ("bob", "BOB", False), ("root", "ROOT", True)):
            yield here.create_user(id, key, f"{id}-secret", admin)
        yield here.create_project("web", "ann", "Our shop", ("bob",))
        yield here.add_role("bob", "sysadmin", "web")

    @inlineCallbacks
    def refuses(self, why: type[BaseException], deferred: Deferred[Any]) -> Generator[Deferred[Any], Any, Any]:
        """Fails unless C{deferred} fails so."""
        return (yield self.assertFailure(deferred, why))

    def test_interface(self) -> None:
        """It provides L{IDirectory}."""
        verifyObject(IDirectory, self.directory)

    @inlineCallbacks
    def test_userIsFound(self) -> Steps:
        """A user that was made is found by id."""
        made = yield self.directory.create_user("ann", "KEY", "SECRET", False)
        self.assertEqual(made, User("ann", "ann", "KEY", "SECRET", False))
        self.assertEqual((yield self.directory.user("ann")), made)

    @inlineCallbacks
    def test_keysAreMade(self) -> Steps:
        """Keys that are not given are made, fresh for each user."""
        one = yield self.directory.create_user("one", None, None, False)
        two = yield self.directory.create_user("two", None, None, False)
        self.assertEqual((len(one.access_key), len(one.secret_key)), (20, 40))
        self.assertEqual(len({one.access_key, two.access_key, one.secret_key, two.secret_key}), 4)

    @inlineCallbacks
    def test_idIsUnique(self) -> Steps:
        """A second user of one id is refused."""
        yield self.directory.create_user("ann", "KEY", "SECRET", False)
        why = yield self.refuses(errors.AlreadyExists, self.directory.create_user("ann", "OTHER", "S", False))
        self.assertEqual((why.kind, why.name), ("user", "ann"))

    @inlineCallbacks
    def test_keyIsUnique(self) -> Steps:
        """A second user of one access key is refused, made or modified."""
        yield self.directory.create_user("ann", "KEY", "SECRET", False)
        yield self.directory.create_user("bob", "BOB", "SECRET", False)
        why = yield self.refuses(errors.AlreadyExists, self.directory.create_user("cid", "KEY", "S", False))
        self.assertEqual((why.kind, why.name), ("access key", "KEY"))
        yield self.refuses(errors.AlreadyExists, self.directory.modify_user("bob", "KEY", None, None))

    @inlineCallbacks
    def test_badIds(self) -> Steps:
        """Ids that are no ids make neither users nor projects, and find none."""
        yield self.populate()
        for bad in (*HOSTILE, "a b", "a,b*(c)\\", "x" * 65, "ann+cn=bob", "é"):
            yield self.refuses(errors.InvalidValue, self.directory.create_user(bad, None, None, False))
            yield self.refuses(errors.InvalidValue, self.directory.create_project(bad, "ann", "", ()))
            yield self.refuses(errors.NotFound, self.directory.user(bad))
            yield self.refuses(errors.NotFound, self.directory.project(bad))
            yield self.refuses(errors.NotFound, self.directory.delete_user(bad))

    @inlineCallbacks
    def test_oddIds(self) -> Steps:
        """The ids at the edge of what is allowed work everywhere."""
        for id in ("-._", "0", "x" * 64, "A.b-c_9"):
            user = yield self.directory.create_user(id, None, None, False)
            yield self.directory.create_project(id, id, "", ())
            yield self.directory.add_role(id, "developer", id)
            got = yield self.directory.identify(user.access_key)
            self.assertEqual((got.user, got.project), (id, id))
            self.assertEqual(got.roles, {"projectmanager", "developer"})

    @inlineCallbacks
    def test_badKeys(self) -> Steps:
        """Keys that could not be told apart from syntax are not accepted."""
        for access, secret in (("A:B", "S"), ("", "S"), ("A B", "S"), ("A\n", "S"), ("A", "é"), ("A", "")):
            yield self.refuses(errors.InvalidValue, self.directory.create_user("u", access, secret, False))

    @inlineCallbacks
    def test_hostileKeys(self) -> Steps:
        """No access key is taken for a pattern."""
        yield self.populate()
        for hostile in HOSTILE:
            yield self.refuses(errors.NotFound, self.directory.identify(hostile))

    @inlineCallbacks
    def test_starIsAKey(self) -> Steps:
        """A key of special characters identifies its user, and no other."""
        yield self.populate()
        yield self.directory.create_user("star", "*)(uid=*\\2a", "S", True)
        got = yield self.directory.identify("*)(uid=*\\2a:web")
        self.assertEqual(got.user, "star")

    @inlineCallbacks
    def test_keysMindCase(self) -> Steps:
        """An access key in another case is another key."""
        yield self.populate()
        yield self.refuses(errors.NotFound, self.directory.identify("ann"))
        yield self.refuses(errors.NotFound, self.directory.user("ANN"))

    @inlineCallbacks
    def test_users(self) -> Steps:
        """All users are listed by id."""
        yield self.populate()
        self.assertEqual([user.id for user in (yield self.directory.users())], ["ann", "bob", "root"])

    @inlineCallbacks
    def test_manyUsers(self) -> Steps:
        """A listing is whole when it takes many pages."""
        names = [f"user-{n:03}" for n in range(300)]
        for start in range(0, 300, 50):
            batch = names[start : start + 50]
            yield gatherResults([self.directory.create_user(name, None, None, False) for name in batch])
        self.assertEqual([user.id for user in (yield self.directory.users())], names)

    @inlineCallbacks
    def test_listingsAreTheCallers(self) -> Steps:
        """What a caller does to a listing is not seen by the next."""
        yield self.populate()
        (yield self.directory.users()).clear()
        self.assertEqual(len((yield self.directory.users())), 3)

    @inlineCallbacks
    def test_modifyUser(self) -> Steps:
        """What is given is changed, and what is not stays."""
        yield self.populate()
        yield self.directory.identify("ANN")
        changed = yield self.directory.modify_user("ann", "NEW", None, True)
        self.assertEqual(changed, User("ann", "ann", "NEW", "ann-secret", True))
        self.assertEqual((yield self.directory.modify_user("ann", None, "other", None)).secret_key, "other")
        yield self.refuses(errors.NotFound, self.directory.identify("ANN"))
        self.assertEqual((yield self.directory.identify("NEW")).secret_key, "other")

    @inlineCallbacks
    def test_unknownUser(self) -> Steps:
        """What needs a user refuses one that does not exist."""
        yield self.populate()
        here = self.directory
        for attempt in (
            here.user("eve"),
            here.delete_user("eve"),
            here.modify_user("eve", None, None, True),
            here.roles("eve", None),
            here.add_role("eve", "itsec", None),
            here.remove_role("eve", "itsec", None),
            here.add_member("web", "eve"),
            here.remove_member("web", "eve"),
            here.projects("eve"),
            here.create_project("p", "eve", "", ()),
            here.create_project("p", "ann", "", ("eve",)),
            here.modify_project("web", "eve", None),
        ):
            self.assertEqual((yield self.refuses(errors.NotFound, attempt)).kind, "user")

    @inlineCallbacks
    def test_unknownProject(self) -> Steps:
        """What needs a project refuses one that does not exist."""
        yield self.populate()
        here = self.directory
        for attempt in (
            here.project("no"),
            here.delete_project("no"),
            here.modify_project("no", None, "x"),
            here.add_member("no", "ann"),
            here.remove_member("no", "ann"),
            here.roles("ann", "no"),
            here.add_role("ann", "sysadmin", "no"),
            here.remove_role("ann", "sysadmin", "no"),
            here.identify("ANN:no"),
            here.identify("ROOT:no"),
        ):
            self.assertEqual((yield self.refuses(errors.NotFound, attempt)).kind, "project")

    @inlineCallbacks
    def test_deleteUser(self) -> Steps:
        """A deleted user is out of projects, roles, and reach of its key."""
        yield self.populate()
        yield self.directory.add_role("bob", "itsec", None)
        yield self.directory.identify("BOB")
        yield self.directory.delete_user("bob")
        yield self.refuses(errors.NotFound, self.directory.identify("BOB"))
        self.assertEqual((yield self.directory.project("web")).members, ("ann",))
        yield self.directory.create_user("bob", "BOB", "S", False)
        yield self.directory.add_member("web", "bob")
        self.assertEqual((yield self.directory.roles("bob", "web")), frozenset())
        self.assertEqual((yield self.directory.roles("bob", None)), frozenset())

    @inlineCallbacks
    def test_deleteManager(self) -> Steps:
        """One who manages a project can't be deleted."""
        yield self.populate()
        why = yield self.refuses(errors.InUse, self.directory.delete_user("ann"))
        self.assertEqual((why.id, why.by), ("ann", "web"))

    @inlineCallbacks
    def test_project(self) -> Steps:
        """A project has its manager, who is a member, and its members, by id."""
        yield self.populate()
        self.assertEqual((yield self.directory.project("web")), Project("web", "ann", "Our shop", ("ann", "bob")))

    @inlineCallbacks
    def test_projectIsUnique(self) -> Steps:
        """A second project of one id is refused."""
        yield self.populate()
        yield self.refuses(errors.AlreadyExists, self.directory.create_project("web", "bob", "", ()))

    @inlineCallbacks
    def test_projects(self) -> Steps:
        """Projects are listed by id, all or those of a member; roles are none."""
        yield self.populate()
        yield self.directory.create_project("cms", "bob", "", ())
        self.assertEqual([each.id for each in (yield self.directory.projects(None))], ["cms", "web"])
        self.assertEqual([each.id for each in (yield self.directory.projects("bob"))], ["cms", "web"])
        self.assertEqual([each.id for each in (yield self.directory.projects("ann"))], ["web"])
        self.assertEqual((yield self.directory.projects("root")), [])

    @inlineCallbacks
    def test_descriptions(self) -> Steps:
        """A description comes back as it was given, whatever is in it."""
        yield self.populate()
        for text in ("a,b*(c)\\", "Größe 日本 🦆", "two\nlines\r\n", ":<x", "x" * 20_000, "#", "dn: x", "\x01", ""):
            changed = yield self.directory.modify_project("web", None, text)
            self.assertEqual(changed.description, text)
        yield self.refuses(errors.InvalidValue, self.directory.modify_project("web", None, "\ud800"))

    @inlineCallbacks
    def test_newManager(self) -> Steps:
        """A new manager becomes a member; the old one stays one."""
        yield self.populate()
        changed = yield self.directory.modify_project("web", "root", None)
        self.assertEqual(changed, Project("web", "root", "Our shop", ("ann", "bob", "root")))
        self.assertIn("projectmanager", (yield self.directory.identify("ROOT:web")).roles)
        self.assertNotIn("projectmanager", (yield self.directory.identify("ANN:web")).roles)

    @inlineCallbacks
    def test_deleteProject(self) -> Steps:
        """A deleted project is gone with its roles."""
        yield self.populate()
        yield self.directory.delete_project("web")
        yield self.refuses(errors.NotFound, self.directory.project("web"))
        yield self.directory.create_project("web", "ann", "", ("bob",))
        self.assertEqual((yield self.directory.roles("bob", "web")), frozenset())

    @inlineCallbacks
    def test_members(self) -> Steps:
        """Members come and go, with their roles; repeating is safe."""
        yield self.populate()
        for _ in range(2):
            yield self.directory.add_member("web", "root")
        self.assertEqual((yield self.directory.project("web")).members, ("ann", "bob", "root"))
        for _ in range(2):
            yield self.directory.remove_member("web", "bob")
        self.assertEqual((yield self.directory.project("web")).members, ("ann", "root"))
        yield self.directory.add_member("web", "bob")
        self.assertEqual((yield self.directory.roles("bob", "web")), frozenset())

    @inlineCallbacks
    def test_managerStays(self) -> Steps:
        """The manager can't be removed from the project."""
        yield self.populate()
        yield self.refuses(errors.InUse, self.directory.remove_member("web", "ann"))

    @inlineCallbacks
    def test_roles(self) -> Steps:
        """Roles are held in one project; repeating is safe."""
        yield self.populate()
        yield self.directory.create_project("cms", "bob", "", ())
        for _ in range(2):
            yield self.directory.add_role("bob", "netadmin", "web")
        self.assertEqual((yield self.directory.roles("bob", "web")), {"sysadmin", "netadmin"})
        self.assertEqual((yield self.directory.roles("bob", "cms")), frozenset())
        self.assertEqual((yield self.directory.roles("bob", None)), frozenset())
        for _ in range(2):
            yield self.directory.remove_role("bob", "netadmin", "web")
        self.assertEqual((yield self.directory.roles("bob", "web")), {"sysadmin"})

    @inlineCallbacks
    def test_sharedRole(self) -> Steps:
        """One who gives up a role leaves it to the others."""
        yield self.populate()
        yield self.directory.add_role("ann", "sysadmin", "web")
        yield self.directory.remove_role("bob", "sysadmin", "web")
        self.assertEqual((yield self.directory.roles("ann", "web")), {"sysadmin"})
        self.assertEqual((yield self.directory.roles("bob", "web")), frozenset())

    @inlineCallbacks
    def test_globalRoles(self) -> Steps:
        """cloudadmin and itsec can be held everywhere, the others can't."""
        yield self.populate()
        for role in ("cloudadmin", "itsec"):
            yield self.directory.add_role("bob", role, None)
            yield self.directory.add_role("bob", role, None)
        self.assertEqual((yield self.directory.roles("bob", None)), {"cloudadmin", "itsec"})
        self.assertTrue((yield self.directory.user("bob")).admin)
        self.assertEqual((yield self.directory.identify("BOB:web")).roles, {"cloudadmin", "itsec", "sysadmin"})
        for role in ("cloudadmin", "itsec"):
            yield self.directory.remove_role("bob", role, None)
            yield self.directory.remove_role("bob", role, None)
        self.assertEqual((yield self.directory.roles("bob", None)), frozenset())
        for role in ("sysadmin", "netadmin", "developer", "nonsense", "projectmanager"):
            yield self.refuses(errors.InvalidValue, self.directory.add_role("bob", role, None))
        for role in ("nonsense", "projectmanager", "", "cn=x"):
            yield self.refuses(errors.InvalidValue, self.directory.add_role("bob", role, "web"))

    @inlineCallbacks
    def test_identify(self) -> Steps:
        """An identity has user, project, keys and the union of roles."""
        yield self.populate()
        expected = Identity("bob", "web", frozenset({"sysadmin"}), "BOB", "bob-secret")
        self.assertEqual((yield self.directory.identify("BOB:web")), expected)
        self.assertEqual((yield self.directory.identify("BOB")), expected)
        self.assertEqual((yield self.directory.identify("ANN")).roles, {"projectmanager"})

    @inlineCallbacks
    def test_usualProject(self) -> Steps:
        """Without a project: the one named like the user, else the first."""
        yield self.populate()
        yield self.directory.create_project("cms", "bob", "", ())
        self.assertEqual((yield self.directory.identify("BOB")).project, "cms")
        yield self.directory.create_project("bob", "bob", "", ())
        self.assertEqual((yield self.directory.identify("BOB")).project, "bob")

    @inlineCallbacks
    def test_notAMember(self) -> Steps:
        """One who is not a member is denied, unless cloudadmin."""
        yield self.populate()
        yield self.directory.create_project("cms", "ann", "", ())
        yield self.refuses(errors.Denied, self.directory.identify("BOB:cms"))
        got = yield self.directory.identify("ROOT:cms")
        self.assertEqual((got.project, got.roles), ("cms", {"cloudadmin"}))

    @inlineCallbacks
    def test_noProject(self) -> Steps:
        """One who is in no project can't act without naming one."""
        yield self.directory.create_user("ann", "ANN", "S", False)
        yield self.refuses(errors.Denied, self.directory.identify("ANN"))

    @inlineCallbacks
    def test_ownChangesAreSeen(self) -> Steps:
        """A change is seen at once by the object that made it."""
        yield self.populate()
        yield self.refuses(errors.NotFound, self.directory.identify("NEW"))
        yield self.directory.create_user("new", "NEW", "S", False)
        yield self.refuses(errors.Denied, self.directory.identify("NEW"))
        yield self.directory.add_member("web", "new")
        self.assertEqual((yield self.directory.identify("NEW")).project, "web")
        yield self.directory.add_role("new", "developer", "web")
        self.assertEqual((yield self.directory.identify("NEW")).roles, {"developer"})
        yield self.directory.remove_member("web", "new")
        yield self.refuses(errors.Denied, self.directory.identify("NEW"))

    @inlineCallbacks
    def test_together(self) -> Steps:
        """Changes that are made at once are all made."""
        yield self.populate()
        names = [f"u{n}" for n in range(20)]
        yield gatherResults([self.directory.create_user(name, None, None, False) for name in names])
        yield gatherResults([self.directory.add_member("web", name) for name in names])
        yield gatherResults([self.directory.add_role(name, "netadmin", "web") for name in names])
        self.assertEqual((yield self.directory.project("web")).members, tuple(sorted(["ann", "bob", *names])))
        for name in names:
            self.assertEqual((yield self.directory.roles(name, "web")), {"netadmin"})
