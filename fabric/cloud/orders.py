"""
Orders: what is cast to workers once state says that it should be so.

State is always written first.  An order that is lost is sent again by the sweep,
so a failed cast is logged and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.logger import Logger

from fabric.cloud.image_files import FileLinks
from fabric.cloud.networks import Networks
from fabric.compute.interface import DiskOrder, IComputeWorker, MachineOrder, PortOrder
from fabric.errors import FabricError
from fabric.model.address import Address as FloatingAddress
from fabric.model.address import Association
from fabric.model.codec import encode
from fabric.model.instance import Disk, Instance
from fabric.model.network import Network
from fabric.network.interface import Floating, FloatingReport, INetworkWorker, NetworkOrder, Plug
from fabric.rpc.interface import Address, Context, IQueue
from fabric.scheduler.interface import ISchedulerWorker

WAIT = 3600.0
"""Seconds for which an order may wait in a queue; the sweep sends another long before."""


class Orders:
    """
    Sends orders, grouped by host.
    """

    log = Logger()

    def __init__(self, queue: IQueue, networks: Networks, links: FileLinks | None = None) -> None:
        self._queue = queue
        self._networks = networks
        self._links = links or FileLinks(None)

    def schedule(self, request_id: str, instances: Iterable[Instance]) -> Deferred[None]:
        """
        Ask a scheduler to find hosts.
        """
        ids = [instance.id for instance in instances]
        remote = self._queue.caster(ISchedulerWorker, Address("scheduler"), Context(request_id, WAIT))
        return self._send(request_id, "schedule", "scheduler", lambda: remote.schedule(ids))

    def offer(self, request_id: str, ids: list[str]) -> Deferred[None]:
        """
        Let the first free compute worker take these.
        """
        remote = self._queue.caster(IComputeWorker, Address("compute"), Context(request_id, WAIT))
        return self._send(request_id, "claim", "compute", lambda: remote.claim(ids))

    @inlineCallbacks
    def run(self, request_id: str, instances: Iterable[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order instances to be brought up on the hosts that they were placed on;
        not those whose root volume is not made, or which are being moved: they
        are ordered when it is, or they are there.
        """
        ready = [instance for instance in instances if instance.bootable and not instance.migration]
        if ready:
            yield self._whole(request_id, ready, "run", lambda remote, machines: remote.run(machines))

    @inlineCallbacks
    def reboot(self, request_id: str, instances: Iterable[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order instances to be rebooted; those that are being moved when they
        are there.
        """
        ready = [instance for instance in instances if not instance.migration]
        if ready:
            yield self._whole(request_id, ready, "reboot", lambda remote, machines: remote.reboot(machines, False))

    @inlineCallbacks
    def migrate(self, request_id: str, instances: Iterable[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order instances to be moved to the hosts that they have room on.
        """
        going = {each.id: each.migration for each in instances if each.migration}

        def move(remote: Any, machines: list[dict[str, Any]]) -> Deferred[None]:
            orders = [
                {"machine": each, "destination": going[each["id"]].destination, "order": going[each["id"]].order}
                for each in machines
            ]
            return remote.migrate(orders)  # type: ignore[no-any-return]

        yield self._whole(request_id, instances, "migrate", move)

    def stop(self, request_id: str, instances: Iterable[Instance], force: bool = False) -> Deferred[None]:
        """
        Order instances to be shut down.
        """
        return self._brief(request_id, instances, "stop", lambda remote, machines: remote.stop(machines, force))

    def terminate(self, request_id: str, instances: Iterable[Instance]) -> Deferred[None]:
        """
        Order what a host has of instances to be removed.
        """
        return self._brief(request_id, instances, "terminate", lambda remote, machines: remote.terminate(machines))

    def remove(self, request_id: str, host: str, found: Mapping[str, int]) -> Deferred[None]:
        """
        Order machines that no instance stands for to be removed from a host.

        @param found: the order of which the host has each; what was brought up
            there by a later one is not meant.  0 for any.
        """
        remote = self._compute(request_id, host)
        machines = [{"id": name, "order": order} for name, order in found.items()]
        return self._send(request_id, "terminate", host, lambda: remote.terminate(machines))

    def addresses(
        self, request_id: str, addresses: Iterable[FloatingAddress], hosts: Sequence[str] | None = None
    ) -> Deferred[None]:
        """
        Order floating addresses to be where they lead, and nowhere else.

        @param hosts: tell only these; None for all that are concerned.
        """
        here: dict[str, list[dict[str, Any]]] = defaultdict(list)
        gone: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for address in addresses:
            if address.association is not None and address.association.host:
                here[address.association.host].append(encode(_floating(address, address.association)))
            for host in address.stale:
                gone[host].append({"public": address.public_ip, "order": address.order})
        chosen = {*here, *gone} if hosts is None else set(hosts)
        sends = [self._disassociate(request_id, host, items) for host, items in gone.items() if host in chosen]
        sends += [self._associate(request_id, host, items) for host, items in here.items() if host in chosen]
        return _all(sends)

    def drop_addresses(self, request_id: str, host: str, reports: Sequence[FloatingReport]) -> Deferred[None]:
        """
        Order floating addresses that nobody holds away from a host that has them.
        """
        items = [{"public": report.public, "order": report.order} for report in reports]
        return self._disassociate(request_id, host, items) if items else _all([])

    def unplug(self, request_id: str, host: str, instances: list[str]) -> Deferred[None]:
        """
        Order ports of instances that are over away from a host that has them.
        """
        remote = self._network(request_id, host)
        return self._send(request_id, "detach", host, lambda: remote.detach(instances)) if instances else _all([])

    @inlineCallbacks
    def attach(self, request_id: str, host: str, instances: Sequence[Instance]) -> Generator[Deferred[Any], Any, None]:
        """
        Order the networks and ports of these instances to be there.
        """
        if not instances:
            return
        networks = yield self._networks.by_id([port.network for instance in instances for port in instance.ports])
        remote = self._network(request_id, host)
        orders = [encode(network_order(network)) for network in networks.values()]
        plugs = [encode(_plug(instance, port)) for instance in instances for port in instance.ports]
        yield self._send(request_id, "attach", host, lambda: remote.attach(orders, plugs))

    def _associate(self, request_id: str, host: str, items: list[dict[str, Any]]) -> Deferred[None]:
        remote = self._network(request_id, host)
        return self._send(request_id, "associate", host, lambda: remote.associate(items))

    def _disassociate(self, request_id: str, host: str, items: list[dict[str, Any]]) -> Deferred[None]:
        remote = self._network(request_id, host)
        return self._send(request_id, "disassociate", host, lambda: remote.disassociate(items))

    def _network(self, request_id: str, host: str) -> Any:
        return self._queue.caster(INetworkWorker, Address("network", host), Context(request_id, WAIT))

    def resend(self, request_id: str, instances: Iterable[Instance]) -> Deferred[None]:
        """
        Send again what each instance's state waits for.
        """
        by_state: dict[str, list[Instance]] = defaultdict(list)
        for instance in instances:
            state = "rebooting" if instance.rebooting_since else instance.state
            by_state[state if instance.host else "unplaced"].append(instance)
        sends = {
            "unplaced": self.schedule,
            "pending": self.run,
            "rebooting": self.reboot,
            "stopping": self.stop,
            "shutting-down": self.terminate,
            "terminated": self.terminate,
        }
        return _all([sends[state](request_id, group) for state, group in by_state.items() if state in sends])

    def _compute(self, request_id: str, host: str) -> Any:
        return self._queue.caster(IComputeWorker, Address("compute", host), Context(request_id, WAIT))

    @inlineCallbacks
    def _whole(
        self, request_id: str, instances: Iterable[Instance], name: str, call: Callable[[Any, Any], Deferred[None]]
    ) -> Generator[Deferred[Any], Any, None]:
        instances = list(instances)
        try:
            networks = yield self._networks.by_id([port.network for instance in instances for port in instance.ports])
        except FabricError as error:
            self._unsent(request_id, name, ", ".join(sorted({each.host for each in instances})), error)
            return
        yield self._per_host(request_id, instances, name, call, lambda instance: self._order(instance, networks))

    @inlineCallbacks
    def described(self, instance: Instance) -> Generator[Deferred[Any], Any, dict[str, Any]]:
        """
        @return: the whole order about one instance, to be sent by the caller.
        """
        networks = yield self._networks.by_id([port.network for port in instance.ports])
        return self._order(instance, networks)

    def _order(self, instance: Instance, networks: dict[str, Network]) -> dict[str, Any]:
        """Its files by fresh links: these expire."""
        return encode(attrs.evolve(machine(instance, networks), files=self._links.orders(instance.files)))

    def _brief(
        self, request_id: str, instances: Iterable[Instance], name: str, call: Callable[[Any, Any], Deferred[None]]
    ) -> Deferred[None]:
        def shape(instance: Instance) -> dict[str, Any]:
            return {"id": instance.id, "order": instance.order} | _disks_of(instance)

        return self._per_host(request_id, instances, name, call, shape)

    def _per_host(
        self,
        request_id: str,
        instances: Iterable[Instance],
        name: str,
        call: Callable[[Any, Any], Deferred[None]],
        shape: Callable[[Instance], dict[str, Any]],
    ) -> Deferred[None]:
        by_host: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for instance in instances:
            by_host[instance.host].append(shape(instance))
        return _all([self._to_host(request_id, host, name, call, machines) for host, machines in by_host.items()])

    def _to_host(
        self, request_id: str, host: str, name: str, call: Callable[[Any, Any], Deferred[None]], machines: Any
    ) -> Deferred[None]:
        remote = self._compute(request_id, host)
        return self._send(request_id, name, host, lambda: call(remote, machines))

    def _send(self, request_id: str, name: str, where: str, send: Callable[[], Deferred[None]]) -> Deferred[None]:
        def unsent(failure: Any) -> None:
            failure.trap(FabricError)
            self._unsent(request_id, name, where, failure.value)

        return send().addErrback(unsent)

    def _unsent(self, request_id: str, name: str, where: str, error: FabricError) -> None:
        self.log.warn(
            "{request_id}: order {order} for {where} was not sent and will be again: {error}",
            request_id=request_id,
            order=name,
            where=where,
            error=error,
        )


def machine(instance: Instance, networks: dict[str, Network]) -> MachineOrder:
    """
    The order that brings an instance up.
    """
    root, flavor = instance.root, instance.needs
    if flavor.ephemeral_gb and not instance.scratch_device:
        flavor = attrs.evolve(flavor, ephemeral_gb=0)
    return MachineOrder(
        id=instance.id,
        order=instance.order,
        project=instance.project,
        flavor=flavor,
        image=instance.image,
        image_location=instance.image_location,
        kernel=instance.kernel,
        ramdisk=instance.ramdisk,
        key_name=instance.key_name,
        key_material=instance.key_material,
        user_data=instance.user_data,
        ports=tuple(_port(instance, port, networks[port.network]) for port in instance.ports),
        disks=tuple(_disk(instance, disk) for disk in wanted_disks(instance)),
        root_volume=root.volume if root else "",
        scratch_device=instance.scratch_device,
    )


def wanted_disks(instance: Instance) -> tuple[Disk, ...]:
    """
    The volumes that its host is to give it when it is brought up: those that
    are made, and not on their way off.
    """
    return tuple(disk for disk in instance.disks if disk.host and disk.state in ("attaching", "attached"))


def _disks_of(instance: Instance) -> dict[str, Any]:
    """What a host gives back when the instance is removed."""
    disks = [encode(_disk(instance, disk)) for disk in instance.disks if disk.host]
    return {"disks": disks} if disks else {}


def _disk(instance: Instance, disk: Disk) -> DiskOrder:
    return DiskOrder(disk.volume, instance.id, disk.device, disk.host, disk.order)


def _port(instance: Instance, port: Any, network: Network) -> PortOrder:
    return PortOrder(
        network=network.id,
        mac=port.mac,
        address=port.address,
        hostname=port.hostname,
        cidr=network.cidr,
        gateway=network.gateway,
        manager=network.manager,
        bridge=network.bridge,
        vlan=network.vlan,
        dns=network.dns,
        groups=tuple(group.id for group in instance.groups),
        groups_order=instance.groups_order,
        public=port.public.address if port.public and instance.migration else "",
        domain=network.domain,
        cidr_v6=network.cidr_v6,
    )


def network_order(network: Network) -> NetworkOrder:
    """
    The order that has a host have a network.
    """
    return NetworkOrder(
        id=network.id,
        cidr=network.cidr,
        gateway=network.gateway,
        manager=network.manager,
        bridge=network.bridge,
        vlan=network.vlan,
        dns=network.dns,
        domain=network.domain,
        cidr_v6=network.cidr_v6,
    )


def _plug(instance: Instance, port: Any) -> Plug:
    groups = tuple(group.id for group in instance.groups)
    return Plug(instance.id, port.network, port.mac, port.address, port.hostname, groups, instance.groups_order)


def _floating(address: FloatingAddress, association: Association) -> Floating:
    return Floating(
        public=address.public_ip,
        private=association.private_ip,
        instance=association.instance,
        network=association.network,
        mac=association.mac,
        order=address.order,
    )


def _all(sends: list[Deferred[None]]) -> Deferred[None]:
    gathered = gatherResults(sends, consumeErrors=True)
    return gathered.addCallback(lambda _: None)
