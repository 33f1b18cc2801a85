"""
What EC2's clients are told for each of the cloud's errors, and the page of
what is implemented.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from fabric import errors
from fabric.api.ec2.coverage import page
from fabric.api.ec2.errors import EC2Error, fault, internal_error, not_validated
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.wire.model import load_model
from fabric.api.signature import SignatureRefused

ONE, TWO = "i-0123456789abcdef0", "i-01234567"

WORDS: list[tuple[Exception, str, str]] = [
    (errors.NotFound("instance", ONE), "InvalidInstanceID.NotFound", f"The instance ID '{ONE}' does not exist"),
    (
        errors.NotFound("instance", f"{ONE}, {TWO}"),
        "InvalidInstanceID.NotFound",
        f"The instance IDs '{ONE}, {TWO}' do not exist",
    ),
    (
        errors.NotFound("instance", f"{ONE}, web"),
        "InvalidInstanceID.Malformed",
        'Invalid id: "web" (expecting "i-...")',
    ),
    (errors.NotFound("image", "ami-01234567"), "InvalidAMIID.NotFound", "The image id '[ami-01234567]' does not exist"),
    (errors.NotFound("image", "aki-01234567"), "InvalidAMIID.NotFound", "The image id '[aki-01234567]' does not exist"),
    (errors.NotFound("image", "cirros"), "InvalidAMIID.Malformed", 'Invalid id: "cirros" (expecting "ami-...")'),
    (errors.NotFound("key_pair", "mine"), "InvalidKeyPair.NotFound", "The key pair 'mine' does not exist"),
    (errors.NotFound("group", "web"), "InvalidGroup.NotFound", "The security group 'web' does not exist"),
    (errors.NotFound("unicorn", "u"), "InvalidParameterValue", "The unicorn 'u' does not exist"),
    (errors.AlreadyExists("key_pair", "k", "key-1"), "InvalidKeyPair.Duplicate", "The keypair 'k' already exists."),
    (errors.AlreadyExists("group", "g", "sg-1"), "InvalidGroup.Duplicate", "The security group 'g' already exists"),
    (
        errors.WrongState("instance", ONE, "terminated", ["stopped"]),
        "IncorrectInstanceState",
        f"The instance '{ONE}' is not in a state from which it can be started.",
    ),
    (
        errors.QuotaExceeded("instances", 10, 9, 12),
        "InstanceLimitExceeded",
        "You have requested more instances (12) than your current instance limit of 10 allows.",
    ),
    (
        errors.QuotaExceeded("cores", 20, 20, 22),
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit of 20 allows.",
    ),
    (errors.QuotaExceeded("widgets", 3, 3, 4), "ResourceLimitExceeded", "You have reached your limit of 3 widgets."),
    (
        errors.Protected("instance", ONE, "disableApiTermination"),
        "OperationNotPermitted",
        f"The instance '{ONE}' may not be terminated. "
        "Modify its 'disableApiTermination' instance attribute and try again.",
    ),
    (
        errors.TokenSpent("t"),
        "IdempotentInstanceTerminated",
        "The request to launch an instance uses the same client token as a previous request for which the instance "
        "has been terminated.",
    ),
    (errors.InUse("group", "sg-1", ONE), "DependencyViolation", "resource sg-1 has a dependent object"),
    (
        errors.InvalidValue("InstanceType", "m9", "not an instance type of this cloud"),
        "InvalidParameterValue",
        "Invalid value 'm9' for InstanceType.",
    ),
    (errors.InvalidValue("PublicKeyMaterial", "", "Key is bad"), "InvalidKey.Format", "Key is bad"),
    (
        errors.PoolEmpty("fixed:net-1", 2),
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    ),
    (
        errors.NoCapacity({"node1": "full"}),
        "InsufficientInstanceCapacity",
        "There is not enough capacity to fulfill your request.",
    ),
]


class FaultTests(SynchronousTestCase):
    """
    L{fault}.
    """

    def told(self, error: Exception, action: str = "StartInstances") -> EC2Error:
        """The refusal, which there must be."""
        refusal = fault(error, action)
        assert refusal is not None
        return refusal

    def test_words(self) -> None:
        """Codes and messages are EC2's."""
        for error, code, message in WORDS:
            refusal = self.told(error)
            self.assertEqual((400, code, message), (refusal.status, refusal.code, refusal.message))

    def test_every_error_is_decided(self) -> None:
        """Each error that an interface lists has words, or is one that only operators may read."""
        operators = {errors.FabricError, errors.UnknownMethod, errors.RemoteFailure, errors.DriverFailure}
        for cls in [value for value in vars(errors).values() if _is_error(value)]:
            blank: Any = {field.name: _blank(str(field.type)) for field in attrs.fields(cls)}
            refusal = fault(cls(**blank), "RunInstances")
            self.assertEqual(cls in operators, refusal is None, cls)

    def test_users_affairs_are_no_server_errors(self) -> None:
        """Only a cloud that can't answer now gives 5xx, since clients repeat those."""
        self.assertEqual(503, self.told(errors.Unavailable("store", "gone")).status)
        self.assertEqual(503, self.told(errors.DeadlineExceeded("call", 3.0)).status)
        self.assertEqual(500, internal_error().status)
        self.assertEqual(403, self.told(errors.Denied("ann", "RunInstances")).status)

    def test_nothing_leaks(self) -> None:
        """Hosts, services and other people are not in messages."""
        for error in (
            errors.NoCapacity({"node1.private": "x"}),
            errors.Unavailable("redis://10.0.0.1", "x"),
            errors.Denied("ann", "x"),
            errors.InUse("group", "sg-1", "i-secret"),
        ):
            message = self.told(error).message
            for secret in ("node1", "redis", "ann", "i-secret"):
                self.assertNotIn(secret, message)

    def test_signatures(self) -> None:
        """Refused signatures have EC2's codes."""
        wanted = {
            "missing": (403, "MissingAuthenticationToken"),
            "incomplete": (400, "IncompleteSignature"),
            "expired": (400, "RequestExpired"),
            "mismatch": (401, "AuthFailure"),
        }
        for why, (status, code) in wanted.items():
            refusal = self.told(SignatureRefused(why, "x"))
            self.assertEqual((status, code), (refusal.status, refusal.code))
        self.assertEqual("AuthFailure", not_validated().code)


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, errors.FabricError)


def _blank(hint: str) -> Any:
    for word, value in (("dict", {}), ("list", []), ("int", 1), ("float", 1.0)):
        if word in hint:
            return value
    return "x"


class CoverageTests(SynchronousTestCase):
    """
    L{page}.
    """

    def test_page(self) -> None:
        """The page has what is honoured, what of an action is not, and what is missing altogether."""
        registry = Registry([Action("DescribeRegions", lambda call: succeed({}), frozenset({"RegionNames"}))])
        text = page(registry, load_model(registry.names()))
        row = "   * - ``DescribeRegions``\n     - ``RegionNames``\n     - ``AllRegions``, ``Filters``\n"
        self.assertIn(row, text)
        self.assertIn("CreateVpc,", text)
        self.assertNotIn("DescribeRegions,", text)

    def test_twice(self) -> None:
        """An action is registered once."""
        action = Action("DescribeRegions", lambda call: succeed({}), frozenset())
        registry = Registry([action])
        self.assertRaises(ValueError, registry.add, action)
        self.assertEqual((action, None), (registry.find("DescribeRegions"), registry.find("CreateVpc")))
