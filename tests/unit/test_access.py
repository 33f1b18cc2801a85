"""
Tests for L{fabric.cloud.access}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fabric.api.admin.guests import GuestActions
from fabric.api.admin.images import ImageActions
from fabric.api.admin.machines import MachineActions
from fabric.api.admin.people import PeopleActions
from fabric.api.admin.quotas import QuotaActions
from fabric.api.admin.registry import actions
from fabric.cloud.access import Caller, permit, permit_admin
from fabric.errors import Denied
from fabric.users.interface import ROLES

CHANGES = ("RunInstances", "TerminateInstances", "ModifyInstanceAttribute", "CreateTags", "CreateSecurityGroup")


def caller(*roles: str) -> Caller:
    """Somebody with roles."""
    return Caller("ann", "web", frozenset(roles), "req-1")


class AccessTests(SynchronousTestCase):
    """
    The table of who may do what.
    """

    def allowed(self, *roles: str) -> set[str]:
        """Admin actions that roles allow, of all that there are."""
        nothing: Any = None
        found = set()
        owners = (
            *(PeopleActions(nothing), MachineActions(nothing, nothing, nothing), QuotaActions(nothing, nothing)),
            *(ImageActions(nothing, nothing), GuestActions(nothing)),
        )
        for name in actions(owners):
            try:
                permit_admin(caller(*roles), name)
            except Denied:
                continue
            found.add(name)
        return found

    def test_admin_actions(self) -> None:
        """cloudadmin may every admin action, itsec those that look, nobody else any."""
        self.assertGreater(len(self.allowed("cloudadmin")), 20)
        self.assertTrue(all(name.startswith("Describe") for name in self.allowed("itsec")))
        self.assertNotIn("GenerateCredentials", self.allowed("itsec"))
        for role in {*ROLES, "projectmanager"} - {"cloudadmin", "itsec"}:
            self.assertEqual(self.allowed(role), set())

    def test_members(self) -> None:
        """Who has no role in a project looks, and changes no machines, groups or tags."""
        permit(caller(), "DescribeInstances")
        for action in CHANGES:
            for roles in ((), ("developer",), ("itsec",)):
                self.assertRaises(Denied, permit, caller(*roles), action)
            permit(caller("projectmanager"), action)
            permit(caller("cloudadmin"), action)

    def test_unknown(self) -> None:
        """An action that the table forgot is the operators' alone."""
        self.assertRaises(Denied, permit, caller("projectmanager", "sysadmin", "netadmin"), "InventSomething")
        permit(caller("cloudadmin"), "InventSomething")
