"""
What follows an instance to another host: its floating addresses and volumes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.associations import KEEPS
from fabric.model.address import Address, associated
from fabric.model.instance import Instance, with_disk, without_disk
from fabric.model.volume import Volume, attachment_moved, disk_of
from fabric.store.interface import IStore, Transaction

CARRIED = ("attaching", "attached")
"""The states of attachments that go with the instance; of the others the guest, which is gone, has let go."""


@inlineCallbacks
def follow(
    store: IStore, transaction: Transaction, records: Sequence[Instance], now: float, review_at: float
) -> Generator[Deferred[Any], Any, tuple[list[Instance], list[Address]]]:
    """
    Have addresses and volumes of instances that were moved lead to where these
    are now, in the transaction that moves them.

    @param records: instances as they are to be written; C{host} may be empty
        for one that is still to be placed.
    @return: the same with their volumes as they are then, and the addresses,
        of which hosts are to be told when the write is done.
    """
    moved = {record.id: record for record in records}
    addresses = yield _addresses(store, transaction, moved, review_at)
    volumes = [disk.volume for record in records for disk in record.disks]
    if volumes:
        found = yield store.read(Volume, volumes)
        for stored in found:
            if stored is None or stored.record.attachment is None or stored.record.attachment.instance not in moved:
                continue
            holder = moved[stored.record.attachment.instance]
            volume = _followed(stored.record, holder.host, now, review_at)
            transaction.update(stored, volume)
            gone = volume.attachment is None
            moved[holder.id] = without_disk(holder, volume.id) if gone else with_disk(holder, disk_of(volume))
    return list(moved.values()), addresses


@inlineCallbacks
def _addresses(
    store: IStore, transaction: Transaction, moved: dict[str, Instance], review_at: float
) -> Generator[Deferred[Any], Any, list[Address]]:
    kept = [each for each in moved.values() if each.host and each.state in KEEPS]  # the others lose them in this write
    held = sorted({each.public.allocation for each in kept if each.public})
    if not held:
        return []
    found = yield store.read(Address, held)
    following: list[Address] = []
    for stored in found:
        association = stored.record.association if stored else None
        if association is None or association.instance not in moved:
            continue
        here = attrs.evolve(association, host=moved[association.instance].host)
        address = associated(stored.record, here, review_at)
        transaction.update(stored, address)
        following.append(address)
    return following


def _followed(volume: Volume, host: str, now: float, review_at: float) -> Volume:
    """
    A volume after its instance was moved: a new order, so that what its old
    host may still ask about it is refused.
    """
    attachment = volume.attachment
    assert attachment is not None, volume.id
    order = volume.order + 1
    if attachment.state not in CARRIED:
        return attrs.evolve(attachment_moved(volume, "let_go", now), order=order)
    return attrs.evolve(
        volume, order=order, review_at=review_at, attachment=attrs.evolve(attachment, host=host, order=order)
    )
