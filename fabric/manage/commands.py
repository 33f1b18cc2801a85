"""
The commands: for each its words, its arguments, the admin action and the table.

The words are those of the first Nova's C{nova-manage} where the same is meant.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from fabric.manage import cloudrc
from fabric.manage.client import Client, Credentials
from fabric.manage.command import Command, argument, ask, done, pairs, rows
from fabric.manage.images import image_commands
from fabric.manage.instances import instance_commands
from fabric.manage.table import moment, plain, table


def commands(credentials: Credentials) -> list[Command]:
    """
    @param credentials: whose endpoint stands in the C{cloudrc}s that are made.
    """
    people = [*_users(), *_projects(credentials), *_roles()]
    machines = [*_networks(), *_floating(), *_hosts(), *instance_commands(), *_flavors()]
    return [*people, *image_commands(), *machines, *_quotas(), *_state()]


_PROJECT = argument("--project", help="in this project; everywhere without it")


def _users() -> list[Command]:
    keys = (argument("--access-key", help="made when not given"), argument("--secret-key", help="likewise"))
    name = argument("id", metavar="USER")
    return [
        Command("user list", "every user", (), ask("DescribeUsers"), rows("id", "access_key", "admin")),
        Command(
            "user create",
            "make a user",
            (name, *keys),
            ask("RegisterUser", "id", "access_key", "secret_key", admin=False),
            pairs,
        ),
        Command(
            "user admin",
            "make a user who is cloudadmin",
            (name, *keys),
            ask("RegisterUser", "id", "access_key", "secret_key", admin=True),
            pairs,
        ),
        Command(
            "user modify",
            "change a user's keys or admin flag",
            (name, *keys, argument("--admin", choices=("yes", "no"), help="whether the user is cloudadmin")),
            lambda client, given: client.call(
                "ModifyUser",
                id=given.id,
                access_key=given.access_key,
                secret_key=given.secret_key,
                admin=None if given.admin is None else given.admin == "yes",
            ),
            pairs,
        ),
        Command("user delete", "remove a user", (name,), ask("DeregisterUser", "id"), done),
    ]


def _projects(credentials: Credentials) -> list[Command]:
    name = argument("id", metavar="PROJECT")
    member = (argument("project", metavar="PROJECT"), argument("user", metavar="USER"))

    def environment(client: Client, given: argparse.Namespace) -> dict[str, str]:
        keys = client.call("GenerateCredentials", user=given.user, project=given.project)
        return {"cloudrc": cloudrc.render(credentials.url, keys["access_key"], keys["secret_key"], credentials.region)}

    return [
        Command(
            "project list",
            "every project, or a user's",
            (argument("--user", help="only those of which this user is a member"),),
            ask("DescribeProjects", "user"),
            rows("id", "manager", "members", "description"),
        ),
        Command(
            "project create",
            "make a project",
            (
                name,
                argument("manager", metavar="MANAGER"),
                argument("--description", default=""),
                argument("--member", action="append", default=[], dest="members", help="may be repeated"),
            ),
            ask("RegisterProject", "id", "manager", "description", "members"),
            pairs,
        ),
        Command(
            "project modify",
            "give a project another manager or description",
            (name, argument("--manager", help="a user; becomes a member"), argument("--description")),
            ask("ModifyProject", "id", "manager", "description"),
            pairs,
        ),
        Command("project delete", "remove a project and its roles", (name,), ask("DeregisterProject", "id"), done),
        Command(
            "project add", "add a member", member, ask("ModifyProjectMember", "project", "user", operation="add"), done
        ),
        Command(
            "project remove",
            "remove a member",
            member,
            ask("ModifyProjectMember", "project", "user", operation="remove"),
            done,
        ),
        Command(
            "project environment",
            "print a user's cloudrc for a project",
            member,
            environment,
            lambda result: result["cloudrc"].rstrip("\n"),
        ),
    ]


def _roles() -> list[Command]:
    who = (argument("user", metavar="USER"), argument("role", metavar="ROLE"), _PROJECT)

    def has(client: Client, given: argparse.Namespace) -> bool:
        return given.role in client.call("DescribeUserRoles", user=given.user, project=given.project)

    return [
        Command(
            "role add", "give a role", who, ask("ModifyUserRole", "user", "role", "project", operation="add"), done
        ),
        Command(
            "role remove",
            "take a role",
            who,
            ask("ModifyUserRole", "user", "role", "project", operation="remove"),
            done,
        ),
        Command(
            "role has",
            "whether a user has a role (exit status 1 if not)",
            who,
            has,
            lambda result: "yes" if result else "no",
            lambda result: not result,
        ),
        Command(
            "role list",
            "a user's roles",
            (argument("user", metavar="USER"), _PROJECT),
            ask("DescribeUserRoles", "user", "project"),
            lambda result: plain(", ".join(result)) or "no roles",
        ),
    ]


_NETWORK_REST = ("reserved", "dns", "project", "manager")


def _networks() -> list[Command]:
    return [
        Command(
            "network list",
            "every network",
            (),
            ask("DescribeNetworks"),
            rows("id", "label", "cidr", "gateway", "manager", "bridge", "vlan", "addresses", "free", "project"),
        ),
        Command(
            "network create",
            "make a network and its pool of addresses",
            (
                argument("label", metavar="LABEL"),
                argument("cidr", metavar="RANGE", nargs="?", help="as 10.1.0.0/16; of manager vlan it may be left out"),
                argument("--cidr-v6", dest="cidr_v6", metavar="RANGE", help="a /64 of IPv6 addresses, as fd00:10::/64"),
                argument("--gateway", help="its address; the first of the range without it"),
                argument("--bridge", help="the Linux bridge on compute hosts"),
                argument("--vlan", type=int, metavar="TAG", help="with manager vlan; a free one without it"),
                argument("--reserved", type=int, help="how many of its first addresses are not given away"),
                argument("--dns", action="append", help="a name server's address; may be repeated"),
                argument("--for-project", dest="project", help="whose it is; everybody's without it"),
                argument("--manager", choices=("flat", "flatdhcp", "vlan")),
            ),
            ask("CreateNetwork", "label", "cidr", "cidr_v6", "gateway", "bridge", "vlan", *_NETWORK_REST),
            pairs,
        ),
        Command(
            "network delete",
            "remove a network that nothing uses",
            (argument("id", metavar="NETWORK"),),
            ask("DeleteNetwork", "id"),
            done,
        ),
    ]


def _floating() -> list[Command]:
    return [
        Command(
            "floating list",
            "every range of floating addresses",
            (),
            ask("DescribeFloatingRanges"),
            rows("id", "label", "cidr", "addresses", "free"),
        ),
        Command(
            "floating create",
            "make a range of floating addresses",
            (
                argument("label", metavar="LABEL"),
                argument("cidr", metavar="RANGE", help="as 203.0.113.0/24"),
            ),
            ask("CreateFloatingRange", "label", "cidr"),
            pairs,
        ),
        Command(
            "floating delete",
            "remove a range of which no address is held",
            (argument("id", metavar="FLOATING"),),
            ask("DeleteFloatingRange", "id"),
            done,
        ),
    ]


def _hosts() -> list[Command]:
    host = argument("host", metavar="HOST")
    topic = argument("--topic", help="only this service of the host")
    reason = argument("--reason", default="", help="shown by host list")
    found: list[Command] = []
    for word in ("host", "service"):
        found += [
            Command(f"{word} list", "every service, with its load", (), ask("DescribeHosts"), _services),
            Command(
                f"{word} disable",
                "let nothing new on a host",
                (host, topic, reason),
                ask("ModifyHost", "host", "topic", "reason", disabled=True),
                done,
            ),
            Command(
                f"{word} enable",
                "let new instances on a host again",
                (host, topic),
                ask("ModifyHost", "host", "topic", disabled=False),
                done,
            ),
        ]
    return [
        *found,
        Command(
            "host evacuate",
            "let nothing new on a host, and move what is there to others",
            (host,),
            ask("EvacuateHost", "host"),
            rows("instance", "destination", "why"),
        ),
        Command(
            "host explain",
            "why each host was not chosen for an instance",
            (argument("instance", metavar="INSTANCE"),),
            ask("DescribeRefusals", "instance"),
            lambda result: table(("host", "why"), list(result.items())) if result else "a host was chosen",
        ),
        Command(
            "host strays",
            "what hosts have that state does not know",
            (),
            ask("DescribeStrays"),
            rows("host", "name", "holdings", "found_at", "remove_at"),
        ),
    ]


def _flavors() -> list[Command]:
    """
    Instance types, which the first Nova called both C{flavor} and
    C{instance_type}.
    """
    name = argument("name", metavar="NAME")
    columns = ("name", "vcpus", "memory_mb", "disk_gb", "ephemeral_gb", "gpus")
    numbers = (
        argument("vcpus", metavar="VCPUS", type=int),
        argument("memory_mb", metavar="MEMORY", type=int, help="in MiB"),
        argument("disk_gb", metavar="DISK", type=int, help="of the root disk, in GiB"),
        argument("--ephemeral", dest="ephemeral_gb", type=int, default=0, help="of the scratch disk, in GiB"),
        argument("--gpus", type=int, default=0, help="whole GPUs of its host"),
        argument(
            "--requires",
            action="append",
            default=[],
            help="what a host must have, as avx2 or gpu:10de:1db4; repeatable",
        ),
    )
    found: list[Command] = []
    for word in ("flavor", "instance_type"):
        found += [
            Command(f"{word} list", "every instance type", (), ask("DescribeFlavors"), rows(*columns, "requires")),
            Command(
                f"{word} create",
                "make an instance type",
                (name, *numbers),
                ask("CreateFlavor", *columns, "requires"),
                pairs,
            ),
            Command(
                f"{word} delete",
                "let nothing more be launched of an instance type",
                (name,),
                ask("DeleteFlavor", "name"),
                done,
            ),
        ]
    return found


def _services(result: Any) -> str:
    now = time.time()
    columns = ("service", "zone", "alive", "disabled", "last report")
    loads = ("instances", "vcpus", "memory MiB", "disk GiB", "GPUs")
    lines = []
    for row in result:
        seen = _ago(now, row["last_beat"])
        line = [row["id"], row["zone"], row["alive"], row["disabled_reason"] or row["disabled"], seen]
        lines.append(line + _loads(row["load"], row["capacity"]))
    return table((*columns, *loads), lines)


def _loads(load: dict[str, int], room: dict[str, Any]) -> list[Any]:
    """
    What a service's host has promised of its room: a compute host's
    instances and what they take, a volume host's GiB.
    """
    if "gigabytes" in load:
        return ["", "", "", f"{load['gigabytes']}/{room['disk_gb']}", ""]
    taken = [f"{load[name]}/{room[name]}" if name in load else "" for name in ("vcpus", "memory_mb", "disk_gb")]
    gpus, most = load.get("gpus", 0), room.get("gpus", 0)
    return [load.get("instances", ""), *taken, f"{gpus}/{most}" if gpus or most else ""]


def _ago(now: float, then: float) -> str:
    """
    @return: C{5 s ago}, the time itself when that is long ago.
    """
    if not then:
        return "never"
    return f"{max(0.0, now - then):.0f} s ago" if now - then < 3600 else moment(then)


def _quotas() -> list[Command]:
    project = argument("project", metavar="PROJECT")

    def change(client: Client, given: argparse.Namespace) -> Any:
        client.call("ModifyQuota", project=given.project, limits=dict(given.limits))
        return client.call("DescribeQuota", project=given.project)

    def show(result: Any) -> str:
        return table(("resource", "limit", "used"), [[name, row["limit"], row["used"]] for name, row in result.items()])

    return [
        Command("quota list", "a project's limits and use", (project,), ask("DescribeQuota", "project"), show),
        Command(
            "quota set",
            "change limits; -1 returns to the default",
            (project, argument("limits", metavar="RESOURCE=LIMIT", nargs="+", type=_limit)),
            change,
            show,
        ),
    ]


def _limit(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        limit = int(value)
    except ValueError:
        limit = None
    if not name or limit is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form RESOURCE=LIMIT, as instances=20")
    return name, limit


def _state() -> list[Command]:
    return [
        Command(
            "check",
            "prove that pools, indexes, counters and references agree (exit status 1 if not)",
            (argument("--repair", action="store_true", help="set right what is found"),),
            ask("CheckState", "repair"),
            lambda result: rows("what", "key", "detail", "repaired")(result) if result else "all agrees",
            lambda result: any(not finding["repaired"] for finding in result),
        ),
        Command("pool list", "pools and their free members", (), ask("DescribePools"), rows("pool", "free", "members")),
        Command(
            "event list",
            "what state did",
            (
                argument("--after", default="", help="a position of an event; from the beginning without it"),
                argument("--limit", type=int, default=100, help="at most so many (100)"),
                argument("--project", help="only this project's"),
            ),
            ask("DescribeEvents", "after", "limit", "project"),
            rows("position", "request", "kind", "id", "what", "state"),
        ),
    ]
