"""
A security group: its rules, and what is filed for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from fabric.model.record import ALL, Derived, Record, tag_facets
from fabric.model.rule import Permission, Rule


@attrs.frozen
class SecurityGroup(Record):
    """
    @ivar name: unique in the project; C{default} exists in each.
    @ivar review_at: when the sweep tells the hosts its rules once more, 0 for
        not.
    """

    kind = "group"
    taggable = True

    id: str
    project: str
    name: str
    description: str
    created_at: float = 0.0
    rules: tuple[Rule, ...] = ()
    review_at: float = 0.0
    tags: dict[str, str] = attrs.field(factory=dict)

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the groups that its rules are about."""
        return tuple(dict.fromkeys(rule.permission.group for rule in self.rules if rule.permission.group))

    def derived(self) -> Derived:
        """
        Filed for its project, with its name and its rules' ids unique; and as
        a user of the groups of its own project that its rules are about.

        Another project's group may go without asking: its owner must be able
        to remove it.  The rule is stale then, as EC2 calls it.
        """
        own = [peer for peer in self.peers if peer != self.id and self._owns(peer)]
        return Derived(
            scopes=(self.project, ALL),
            lists=tuple(referring(id) for id in dict.fromkeys((self.id, *self.peers))),
            facets=(
                ("id", self.id),
                ("name", self.name),
                ("description", self.description),
                *self._rule_facets(),
                *tag_facets(self.tags),
            ),
            unique=(f"group:{self.project}:{self.name}", *(rule_name(rule.id) for rule in self.rules)),
            counters={f"quota:{self.project}:groups": 1, **{f"uses:group:{peer}": 1 for peer in own}},
            due=self.review_at or None,
            references=tuple(("group", peer) for peer in own),
        )

    def _owns(self, peer: str) -> bool:
        return any(each.permission.group == peer and each.permission.owner == self.project for each in self.rules)

    def _rule_facets(self) -> Iterator[tuple[str, str]]:
        for rule in self.rules:
            permission = rule.permission
            prefix = "egress.ip-permission." if permission.egress else "ip-permission."
            for name, value in _shown(permission):
                yield prefix + name, value
            for name, value in tag_facets(rule.tags):
                yield "rule-" + name, value


def _shown(permission: Permission) -> Iterator[tuple[str, str]]:
    yield "protocol", permission.protocol
    if permission.protocol in ("tcp", "udp", "icmp", "icmpv6"):
        yield "from-port", str(permission.from_port)
        yield "to-port", str(permission.to_port)
    for name, value in (
        ("cidr", permission.cidr),
        ("ipv6-cidr", permission.cidr6),
        ("group-id", permission.group),
        ("group-name", permission.group_name),
        ("user-id", permission.owner),
    ):
        if value:
            yield name, value


def rule_name(id: str) -> str:
    """
    @return: the unique name by which the store finds a rule's group.
    """
    return "rule:" + id


def referring(id: str) -> str:
    """
    @return: the scope that lists a group, and those with rules about it.
    """
    return "refers:" + id


def host_facet(group: str) -> str:
    """
    @return: the facet whose values are the hosts of a group's members.
    """
    return "group-host:" + group


def address_facet(group: str) -> str:
    """
    @return: the facet whose values are the addresses of a group's members.
    """
    return "group-address:" + group
