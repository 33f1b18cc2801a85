"""
What the cells ask of an EC2, whoever provides it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from fabric.testing.bench.load import Wire
from fabric.testing.bench.targets import Target

_INSTANCE = re.compile(rb"<instanceId>(i-[0-9a-f]+)</instanceId>")
_RESERVATION = re.compile(rb"<reservationId>(r-[0-9a-f]+)</reservationId>")
_IMAGE = re.compile(rb"<imageId>(ami-[0-9a-f]+)</imageId>")

BATCH = 100
"""Instances a call when an account is filled."""


def instances(body: bytes) -> list[str]:
    """Ids of the instances in an answer, in its order."""
    return [id.decode() for id in _INSTANCE.findall(body)]


class Asker:
    """
    A person with one connection.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wire: Wire = target.wire()
        self.image = _IMAGE.findall(self.ask("DescribeImages"))[0].decode()
        self.polls = 0

    def ask(self, action: str, **parameters: str) -> bytes:
        """One request."""
        return self._wire.ask(self._target.request(action, **parameters))

    def run_request(self, count: int) -> bytes:
        """A launch, signed."""
        return self._target.request(
            "RunInstances", ImageId=self.image, MinCount=str(count), MaxCount=str(count), InstanceType="m1.tiny"
        )

    def run(self, count: int) -> tuple[str, list[str]]:
        """Launch; the reservation's id and the instances'."""
        body = self._wire.ask(self.run_request(count))
        return _RESERVATION.findall(body)[0].decode(), instances(body)

    def terminate(self, ids: Sequence[str]) -> None:
        """Ask for the end of instances."""
        self.ask("TerminateInstances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})

    def stop(self, ids: Sequence[str]) -> None:
        """Ask for a halt."""
        self.ask("StopInstances", **{f"InstanceId_{n}": id for n, id in enumerate(ids, 1)})

    def poll_request(self, state: str, reservation: str = "") -> bytes:
        """Whether some are in a state still, signed."""
        parameters = {"MaxResults": "5", "Filter_1_Name": "instance-state-name", "Filter_1_Value_1": state}
        if reservation:
            parameters |= {"Filter_2_Name": "reservation-id", "Filter_2_Value_1": reservation}
        return self._target.request("DescribeInstances", **parameters)

    def await_none(self, state: str, reservation: str, pause: float, seconds: float = 120.0) -> None:
        """
        Wait until no instance (of a reservation, unless "") is in a state.
        """
        request, ends = self.poll_request(state, reservation), time.monotonic() + seconds
        while True:
            self.polls += 1
            left = instances(self._wire.ask(request))
            if not left:
                return
            if time.monotonic() > ends:
                raise RuntimeError(f"{len(left)} instances are still {state}: {left[:5]}")
            time.sleep(pause)

    def require(self, count: int, state: str, reservation: str = "") -> list[str]:
        """
        See that so many (of a reservation, unless "") are in a state.

        @return: their ids.
        @raise RuntimeError: there are fewer.
        """
        parameters = {"Filter_1_Name": "instance-state-name", "Filter_1_Value_1": state}
        if reservation:
            parameters |= {"Filter_2_Name": "reservation-id", "Filter_2_Value_1": reservation}
        found = instances(self.ask("DescribeInstances", **parameters))
        if len(found) < count:
            raise RuntimeError(f"{self._target.name} has {len(found)} of {count} instances {state}")
        return found

    def fill(self, count: int) -> float:
        """
        Launch so many, batch by batch.

        @return: seconds from the first request until all run.
        """
        begun = time.perf_counter()
        for first in range(0, count, BATCH):
            self.run(min(BATCH, count - first))
        self.await_none("pending", "", 0.05)
        return time.perf_counter() - begun

    def close(self) -> None:
        """Hang up."""
        self._wire.close()
