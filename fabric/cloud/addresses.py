"""
Floating addresses: taken from a pool, led to instances, given back.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from netaddr import AddrFormatError, IPAddress
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from fabric.cloud.access import Caller
from fabric.cloud.associations import KEEPS
from fabric.cloud.launch import RESEND_AFTER
from fabric.cloud.orders import Orders
from fabric.cloud.quotas import Quotas, counter, quota_error
from fabric.cloud.ranges import Ranges
from fabric.cloud.retry import until_written
from fabric.errors import (
    AlreadyExists,
    InUse,
    InvalidValue,
    LimitExceeded,
    MemberTaken,
    NotFound,
    PoolEmpty,
    WrongState,
)
from fabric.faults import IFaults
from fabric.ids import new_id
from fabric.model.address import Address, Association, associated, disassociated, unique_name
from fabric.model.instance import Instance, Public, with_public
from fabric.store.interface import IStore, Stored, Transaction, Want

ASSOCIABLE = tuple(state for state in KEEPS if state != "pending")
"""The states of an instance that can be given an address, as on EC2."""


ATTEMPTS = 100
"""One address may be moved by many at once; each attempt that fails means that another move was made."""


@attrs.frozen
class Named:
    """
    How a request names an address: by exactly one of these.
    """

    allocation: str = ""
    public_ip: str = ""

    @property
    def text(self) -> str:
        """The name itself."""
        return self.allocation or self.public_ip


class Addresses:
    """
    Verbs on addresses.  Each is one write, of the address and of the
    instances that it touches.
    """

    def __init__(
        self,
        store: IStore,
        ranges: Ranges,
        quotas: Quotas,
        orders: Orders,
        clock: IReactorTime,
        faults: IFaults,
        resend_after: float = RESEND_AFTER,
    ) -> None:
        self._store = store
        self._ranges = ranges
        self._quotas = quotas
        self._orders = orders
        self._clock = clock
        self._faults = faults
        self._resend_after = resend_after

    @inlineCallbacks
    def allocate(
        self, caller: Caller, public_ip: str = "", range_id: str = "", tags: Mapping[str, str] | None = None
    ) -> Generator[Deferred[Any], Any, Address]:
        """
        Hold an address for the caller's project: a certain one, or any of a
        range, or any.

        @raise NotFound: C{address}: no range has that one; C{floating}: no
            such range.
        @raise MemberTaken: somebody has that one.
        @raise PoolEmpty: none is free.
        @raise QuotaExceeded: the project has as many as it may.
        """
        ranges = yield self._ranges.list()
        if range_id:
            ranges = [each for each in ranges if each.id == range_id]
            if not ranges:
                raise NotFound("floating", range_id)
        if public_ip:
            ranges = [each for each in ranges if public_ip in each.pool_members()[each.pool]]
            if not ranges:
                raise NotFound("address", public_ip)
        limits = yield self._quotas.limits(caller.project)
        for each in ranges:
            try:
                address = yield self._take(caller, each, public_ip, limits["addresses"], dict(tags or {}))
            except PoolEmpty:
                continue
            self._faults.reach("cloud.address_allocated")
            return address  # type: ignore[no-any-return]
        raise PoolEmpty("floating", 1)

    @inlineCallbacks
    def _take(
        self, caller: Caller, range_: Any, public_ip: str, limit: int, tags: dict[str, str]
    ) -> Generator[Deferred[Any], Any, Address]:
        now = self._clock.seconds()
        transaction = self._store.transaction(caller.request_id)
        address = Address(
            new_id("address"),
            caller.project,
            public_ip or transaction.take(range_.pool),
            range_.id,
            now,
            order=int(now * 1000),
            tags=tags,
        )
        transaction.create(address)
        transaction.need("floating", range_.id)
        transaction.limit(counter(caller.project, "addresses"), limit)
        try:
            committed = yield self._store.commit(transaction)
        except LimitExceeded as error:
            raise quota_error(error) from None
        except AlreadyExists as error:  # the address, which is unique
            raise MemberTaken(range_.pool, public_ip, error.holder) from None
        return committed.records[0].record  # type: ignore[no-any-return]

    @inlineCallbacks
    def release(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, None]:
        """
        Give an address back.  It is free for others when no host has it.

        @raise NotFound: the project holds no such address; its kind is
            C{allocation}, C{address}, or C{others_address} when it is named by
            itself and somebody else holds it.
        @raise InUse: it leads to an instance.
        """
        yield until_written(lambda: self._release_once(caller, named), ATTEMPTS)
        self._faults.reach("cloud.address_released")

    @inlineCallbacks
    def _release_once(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, None]:
        stored = yield self._find(caller, named)
        address: Address = stored.record
        if address.association is not None:
            raise InUse("address", address.public_ip, address.association.instance)
        transaction = self._store.transaction(caller.request_id)
        if address.settled:
            transaction.delete(stored)
        else:
            transaction.update(stored, attrs.evolve(address, released=True, tags={}))
        yield self._store.commit(transaction)

    @inlineCallbacks
    def associate(
        self, caller: Caller, named: Named, instance: str, private_ip: str = "", move: bool = True
    ) -> Generator[Deferred[Any], Any, str]:
        """
        Lead an address to an instance, and to no other; what led to that
        instance before leads nowhere then.  Repeating is safe.

        @param private_ip: must be the instance's, if given.
        @param move: whether an address that leads to another instance may be
            taken from there.
        @return: the association's id.
        @raise NotFound: the project has no such address or instance.
        @raise WrongState: the instance can't have an address now.
        @raise InvalidValue: C{private_ip} is not the instance's.
        @raise InUse: it leads elsewhere, and is not to be moved.
        """
        association, told = yield until_written(
            lambda: self._associate_once(caller, named, instance, private_ip, move), ATTEMPTS
        )
        self._faults.reach("cloud.address_associated")
        self._orders.addresses(caller.request_id, told)
        return association  # type: ignore[no-any-return]

    @inlineCallbacks
    def _associate_once(
        self, caller: Caller, named: Named, instance_id: str, private_ip: str, move: bool
    ) -> Generator[Deferred[Any], Any, tuple[str, list[Address]]]:
        stored, target = yield self._find_both(caller, named, instance_id)
        address: Address = stored.record
        _check_target(target.record, private_ip)
        old = address.association
        if old is not None and old.instance == instance_id:
            return old.id, []
        if old is not None and not move:
            raise InUse("address", address.id, old.instance)
        transaction = self._store.transaction(caller.request_id)
        review_at = self._clock.seconds() + self._resend_after
        others = yield self._leave(transaction, target.record, old, review_at)
        association = _association(target.record)
        address = associated(address, association, review_at)
        public = Public(address.public_ip, address.id, association.id)
        transaction.update(stored, address)
        transaction.update(target, with_public(target.record, public))
        yield self._store.commit(transaction)
        return association.id, [address, *others]

    @inlineCallbacks
    def _leave(
        self, transaction: Transaction, target: Instance, old: Association | None, review_at: float
    ) -> Generator[Deferred[Any], Any, list[Address]]:
        """
        Part the address's old instance, and the instance's old address.
        """
        wants = [Want(Address, id=target.public.allocation)] if target.public else []
        wants += [Want(Instance, id=old.instance)] if old else []
        found = (yield self._store.gather(wants)) if wants else []
        freed: list[Address] = []
        for stored in found:
            if stored is None:
                continue
            if isinstance(stored.record, Instance):
                transaction.update(stored, with_public(stored.record, None))
            else:
                freed.append(disassociated(stored.record, review_at))
                transaction.update(stored, freed[-1])
        return freed

    @inlineCallbacks
    def disassociate(
        self, caller: Caller, named: Named | None = None, association: str = ""
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Have an address lead nowhere: one that is named, or that an
        association is of.  Repeating is safe for one that is named.

        @raise NotFound: the project has no such address or C{association}.
        """
        told = yield until_written(lambda: self._disassociate_once(caller, named, association), ATTEMPTS)
        self._faults.reach("cloud.address_disassociated")
        self._orders.addresses(caller.request_id, told)

    @inlineCallbacks
    def _disassociate_once(
        self, caller: Caller, named: Named | None, association: str
    ) -> Generator[Deferred[Any], Any, list[Address]]:
        if named is None:
            found = yield self._store.resolve(Address, ["association:" + association])
            stored = found[0]
            if stored is None or stored.record.project != caller.project:
                raise NotFound("association", association)
        else:
            stored = yield self._find(caller, named)
        address: Address = stored.record
        if address.association is None:
            return []
        [target] = yield self._store.read(Instance, [address.association.instance])
        transaction = self._store.transaction(caller.request_id)
        freed = disassociated(address, self._clock.seconds() + self._resend_after)
        transaction.update(stored, freed)
        if target is not None:
            transaction.update(target, with_public(target.record, None))
        yield self._store.commit(transaction)
        return [freed]

    @inlineCallbacks
    def _find(self, caller: Caller, named: Named) -> Generator[Deferred[Any], Any, Stored[Address]]:
        [stored] = yield self._store.gather([_want(named)])
        return _own(caller, named, stored)

    @inlineCallbacks
    def _find_both(
        self, caller: Caller, named: Named, instance: str
    ) -> Generator[Deferred[Any], Any, tuple[Stored[Address], Stored[Instance]]]:
        stored, target = yield self._store.gather([_want(named), Want(Instance, id=instance)])
        if target is None or target.record.project != caller.project:
            raise NotFound("instance", instance)
        return _own(caller, named, stored), target


def _want(named: Named) -> Want:
    return Want(Address, id=named.allocation) if named.allocation else Want(Address, name=unique_name(named.public_ip))


def _own(caller: Caller, named: Named, stored: Stored[Address] | None) -> Stored[Address]:
    if stored is None or stored.record.released:
        raise NotFound("allocation" if named.allocation else "address", named.text)
    if stored.record.project != caller.project:  # that somebody has it is no secret, as everybody may try to take it
        raise NotFound("allocation" if named.allocation else "others_address", named.text)
    return stored


def _check_target(instance: Instance, private_ip: str) -> None:
    if instance.state not in ASSOCIABLE or not (instance.ports and instance.ports[0].address):
        raise WrongState("instance", instance.id, instance.state, list(ASSOCIABLE))
    if private_ip and private_ip != instance.ports[0].address:
        raise InvalidValue("PrivateIpAddress", private_ip, f"It is not an address of {instance.id}.")


def _association(instance: Instance) -> Association:
    port = instance.ports[0]
    return Association(new_id("association"), instance.id, port.network, port.address, port.mac, instance.host)


def is_address(text: str) -> bool:
    """
    Whether a text is an IPv4 address in its usual form.
    """
    try:
        return str(IPAddress(text, 4)) == text
    except (AddrFormatError, ValueError):
        return False
