"""
The guests of a host by libvirt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.logger import Logger
from zope.interface import implementer

from fabric.compute.driver import IComputeDriver, IDomainWatcher
from fabric.compute.interface import DiskOrder, Domain, MachineOrder, Statistics
from fabric.compute.libvirt import graphics, guests, host, moving, picture, probe, volumes
from fabric.compute.libvirt.bases import Bases
from fabric.compute.libvirt.capture import Capture
from fabric.compute.libvirt.connection import Connection
from fabric.compute.libvirt.domain import Abilities, domain_xml
from fabric.compute.libvirt.events import LIFECYCLE, News
from fabric.compute.libvirt.files import GuestFiles, ImageFiles, Store
from fabric.compute.libvirt.passage import Passage
from fabric.compute.libvirt.power import Power
from fabric.compute.libvirt.watch import Seen, Watch
from fabric.errors import DriverFailure, NotFound
from fabric.image.interface import IImageCache, IKeepsCaptures
from fabric.model.host import Capacity
from fabric.settings import Libvirt
from fabric.timeouts import apart
from fabric.turns import Turns

FORCED_SECONDS = 5.0
"""How long a guest may hold on to a volume that is taken by force."""

ASK_AGAIN = 2.0
"""
Seconds until a guest is asked again to let go of a volume, since one that boots does not hear; and between looks
at one that comes from another host at rest.
"""


@implementer(IKeepsCaptures, IComputeDriver)
class LibvirtHypervisor:
    """
    Orders to one guest are carried out one after the other, whoever gives them.
    All that is remembered is in the domains.
    """

    log = Logger()

    def __init__(
        self,
        directory: str,
        reactor: Any,
        images: IImageCache,
        options: Libvirt | None = None,
        sysfs: str = "/sys",
    ) -> None:
        """
        @param directory: where guests' files are kept, in C{guests/ID}.
        @param reactor: an C{IReactorTime} and C{IReactorFromThreads}.
        @param images: where the files of images come from.
        @param sysfs: where the host's devices are told of.
        """
        self._directory = os.path.abspath(directory)
        self._images = images
        self._options = options = options or Libvirt()
        self._store = Store(self._directory, options.user)
        self._passage = Passage(self._directory)
        self._news = News(reactor)
        self._connection = Connection(
            options.uri, reactor, options.threads, options.reconnect_seconds, self._heard, self._reopened
        )
        self._watch = Watch(reactor, self._look)
        self._power = Power(self._connection, self._news, reactor, options)
        self._capture = Capture(self._connection, self._store, self._power)
        self._copying = Turns(reactor)
        self._bases = Bases()
        self._sysfs = sysfs
        self._giving = DeferredLock()
        self._abilities: Abilities | None = None

    @inlineCallbacks
    def start(self, watcher: IDomainWatcher) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeDriver.start}."""
        yield self._connection.start()
        yield self._connection.work(partial(os.makedirs, self._directory, exist_ok=True))
        options = self._options
        yield self._connection.call(self._passage.learn)
        yield self._connection.work(self._passage.open, [os.path.join(self._directory, "kvm-probe")])
        self._abilities = yield self._connection.call(
            probe.abilities, options.virt_type, options.machine, self._directory
        )
        self._watch.tell(watcher)
        yield self.domains()
        yield self._images.keep(self._bases.all())

    def stop(self) -> Deferred[None]:
        """See L{IComputeDriver.stop}."""
        self._watch.tell(None)
        return self._connection.stop()

    def capacity(self) -> Deferred[Capacity]:
        """See L{IComputeDriver.capacity}."""
        return apart(self._capacity())

    @inlineCallbacks
    def _capacity(self) -> Generator[Deferred[Any], Any, Capacity]:
        disk = yield self._connection.work(self._store.total_gb)
        gpus = yield self._connection.work(graphics.offered, self._sysfs)
        return (  # type: ignore[no-any-return]
            yield self._connection.call(host.capacity, self._options, self._can(), disk, gpus)
        )

    def _can(self) -> Abilities:
        if self._abilities is None:
            raise DriverFailure(what="libvirt was not opened yet")
        return self._abilities

    def domains(self) -> Deferred[list[Domain]]:
        """See L{IComputeDriver.domains}."""
        return apart(self._domains())

    @inlineCallbacks
    def _domains(self) -> Generator[Deferred[Any], Any, list[Domain]]:
        changes = self._bases.changes
        found = yield self._connection.call(guests.look_at_all)
        for each in found:
            self._watch.saw(each.domain)
            if each.asleep:
                self._watch.heard(each.domain.id)
        self._bases.refresh({each.domain.id: each.notes.bases for each in found}, changes)
        return [each.domain for each in found]

    # From nothing to running, and back.

    def spawn(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.spawn}."""
        return self._watch.order(machine.id, partial(self._spawn, machine), "running")

    @inlineCallbacks
    def _spawn(self, machine: MachineOrder) -> Generator[Deferred[Any], Any, None]:
        found = yield self._connection.call(guests.look, machine.id)
        if found is not None and found.domain.state == "running":
            yield self._connection.call(guests.number, machine.id, machine.order)
            return
        yield self._boot(machine, found)
        yield self._connection.work(self._store.end_rescue, machine.id)

    @inlineCallbacks
    def _boot(
        self, machine: MachineOrder, found: guests.Found | None, rescue: bool = False
    ) -> Generator[Deferred[Any], Any, None]:
        """Have its files, define it and start it."""
        # They stay in the cache from now on; what a failure leaves, the next look at all guests tells.
        self._bases.add(machine.id, [file.digest for file in machine.files])
        image = yield self._image(machine, found)
        files = yield self._connection.work(self._store.furnish, machine, image, found is not None, rescue)
        yield self._connection.work(self._passage.open, _paths(files, image, machine.disks))
        describe = partial(domain_xml, machine, files, image, self._can(), self._options, rescue)
        yield self._connection.call(volumes.know, machine.disks)
        if machine.flavor.gpus:
            # Whoever chooses next sees in the domain what is taken.
            yield self._giving.run(self._define, machine, describe)
            yield self._connection.call(guests.boot, machine.id)
        else:
            yield self._connection.call(guests.boot, machine.id, describe())
        # An earlier life of this service may have had it started just now, by an older order.
        yield self._connection.call(guests.number, machine.id, machine.order)
        self._bases.put(machine.id, image.digests)
        yield self._images.keep(self._bases.all())

    @inlineCallbacks
    def _define(
        self, machine: MachineOrder, describe: Callable[[tuple[str, ...]], str]
    ) -> Generator[Deferred[Any], Any, None]:
        """
        Define it with GPUs: those that it has, or free ones.

        @raise DriverFailure: there are not so many free ones of its kinds.
        """
        flavor = machine.flavor
        gpus = yield self._connection.work(graphics.offered, self._sysfs)
        holding = yield self._connection.call(graphics.holders)
        chosen = graphics.choose(machine.id, flavor.gpus, flavor.gpu_kinds, gpus, holding)
        yield self._connection.call(guests.define, machine.id, describe(chosen))

    @inlineCallbacks
    def _image(self, machine: MachineOrder, found: guests.Found | None) -> Generator[Deferred[Any], Any, ImageFiles]:
        """What it boots; of one that is here and whose order does not say, what it booted before."""
        if not machine.files:
            if found is not None:
                return found.image
            if not machine.root_volume:
                raise DriverFailure(what=f"{machine.image} has no files that could be booted")
            return ImageFiles()
        paths: dict[str, str] = {}
        for file in machine.files:
            paths[file.role] = os.path.abspath((yield self._images.fetch(file)))
        disk = next((file for file in machine.files if file.role == "disk"), None)
        return ImageFiles(
            paths.get("disk", ""),
            disk.format if disk is not None else "raw",
            disk.disk_bytes if disk is not None else 0,
            paths.get("kernel", ""),
            paths.get("ramdisk", ""),
            tuple(file.digest for file in machine.files),
        )

    def destroy(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.destroy}."""
        return self._watch.order(id, partial(self._destroy, id), "gone")

    @inlineCallbacks
    def _destroy(self, id: str) -> Generator[Deferred[Any], Any, None]:
        found = yield self._connection.call(guests.look, id)
        yield self._connection.call(guests.undefine, id)
        if found is not None:
            yield self._connection.call(volumes.forget, found.notes.volumes.values())
        yield self._connection.work(self._store.remove, id)
        self._bases.put(id, ())
        yield self._images.keep(self._bases.all())

    # Power.

    def shut_down(self, id: str, force: bool, order: int) -> Deferred[None]:
        """See L{IComputeDriver.shut_down}."""
        return self._ordered(id, order, "stopped", partial(self._power.shut_down, id, force))

    def quiet(self, id: str, until: float) -> Deferred[None]:
        """See L{IComputeDriver.quiet}."""
        return self._watch.order(id, partial(self._power.quiet, id, until), "stopped")

    @inlineCallbacks
    def wake(self, id: str) -> Generator[Deferred[Any], Any, None]:
        """See L{IComputeDriver.wake}."""
        found = yield self._connection.call(guests.look, id)
        if found is not None and found.notes.quiet_until:
            yield self._watch.order(id, partial(self._connection.call, guests.wake, id), "running")

    def reboot(self, id: str, hard: bool, order: int) -> Deferred[None]:
        """See L{IComputeDriver.reboot}."""
        return self._ordered(id, order, "running", partial(self._power.reboot, id, hard))

    def suspend(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.suspend}."""
        return self._ordered(id, order, "stopped", partial(self._connection.call, guests.suspend, id))

    def resume(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.resume}."""
        return self._ordered(id, order, "running", partial(self._connection.call, guests.resume, id))

    def pause(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.pause}."""
        return self._watch.order(id, partial(self._connection.call, guests.pause, id), "running", "paused")

    def unpause(self, id: str) -> Deferred[None]:
        """See L{IComputeDriver.unpause}."""
        return self._watch.order(id, partial(self._connection.call, guests.unpause, id), "running")

    def _ordered(self, id: str, order: int, state: str, work: Any) -> Deferred[None]:
        """Carry out an order, and have the guest keep its number."""

        @inlineCallbacks
        def act() -> Generator[Deferred[Any], Any, None]:
            yield work()
            yield self._connection.call(guests.number, id, order)

        return self._watch.order(id, act, state)

    def rescue(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.rescue}."""
        return self._watch.order(machine.id, partial(self._change_root, machine, True), "running")

    def unrescue(self, machine: MachineOrder) -> Deferred[None]:
        """See L{IComputeDriver.unrescue}."""
        return self._watch.order(machine.id, partial(self._change_root, machine, False), "running")

    @inlineCallbacks
    def _change_root(self, machine: MachineOrder, rescue: bool) -> Generator[Deferred[Any], Any, None]:
        found = yield self._connection.call(guests.look, machine.id)
        if found is None:
            raise NotFound(kind="guest", id=machine.id)
        if found.domain.state == "running" and found.notes.rescue == rescue:
            yield self._connection.call(guests.number, machine.id, machine.order)
            return
        yield self._connection.call(guests.kill, machine.id)
        yield self._boot(machine, found, rescue)
        if not rescue:
            yield self._connection.work(self._store.end_rescue, machine.id)

    # Disks.

    def attach_disk(self, disk: DiskOrder) -> Deferred[None]:
        """See L{IComputeDriver.attach_disk}."""
        return self._watch.order(disk.instance, partial(self._attach_disk, disk))

    @inlineCallbacks
    def _attach_disk(self, disk: DiskOrder) -> Generator[Deferred[Any], Any, None]:
        yield self._connection.work(self._passage.open, _paths(None, ImageFiles(), [disk]))
        yield self._connection.call(volumes.attach, disk)

    def detach_disk(self, id: str, volume: str, force: bool) -> Deferred[None]:
        """
        See L{IComputeDriver.detach_disk}.  Nothing takes a disk from a qemu
        whose guest holds on to it: with C{force} that fails sooner.
        """
        seconds = FORCED_SECONDS if force else self._options.detach_seconds
        return self._watch.order(id, partial(self._detach_disk, id, volume, seconds))

    @inlineCallbacks
    def _detach_disk(self, id: str, volume: str, seconds: float) -> Generator[Deferred[Any], Any, None]:
        why = [""]

        @inlineCallbacks
        def done() -> Generator[Deferred[Any], Any, bool]:
            why[0] = yield self._connection.call(volumes.detach, id, volume)
            return not why[0]

        if not (yield self._power.until(id, seconds, done, ASK_AGAIN)):
            raise DriverFailure(what=f"{volume} is not detached from {id}: {why[0]}")

    def copy_disk(self, id: str, volume: str, place: dict[str, str]) -> Deferred[dict[str, str]]:
        """See L{IComputeDriver.copy_disk}."""
        return apart(self._copying.run(id, partial(self._copy_disk, id, volume, place)))

    @inlineCallbacks
    def _copy_disk(self, id: str, volume: str, place: dict[str, str]) -> Generator[Deferred[Any], Any, dict[str, str]]:
        """Begun in the guest's turn, and carried out beside other orders; one at a time, as qemu has it."""
        begun, life = yield self._watch.order(id, partial(self._capture.begin, id, volume, place))
        if begun["state"] != "copying":
            return begun  # type: ignore[no-any-return]
        return (yield self._capture.finish(id, life))  # type: ignore[no-any-return]

    def capture(self, id: str, image: str, restart: bool) -> Deferred[str]:
        """See L{IComputeDriver.capture}; where it says, is under the driver's directory."""
        order = partial(self._watch.order, id, partial(self._capture_disk, id, image, restart))
        return apart(self._copying.run(id, order))

    @inlineCallbacks
    def _capture_disk(self, id: str, image: str, restart: bool) -> Generator[Deferred[Any], Any, str]:
        copy = yield self._connection.work(self._store.captured, image)
        yield self._connection.work(self._passage.open, [copy])
        try:
            return (yield self._capture.make(id, image, restart))  # type: ignore[no-any-return]
        except Exception:
            if restart:
                self._watch.forget(id)  # if it does not run any more, that was not the guest's own doing
            raise

    def captured_file(self, image: str) -> Deferred[str]:
        """See L{IKeepsCaptures.captured_file}."""
        return self._connection.work(self._store.captured, image)

    def drop_captured(self, image: str) -> Deferred[None]:
        """See L{IKeepsCaptures.drop_captured}."""
        return self._connection.work(self._store.drop_captured, image)

    # Questions.

    @inlineCallbacks
    def console_output(self, id: str) -> Generator[Deferred[Any], Any, bytes]:
        """See L{IComputeDriver.console_output}; it begins anew with each boot."""
        yield self._connection.call(guests.existing, id)
        return (yield self._connection.work(self._store.console, id))  # type: ignore[no-any-return]

    @inlineCallbacks
    def screenshot(self, id: str, wake: bool) -> Generator[Deferred[Any], Any, bytes]:
        """See L{IComputeDriver.screenshot}."""
        shown = yield self._connection.call(guests.screenshot, id, wake)
        return (yield self._connection.work(picture.png, shown))  # type: ignore[no-any-return]

    def statistics(self, id: str) -> Deferred[Statistics]:
        """See L{IComputeDriver.statistics}."""
        return self._connection.call(guests.statistics, id)

    # From host to host.

    def receive(self, machine: MachineOrder) -> Deferred[dict[str, str]]:
        """See L{IComputeDriver.receive}."""
        return self._watch.order(machine.id, partial(self._receive, machine))

    @inlineCallbacks
    def _receive(self, machine: MachineOrder) -> Generator[Deferred[Any], Any, dict[str, str]]:
        self._bases.add(machine.id, [file.digest for file in machine.files])
        image = yield self._image(machine, None)
        shared = yield self._connection.work(self._store.expect, machine, image)
        files = self._store.of(machine.id)
        yield self._connection.work(self._passage.open, _paths(files, image, machine.disks))
        yield self._connection.call(volumes.know, machine.disks)
        return {
            "kind": "libvirt",
            "uri": self._options.migration_uri or self._options.uri,
            "address": self._options.migration_address,
            "directory": self._store.of(machine.id).directory,
            "kernel": image.kernel,
            "ramdisk": image.ramdisk,
            "shared": "yes" if shared else "",
        }

    def number(self, id: str, order: int) -> Deferred[None]:
        """See L{IComputeDriver.number}."""
        return self._watch.order(id, partial(self._connection.call, moving.number, id, order))

    def migrate(self, id: str, destination: dict[str, str], order: int) -> Deferred[None]:
        """See L{IComputeDriver.migrate}."""
        return self._watch.order(id, partial(self._migrate, id, destination, order))

    @inlineCallbacks
    def _migrate(self, id: str, destination: dict[str, str], order: int) -> Generator[Deferred[Any], Any, None]:
        directory = self._store.of(id).directory
        found = yield self._connection.call(guests.look, id)
        yield self._connection.call(moving.migrate, id, directory, destination, order)
        self._watch.forget(id)
        if found is not None:
            yield self._connection.call(volumes.forget, found.notes.volumes.values())
        if not destination.get("shared"):
            yield self._connection.work(self._store.remove, id)
        self._bases.put(id, ())
        yield self._images.keep(self._bases.all())

    # News.

    def _heard(self, id: str, kind: str) -> None:
        self._news.heard(id, kind)
        if kind == LIFECYCLE:
            self._watch.heard(id)

    def _reopened(self) -> None:
        """What happened while the connection was lost was not told."""
        self._news.heard_of_all()
        for id in self._watch.ids:
            self._watch.heard(id)

    @inlineCallbacks
    def _look(self, id: str) -> Generator[Deferred[Any], Any, Seen | None]:
        found: guests.Found | None = yield self._connection.call(guests.look, id)
        if found is not None and found.asleep and not (yield self._connection.call(guests.rest, id)):
            self._watch.look_later(id, ASK_AGAIN)
        return None if found is None else (found.domain, found.reason, found.own)


def _paths(files: GuestFiles | None, image: ImageFiles, disks: Iterable[DiskOrder]) -> list[str]:
    """All files that a guest opens."""
    own = [] if files is None else [files.root]
    volumes = [disk.connection.get("path", "") for disk in disks]
    return [path for path in (*own, image.disk, image.kernel, image.ramdisk, *volumes) if path]
