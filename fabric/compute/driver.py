"""
What a compute host is made of below the worker: the hypervisor's driver, and who
hears of what guests do.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from fabric.compute.interface import DiskOrder, Domain, MachineOrder, Statistics
from fabric.model.host import Capacity


class IDomainWatcher(Interface):
    """
    Hears what guests do by themselves.
    """

    def domain_changed(domain: Domain, reason: str, own: bool) -> None:
        """
        A guest stopped, crashed or came up without an order.  Called in the
        reactor's thread.

        @param reason: one sentence for people.
        @param own: whether the guest did it by itself, as one that shuts
            itself down, and not somebody to it.
        """


class IComputeDriver(Interface):
    """
    One hypervisor on one host.  Every method means "make it so" and may be
    repeated; each may fail with L{fabric.errors.DriverFailure}.  Drivers keep
    no state of record.
    """

    def start(watcher: IDomainWatcher) -> Deferred[None]:
        """Open the hypervisor; call once, before all else."""

    def stop() -> Deferred[None]:
        """Let go of the hypervisor; guests run on."""

    def capacity() -> Deferred[Capacity]:
        """What the host offers to guests in all."""

    def domains() -> Deferred[list[Domain]]:
        """Every guest that the cloud made here, running or not."""

    def spawn(machine: MachineOrder) -> Deferred[None]:
        """
        Define and boot the machine; fires when it runs.  Boots it from its
        disk, or its root volume, as it was when it is defined but stopped or
        crashed, with exactly the volumes of the order.  It has the host's GPUs
        that it had, and so many as the order says, whole, which no other
        guest has, running or not; it fails when there are not so many.  The order's
        number becomes the domain's, which is all that changes when it runs.
        Failing, it leaves at most a domain that is not running.
        """

    def shut_down(id: str, force: bool, order: int) -> Deferred[None]:
        """
        Stop it, asking the guest first unless forced; its disk stays.
        C{order} becomes the domain's.  Nothing else when it is stopped, but
        one that is suspended forgets its memory; nothing at all when it is not there.
        """

    def quiet(id: str, until: float) -> Deferred[None]:
        """
        Have it not run for a while, asking the guest first; its number stays.
        That it is to be woken then is written down before, and shown as
        C{quiet_until}.  Any other order to it that may start or stop it
        ends that.  Nothing when it neither runs nor is quiet.

        @param until: seconds since 1970.
        """

    def wake(id: str) -> Deferred[None]:
        """Start one that is L{quiet}; fires when it runs.  Nothing to any other."""

    def reboot(id: str, hard: bool, order: int) -> Deferred[None]:
        """
        Start it anew, from its disk as it is; one that is stopped is started.
        C{order} becomes the domain's.  Fires when it runs.

        @raise NotFound: no such guest.
        """

    def destroy(id: str) -> Deferred[None]:
        """Remove it and its own disks.  Nothing when it is not there."""

    def attach_disk(disk: DiskOrder) -> Deferred[None]:
        """
        Have the machine see a volume, running or not.  Nothing when it has it
        at that device by that connection.

        @raise NotFound: no such guest.
        @raise WrongState: it has another volume at that device, or is
            suspended.
        """

    def detach_disk(id: str, volume: str, force: bool) -> Deferred[None]:
        """
        Have the machine not see a volume any more; fires when the guest has
        let go, which it is not asked for when C{force}.  Nothing when it has
        no such volume, or is not there.

        @raise WrongState: it is suspended.
        """

    def copy_disk(id: str, volume: str, place: dict[str, str]) -> Deferred[dict[str, str]]:
        """
        Copy one of its volumes, as it is at one moment, into a place of the
        volume's host, while the guest runs on; it may be stopped, and other
        orders carried out, meanwhile.

        @return: as L{IComputeWorker.copy_disk}, but only when it is over.
        @raise DriverFailure: it stopped meanwhile, or is suspended.
        """

    def capture(id: str, image: str, restart: bool) -> Deferred[str]:
        """
        Copy its own disk, without its volumes, into the image store.  With
        C{restart} a guest that runs is stopped before, as by L{quiet}, and
        runs again afterwards.  One that was copied under that name is not
        copied again, nor stopped.

        @return: where the copy is.
        @raise NotFound: no such guest.
        """

    def console_output(id: str) -> Deferred[bytes]:
        """
        The last 64 KiB of its serial console.

        @raise NotFound: no such guest.
        """

    def screenshot(id: str, wake: bool) -> Deferred[bytes]:
        """
        A PNG or JPEG of what its display shows.

        @param wake: whether to press a key first, for a display that sleeps.
        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def pause(id: str) -> Deferred[None]:
        """
        Have it stand still, in memory.  Nothing when it does.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def unpause(id: str) -> Deferred[None]:
        """
        Have it go on.  Nothing when it does.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def suspend(id: str, order: int) -> Deferred[None]:
        """
        Write its memory to disk, and run it no more.  C{order} becomes the
        domain's.  Nothing else when that was done.

        @raise NotFound: no such guest.
        @raise WrongState: it does not run, nor was it suspended; or it has
            GPUs, whose memory can't be written.
        """

    def resume(id: str, order: int) -> Deferred[None]:
        """
        Have a suspended guest go on where it was.  C{order} becomes the
        domain's.  Nothing else when it runs.  To spawn or reboot it instead
        forgets its memory.

        @raise NotFound: no such guest.
        @raise WrongState: it was not suspended.
        """

    def rescue(machine: MachineOrder) -> Deferred[None]:
        """
        Boot it from a new disk of the order's image, with its own disk as the
        second; fires when it runs.  It is stopped by force before.  Nothing
        but the order's number when that was done and it runs.

        @raise NotFound: no such guest.
        """

    def unrescue(machine: MachineOrder) -> Deferred[None]:
        """
        Boot it from its own disk again, the rescue disk removed; fires when it
        runs.  Nothing but the order's number when it runs from it.

        @raise NotFound: no such guest.
        """

    def statistics(id: str) -> Deferred[Statistics]:
        """
        @raise NotFound: no such guest.
        @raise WrongState: it does not run.
        """

    def number(id: str, order: int) -> Deferred[None]:
        """
        Have C{order} be the domain's, and all else as it is, when a move of it
        that was given up has ended: it is not to be tried when it comes again.
        Nothing when it is not there.
        """

    def receive(machine: MachineOrder) -> Deferred[dict[str, str]]:
        """
        Make ready for a guest of another host; if it runs, its volumes are
        exported to this one, too.  What is not needed after all goes with
        L{destroy}.

        @return: what the other host's L{migrate} needs to know.
        """

    def migrate(id: str, destination: dict[str, str], order: int) -> Deferred[None]:
        """
        Have it run on there, without a stop, and be here no more; fires when
        that is so.  One that is stopped is stopped there, with its own disks
        as they are, and executes nothing; its volumes it need not have until
        it is spawned.  C{order} is the domain's there.  Failing, it is as
        before, its number too.  The watchers of both hosts hear nothing.
        Nothing when it is not here.

        @param destination: what L{receive} answered there.
        @raise WrongState: it is suspended, or runs with GPUs.
        """
