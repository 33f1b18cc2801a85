"""
Elastic addresses.

All are of domain C{vpc} and have an allocation id, as on EC2 now; clients that
name them by the address itself, as those of EC2 before VPCs did, are
understood too.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from fabric.api.ec2.actions.listing import Describe, all_records
from fabric.api.ec2.actions.network_filters import led_to, of_instance
from fabric.api.ec2.actions.refusals import check_ids, combination, invalid_value, missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.filters import FilterTable, Rule, constant, facet, literal
from fabric.api.ec2.pagination import Bounds, token, window
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views
from fabric.cloud.access import Caller
from fabric.cloud.addresses import Addresses, Named, is_address
from fabric.cloud.listings import Listings
from fabric.errors import NotFound
from fabric.ids import is_id
from fabric.model.address import Address
from fabric.model.vpc import instance_of

_ANY_POOL = ("", "amazon")
"""Names of a pool that mean any."""


def _filters(region: str) -> FilterTable:
    rules: dict[str, Rule] = {
        "allocation-id": facet("id"),
        "association-id": facet("association"),
        "domain": constant("vpc"),
        "instance-id": facet("instance"),
        "network-border-group": constant(region),
        "network-interface-id": of_instance("eni-", "instance"),
        "network-interface-owner-id": led_to,
        "private-ip-address": facet("address"),
        "public-ip": facet("public"),
    }
    return FilterTable(rules)


class AddressActions:
    """
    Holds, leads, lists and releases addresses.

    @param region: the one region, which is also the one network border group.
    """

    def __init__(self, addresses: Addresses, listings: Listings, views: EC2Views, region: str) -> None:
        self._addresses = addresses
        self._listings = listings
        self._region = region
        self._list = Describe(listings, Address, "addressesSet", _filters(region), views.render_one)

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        allocated = ("Domain", "Address", "PublicIpv4Pool", "NetworkBorderGroup", "TagSpecifications")
        led = ("AllocationId", "PublicIp", "InstanceId", "NetworkInterfaceId", "PrivateIpAddress", "AllowReassociation")
        for action in (
            Action("AllocateAddress", self.allocate, allocated),
            Action("ReleaseAddress", self.release, ("AllocationId", "PublicIp", "NetworkBorderGroup")),
            Action("AssociateAddress", self.associate, led),
            Action("DisassociateAddress", self.disassociate, ("AssociationId", "PublicIp")),
            Action("DescribeAddresses", self.describe, ("PublicIps", "AllocationIds", "Filters")),
            Action(
                "DescribeAddressesAttribute",
                self.describe_attribute,
                ("AllocationIds", "Attribute", "MaxResults", "NextToken"),
            ),
        ):
            registry.add(action)

    def allocate(self, call: Call) -> Deferred[Answer]:
        """
        Hold an address: a certain one, or one of a pool, or any.
        """
        given = call.parameters
        domain = given.get("Domain") or "vpc"
        if domain == "standard":
            raise unsupported("This cloud has no addresses of the domain 'standard'; use 'vpc'")
        if domain != "vpc":
            raise invalid_value("domain", domain, "Expecting vpc.")
        self._check_border(given, "InvalidParameterValue")
        public_ip = given.get("Address") or ""
        if public_ip:
            _check_address(public_ip, "address")
        pool = given.get("PublicIpv4Pool") or ""
        held = self._addresses.allocate(
            call.caller, public_ip, "" if pool in _ANY_POOL else pool, tags_at_creation(given, "elastic-ip")
        )
        return held.addCallback(self._allocated)

    def _allocated(self, address: Address) -> Answer:
        return {
            "AllocationId": address.id,
            "PublicIp": address.public_ip,
            "PublicIpv4Pool": address.range,
            "NetworkBorderGroup": self._region,
            "Domain": "vpc",
        }

    def release(self, call: Call) -> Deferred[Answer]:
        """
        Give an address back.
        """
        self._check_border(call.parameters, "InvalidAddress.NotFound")
        return self._addresses.release(call.caller, _named(call.parameters)).addCallback(lambda _: {})

    def associate(self, call: Call) -> Deferred[Answer]:
        """
        Lead an address to an instance.  It is taken from another instance
        unless the request forbids that.
        """
        given = call.parameters
        named = _named(given)
        move = given.get("AllowReassociation", True)
        private_ip = given.get("PrivateIpAddress") or ""
        led = self._addresses.associate(call.caller, named, _target(given), private_ip, move)
        if given.get("NetworkInterfaceId"):
            led.addErrback(_no_interface, given["NetworkInterfaceId"])
        return led.addCallback(lambda association: {"AssociationId": association})

    def disassociate(self, call: Call) -> Deferred[Answer]:
        """
        Have an address lead nowhere.
        """
        association, public_ip = call.parameters.get("AssociationId"), call.parameters.get("PublicIp")
        if association and public_ip:
            raise combination("You may specify public IP or association id, but not both in the same call")
        if not association and not public_ip:
            raise missing("AssociationId")
        if public_ip:
            _check_address(public_ip, "publicIp")
            parted = self._addresses.disassociate(call.caller, Named(public_ip=public_ip))
        else:
            parted = self._addresses.disassociate(call.caller, association=str(association))
        return parted.addCallback(lambda _: {})

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All addresses of the project, or those named.
        """
        narrowing = self._list.narrow(call)
        public_ips = tuple(dict.fromkeys(call.parameters.get("PublicIps") or ()))
        ids = tuple(dict.fromkeys(call.parameters.get("AllocationIds") or ()))
        if public_ips:
            yield self._check_held(call.caller, public_ips)
            narrowing.add(("public", tuple(map(literal, public_ips))))
        return (yield self._list.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _check_held(self, caller: Caller, public_ips: tuple[str, ...]) -> Generator[Deferred[Any], Any, None]:
        for public_ip in public_ips:
            _check_address(public_ip, "publicIp")
        wanted = (("public", public_ips),)
        found = yield all_records(lambda cursor: self._listings.records(caller, Address, wanted, cursor=cursor))
        held = {stored.record.public_ip for stored in found}
        absent = [public_ip for public_ip in public_ips if public_ip not in held]
        if absent:
            raise NotFound("address", ", ".join(absent))

    @inlineCallbacks
    def describe_attribute(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        The reverse DNS names of addresses, of which there are none here.
        """
        given = call.parameters
        attribute = given.get("Attribute") or "domain-name"
        if attribute != "domain-name":
            raise invalid_value("attribute", attribute, "Expecting domain-name.")
        wanted = window(call.action, given, Bounds(1, 1000))
        ids = tuple(dict.fromkeys(given.get("AllocationIds") or ()))
        page = yield self._listings.records(call.caller, Address, (), ids, wanted.cursor, wanted.limit)
        shown = [{"PublicIp": each.record.public_ip, "AllocationId": each.record.id} for each in page.items]
        return {"Addresses": shown, **({"NextToken": token(call.action, page.cursor)} if page.cursor else {})}

    def _check_border(self, given: Mapping[str, Any], code: str) -> None:
        group = given.get("NetworkBorderGroup")
        if group and group != self._region:
            raise EC2Error(code, f"The network border group '{group}' does not exist; there is '{self._region}'")


def _named(given: Mapping[str, Any]) -> Named:
    allocation, public_ip = given.get("AllocationId") or "", given.get("PublicIp") or ""
    if allocation and public_ip:
        raise combination("You may specify public IP or allocation id, but not both in the same call")
    if not allocation and not public_ip:
        raise missing("AllocationId")
    if public_ip:
        _check_address(public_ip, "publicIp")
    return Named(allocation, public_ip)


def _target(given: Mapping[str, Any]) -> str:
    instance, interface = given.get("InstanceId") or "", given.get("NetworkInterfaceId") or ""
    if instance and interface:
        raise combination("You may specify instance id or network interface id, but not both in the same call")
    if interface:
        return interface_owner(interface)
    if not instance:
        raise missing("InstanceId")
    return check_ids("instance", [instance])[0]


def interface_owner(id: str) -> str:
    """
    @return: the id of the instance whose interface that would be.
    @raise EC2Error: it can't be an interface's id.
    """
    instance = instance_of(id)
    if not id.startswith("eni-") or not is_id("instance", instance):
        raise EC2Error("InvalidNetworkInterfaceId.Malformed", f'Invalid id: "{id}" (expecting "eni-...")')
    return instance


def unknown_interface(id: str) -> EC2Error:
    """
    @return: the refusal of an interface that the project does not have.
    """
    return EC2Error("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{id}' does not exist")


def _no_interface(failure: Failure, id: str) -> Failure:
    error = failure.value
    if isinstance(error, NotFound) and error.kind == "instance":
        raise unknown_interface(id)
    return failure


def _check_address(text: str, parameter: str) -> None:
    if not is_address(text):
        raise invalid_value(parameter, text, "Invalid IPv4 address.")
