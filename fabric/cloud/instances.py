"""
What users do with their instances once they are launched.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.associations import end_associations
from fabric.cloud.attachments import ROOT, release_disks
from fabric.cloud.enforcement import Enforcement
from fabric.cloud.flavors import chosen
from fabric.cloud.launch import RESEND_AFTER, Launches, LaunchSpec
from fabric.cloud.orders import Orders
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.retry import until_written
from fabric.compute.interface import IComputeWorker
from fabric.errors import InvalidValue, LimitExceeded, NotFound, Protected, WrongState
from fabric.faults import IFaults
from fabric.model.flavor import Flavor, InstanceType
from fabric.model.group import SecurityGroup
from fabric.model.host import Service
from fabric.model.image import Image, may_use
from fabric.model.instance import GroupName, Instance, StateReason, moved
from fabric.rpc.interface import Address, Context, IQueue
from fabric.store.interface import IStore, Stored

Move = Callable[[Instance, float], Instance]

USER_STOP = StateReason("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")

CONSOLE_SECONDS = 10.0


@attrs.frozen
class Change:
    """
    An instance's state before and after a verb.
    """

    id: str
    before: str
    after: str


@attrs.frozen
class Console:
    """
    @ivar output: the last 64 KiB that the guest's serial console printed.
    @ivar timestamp: when it was read, in seconds since the epoch.
    """

    output: bytes
    timestamp: float


class Instances:
    """
    Verbs on instances.  Each is one write for all the instances that it names:
    either all of them move or none.
    """

    def __init__(
        self,
        store: IStore,
        queue: IQueue,
        launches: Launches,
        orders: Orders,
        enforcement: Enforcement,
        quotas: Quotas,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._queue = queue
        self._launches = launches
        self._orders = orders
        self._enforcement = enforcement
        self._quotas = quotas
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    def run(self, caller: Caller, spec: LaunchSpec) -> Deferred[list[Instance]]:
        """
        Launch; see L{Launches.run}.
        """
        return self._launches.run(caller, spec)

    @inlineCallbacks
    def get(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Instance]]:
        """
        @raise NotFound: some are not there or not the caller's; it names all.
        """
        found = yield self._read(caller, ids)
        return [stored.record for stored in found]

    @inlineCallbacks
    def start(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Change]]:
        """
        Bring stopped instances up again on their hosts.

        @raise NotFound: as L{get}.
        @raise WrongState: one can't be started now; none was.  Of kind
            L{ROOT}: it has no volume to boot from, where C{found} says.
        """
        changes, records = yield self._move(caller, ids, self._started)
        self._faults.reach("cloud.start_written")
        self._orders.resend(caller.request_id, [record for record in records if record.state == "pending"])
        return changes  # type: ignore[no-any-return]

    @inlineCallbacks
    def stop(
        self, caller: Caller, ids: Sequence[str], force: bool = False
    ) -> Generator[Deferred[Any], Any, list[Change]]:
        """
        Shut instances down; they keep host, disk and address.

        @raise NotFound: as L{get}.
        @raise WrongState: one can't be stopped now; none was.
        @raise Protected: one is protected against it.
        """
        changes, records = yield self._move(caller, ids, self._stopped)
        self._faults.reach("cloud.stop_written")
        self._orders.stop(caller.request_id, records, force)
        return changes  # type: ignore[no-any-return]

    @inlineCallbacks
    def terminate(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Change]]:
        """
        Remove instances for good.  Repeating is safe.

        @raise NotFound: as L{get}.
        @raise Protected: one is protected against it; none was removed.
        """
        changes, records = yield self._move(caller, ids, self._terminated)
        self._faults.reach("cloud.terminate_written")
        self._orders.terminate(caller.request_id, [record for record in records if record.host])
        return changes  # type: ignore[no-any-return]

    @inlineCallbacks
    def reboot(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        """
        Reboot running instances; they stay in state running.  It is ordered
        again until their hosts confirm it, and done once.  Of those that are
        terminated, or about to be, nothing is asked, as on EC2.

        @raise NotFound: as L{get}.
        @raise WrongState: one is not running; none was rebooted.
        """
        _, records = yield self._move(caller, ids, self._rebooted)
        self._faults.reach("cloud.reboot_written")
        self._orders.reboot(caller.request_id, records)

    @inlineCallbacks
    def console_output(self, caller: Caller, id: str) -> Generator[Deferred[Any], Any, Console]:
        """
        @return: what the host has of the console; empty for an instance that
            has no host yet, or none any more.
        @raise NotFound: as L{get}.
        """
        [instance] = yield self.get(caller, [id])
        if not instance.host or not (instance.live and instance.on_host):
            return Console(b"", instance.changed_at)
        address = Address("compute", instance.host)
        remote = self._queue.caller(IComputeWorker, address, Context(caller.request_id, CONSOLE_SECONDS))
        try:
            answer = yield remote.console_output(id)
        except NotFound:
            return Console(b"", instance.changed_at)
        return Console(base64.b64decode(answer["output"]), answer["timestamp"])

    @inlineCallbacks
    def monitor(
        self, caller: Caller, ids: Sequence[str], monitoring: bool
    ) -> Generator[Deferred[Any], Any, list[Instance]]:
        """
        Have instances watched closely, or not any more.

        @raise NotFound: as L{get}.
        @raise WrongState: one is terminated; none was changed.
        """

        def watched(instance: Instance, now: float) -> Instance:
            if instance.state in ("shutting-down", "terminated"):
                raise WrongState("instance", instance.id, instance.state, ["pending", "running", "stopped"])
            return attrs.evolve(instance, monitoring=monitoring)

        yield self._move(caller, ids, watched)
        return (yield self.get(caller, list(dict.fromkeys(ids))))  # type: ignore[no-any-return]

    def modify(self, caller: Caller, id: str, **changes: Any) -> Deferred[None]:
        """
        Change attributes: C{flavor} (a type's name), C{user_data}, C{kernel},
        C{ramdisk}, C{ebs_optimized}, C{ena_support} (these while stopped), and
        C{api_termination_disabled}, C{api_stop_disabled},
        C{shutdown_behavior}, C{groups} (ids), C{source_dest_check}.

        @raise NotFound: the instance, a group, a kernel or a ramdisk is not
            the caller's to use.
        @raise WrongState: it must be stopped for this change.
        @raise QuotaExceeded: the larger type is not within the quota.
        """
        return until_written(lambda: self._modify(caller, id, changes))

    @inlineCallbacks
    def _modify(self, caller: Caller, id: str, changes: dict[str, Any]) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._read(caller, [id])
        instance: Instance = stored.record
        while_stopped = {"flavor", "user_data", "kernel", "ramdisk", "ebs_optimized", "ena_support"}
        if instance.state == "terminated" or (while_stopped & set(changes) and instance.state != "stopped"):
            raise WrongState("instance", id, instance.state, ["stopped"])
        transaction = self._store.transaction(caller.request_id)
        new = dict(changes)
        if "flavor" in new:
            new["flavor"] = yield self._resize(caller, transaction, instance, new["flavor"])
        new |= yield self._parts(caller, instance, new)
        if "groups" in new:
            new |= yield self._groups(caller, transaction, instance, new["groups"])
        changed = attrs.evolve(instance, **new)
        transaction.update(stored, changed)
        try:
            yield self._store.commit(transaction)
        except LimitExceeded as error:
            if error.counter.startswith("load:"):
                raise InvalidValue("InstanceType", changes["flavor"], "its host has no room for it") from None
            raise quota_error(error) from None
        if changed.groups_order != instance.groups_order:
            self._faults.reach("cloud.groups_written")
            self._enforcement.regrouped(caller.request_id, changed)

    @inlineCallbacks
    def _parts(
        self, caller: Caller, instance: Instance, changes: dict[str, Any]
    ) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """
        The files of a new kernel and ramdisk, which are the caller's to use,
        or those of the instance's image.
        """
        named = {kind: changes[kind] for kind in ("kernel", "ramdisk") if changes.get(kind)}
        if not named:
            return {}
        image, *found = yield self._store.read(Image, [instance.image, *named.values()])
        files = [file for file in instance.files if file.role not in named]
        for (kind, id), stored in zip(named.items(), found, strict=True):
            own = image is not None and getattr(image.record, kind) == id
            if not own and (stored is None or stored.record.type != kind or not may_use(stored.record, caller.project)):
                raise NotFound(kind, id)
            source = image if own else stored
            files += [file for file in source.record.files if file.role == kind]
        return {"files": tuple(files)}

    @inlineCallbacks
    def _resize(self, caller: Caller, transaction: Any, instance: Instance, name: str) -> Generator[Any, Any, Any]:
        [stored] = yield self._store.read(InstanceType, [name])
        flavor = chosen(name, stored)
        limits = yield self._quotas.limits(caller.project)
        for resource in ("cores", "ram"):
            transaction.limit(counter(caller.project, resource), limits[resource])
        if instance.host:
            yield self._limit_room(transaction, instance.host, flavor)
        if instance.migration is not None:
            yield self._limit_room(transaction, instance.migration.destination, flavor)
        return flavor

    @inlineCallbacks
    def _limit_room(self, transaction: Any, host: str, flavor: Flavor) -> Generator[Deferred[Any], Any, None]:
        [service] = yield self._store.read(Service, [f"compute.{host}"])
        if service is not None:
            missing = service.record.capacity.lacks(flavor)
            if missing:
                raise InvalidValue("InstanceType", flavor.name, f"its host has no {missing}")
            for name, most in service.record.capacity.room().items():
                transaction.limit(f"load:{host}:{name}", most)

    @inlineCallbacks
    def _groups(
        self, caller: Caller, transaction: Any, instance: Instance, ids: Sequence[str]
    ) -> Generator[Any, Any, Any]:
        """
        @return: changes that put an instance into other groups.
        """
        if not ids:
            raise InvalidValue("GroupId", "", "an instance needs at least one group")
        found = yield self._store.read(SecurityGroup, ids)
        names = []
        for id, stored in zip(ids, found, strict=True):
            if stored is None or stored.record.project != caller.project:
                raise NotFound("group", id)
            transaction.need("group", id)
            names.append(GroupName(id, stored.record.name))
        if tuple(names) == instance.groups:
            return {"groups": instance.groups}
        concerned = dict.fromkeys((*(group.id for group in instance.groups), *ids, *instance.regrouped))
        return {
            "groups": tuple(names),
            "groups_order": instance.groups_order + 1,
            "regrouped": tuple(concerned),
            "regroup_at": self._clock.seconds() + self._resend_after,
        }

    def _started(self, instance: Instance, now: float) -> Instance:
        if instance.state != "stopped":
            return moved(instance, "start", now)
        if not instance.bootable:
            raise WrongState(ROOT, instance.id, instance.root_device, ["attached"])
        return moved(
            instance, "start", now, order=instance.order + 1, review_at=now + self._resend_after, launched_at=now
        )

    def _stopped(self, instance: Instance, now: float) -> Instance:
        if instance.state != "running":
            return moved(instance, "stop", now)
        if instance.api_stop_disabled:
            raise Protected("instance", instance.id, "disableApiStop")
        return moved(instance, "stop", now, USER_STOP, order=instance.order + 1, review_at=now + self._resend_after)

    def _rebooted(self, instance: Instance, now: float) -> Instance:
        if instance.state in ("shutting-down", "terminated"):
            return instance
        order = instance.order + 1
        review_at = now + self._resend_after
        return moved(instance, "reboot", now, order=order, booted=order, rebooting_since=now, review_at=review_at)

    def _terminated(self, instance: Instance, now: float) -> Instance:
        if instance.state in ("shutting-down", "terminated"):
            return instance
        if instance.api_termination_disabled:
            raise Protected("instance", instance.id, "disableApiTermination")
        return leaving(instance, "terminate", now, USER_STOP, now + self._resend_after)

    def _move(self, caller: Caller, ids: Sequence[str], move: Move) -> Deferred[tuple[list[Change], list[Instance]]]:
        return until_written(lambda: self._move_once(caller, list(dict.fromkeys(ids)), move))

    @inlineCallbacks
    def _move_once(
        self, caller: Caller, ids: list[str], move: Move
    ) -> Generator[Deferred[Any], Any, tuple[list[Change], list[Instance]]]:
        """
        @return: what changed, and those records that were written.
        """
        found = yield self._read(caller, ids)
        now = self._clock.seconds()
        transaction = self._store.transaction(caller.request_id)
        records = [move(stored.record, now) for stored in found]
        changes = [Change(new.id, old.record.state, new.state) for old, new in zip(found, records, strict=True)]
        records = yield release_disks(self._store, transaction, records, now)
        records, freed = yield end_associations(self._store, transaction, records, now + self._resend_after)
        written: list[Instance] = []
        for stored, record in zip(found, records, strict=True):
            if record is not stored.record and record != stored.record:
                transaction.update(stored, record)
                written.append(record)
        if written:
            yield self._store.commit(transaction)
            self._orders.addresses(caller.request_id, freed)
        return changes, written

    @inlineCallbacks
    def _read(self, caller: Caller, ids: Sequence[str]) -> Generator[Deferred[Any], Any, list[Stored[Instance]]]:
        found = yield self._store.read(Instance, ids)
        missing = [
            id
            for id, stored in zip(ids, found, strict=True)
            if stored is None or stored.record.project != caller.project
        ]
        if missing:
            raise NotFound("instance", ", ".join(missing))
        return list(found)


def leaving(instance: Instance, verb: str, now: float, reason: StateReason, review_at: float) -> Instance:
    """
    An instance on its way out: shutting down while its host may have
    something of it, terminated at once when no host was ever asked.
    """
    gone = moved(instance, verb, now, reason, order=instance.order + 1, review_at=review_at)
    if instance.host:
        return gone
    return moved(gone, "vanish", now, reason)
