"""
Regions, availability zones, and what an account has.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from fabric.api.ec2.actions.refusals import invalid, invalid_value
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.filters import FilterTable, Rule, constant, of_record
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import Shown
from fabric.cloud.hosts import Hosts
from fabric.cloud.quotas import Quotas
from fabric.model.vpc import vpc_id

_OPT_IN = "opt-in-not-required"


def _member(name: str) -> Rule:
    return of_record(lambda shown: (shown[name],))


_REGION_FILTERS = FilterTable(
    {"endpoint": _member("Endpoint"), "opt-in-status": constant(_OPT_IN), "region-name": _member("RegionName")},
    tagged=False,
)

_ZONE_FILTERS = FilterTable(
    {
        "group-long-name": constant(),
        "group-name": _member("GroupName"),
        "message": of_record(lambda shown: [message["Message"] for message in shown["Messages"]]),
        "opt-in-status": constant(_OPT_IN),
        "parent-zone-id": constant(),
        "parent-zone-name": constant(),
        "region-name": _member("RegionName"),
        "state": _member("State"),
        "zone-id": _member("ZoneId"),
        "zone-name": _member("ZoneName"),
        "zone-type": constant("availability-zone"),
    },
    tagged=False,
)

NOTHING_THERE = "No compute host in this zone takes instances"


class PlaceActions:
    """
    Where things are.  A cloud is one region, whose zones are those that its
    hosts report.

    @param region: the region's name.
    @param endpoint: what clients are to connect to, C{host:port}.
    """

    def __init__(self, hosts: Hosts, quotas: Quotas, region: str, endpoint: str) -> None:
        self._hosts = hosts
        self._quotas = quotas
        self._region = region
        self._endpoint = endpoint

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        registry.add(Action("DescribeRegions", self.regions, ("RegionNames", "AllRegions", "Filters")))
        listed = ("ZoneNames", "ZoneIds", "AllAvailabilityZones", "Filters")
        registry.add(Action("DescribeAvailabilityZones", self.zones, listed))
        registry.add(Action("DescribeAccountAttributes", self.account, ("AttributeNames",)))

    def regions(self, call: Call) -> Deferred[Answer]:
        """
        The one region.
        """
        narrowing = _REGION_FILTERS.narrow(call.caller, call.parameters.get("Filters"))
        _refuse_unknown("region", call.parameters.get("RegionNames") or (), [self._region])
        region = {"OptInStatus": _OPT_IN, "RegionName": self._region, "Endpoint": self._endpoint}
        return succeed({"Regions": [region] if narrowing.passes(region) else []})

    @inlineCallbacks
    def zones(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        Zones, and whether any of their hosts takes instances.  A zone's id
        is its name.
        """
        narrowing = _ZONE_FILTERS.narrow(call.caller, call.parameters.get("Filters"))
        found = yield self._hosts.zones()
        zones = [self._zone(zone.name, zone.available) for zone in found]
        names = [zone["ZoneName"] for zone in zones]
        for parameter in ("ZoneNames", "ZoneIds"):
            asked = call.parameters.get(parameter)
            if asked:
                _refuse_unknown("availability zone", asked, names)
                zones = [zone for zone in zones if zone["ZoneName"] in asked]
        return {"AvailabilityZones": [zone for zone in zones if narrowing.passes(zone)]}

    def _zone(self, name: str, available: bool) -> Shown:
        return {
            "OptInStatus": _OPT_IN,
            "Messages": [] if available else [{"Message": NOTHING_THERE}],
            "RegionName": self._region,
            "ZoneName": name,
            "ZoneId": name,
            "GroupName": self._region,
            "NetworkBorderGroup": self._region,
            "ZoneType": "availability-zone",
            "State": "available" if available else "unavailable",
        }

    @inlineCallbacks
    def account(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        What the account, which is the caller's project, may have.
        """
        limits = yield self._quotas.limits(call.caller.project)
        values = {
            "supported-platforms": "VPC",
            "default-vpc": vpc_id(call.caller.project),
            "max-instances": str(limits["instances"]),
            "max-elastic-ips": str(limits["addresses"]),
            "vpc-max-elastic-ips": str(limits["addresses"]),
            "vpc-max-security-groups-per-interface": str(limits["groups"]),
        }
        asked = call.parameters.get("AttributeNames") or list(values)
        for name in asked:
            if name not in values:
                raise invalid_value("attributeName", name, f"Expecting one of {', '.join(values)}.")
        return {
            "AccountAttributes": [
                {"AttributeName": name, "AttributeValues": [{"AttributeValue": values[name]}]}
                for name in dict.fromkeys(asked)
            ]
        }


def _refuse_unknown(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise invalid(f"Invalid {what}: [{', '.join(unknown)}]")
