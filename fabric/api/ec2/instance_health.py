"""
How instances do, as DescribeInstanceStatus shows it.
"""

from __future__ import annotations

from typing import Any

from fabric.model.instance import Instance

Shown = dict[str, Any]

_REACHED = {"ok": "passed", "impaired": "failed", "insufficient-data": "insufficient-data"}
"""What is said of reachability, by a check's status."""


def checks(record: Instance, silent: bool) -> tuple[str, str]:
    """
    @param silent: whether its host does not report any more.
    @return: the status of the system's check, and of the instance's: what runs
        is ok as far as the cloud can tell, and of what runs on a silent host
        nobody can tell.
    """
    if record.state != "running":
        return "not-applicable", "not-applicable"
    return ("impaired", "insufficient-data") if silent else ("ok", "ok")


def reachability(status: str) -> str:
    """
    @return: what C{reachability} is in a check of a status; empty for nothing.
    """
    return _REACHED.get(status, "")


def instance_status(record: Instance, state: Shown, silent: bool) -> Shown:
    """
    An instance by the names of botocore's C{InstanceStatus}; there are no
    events to announce.

    @param state: as other answers show it.
    """
    system, instance = checks(record, silent)
    return {
        "InstanceId": record.id,
        "AvailabilityZone": record.zone or record.wanted_zone,
        "Events": None,
        "InstanceState": state,
        "SystemStatus": _check(system),
        "InstanceStatus": _check(instance),
    }


def _check(status: str) -> Shown:
    reached = reachability(status)
    details = {"Details": [{"Name": "reachability", "Status": reached}]} if reached else {}
    return {"Status": status} | details
