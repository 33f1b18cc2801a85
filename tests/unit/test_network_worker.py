"""
Tests for L{fabric.network.worker} and its service.
"""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from fabric.cloud.interface import ICloudWorker
from fabric.errors import DriverFailure, InvalidValue, NotFound
from fabric.model.codec import encode
from fabric.network.fake import FakeNetwork
from fabric.network.interface import INetworkWorker
from fabric.network.service import NetworkService
from fabric.network.worker import DRIVER_SECONDS, NetworkWorker
from fabric.rpc.interface import Address, Context
from fabric.rpc.local import LocalQueue
from fabric.testing.network import NETWORK, OTHER, floating, plug
from tests.unit.test_compute_worker import Controller, Steps


class NetworkWorkerTests(SynchronousTestCase):
    """
    What a network worker does with its driver.
    """

    def setUp(self):
        """A worker over a fake."""
        self.steps = Steps()
        self.clock = Clock()
        self.driver = FakeNetwork(self.mktemp(), self.clock)
        self.successResultOf(self.driver.start())
        self.worker = NetworkWorker(self.driver, self.clock, self.steps)

    def attach(self, networks, ports):
        """Order it."""
        return self.worker.attach([encode(item) for item in networks], [encode(item) for item in ports])

    def ports(self):
        """What is plugged."""
        return self.successResultOf(self.driver.ports())

    def test_interface(self):
        """It provides INetworkWorker."""
        verifyObject(INetworkWorker, self.worker)

    def test_attach(self):
        """Networks are expressed, then ports plugged; twice is as once; each step is a fault point."""
        for _ in range(2):
            self.successResultOf(self.attach([NETWORK, OTHER], [plug(1), plug(2, OTHER)]))
        self.assertEqual(self.ports(), [plug(1), plug(2, OTHER)])
        self.assertEqual(self.steps.names, 2 * ["network.expressed", "network.plugged"])

    def test_detach(self):
        """Ports are unplugged; twice is as once."""
        self.successResultOf(self.attach([NETWORK], [plug(1), plug(2)]))
        for _ in range(2):
            self.successResultOf(self.worker.detach([plug(1).instance]))
            self.assertEqual(self.ports(), [plug(2)])
        self.assertEqual(self.steps.names[-1], "network.unplugged")

    def test_slow_detach_undoes_no_attach(self):
        """A machine's ports are attached after a detaching that began before, however slow that is."""
        self.successResultOf(self.attach([NETWORK], [plug(1), plug(2)]))
        self.driver.rehearsal.tell(f"unplug slow 3 {plug(1).instance}")
        detached = self.worker.detach([plug(1).instance])
        attached = self.attach([NETWORK], [plug(1)])
        other = self.attach([NETWORK], [plug(2)])
        self.successResultOf(other)
        self.clock.pump([3.0, 0.1])
        self.successResultOf(detached)
        self.successResultOf(attached)
        self.assertEqual(sorted(self.ports(), key=lambda port: port.mac), [plug(1), plug(2)])

    def test_slow_regroup_undoes_no_detach(self):
        """A machine that is detached while its groups are changed has no port afterwards."""
        self.successResultOf(self.attach([NETWORK], [plug(1)]))
        self.driver.rehearsal.tell(f"plug slow 3 {plug(1).instance}")
        regrouped = self.regroup(plug(1).instance, 2, "sg-b")
        detached = self.worker.detach([plug(1).instance])
        self.clock.pump([3.0, 0.1])
        self.successResultOf(regrouped)
        self.successResultOf(detached)
        self.assertEqual(self.ports(), [])

    def test_regroup_while_attaching(self):
        """Groups that a machine is put into while its ports are attached are its groups afterwards."""
        self.successResultOf(self.attach([NETWORK], []))
        self.driver.rehearsal.tell(f"plug slow 3 {plug(1).instance}")
        attached = self.attach([NETWORK], [plug(1)])
        regrouped = self.regroup(plug(1).instance, 2, "sg-b")
        self.clock.pump([3.0, 0.1, 3.0])
        self.successResultOf(attached)
        self.successResultOf(regrouped)
        self.assertEqual(self.ports(), [attrs.evolve(plug(1), groups=("sg-b",), groups_order=2)])

    def regroup(self, instance, order, *groups):
        """Order it."""
        return self.worker.regroup([{"instance": instance, "order": order, "groups": list(groups)}])

    def test_driver_that_hangs(self):
        """A machine's next order has its turn when the driver does not answer in time."""
        self.driver.rehearsal.tell("unplug hang")
        detached = self.worker.detach([plug(1).instance])
        attached = self.attach([NETWORK], [plug(1)])
        self.clock.pump([DRIVER_SECONDS, 0.1])
        self.failureResultOf(detached, DriverFailure)
        self.successResultOf(attached)
        self.assertEqual(self.ports(), [plug(1)])

    def test_managers(self):
        """Each manager is expressed by the driver; one of VLANs must be told which."""
        for manager, vlan in (("flatdhcp", None), ("vlan", 100)):
            order = attrs.evolve(NETWORK, manager=manager, vlan=vlan)
            self.successResultOf(self.attach([order], [plug(1)]))
            self.assertEqual(self.successResultOf(self.driver.networks()), [order])
        self.failureResultOf(self.attach([attrs.evolve(NETWORK, manager="vlan")], []), InvalidValue)

    def test_flat_has_no_router(self):
        """A flat network has no IPv6, which needs a router."""
        self.successResultOf(self.attach([attrs.evolve(NETWORK, cidr_v6="fd00::/64")], []))
        self.assertEqual(self.successResultOf(self.driver.networks()), [NETWORK])

    def test_idle_networks_go(self):
        """A network goes from the host when nobody was in it and no launch asked for it between two looks."""
        self.successResultOf(self.attach([NETWORK, OTHER], [plug(1)]))
        self.successResultOf(self.worker.tidy())
        self.assertEqual(self.successResultOf(self.driver.networks()), [NETWORK, OTHER])
        self.successResultOf(self.attach([OTHER], []))
        self.successResultOf(self.worker.tidy())
        self.assertEqual(self.successResultOf(self.driver.networks()), [NETWORK, OTHER])
        self.successResultOf(self.worker.tidy())
        self.assertEqual(self.successResultOf(self.driver.networks()), [NETWORK])
        self.successResultOf(self.worker.detach([plug(1).instance]))
        self.successResultOf(self.worker.tidy())
        self.assertEqual(self.successResultOf(self.driver.networks()), [])
        self.assertEqual(self.ports(), [])

    def test_unknown_manager(self):
        """A manager that nobody knows is an invalid value."""
        self.failureResultOf(self.attach([attrs.evolve(NETWORK, manager="carrier-pigeon")], []), InvalidValue)

    def test_errors(self):
        """The driver's errors are the caller's."""
        self.failureResultOf(self.attach([], [plug(1)]), NotFound)
        self.driver.rehearsal.tell("express fail")
        self.failureResultOf(self.attach([NETWORK], []), DriverFailure)

    def floating(self):
        """Which floating addresses are here."""
        return self.successResultOf(self.driver.floating())

    def associate(self, *wanted):
        """Order it."""
        self.successResultOf(self.worker.associate([encode(each) for each in wanted]))

    def disassociate(self, *unwanted):
        """Order it."""
        orders = [{"public": each.public, "order": each.order} for each in unwanted]
        self.successResultOf(self.worker.disassociate(orders))

    def test_associate(self):
        """Floating addresses come and go; twice is as once; each step is a fault point."""
        for _ in range(2):
            self.associate(floating(1), floating(2))
            self.assertEqual(self.floating(), [floating(1), floating(2)])
        for _ in range(2):
            self.disassociate(floating(1, 2))
            self.assertEqual(self.floating(), [floating(2)])
        self.assertEqual(self.steps.names, 2 * ["network.associated"] + 2 * ["network.disassociated"])

    def test_older_orders(self):
        """An order that comes after a newer one about the same address changes nothing."""
        self.associate(floating(1, 5))
        self.disassociate(floating(1, 4))
        self.associate(attrs.evolve(floating(1, 3), private="10.0.0.99"))
        self.assertEqual(self.floating(), [floating(1, 5)])
        self.disassociate(floating(1, 6))
        self.associate(floating(1, 5))
        self.assertEqual(self.floating(), [])
        self.associate(floating(1, 7))
        self.assertEqual(self.floating(), [floating(1, 7)])

    def test_older_orders_after_restart(self):
        """What the driver kept counts for a new worker too."""
        self.associate(floating(1, 5))
        self.worker = NetworkWorker(self.driver, self.clock, self.steps)
        self.disassociate(floating(1, 4))
        self.assertEqual(self.floating(), [floating(1, 5)])

    def test_failed_order_is_repeated(self):
        """What the driver could not do is done when the order comes again."""
        self.driver.rehearsal.tell("associate fail")
        orders = [encode(floating(1))]
        self.failureResultOf(self.worker.associate(orders), DriverFailure)
        self.successResultOf(self.worker.associate(orders))
        self.assertEqual(self.successResultOf(self.worker.describe_floating()), orders)

    def test_describe_ports(self):
        """Operators are told what is really plugged."""
        self.successResultOf(self.attach([NETWORK], [plug(1)]))
        self.assertEqual(self.successResultOf(self.worker.describe_ports()), [encode(plug(1))])


class NetworkServiceTests(SynchronousTestCase):
    """
    The service on a queue.
    """

    def test_service(self):
        """It beats, answers at its host's address, and goes in peace."""
        clock = Clock()
        queue = LocalQueue(clock)
        controller = Controller()
        queue.listen(Address("cloud"), ICloudWorker, controller, 1)
        service = NetworkService(queue, FakeNetwork(self.mktemp(), clock), "one", "nova", clock)
        service.startService()
        clock.pump([0.1] * 10)
        self.assertEqual([beat[:3] for beat in controller.beats], [("network", "one", "nova")])
        remote = queue.caller(INetworkWorker, Address("network", "one"), Context())
        attached = remote.attach([encode(NETWORK)], [encode(plug(1))])
        clock.pump([0.1] * 10)
        self.successResultOf(attached)
        ports = remote.describe_ports()
        clock.pump([0.1] * 10)
        self.assertEqual(self.successResultOf(ports), [encode(plug(1))])
        floated = remote.associate([encode(floating(1, 7))])
        clock.pump([0.1] * 10)
        self.successResultOf(floated)
        report = {"public": floating(1).public, "order": 7, "present": True}
        self.assertEqual(controller.addresses, [[report]])
        self.assertEqual(controller.networks, [("one", [])])
        self.successResultOf(service.stopService())
        clock.pump([1] * 30)
        self.assertEqual(len(controller.beats), 1)
