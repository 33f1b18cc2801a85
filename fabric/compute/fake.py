"""
A hypervisor that runs nothing, but behaves like one.

Its domains are in a file, so they survive the worker that drives them; guests
boot and stop in their own time, fill a console, crash and halt; and it can be
told to fail, to be slow, to hang or to lose an answer (L{fabric.rehearsal}).
The directory's file C{faults} is read while it runs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

import attrs
import orjson
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from fabric.compute.console import console_text
from fabric.compute.driver import IComputeDriver, IDomainWatcher
from fabric.compute.fake_guest import Guest
from fabric.compute.interface import DiskOrder, Domain, MachineOrder, Statistics
from fabric.compute.screen import picture
from fabric.errors import DriverFailure, NotFound, WrongState
from fabric.image.interface import IKeepsCaptures
from fabric.journal import Journal
from fabric.model.codec import decode, encode
from fabric.model.host import Capacity
from fabric.rehearsal import Rehearsal, rehearsed
from fabric.settings import Fake

VERBS: tuple[str, ...] = (
    "start",
    "capacity",
    "domains",
    "spawn",
    "shut_down",
    "reboot",
    "destroy",
    "console_output",
    "screenshot",
)
VERBS += ("quiet", "wake", "attach_disk", "detach_disk", "capture", "pause", "unpause", "suspend", "resume")
VERBS += ("copy_disk", "rescue", "unrescue", "statistics", "number", "receive", "migrate")
"""The methods that a rehearsal may spoil."""

ARRIVED = "arrived-"
"""How the file begins in which a guest comes from another host."""

GPU = "gpu:1234:1111"
"""The kind of its GPUs: by their PCI ids those that qemu emulates, for want of real ones."""


@implementer(IComputeDriver, IKeepsCaptures)
class FakeHypervisor:
    """
    @ivar rehearsal: what goes wrong; L{Rehearsal.tell} it more.
    """

    def __init__(self, directory: str, clock: IReactorTime, options: Fake | None = None) -> None:
        """
        @param directory: where it keeps its domains; made when need be.
        @param options: its room, its delays and its mishaps.
        @raise InvalidValue: a mishap means nothing.
        """
        self._clock = clock
        self._options = options = options or Fake()
        self._directory = directory
        self._arrived = os.path.join(directory, ARRIVED)
        self._journal = Journal(os.path.join(directory, "domains"), Guest)
        self._guests = self._journal.rows
        self._booting: dict[str, list[Deferred[None]]] = {}
        self._watcher: IDomainWatcher | None = None
        self.rehearsal = Rehearsal(
            clock,
            VERBS,
            rehearsed(options, VERBS),
            os.path.join(directory, "faults"),
            {"crash": self.crash, "halt": self.halt, "kill": self.kill},
        )

    def start(self, watcher: IDomainWatcher) -> Deferred[None]:
        """See L{IComputeDriver.start}."""
        self._watcher = watcher
        return self.rehearsal.perform("start", "", self._journal.open)

    def stop(self) -> Deferred[None]:
        """See L{IComputeDriver.stop}."""
        self._watcher = None
        for id in list(self._booting):
            self._abandon(id, "the driver was stopped")
        self._journal.close()
        return succeed(None)

    def capacity(self) -> Deferred[Capacity]:
        """See L{IComputeDriver.capacity}."""
        options = self._options
        return self.rehearsal.perform(
            "capacity",
            "",
            lambda: Capacity(
                options.vcpus,
                options.memory_mb,
                options.disk_gb,
                features=("gpu", GPU) if options.gpus else (),
                gpus=options.gpus,
            ),
        )

    def domains(self) -> Deferred[list[Domain]]:
        """See L{IComputeDriver.domains}."""
        return self.rehearsal.perform("domains", "", self._domains)

    def spawn(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.spawn}; a guest is defined when it has booted."""
        return self.rehearsal.perform("spawn", machine.id, partial(self._spawn, machine))

    def shut_down(self, id: str, force: bool, order: int) -> Deferred[None]:
        """See L{IComputeDriver.shut_down}; forced, it takes no time."""
        return self.rehearsal.perform("shut_down", id, partial(self._shut_down, id, force, order))

    def quiet(self, id: str, until: float) -> Deferred[None]:
        """See L{IComputeDriver.quiet}; it takes no time."""
        return self.rehearsal.perform("quiet", id, partial(self._quiet, id, until))

    def wake(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.wake}."""
        return self.rehearsal.perform("wake", id, partial(self._wake, id))

    def reboot(self, id: str, hard: bool, order: int) -> Deferred[None]:
        """See L{IComputeDriver.reboot}."""
        return self.rehearsal.perform("reboot", id, partial(self._reboot, id, order))

    def destroy(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.destroy}; a boot under way fails."""
        return self.rehearsal.perform("destroy", id, partial(self._destroy, id))

    def copy_disk(self, id: str, volume: str, place: dict[str, str]) -> Deferred[dict[str, str]]:
        """See L{IComputeDriver.copy_disk}; it takes no time, and the volume's host knows what there is."""
        return self.rehearsal.perform("copy_disk", id, partial(self._copy_disk, id, volume))

    def capture(self, id: str, image: str, restart: bool) -> Deferred[str]:
        """See L{IComputeDriver.capture}; stopping, copying and starting take no time."""
        return self.rehearsal.perform("capture", id, partial(self._capture, id, image, restart))

    def captured_file(self, image: str) -> Deferred[str]:
        """See L{IKeepsCaptures.captured_file}; a sector that nobody can boot."""
        path = os.path.join(self._directory, f"captured-{image}")
        with open(path, "wb") as opened:
            opened.write(f"captured as {image}\n".encode().ljust(512, b"\0"))
        return succeed(path)

    def drop_captured(self, image: str) -> Deferred[None]:
        """See L{IKeepsCaptures.drop_captured}."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, f"captured-{image}"))
        return succeed(None)

    def console_output(self, id: str) -> Deferred[bytes]:
        """See L{IComputeDriver.console_output}."""
        return self.rehearsal.perform("console_output", id, partial(self._console, id))

    def screenshot(self, id: str, wake: bool) -> Deferred[bytes]:
        """See L{IComputeDriver.screenshot}; it shows the console, and never sleeps."""
        return self.rehearsal.perform("screenshot", id, partial(self._screenshot, id))

    def attach_disk(self, disk: DiskOrder) -> Deferred[None]:
        """See L{IComputeDriver.attach_disk}."""
        return self.rehearsal.perform("attach_disk", disk.volume, partial(self._attach_disk, disk))

    def detach_disk(self, id: str, volume: str, force: bool) -> Deferred[None]:
        """See L{IComputeDriver.detach_disk}."""
        return self.rehearsal.perform("detach_disk", volume, partial(self._detach_disk, id, volume))

    def pause(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.pause}."""
        return self.rehearsal.perform("pause", id, partial(self._stand, id, "paused"))

    def unpause(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.unpause}."""
        return self.rehearsal.perform("unpause", id, partial(self._stand, id, ""))

    def suspend(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.suspend}; it takes no time."""
        return self.rehearsal.perform("suspend", id, partial(self._suspend, id, order))

    def resume(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.resume}; it takes no time, and the console tells of a new boot."""
        return self.rehearsal.perform("resume", id, partial(self._resume, id, order))

    def rescue(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.rescue}."""
        return self.rehearsal.perform("rescue", machine.id, partial(self._change_root, machine, "rescue"))

    def unrescue(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.unrescue}."""
        return self.rehearsal.perform("unrescue", machine.id, partial(self._change_root, machine, ""))

    def statistics(self, id: str) -> Deferred[Statistics]:
        """See L{IComputeDriver.statistics}; a guest uses a hundredth of a processor."""
        return self.rehearsal.perform("statistics", id, partial(self._statistics, id))

    def number(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.number}."""
        return self.rehearsal.perform("number", id, partial(self._number, id, order))

    def receive(self, machine: MachineOrder) -> Deferred[dict[str, str]]:
        """See L{IComputeDriver.receive}; it comes as a file in the directory."""
        return self.rehearsal.perform("receive", machine.id, lambda: {"kind": "fake", "directory": self._directory})

    def migrate(self, id: str, destination: dict[str, str], order: int) -> Deferred[None]:
        """See L{IComputeDriver.migrate}; only to a fake that shares this one's files."""
        return self.rehearsal.perform("migrate", id, partial(self._migrate, id, destination, order))

    def crash(self, id: str) -> None:
        """The guest's kernel panics; nothing when it does not run."""
        self._end(id, "crashed", "The guest's kernel panicked.", True)

    def halt(self, id: str) -> None:
        """The guest shuts itself down; nothing when it does not run."""
        self._end(id, "stopped", "The guest shut itself down.", True)

    def kill(self, id: str) -> None:
        """Somebody on the host stops the guest; nothing when it does not run."""
        self._end(id, "stopped", "The guest was stopped from outside of the cloud.", False)

    def _end(self, id: str, state: str, reason: str, own: bool) -> None:
        guest = self._guests.get(id)
        if guest is None or guest.state != "running":
            return
        self._put(guest.ended(state, guest.order, self._clock.seconds()))
        if self._watcher is not None:
            self._watcher.domain_changed(self._guests[id].domain(), reason, own)

    def _domains(self) -> list[Domain]:
        for name in os.listdir(self._directory):
            if name.startswith(ARRIVED):
                self._arrival(name.removeprefix(ARRIVED))
        return [guest.domain() for guest in self._guests.values()]

    def _arrival(self, id: str) -> Guest | None:
        """@return: the guest, also one that has come from another host just now."""
        if id not in self._guests and os.path.exists(self._arrived + id):
            with open(self._arrived + id, "rb") as file:
                self._put(decode(Guest, orjson.loads(file.read())))
            os.remove(self._arrived + id)
        return self._guests.get(id)

    def _put(self, guest: Guest) -> None:
        self._journal.put(guest.id, guest)

    def _spawn(self, machine: MachineOrder) -> Deferred[None]:
        guest = self._arrival(machine.id)
        if guest is not None and guest.state == "running":
            if guest.order != machine.order:
                self._put(attrs.evolve(guest, order=machine.order))
            return succeed(None)
        if guest is None:
            addresses = tuple([port.address for port in machine.ports])
            guest = Guest(machine.id, "stopped", machine.order, addresses, "", ())
        disks = {disk.device: disk.volume for disk in machine.disks}
        gpus = machine.flavor.gpus
        if gpus and not self._has_gpus(machine):
            return fail(DriverFailure(what=f"{gpus} GPUs wanted, not so many free on this host"))
        hardware, root = _hardware(machine), machine.root_volume
        as_ordered = attrs.evolve(guest, hardware=hardware, disks=disks, root=root, gpus=gpus)
        return self._boot(as_ordered, machine.order)

    def _has_gpus(self, machine: MachineOrder) -> bool:
        taken = sum(each.gpus for each in self._guests.values() if each.id != machine.id)
        fit = GPU in (machine.flavor.gpu_kinds or (GPU,))
        return fit and machine.flavor.gpus + taken <= self._options.gpus

    def _reboot(self, id: str, order: int) -> Deferred[None]:
        guest = self._guests.get(id)
        if guest is None:
            return fail(NotFound(kind="guest", id=id))
        if guest.state == "running":
            self._put(guest.ended("stopped", order, self._clock.seconds()))
        return self._boot(self._guests[id], order)

    def _boot(self, guest: Guest, order: int) -> Deferred[None]:
        if guest.root and guest.root not in guest.disks.values():
            return fail(DriverFailure(what=f"boot {guest.id}: its root volume {guest.root} is not attached"))
        if not self._options.boot_seconds:
            self._put(guest.booted(order, self._clock.seconds()))
            return succeed(None)
        done: Deferred[None] = Deferred()
        waiting = self._booting.setdefault(guest.id, [])
        waiting.append(done)
        if len(waiting) == 1:
            self._clock.callLater(self._options.boot_seconds, self._booted, guest, order, waiting)
        return done

    def _booted(self, guest: Guest, order: int, waiting: list[Deferred[None]]) -> None:
        if self._booting.get(guest.id) is not waiting:
            return  # it was destroyed meanwhile
        try:
            self._put(guest.booted(order, self._clock.seconds()))
        except DriverFailure as failure:
            self._abandon(guest.id, failure.what)
            return
        del self._booting[guest.id]
        for done in waiting:
            done.callback(None)

    def _abandon(self, id: str, why: str) -> None:
        for done in self._booting.pop(id, ()):
            done.errback(DriverFailure(what=f"boot {id}: {why}"))

    def _shut_down(self, id: str, force: bool, order: int) -> Deferred[None]:
        self._abandon(id, "it was shut down")
        guest = self._arrival(id)
        if guest is None:
            return succeed(None)
        if guest.state == "running" and not force and self._options.stop_seconds:
            return deferLater(self._clock, self._options.stop_seconds, self._stopped, id, order)
        self._stopped(id, order)
        return succeed(None)

    def _quiet(self, id: str, until: float) -> None:
        guest = self._arrival(id)
        if guest is not None and (guest.state == "running" or guest.quiet_until):
            self._put(attrs.evolve(guest.ended("stopped", guest.order, self._clock.seconds()), quiet_until=until))

    def _wake(self, id: str) -> Deferred[None]:
        guest = self._guests.get(id)
        return self._boot(guest, guest.order) if guest is not None and guest.quiet_until else succeed(None)

    def _stopped(self, id: str, order: int) -> None:
        guest = self._guests.get(id)
        if guest is not None:
            self._put(guest.ended("stopped", order, self._clock.seconds()))

    def _destroy(self, id: str) -> None:
        self._abandon(id, "it was destroyed")
        with suppress(FileNotFoundError):  # also one that was taken in by a process which was killed then
            os.unlink(self._arrived + id)
        self._journal.remove(id)

    def _attach_disk(self, disk: DiskOrder) -> None:
        guest = self._guests.get(disk.instance)
        if guest is None:
            raise NotFound(kind="guest", id=disk.instance)
        found = guest.disks.get(disk.device, disk.volume)
        if found != disk.volume:
            raise WrongState(kind="device", id=disk.device, found=found, wanted=[disk.volume])
        if disk.device not in guest.disks:
            guest.see_awake()
            self._put(attrs.evolve(guest, disks={**guest.disks, disk.device: disk.volume}))

    def _detach_disk(self, id: str, volume: str) -> None:
        guest = self._guests.get(id)
        if guest is not None and volume in guest.disks.values():
            guest.see_awake()
            self._put(attrs.evolve(guest, disks={at: what for at, what in guest.disks.items() if what != volume}))

    def _copy_disk(self, id: str, volume: str) -> dict[str, str]:
        guest = self._guests.get(id)
        if guest is not None and guest.condition == "suspended":
            raise DriverFailure(what=f"{id} is suspended")
        if guest is not None and guest.quiet_until:
            raise DriverFailure(what=f"{id} is stopped for a moment only")
        running = guest is not None and guest.state == "running" and volume in guest.disks.values()
        return {"state": "copied" if running else "quiet"}

    def _capture(self, id: str, image: str, restart: bool) -> str:
        guest = self._guests.get(id)
        if guest is None:
            raise NotFound(kind="guest", id=id)
        if image not in guest.images:
            if restart and guest.state == "running":
                guest = guest.booted(guest.order, self._clock.seconds())
            self._put(attrs.evolve(guest, images=(*guest.images, image)))
        return f"captured/{image}"

    def _running(self, id: str) -> Guest:
        guest = self._arrival(id)
        if guest is None:
            raise NotFound(kind="guest", id=id)
        if guest.state != "running":
            raise WrongState(kind="guest", id=id, found=guest.state, wanted=["running"])
        return guest

    def _stand(self, id: str, condition: str) -> None:
        guest = self._running(id)
        if guest.condition in ("paused", ""):
            self._put(attrs.evolve(guest, condition=condition))

    def _suspend(self, id: str, order: int) -> None:
        guest = self._arrival(id)
        if guest is None or guest.condition != "suspended":
            running = self._running(id)
            running.see_no_gpus("running without GPUs")
            guest = running.ended("stopped", order, self._clock.seconds())
        self._put(attrs.evolve(guest, order=order, condition="suspended"))

    def _resume(self, id: str, order: int) -> None:
        guest = self._arrival(id)
        if guest is None or guest.condition != "suspended":
            self._put(attrs.evolve(self._running(id), order=order))
        else:
            self._put(guest.booted(order, self._clock.seconds()))

    def _change_root(self, machine: MachineOrder, condition: str) -> None:
        guest = self._arrival(machine.id)
        if guest is None:
            raise NotFound(kind="guest", id=machine.id)
        if guest.state != "running" or (guest.condition == "rescue") != bool(condition):
            guest = guest.booted(machine.order, self._clock.seconds())
        self._put(attrs.evolve(guest, order=machine.order, condition=condition or guest.condition))

    def _statistics(self, id: str) -> Statistics:
        seconds = self._clock.seconds() - self._running(id).runs[-1].since
        return Statistics(seconds / 100, 64, 10**6, int(1000 * seconds), int(500 * seconds), int(500 * seconds))

    def _number(self, id: str, order: int) -> None:
        guest = self._arrival(id)
        if guest is not None and guest.order != order:
            self._put(attrs.evolve(guest, order=order))

    def _migrate(self, id: str, destination: dict[str, str], order: int) -> None:
        guest = self._arrival(id)
        if guest is None:
            return
        guest.see_awake()
        guest.see_no_gpus("stopped")
        path = os.path.join(destination["directory"], ARRIVED + id)
        with open(path + ".part", "wb") as file:
            file.write(orjson.dumps(encode(attrs.evolve(guest, order=order, gpus=0))))
        os.replace(path + ".part", path)
        self._journal.remove(id)

    def _console(self, id: str) -> bytes:
        guest = self._guests.get(id)
        if guest is None:
            raise NotFound(kind="guest", id=id)
        now = self._clock.seconds()
        return console_text(id, guest.described, guest.addresses, guest.runs, now, self._options.password)

    def _screenshot(self, id: str) -> bytes:
        guest = self._guests.get(id)
        if guest is None:
            raise NotFound(kind="guest", id=id)
        if guest.state != "running":
            raise WrongState(kind="guest", id=id, found=guest.state, wanted=["running"])
        return picture(self._console(id).decode(errors="replace"))


def _hardware(machine: MachineOrder) -> str:
    """What a machine has, in words; another type's when it was changed."""
    flavor = machine.flavor
    hardware = f"{flavor.vcpus} vcpus, {flavor.memory_mb} MiB, {flavor.disk_gb} GiB, {machine.image}"
    if flavor.ephemeral_gb:
        hardware += f", scratch {flavor.ephemeral_gb} GiB at {machine.scratch_device}"
    if flavor.gpus:
        hardware += f", {flavor.gpus} GPUs"
    return hardware + "".join(f", {file.role} {file.digest[:12]}" for file in machine.files)
