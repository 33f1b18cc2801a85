"""
A cloud in which two projects have one of everything, for tests that ask the
same of every action.

What a project has goes by names, as C{$volume}: requests are written with them,
and are filled in with the ids of one project's things, of the other's, of
nobody's, or with what can't be an id.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import attrs
from twisted.internet.defer import inlineCallbacks, maybeDeferred, succeed

from fabric.cloud.access import Caller
from fabric.cloud.assembly import QUOTAS, Rules, assemble
from fabric.cloud.cloud import Cloud
from fabric.model.address import FloatingRange
from fabric.model.image import Image
from fabric.model.instance import Instance, with_disk
from fabric.model.snapshot import Snapshot
from fabric.model.volume import Modification, Volume, attachment_moved, disk_of, moved
from fabric.model.vpc import interface_id, part_id, subnet_id, vpc_id
from fabric.store.connection import RedisPool
from tests.unit.ec2_stage import ANN, BOB, NOW, SERVER, EC2Case, encoded

Steps = Generator[Any, Any, Any]
Names = dict[str, str]

RANGE = FloatingRange("pool-00000001", "public", "203.0.113.0/27")
NETWORK = "net-00000001"
DATA = {"ImageId": SERVER, "InstanceType": "m1.tiny"}

TAGGED = (
    *("instance", "volume", "snapshot", "image", "group", "rule", "key", "allocation", "template", "placement_group"),
    *("kernel", "ramdisk"),
)
"""What tags go on."""

ANSWERS = {
    "console_output": {"output": encoded(b"login: "), "timestamp": NOW},
    "screenshot": {"image": encoded(b"\x89PNG")},
}
"""What hosts answer when they are asked about an instance."""

PREFIXES = {
    **dict.fromkeys(("instance", "stopped", "protected"), "i"),
    **dict.fromkeys(("volume", "attached", "on_stopped"), "vol"),
    **dict.fromkeys(("group", "source_group"), "sg"),
    **dict.fromkeys(("rule", "egress_rule"), "sgr"),
    **dict.fromkeys(("allocation", "held"), "eipalloc"),
    "snapshot": "snap",
    "image": "ami",
    "kernel": "aki",
    "ramdisk": "ari",
    "key": "key",
    "association": "eipassoc",
    "template": "lt",
    "placement_group": "pg",
    **dict.fromkeys(("interface", "interface_stopped"), "eni"),
    "vpc": "vpc",
    "subnet": "subnet",
    "route_table": "rtb",
    "gateway": "igw",
    "dhcp": "dopt",
    "acl": "acl",
}
"""Of the ids that names stand for; names that are not here stand for something else than an id."""


class AnsweringQueue:
    """
    A queue whose casts go nowhere; hosts answer by L{ANSWERS}.
    """

    def __init__(self) -> None:
        self.cast: list[tuple[str, str, tuple[Any, ...]]] = []

    def caster(self, interface: Any, address: Any, context: Any) -> Any:
        """What sends without an answer."""
        return _Remote(self, address, False)

    def caller(self, interface: Any, address: Any, context: Any) -> Any:
        """What asks."""
        return _Remote(self, address, True)


class _Remote:
    def __init__(self, queue: AnsweringQueue, address: Any, answers: bool) -> None:
        self._queue = queue
        self._address = address
        self._answers = answers

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._queue.cast.append((self._address.routing_key, method, arguments))
            return succeed(ANSWERS[method] if self._answers else None)

        return call


class WorldCase(EC2Case):
    """
    Two projects with one of everything.

    @ivar ann, bob: what each has, by name.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        self.raw: RedisPool = self.redis.connect()
        self.addCleanup(self.raw.stopService)
        yield self.write(RANGE)
        self.ann = yield self._settle(ANN)
        self.bob = yield self._settle(BOB)

    def _cloud(self) -> Cloud:
        queue: Any = AnsweringQueue()
        self.queue = queue
        return assemble(self.store, queue, self.clock, maybeDeferred, Rules(quotas=QUOTAS, ready_keys=0)).cloud

    @inlineCallbacks
    def _settle(self, caller: Caller) -> Steps:
        """Give a project one of everything."""
        names = {"project": caller.project, "other": (BOB if caller is ANN else ANN).project, "token": "unused"}
        for each in (self._machines, self._disks, self._images, self._groups, self._addresses, self._others):
            names |= yield each(caller, names)
        yield self._mark(caller, names)
        names |= {"interface": interface_id(names["instance"]), "interface_stopped": interface_id(names["stopped"])}
        parts = {"route_table": "rtb", "gateway": "igw", "dhcp": "dopt", "acl": "acl"}
        names |= {name: part_id(prefix, caller.project) for name, prefix in parts.items()}
        return names | {"vpc": vpc_id(caller.project), "subnet": subnet_id(caller.project, NETWORK, "nova")}

    @inlineCallbacks
    def _mark(self, caller: Caller, names: Names) -> Steps:
        """What can be taken back: tags on all, sharing, monitoring; and a volume that has grown."""
        ids = [names[name] for name in TAGGED]
        yield self.ask("CreateTags", caller, Resources=ids, Tags=[{"Key": "of", "Value": caller.user}])
        gamma = {"Add": [{"UserId": "delta"}]}
        yield self.ask("ModifyImageAttribute", caller, ImageId=names["image"], LaunchPermission=gamma)
        yield self.ask("ModifySnapshotAttribute", caller, SnapshotId=names["snapshot"], CreateVolumePermission=gamma)
        yield self.ask("MonitorInstances", caller, InstanceIds=[names["stopped"]])
        grown = Modification("completed", 1, 2, NOW, ended_at=NOW)
        yield self._change(Volume, [names["on_stopped"]], lambda each: attrs.evolve(each, modification=grown))

    @inlineCallbacks
    def _machines(self, caller: Caller, names: Names) -> Steps:
        """One that runs and two that are stopped; one of these may not be ended."""
        instance, stopped, fast = yield self.boot(3, caller)
        yield self.move([stopped, fast], "stop")
        yield self.move([stopped, fast], "halt")
        yield self.ask("ModifyInstanceAttribute", caller, InstanceId=fast, DisableApiTermination={"Value": True})
        return {"instance": instance, "stopped": stopped, "protected": fast}

    @inlineCallbacks
    def _disks(self, caller: Caller, names: Names) -> Steps:
        """Volumes: one that is free, one on the stopped instance, two on that which runs."""
        ids = []
        for _ in range(4):
            made = yield self.ask("CreateVolume", caller, AvailabilityZone="nova", Size=2)
            ids.append(made["VolumeId"])
        yield self._change(Volume, ids, lambda volume: moved(volume, "make", NOW, host="node1"))
        free, attached, second, on_stopped = ids
        yield self.ask("AttachVolume", caller, VolumeId=attached, InstanceId=names["instance"], Device="/dev/sdf")
        yield self.ask("AttachVolume", caller, VolumeId=on_stopped, InstanceId=names["stopped"], Device="/dev/sdf")
        yield self.ask("AttachVolume", caller, VolumeId=second, InstanceId=names["instance"], Device="/dev/sdh")
        yield self._change(Volume, [attached, second], lambda volume: attachment_moved(volume, "confirm", NOW))
        for stored in (yield self.store.read(Volume, [attached, second])):
            disk = disk_of(stored.record)
            yield self._change(Instance, [names["instance"]], lambda each, disk=disk: with_disk(each, disk))
        made = Snapshot(_fresh("snap"), caller.project, free, 2, "node1", "nova", NOW, NOW, state="completed")
        yield self.write(made)
        return {"volume": free, "attached": attached, "on_stopped": on_stopped, "snapshot": made.id}

    @inlineCallbacks
    def _change(self, cls: Any, ids: list[str], change: Any) -> Steps:
        """Write what became of records, as a report does."""
        transaction = self.store.transaction("report")
        for stored in (yield self.store.read(cls, ids)):
            transaction.update(stored, change(stored.record))
        yield self.store.commit(transaction)

    @inlineCallbacks
    def _images(self, caller: Caller, names: Names) -> Steps:
        """An image with a kernel and a ramdisk of the project's own."""
        name = f"of {caller.user}"
        made = yield self.ask("RegisterImage", caller, Name=name, ImageLocation="bucket/image.manifest.xml")
        parts = {kind: _fresh(prefix) for kind, prefix in (("kernel", "aki"), ("ramdisk", "ari"))}
        yield self.write(
            *(Image(id, caller.project, f"{kind} {name}", "bucket/part", type=kind) for kind, id in parts.items())
        )
        return {"image": made["ImageId"], "image_name": name, **parts}

    @inlineCallbacks
    def _groups(self, caller: Caller, names: Names) -> Steps:
        """A group with a rule each way, and one that a rule is about."""
        name = f"web-{caller.user}"
        made = yield self.ask("CreateSecurityGroup", caller, GroupName=name, Description="web")
        other = yield self.ask("CreateSecurityGroup", caller, GroupName=f"db-{caller.user}", Description="db")
        found = {"group": made["GroupId"], "group_name": name, "source_group": other["GroupId"]}
        for which, verb in (("rule", "Ingress"), ("egress_rule", "Egress")):
            about = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": found["source_group"]}]}
            given = {"GroupId": found["group"], "IpPermissions": [permission("10.1.0.0/16"), about]}
            done = yield self.ask(f"AuthorizeSecurityGroup{verb}", caller, **given)
            found[which] = done["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return {**found, "source_name": f"db-{caller.user}"}

    @inlineCallbacks
    def _addresses(self, caller: Caller, names: Names) -> Steps:
        """An address that leads nowhere, and one that leads to the instance that runs."""
        free = yield self.ask("AllocateAddress", caller)
        held = yield self.ask("AllocateAddress", caller)
        led = yield self.ask(
            "AssociateAddress", caller, AllocationId=held["AllocationId"], InstanceId=names["instance"]
        )
        return {
            "allocation": free["AllocationId"],
            "public_ip": free["PublicIp"],
            "held": held["AllocationId"],
            "held_ip": held["PublicIp"],
            "association": led["AssociationId"],
        }

    @inlineCallbacks
    def _others(self, caller: Caller, names: Names) -> Steps:
        """A key pair, a template with two versions, and a placement group."""
        key = yield self.ask("CreateKeyPair", caller, KeyName=f"key-{caller.user}", KeyType="ed25519")
        name = f"template-{caller.user}"
        made = yield self.ask("CreateLaunchTemplate", caller, LaunchTemplateName=name, LaunchTemplateData=DATA)
        template = made["LaunchTemplate"]["LaunchTemplateId"]
        yield self.ask("CreateLaunchTemplateVersion", caller, LaunchTemplateId=template, LaunchTemplateData=DATA)
        spread = f"spread-{caller.user}"
        group = yield self.ask("CreatePlacementGroup", caller, GroupName=spread, Strategy="spread")
        return {
            "key": key["KeyPairId"],
            "key_name": key["KeyName"],
            "template": template,
            "template_name": name,
            "placement_group": group["PlacementGroup"]["GroupId"],
            "placement_name": spread,
        }

    @inlineCallbacks
    def kept(self) -> Steps:
        """
        All that the store has, for L{put_back}.

        @return: C{{key: serialised value}}.
        """
        keys = yield self.raw.call("KEYS", "*")
        values = yield self.raw.batch([("DUMP", key) for key in keys])
        return dict(zip(keys, values, strict=True))

    @inlineCallbacks
    def put_back(self, kept: dict[bytes, bytes]) -> Steps:
        """Make the store have what it had."""
        yield self.raw.call("FLUSHDB")
        yield self.raw.batch([("RESTORE", key, 0, value) for key, value in kept.items()])

    @inlineCallbacks
    def seen(self) -> Steps:
        """
        All that the store has, event streams included, so that it compares.

        @return: C{{key: value}}.
        """
        keys = yield self.raw.call("KEYS", "*")
        types = yield self.raw.batch([("TYPE", key) for key in keys])
        reads = [_READ[str(kind, "ascii") if isinstance(kind, bytes) else kind] for kind in types]
        values = yield self.raw.batch([(name, key, *more) for key, (name, *more) in zip(keys, reads, strict=True)])
        return {
            key: _unordered(value) if name in ("HGETALL", "SMEMBERS") else value
            for key, (name, *_), value in zip(keys, reads, values, strict=True)
        }


_READ: dict[str, tuple[Any, ...]] = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "set": ("SMEMBERS",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "list": ("LRANGE", 0, -1),
    "stream": ("XRANGE", "-", "+"),
}
"""The command that reads a value of each of Redis' types, with what comes after the key."""


def _unordered(value: Any) -> Any:
    return value if isinstance(value, dict | set) else sorted(value, key=repr)


def permission(cidr: str) -> dict[str, Any]:
    """One port from a range."""
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}


def filled(value: Any, names: Names) -> Any:
    """
    Parameters with what names stand for in their place.
    """
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    return names[value[1:]] if _is_name(value) else value


def named(value: Any) -> set[str]:
    """
    The names that parameters have.
    """
    if isinstance(value, dict):
        return set().union(*map(named, value.values()))
    if isinstance(value, list):
        return set().union(*map(named, value))
    return {value[1:]} if _is_name(value) else set()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value[:1] == "$" and value[1:2].islower()


def _fresh(prefix: str) -> str:
    return f"{prefix}-{os.urandom(9).hex()[:17]}"
