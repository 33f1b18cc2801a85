"""
What guests show by themselves, and whether they are watched closely.
"""

from __future__ import annotations

from base64 import b64encode

from twisted.internet.defer import Deferred

from fabric.api.ec2.actions.instances import instance_ids
from fabric.api.ec2.actions.refusals import check_ids
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.registry import Action, Registry
from fabric.cloud.guests import Guests
from fabric.cloud.instances import Instances


class GuestActions:
    """
    Screens, passwords and monitoring.

    An instance's monitoring is what its guest's statistics are gathered by
    where a driver has any; it is kept, shown, filtered by, and part of a
    launch template's data.
    """

    def __init__(self, guests: Guests, instances: Instances) -> None:
        self._guests = guests
        self._instances = instances

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(Action("GetConsoleScreenshot", self.screenshot, ("InstanceId", "WakeUp")))
        registry.add(Action("GetPasswordData", self.password, ("InstanceId",)))
        registry.add(Action("MonitorInstances", self.monitor, ("InstanceIds",)))
        registry.add(Action("UnmonitorInstances", self.monitor, ("InstanceIds",)))

    def screenshot(self, call: Call) -> Deferred[Answer]:
        """
        What a running instance's display shows, PNG or JPEG.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        found = self._guests.screenshot(call.caller, id, bool(call.parameters.get("WakeUp")))
        return found.addCallback(lambda image: {"InstanceId": id, "ImageData": b64encode(image).decode("ascii")})

    def password(self, call: Call) -> Deferred[Answer]:
        """
        The encrypted password that the guest printed; empty when it did not.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])
        found = self._guests.password(call.caller, id)
        return found.addCallback(
            lambda password: {
                "InstanceId": id,
                "Timestamp": password.timestamp,
                "PasswordData": password.data,
            }
        )

    def monitor(self, call: Call) -> Deferred[Answer]:
        """
        MonitorInstances and UnmonitorInstances.
        """
        found = self._instances.monitor(call.caller, instance_ids(call), call.action == "MonitorInstances")
        return found.addCallback(
            lambda instances: {
                "InstanceMonitorings": [
                    {
                        "InstanceId": instance.id,
                        "Monitoring": {"State": "enabled" if instance.monitoring else "disabled"},
                    }
                    for instance in instances
                ]
            }
        )
