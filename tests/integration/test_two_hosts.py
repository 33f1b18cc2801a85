"""
Guests on two hosts, each with services of its own over one RabbitMQ and Redis:
they talk over vxlan as their groups say, are moved while they run, and whatever
of a host is killed, it heals.
"""

from __future__ import annotations

import atexit
import contextlib
import socket
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fabric.testing.processes import healthy
from fabric.testing.realhost import until
from tests.integration.guest_shell import GuestShell
from tests.integration.host_in_namespace import Host
from tests.integration.two_hosts import Project, TwoHosts

EVERYTHING = 3
"""ETH_P_ALL, of linux/if_ether.h."""

LAUNCH = {
    "cloud-compute": ("compute.received", "compute.attached", "compute.spawned", "compute.reported"),
    "cloud-network": ("network.expressed", "network.plugged", "network.groups_applied"),
}
TERMINATE = {
    "cloud-compute": ("compute.received", "compute.destroyed", "compute.detached", "compute.reported"),
    "cloud-network": ("network.unplugged",),
}
"""The steps of a host's services, each of which is a fault point."""

HEALED = 600.0
"""Seconds within which all died at each of their steps, and live: a start takes half a minute of a busy machine."""


@cache
def stage() -> TwoHosts:
    """
    @return: the hosts of all tests here; removed at the interpreter's exit.
    """
    made = TwoHosts()
    atexit.register(made.remove)
    return made


class Guest:
    """
    @ivar address: its private one; C{floating} that which leads to it.
    """

    def __init__(self, project: Project, id: str) -> None:
        hosts = stage()
        self.project = project
        self.id = id
        self.floating = hosts.floating(project, id)
        self.console = hosts.until_said(project, id, "FABRIC ready")
        [interface] = hosts.instance(project, id)["NetworkInterfaces"]
        self.address, self.mac = interface["PrivateIpAddress"], interface["MacAddress"]
        hosts.until_ssh(project, self.floating, "true")
        self.shell = GuestShell(hosts.ssh(project, self.floating))
        atexit.register(self.shell.close)

    @property
    def host(self) -> Host:
        """Where it runs."""
        return stage().hosts[stage().host_of(self.id)]

    def pings(self, address: str, *options: str) -> bool:
        """Whether it is answered."""
        words = " ".join(options)
        return self.shell.ask(f"ping -c 1 -W 2 {words} {address} >/dev/null 2>&1 && echo yes") == "yes"

    def opens(self, address: str, port: int) -> bool:
        """Whether a server there says something."""
        return "SSH" in self.shell.ask(f"timeout 3 nc {address} {port} </dev/null 2>/dev/null | head -c 7")

    def move(self, name: str) -> None:
        """Have it run on a host, moved there if need be."""
        if self.host.name != name:
            stage().admin.call("MigrateInstance", instance=self.id, host=name)
            until(lambda: self.is_at(name), f"{self.id} is on {name}")

    def is_at(self, name: str) -> bool:
        """Whether it is there, and the cloud knows."""
        [load] = [each["load"] for each in stage().admin.call("DescribeHosts") if each["id"] == f"compute.{name}"]
        return stage().host_of(self.id) == name and load.get("instances", 0) == len(self.host.running)


class Crew:
    """
    Two guests of apples and one of pears, all of which ssh from outside gets into.

    @ivar one, two: those of apples, on a host each when they were launched.
    @ivar friends: the group of both, without rules about what they get.
    """

    def __init__(self) -> None:
        hosts = stage()
        group = hosts.apples.ec2.create_security_group(GroupName="friends", Description="those two")
        self.friends: str = group["GroupId"]
        ids = hosts.launch(hosts.apples, 2, [self.friends])
        [other] = hosts.launch(hosts.pears)
        hosts.until_state(hosts.apples, ids, "running")
        self.spread = sorted(hosts.host_of(id) for id in ids)
        self.one, self.two = (Guest(hosts.apples, id) for id in ids)
        self.stranger = Guest(hosts.pears, other)


@cache
def crew() -> Crew:
    """
    @return: the guests of all tests here that need some that have booted.
    """
    return Crew()


class GuestTests(SynchronousTestCase):
    """
    Guests of one network on two hosts; see L{Crew}.
    """

    def setUp(self) -> None:
        """Have the first on one host, and the second on the other."""
        self.stage, self.crew = stage(), crew()
        self.one, self.two = self.crew.one, self.crew.two
        self.one.move("ha")
        self.two.move("hb")

    def lets_in(self, **rule: Any) -> Callable[[], Any]:
        """
        Have the friends' group let something in.

        @return: ends that.
        """
        ec2, wanted = self.stage.apples.ec2, {"GroupId": self.crew.friends, "IpPermissions": [rule]}
        ec2.authorize_security_group_ingress(**wanted)
        ended: list[None] = []

        def end() -> None:
            if not ended:
                ended.append(ec2.revoke_security_group_ingress(**wanted))

        self.addCleanup(end)
        return end

    def test_spread(self) -> None:
        """What is launched together is spread over the hosts."""
        self.assertEqual(self.crew.spread, ["ha", "hb"])

    def test_own_dhcp_server(self) -> None:
        """Each guest has its address from its own host, the only one that knows it."""
        for guest, host in ((self.one, "ha"), (self.two, "hb")):
            self.assertIn(f"FABRIC dhcp eth0 {guest.address}/24", guest.console)
            known = {name: "".join(each.state()["hosts"].values()) for name, each in self.stage.hosts.items()}
            self.assertEqual([name for name, text in known.items() if guest.mac in text], [host])

    def test_own_metadata_door(self) -> None:
        """Each guest is told of itself by its own host: without one host's door, guests on the other are."""

        def told(guest: Guest, seconds: int) -> str:
            url = "http://169.254.169.254/latest/meta-data/instance-id"
            return guest.shell.ask(f"(timeout {seconds} wget -q -O - {url}) 2>/dev/null")

        self.assertEqual([told(self.one, 40), told(self.two, 40)], [self.one.id, self.two.id])
        door = self.stage.hosts["hb"].services["cloud-metadata"].process
        door.kill()
        try:
            self.assertEqual([told(self.one, 40), told(self.two, 3)], [self.one.id, ""])
        finally:
            door.start()
            door.await_well()

    def test_reach_one_another(self) -> None:
        """Guests on two hosts reach one another when their group says so, by whole packets, and not otherwise."""
        one, two = self.one, self.two
        self.assertFalse(one.pings(two.address) or one.opens(two.address, 22))
        members = [{"GroupId": self.crew.friends}]
        end = self.lets_in(IpProtocol="icmp", FromPort=-1, ToPort=-1, UserIdGroupPairs=members)
        until(lambda: one.pings(two.address, "-s", "1472"), "the second answers the first", 90)
        until(lambda: two.pings(one.address, "-s", "1472"), "the first answers the second", 90)
        self.assertFalse(one.opens(two.address, 22))
        self.lets_in(IpProtocol="tcp", FromPort=22, ToPort=22, IpRanges=[{"CidrIp": f"{one.address}/32"}])
        until(lambda: one.opens(two.address, 22), "the second lets the first in", 90)
        self.assertFalse(two.opens(one.address, 22))
        end()
        until(lambda: not one.pings(two.address), "the second answers no more", 90)

    def test_other_projects(self) -> None:
        """A guest of another project is not reached, on whichever host it is; nor does it reach others."""
        self.lets_in(IpProtocol="-1", UserIdGroupPairs=[{"GroupId": self.crew.friends}])
        stranger = self.crew.stranger
        until(lambda: self.one.pings(self.two.address), "friends reach one another", 90)
        for guest in (self.one, self.two):
            self.assertFalse(guest.pings(stranger.address) or guest.opens(stranger.address, 22))
            self.assertFalse(stranger.pings(guest.address) or stranger.opens(guest.address, 22))

    def heard(self, act: Callable[[], Any]) -> list[bytes]:
        """What comes to the second host by its tunnel meanwhile."""
        tunnel = next(each for each in self.stage.hosts["hb"].state()["links"] if each.startswith("vx"))
        with self.stage.namespaces.open_socket(
            "hb", socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING)
        ) as ear:
            ear.bind((tunnel, 0))
            act()
            ear.settimeout(0.5)
            frames = []
            end = time.monotonic() + 3
            while time.monotonic() < end:
                try:
                    frames.append(ear.recv(2000))
                except TimeoutError:
                    break
            return frames

    def test_spoofed_address(self) -> None:
        """A guest that sends by another's address is not heard on the other host."""
        own, wrong = socket.inet_aton(self.one.address), socket.inet_aton("10.0.0.77")
        honest = self.heard(lambda: self.one.pings(self.two.address))
        self.assertTrue([frame for frame in honest if own in (frame[26:30], frame[28:32])])
        self.one.shell.ask("ip address add 10.0.0.77/32 dev eth0")
        self.addCleanup(self.one.shell.ask, "ip address del 10.0.0.77/32 dev eth0")
        spoofed = self.heard(lambda: self.one.pings(self.two.address, "-I", "10.0.0.77"))
        spoofed += self.heard(lambda: self.one.shell.ask("arping -U -c 2 -s 10.0.0.77 -I eth0 10.0.0.77"))
        self.assertEqual([frame for frame in spoofed if wrong in (frame[26:30], frame[28:32])], [])

    def test_spoofed_mac(self) -> None:
        """A guest that sends by another MAC is not heard on the other host, and is again with its own."""
        wrong, own = "02:00:00:00:00:77", self.one.mac
        change = (
            "ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up; ip route add default via 10.0.0.1"
        )
        sends = f"ping -c 3 -W 1 {self.two.address}"
        script = (
            f"({change.format(wrong)}; {sends}; {change.format(own)}; {sends}; echo back) >/dev/null 2>&1; echo; echo"
        )
        frames = self.heard(lambda: self.one.shell.ask(script))
        senders = {frame[6:12].hex(":") for frame in frames}
        self.assertIn(own, senders)
        self.assertNotIn(wrong, senders)

    def test_migrated(self) -> None:
        """A guest is moved while ssh goes on, both ways; nothing of it stays, and its rules are where it is."""
        guest, peer = self.one, self.two
        self.lets_in(IpProtocol="icmp", FromPort=-1, ToPort=-1, UserIdGroupPairs=[{"GroupId": self.crew.friends}])
        until(lambda: peer.pings(guest.address), "the guest answers", 90)
        guest.shell.tell("(for i in $(seq 1000); do [ -e /tmp/enough ] || echo tick $i; usleep 200000; done) & loop=$!")
        heard = [guest.shell.hear()]
        guest.move("hb")
        heard += guest.shell.drain()
        heard += [guest.shell.hear() for _ in range(20)]
        self.assertEqual(heard, [f"tick {number}" for number in range(1, len(heard) + 1)])
        guest.shell.tell("touch /tmp/enough; kill $loop; wait; echo; echo quiet")
        until(lambda: guest.shell.hear() == "quiet", "the loop has ended", pause=0)
        self.assertIn("yes", guest.shell.ask("echo yes"))
        self.assertEqual(self.stage.instance(guest.project, guest.id)["State"]["Name"], "running")
        tap = "tap" + guest.mac.replace(":", "")
        until(
            lambda: not self.stage.hosts["ha"].mentions(guest.id, guest.mac, tap, guest.floating), "nothing stays", 90
        )
        self.assertEqual(self.stage.hosts["ha"].mentions(guest.id, guest.mac, tap, guest.floating), {})
        self.assertIn(guest.address, self.stage.until_ssh(guest.project, guest.floating, "ip -4 address show eth0"))
        self.assertTrue(peer.pings(guest.address))
        until(lambda: not self.stage.amiss(), "all agrees", 90)

    def test_evacuated(self) -> None:
        """An evacuated host is empty after a while, and gets nothing until it is enabled again."""
        self.addCleanup(self.stage.admin.call, "ModifyHost", host="hb", disabled=False)
        self.stage.manage("host", "evacuate", "hb")
        until(lambda: not self.stage.hosts["hb"].state()["domains"], "the host is empty")
        self.assertEqual(self.two.shell.ask("echo yes"), "yes")
        self.assertTrue(self.two.is_at("ha"))
        [made] = self.stage.launch(self.stage.apples)
        self.addCleanup(self.stage.terminate, self.stage.apples, [made])
        self.stage.until_state(self.stage.apples, [made], "running")
        self.assertEqual(self.stage.host_of(made), "ha")


class DeathTests(SynchronousTestCase):
    """
    Services of both hosts that are killed at each of their steps; their guests
    need not have booted.
    """

    def setUp(self) -> None:
        """Nothing is amiss before."""
        self.stage = stage()
        self.machines = [host.services[name] for host in self.stage.hosts.values() for name in LAUNCH]
        self.left: dict[str, list[str]] = {}
        self.addCleanup(self.heal)

    def arm(self, steps: dict[str, tuple[str, ...]]) -> None:
        """Have each service die at each of its steps, one life after the other."""
        for service in self.machines:
            points = steps[service.process.name.partition(".")[0]]
            self.left[service.process.name] = list(points)
            service.arm(",".join(points))
        until(lambda: self.well() and self.stage.talking >= set(self.stage.hosts), "all are well, and say so", HEALED)

    def well(self) -> bool:
        """Whether all are well, once the dead are started."""
        self.mend()
        return all(healthy(service.process.port) for service in self.machines)

    def heal(self) -> None:
        """Have all run, and die no more."""
        for service in self.machines:
            service.process.kill()
            service.process.start()
        self.stage.await_well()

    def mend(self) -> None:
        """Start the dead, as systemd would, to die at the steps at which they have not yet."""
        for service in self.machines:
            if not service.process.alive:
                left = self.left[service.process.name]
                died = service.died_at
                self.assertEqual(len(died), 1, f"{service.process.name} died of itself:\n{service.process.tail()}")
                left.remove(died[0])
                service.arm(",".join(left))

    def settled(self, ids: list[str], state: str) -> None:
        """See to the dead until all instances are so, and nobody has died any more."""

        def so() -> bool:
            self.mend()
            found = self.stage.apples.ec2.describe_instances(InstanceIds=ids)["Reservations"]
            states = {each["State"]["Name"] for all in found for each in all["Instances"]}
            return (
                states == {state} and not any(self.left.values()) and all(each.process.alive for each in self.machines)
            )

        try:
            until(so, f"all are {state}", HEALED)
        except AssertionError as error:
            self.fail(f"{error}; nobody died at {self.left}")
        self.stage.await_well()
        until(lambda: not self.stage.amiss(), "all agrees", 90)

    def has(self, id: str) -> dict[str, dict[str, list[str]]]:
        """What hosts have of an instance."""
        mac = self.macs[id]
        found = {name: host.mentions(id, mac, "tap" + mac.replace(":", "")) for name, host in self.stage.hosts.items()}
        return {name: all for name, all in found.items() if all}

    def test_every_step(self) -> None:
        """
        Whichever step of a launch or an end a host's services die at, the
        instances run on one host each, and then are gone and have left nothing.
        """
        stage = self.stage
        residents = stage.launch(stage.apples, 2)
        self.addCleanup(stage.terminate, stage.apples, residents)
        stage.until_state(stage.apples, residents, "running")
        until(
            lambda: all(host.mentions(stage.apples.group) for host in stage.hosts.values()), "hosts know the group", 90
        )
        before = {name: host.state() for name, host in stage.hosts.items()}
        self.arm(LAUNCH)
        ids = stage.launch(stage.apples, 4)
        self.settled(ids, "running")
        self.macs = {id: stage.instance(stage.apples, id)["NetworkInterfaces"][0]["MacAddress"] for id in ids}
        self.assertEqual(sorted(stage.host_of(id) for id in ids), ["ha", "ha", "hb", "hb"])
        until(lambda: all(len(self.has(id)) == 1 for id in ids), "each is on one host", 90)
        self.arm(TERMINATE)
        stage.apples.ec2.terminate_instances(InstanceIds=ids)
        self.settled(ids, "terminated")
        until(lambda: not any(self.has(id) for id in ids), "nothing is left", 90)
        for name, host in stage.hosts.items():
            with contextlib.suppress(AssertionError):
                until(lambda host=host, name=name: host.state() == before[name], "as before", 90)  # type: ignore[misc]
            self.assertEqual(differences(before[name], host.state()), {})


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """@return: by kind, what is only in one of two states."""
    changed = {kind: set(map(str, before[kind])) ^ set(map(str, after[kind])) for kind in before}
    return {kind: sorted(changed[kind]) or ["?"] for kind in before if before[kind] != after[kind]}


class DeadHostTests(SynchronousTestCase):
    """
    A host without power.
    """

    def test_fenced(self) -> None:
        """What ran on a dead host runs elsewhere, by its addresses, once the operator's command says it is dead."""
        hosts = stage()
        project, lost = hosts.apples, hosts.hosts["hb"]
        ids = hosts.launch(project, 2)
        self.addCleanup(hosts.terminate, project, ids)
        hosts.until_state(project, ids, "running")
        [id] = [each for each in ids if hosts.host_of(each) == "hb"]
        floating = hosts.floating(project, id)
        address = hosts.instance(project, id)["PrivateIpAddress"]
        until(lambda: f"{floating}/32" in lost.state()["addresses"], "the address is there", 90)
        lost.power_off("under", "public")
        until((hosts.directory / "asked-hb").exists, "the fence is asked", 120)
        self.assertEqual(hosts.host_of(id), "")
        (hosts.dead / "hb").touch()
        until(lambda: id in hosts.hosts["ha"].running, "it runs elsewhere", 120)
        self.assertIn(address, hosts.until_ssh(project, floating, "ip -4 address show eth0"))
        self.assertEqual(hosts.instance(project, id)["PrivateIpAddress"], address)
        (hosts.dead / "hb").unlink()
        lost.power_on("under", "public")
        hosts.await_well()
        mac = hosts.instance(project, id)["NetworkInterfaces"][0]["MacAddress"]
        until(lambda: not lost.mentions(id, mac, floating), "what is elsewhere is gone", 120)
        self.assertEqual(hosts.host_of(id), "ha")
        until(lambda: not hosts.amiss(), "all agrees", 90)
