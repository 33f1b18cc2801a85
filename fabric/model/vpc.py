"""
The ids of a project's network as EC2's clients of today see it.

Clients expect each account to have a default VPC with a subnet in each zone, and
each instance to have a network interface.  Those are another way to name what is
there: a project, a network in a zone, an instance.  So nothing of them is
stored, and their ids are made of the ids of what they stand for.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

_DIGITS = 17


@lru_cache(maxsize=4096)
def vpc_id(project: str) -> str:
    """
    @return: the id of a project's one VPC, C{vpc-} and 17 digits.
    """
    return "vpc-" + _digest("vpc", project)


@lru_cache(maxsize=4096)
def subnet_id(project: str, network: str, zone: str) -> str:
    """
    @return: the id of the subnet that is one network in one zone to a project.
    """
    return "subnet-" + _digest("subnet", project, network, zone)


def part_id(prefix: str, project: str) -> str:
    """
    @param prefix: C{rtb}, C{igw}, C{acl}, C{dopt}, …
    @return: the id of that part of a project's VPC; it has one of each.
    """
    return f"{prefix}-{_digest(prefix, project)}"


def interface_id(instance: str) -> str:
    """
    @return: the id of an instance's one interface, C{eni-} and the instance's digits.
    """
    return "eni-" + instance.removeprefix("i-")


def attachment_id(instance: str) -> str:
    """
    @return: the id of that interface's attachment to the instance.
    """
    return "eni-attach-" + instance.removeprefix("i-")


def instance_of(interface: str) -> str:
    """
    @return: the id of the instance whose interface that is.
    """
    return "i-" + interface.removeprefix("eni-")


def _digest(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]
