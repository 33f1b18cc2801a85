"""
Looking at instances, and the verbs on them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.instance_filters import instance_filters, status_filters
from fabric.api.ec2.actions.listing import Describe
from fabric.api.ec2.actions.network_filters import of_connected
from fabric.api.ec2.actions.refusals import check_ids, missing, unsupported
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.pagination import Bounds
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, Shown, join_instances, state
from fabric.cloud.hosts import Hosts
from fabric.cloud.instances import Change, Console, Instances
from fabric.cloud.listings import Listings
from fabric.model.instance import Instance

BOUNDS = Bounds(5, 1000, ids="instancesSet")

_LISTED = ("InstanceIds", "Filters", "MaxResults", "NextToken", "IncludeManagedResources")
_SHUT_DOWN = ("InstanceIds", "Force", "SkipOsShutdown")


class InstanceActions:
    """
    Describes, verbs, and the console.

    C{IncludeManagedResources} is honoured by there being none.
    """

    def __init__(self, instances: Instances, listings: Listings, views: EC2Views, hosts: Hosts) -> None:
        self._instances = instances
        self._hosts = hosts
        self._silent: frozenset[str] = frozenset()
        filters = instance_filters(views.domain)
        self._instance_list = Describe(listings, Instance, "reservationSet", filters, views.render_one, bounds=BOUNDS)
        self._status_list = Describe(
            listings,
            Instance,
            "instanceStatusSet",
            status_filters(self._is_silent),
            lambda record: views.render_status(record, self._is_silent(record)),
            always=True,
            bounds=BOUNDS,
        )

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        for action in (
            Action("DescribeInstances", self.describe_instances, _LISTED),
            Action("DescribeInstanceStatus", self.describe_instance_status, (*_LISTED, "IncludeAllInstances")),
            Action("StartInstances", self.start_instances, ("InstanceIds", "AdditionalInfo")),
            Action("StopInstances", self.stop_instances, (*_SHUT_DOWN, "Hibernate")),
            Action("RebootInstances", self.reboot_instances, ("InstanceIds",)),
            Action("TerminateInstances", self.terminate_instances, _SHUT_DOWN),
            Action("GetConsoleOutput", self.get_console_output, ("InstanceId", "Latest")),
        ):
            registry.add(action)

    def describe_instances(self, call: Call) -> Deferred[Answer]:
        """
        Instances by reservation; without C{MaxResults} all of them.
        """
        narrowing = self._instance_list.narrow(call)
        for facet in of_connected(each["Name"] for each in call.parameters.get("Filters") or ()):
            narrowing.add(facet)
        ids = check_ids("instance", call.parameters.get("InstanceIds") or ())
        return self._instance_list.listing(call, narrowing, ids, join_instances)

    @inlineCallbacks
    def describe_instance_status(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        How instances do; only those that run, unless all are asked for.
        """
        narrowing = self._status_list.narrow(call)
        ids = check_ids("instance", call.parameters.get("InstanceIds") or ())
        if not call.parameters.get("IncludeAllInstances"):
            narrowing.add(("state", ("running",)))
        silent = yield self._hosts.silent()
        self._silent = silent
        return (yield self._status_list.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    def _is_silent(self, record: Instance) -> bool:
        """Whether its host was not heard of when it was last asked."""
        return record.host in self._silent

    def start_instances(self, call: Call) -> Deferred[Answer]:
        """
        Bring up stopped instances.
        """
        if call.parameters.get("AdditionalInfo"):
            raise unsupported("AdditionalInfo is reserved")
        found = self._instances.start(call.caller, instance_ids(call))
        return found.addCallback(lambda changes: {"StartingInstances": shown(changes)})

    def stop_instances(self, call: Call) -> Deferred[Answer]:
        """
        Shut instances down.  C{SkipOsShutdown} is as C{Force}: the guest is
        not asked.
        """
        if call.parameters.get("Hibernate"):
            raise unsupported("This cloud does not hibernate instances")
        force = bool(call.parameters.get("Force") or call.parameters.get("SkipOsShutdown"))
        found = self._instances.stop(call.caller, instance_ids(call), force)
        return found.addCallback(lambda changes: {"StoppingInstances": shown(changes)})

    def reboot_instances(self, call: Call) -> Deferred[Answer]:
        """
        Reboot running instances.
        """
        return self._instances.reboot(call.caller, instance_ids(call)).addCallback(lambda _: {})

    def terminate_instances(self, call: Call) -> Deferred[Answer]:
        """
        Remove instances for good.  It never waits for guests, so that
        C{Force} and C{SkipOsShutdown} ask for what happens anyway.
        """
        found = self._instances.terminate(call.caller, instance_ids(call))
        return found.addCallback(lambda changes: {"TerminatingInstances": shown(changes)})

    def get_console_output(self, call: Call) -> Deferred[Answer]:
        """
        What the instance printed, which is always the latest.
        """
        [id] = check_ids("instance", [call.parameters["InstanceId"]])

        def answer(console: Console) -> dict[str, Any]:
            output = b64encode(console.output).decode("ascii")
            return {"InstanceId": id, "Timestamp": console.timestamp, "Output": output}

        return self._instances.console_output(call.caller, id).addCallback(answer)


def instance_ids(call: Call) -> tuple[str, ...]:
    """
    @return: the ids that the request names, each once.
    @raise EC2Error: there are none, or one can't be an instance's.
    """
    ids = check_ids("instance", call.parameters.get("InstanceIds") or ())
    if not ids:
        raise missing("InstanceId")
    return ids


def shown(changes: Iterable[Change]) -> list[Shown]:
    """
    Changes by the names of botocore's C{InstanceStateChange}.
    """
    return [
        {"InstanceId": change.id, "CurrentState": state(change.after), "PreviousState": state(change.before)}
        for change in changes
    ]
