"""
C{DryRun}, and who may do what: of every action.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import inlineCallbacks

from tests.integration.ec2_door import ANN, DoorCase, has_dry_run, with_roles
from tests.integration.ec2_refusals import MALFORMED, malformed, unknown
from tests.integration.ec2_requests import REQUESTS
from tests.integration.ec2_world import filled, named
from tests.unit.ec2_stage import botocore_model

Steps = Generator[Any, Any, None]

WITHOUT = {"DescribeIdFormat", "DescribeIdentityIdFormat", "ModifyInstancePlacement"}
"""Actions whose input in EC2's model has no C{DryRun}."""

DRY = {"DryRun": True}
WOULD = (412, "DryRunOperation")
DENIED = (403, "UnauthorizedOperation")

KEYS = {"CreateKeyPair", "ImportKeyPair", "DeleteKeyPair"}
SECRETS = {"GetPasswordData"}


def needed(action: str) -> set[str]:
    """
    The roles of which somebody needs one; none for what everybody may.
    """
    if action in KEYS or (action.startswith(("Describe", "Get")) and action not in SECRETS):
        return set()
    if action.endswith("Tags"):
        return {"cloudadmin", "projectmanager", "sysadmin", "netadmin"}
    if "SecurityGroup" in action or "Address" in action:
        return {"cloudadmin", "projectmanager", "netadmin"}
    return {"cloudadmin", "projectmanager", "sysadmin"}


class DryRunTests(DoorCase):
    """
    What a request would do is told, and not done.
    """

    timeout = 300

    def test_known(self) -> None:
        """EC2's model knows C{DryRun} of every action but three."""
        self.assertEqual({name for name in self.registry.names() if not has_dry_run(name)}, WITHOUT)

    @inlineCallbacks
    def test_would_succeed(self) -> Steps:
        """Each request that would succeed is answered so, and changes nothing."""
        before = yield self.seen()
        for action, requests in REQUESTS.items():
            expected = (400, "UnknownParameter") if action in WITHOUT else WOULD
            for request in requests:
                form = {**self.fields(action, filled(request, self.ann)), "DryRun": "true"}
                self.assertEqual((yield self.send(form, ANN)), expected, (action, request))
        self.assertEqual((yield self.seen()), before)
        self.assertEqual((yield self.store.check(False)), [])

    @inlineCallbacks
    def test_false(self) -> Steps:
        """C{DryRun=false} is as none."""
        before = yield self.seen()
        asked = filled({"InstanceIds": ["$stopped"], "DryRun": False}, self.ann)
        self.assertEqual((yield self.knock("StartInstances", ANN, asked)), (200, ""))
        self.assertNotEqual((yield self.seen()), before)

    @inlineCallbacks
    def test_would_fail(self) -> Steps:
        """What names nobody's things, or can't be an id, is refused as without C{DryRun}."""
        before = yield self.seen()
        for action, requests in REQUESTS.items():
            for request in requests if action not in WITHOUT else ():
                for name in sorted(named(request)):
                    wrong = [unknown(name), self.bob[name], *([malformed(name)] if name in MALFORMED else [])]
                    for value in wrong:
                        asked = filled(request, self.ann | {name: value})
                        dry = yield self.knock(action, ANN, asked | DRY)
                        self.assertNotEqual(dry, (200, ""), (action, asked))
                        if dry != WOULD:
                            self.assertEqual((yield self.knock(action, ANN, asked)), dry, (action, asked))
                        elif action != "DeleteKeyPair":  # which does nothing, and succeeds, for a name of nobody's
                            self.fail(f"{action} {asked} would succeed")
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def test_parameters_first(self) -> Steps:
        """A request without a parameter that it must have is no request, dry or not."""
        for action in REQUESTS:
            shape = botocore_model().operation_model(action).input_shape
            if shape is None or not shape.required_members or action in WITHOUT:
                continue
            answer = yield self.send({"Action": action, "DryRun": "true"}, ANN)
            self.assertEqual(answer, (400, "MissingParameter"), action)
            answer = yield self.send({"Action": action, "DryRun": "perhaps"}, ANN)
            self.assertEqual(answer, (400, "InvalidParameterValue"), action)

    @inlineCallbacks
    def test_state(self) -> Steps:
        """What the state of a thing forbids is refused as without C{DryRun}."""
        for code, action, request in (
            ("IncorrectInstanceState", "RebootInstances", {"InstanceIds": ["$stopped"]}),
            ("OperationNotPermitted", "TerminateInstances", {"InstanceIds": ["$protected"]}),
            ("VolumeInUse", "DeleteVolume", {"VolumeId": "$attached"}),
            ("IncorrectState", "DetachVolume", {"VolumeId": "$volume"}),
        ):
            asked = filled(request, self.ann)
            for more in (DRY, {}):
                self.assertEqual((yield self.knock(action, ANN, asked | more)), (400, code), (action, more))


class RoleTests(DoorCase):
    """
    Who may do what.
    """

    timeout = 300

    @inlineCallbacks
    def test_roles(self) -> Steps:
        """With each role just what it allows would be done; the rest is denied, dry or not."""
        before = yield self.seen()
        for role in ("developer", "itsec", "sysadmin", "netadmin", "projectmanager", "cloudadmin"):
            caller = with_roles(role)
            for action, requests in REQUESTS.items():
                dry = {} if action in WITHOUT else {"DryRun": "true"}
                form = self.fields(action, filled(requests[0], self.ann))
                if needed(action) and role not in needed(action):
                    self.assertEqual((yield self.send(form, caller)), DENIED, (role, action))
                    self.assertEqual((yield self.send({**form, **dry}, caller)), DENIED, (role, action))
                elif dry:
                    self.assertEqual((yield self.send({**form, **dry}, caller)), WOULD, (role, action))
            self.assertEqual((yield self.seen()), before, role)

    @inlineCallbacks
    def test_denied_before_all(self) -> Steps:
        """Who may not do it is not told whether a thing is there."""
        for value in (self.ann["instance"], self.bob["instance"], unknown("instance"), "nonsense"):
            answer = yield self.knock("TerminateInstances", with_roles("developer"), {"InstanceIds": [value]})
            self.assertEqual(answer, DENIED)
