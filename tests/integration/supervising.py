"""
What a service manager does, for the kill tests: whoever has died is started
again, and is to die at all points at which it has not died yet.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping

from fabric.testing.deployment import Deployment
from fabric.testing.processes import TwistdProcess, await_true, healthy

ENOUGH = 1
"""Deaths at one point after which nobody is armed for it any more; those that are may still die there."""

_KILLED = re.compile(rb"^killed at (\S+)$", re.M)


class Supervisor:
    """
    Sees to all services of a deployment.

    @ivar deaths: by point, the names of the processes that died there.
    """

    def __init__(self, cloud: Deployment, places: Mapping[str, Iterable[str]]) -> None:
        """
        @param places: by point, the services that may reach it.
        """
        self._cloud = cloud
        self._places = {point: set(services) for point, services in places.items()}
        self._read: dict[str, int] = {}
        self._buried: set[str] = set()
        self.deaths: dict[str, list[str]] = {point: [] for point in places}

    @property
    def unreached(self) -> list[str]:
        """Points at which nobody died."""
        return sorted(point for point, names in self.deaths.items() if not names)

    def arm(self) -> None:
        """Run whatever may reach a point anew, so that it dies there."""
        for process in self._cloud.services.values():
            if self._armed(process):
                process.kill()
                self._start(process)
        self.await_well()

    def mend(self) -> None:
        """
        Start the dead.

        @raise AssertionError: one has died of something else.
        """
        for process in self._cloud.services.values():
            if not process.alive and process.name not in self._buried:
                self._note(process)
                self._start(process)

    def await_well(self) -> None:
        """Start the dead until all are well, and all hosts, none of which is buried, have said so."""
        began = time.time()
        await_true(lambda: self._settled() and self._cloud.has_hosts(began), "all are well")

    def bury(self, names: Iterable[str]) -> None:
        """Kill these and let them be dead; start those that were let so before and are not named."""
        named = set(names)
        for process in self._cloud.services.values():
            if process.name in named:
                process.kill()
            elif process.name in self._buried:
                self._start(process)
        self._buried = named

    def _settled(self) -> bool:
        self.mend()
        living = [process for process in self._cloud.services.values() if process.name not in self._buried]
        return all(healthy(process.port) for process in living)

    def _armed(self, process: TwistdProcess) -> list[str]:
        service = process.name.partition(".")[0]
        return [
            point
            for point, services in self._places.items()
            if service in services and process.name not in self.deaths[point] and len(self.deaths[point]) < ENOUGH
        ]

    def _start(self, process: TwistdProcess) -> None:
        self._read[process.name] = process.log.stat().st_size
        points = self._armed(process)
        process.start({"faults": ",".join(points)} if points else None)

    def _note(self, process: TwistdProcess) -> None:
        said = process.log.read_bytes()[self._read.get(process.name, 0) :]
        killed = _KILLED.findall(said)
        assert killed, f"{process.name} died of itself:\n{process.tail()}"
        self.deaths[killed[-1].decode()].append(process.name)
