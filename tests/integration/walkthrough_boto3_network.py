"""
boto3's walk over addresses, security groups and the picture of the network.
"""

from __future__ import annotations

from typing import Any

from tests.integration.walking import equal, until
from tests.integration.walkthrough_boto3 import Boto3Base, by, tagged


def allowed(port: int, **source: Any) -> dict[str, Any]:
    """A C{IpPermissions} member for a TCP port."""
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}


class Boto3Network(Boto3Base):
    """
    How instances are reached, and by whom.
    """

    def run(self) -> None:
        """All of it."""
        [self.vpc] = [vpc["VpcId"] for vpc in self.ec2.describe_vpcs(Filters=by(is_default="true"))["Vpcs"]]
        self.web = self.makes_a_group("web")
        self.db = self.makes_a_group("db")
        self.writes_rules()
        self.changes_rules()
        self.lets_out()
        self.id = self.launches_into_the_subnet()
        self.moves_between_groups()
        self.has_an_address()
        self.takes_an_address_over()
        self.end(self.id)
        for id in (self.db, self.web):
            self.ec2.delete_security_group(GroupId=id)
        self.refused("InvalidGroup.NotFound", self.ec2.describe_security_groups, GroupIds=[self.web])

    def makes_a_group(self, name: str) -> str:
        """Once by a name."""
        name = f"{self.name}-{name}"
        wanted = {"GroupName": name, "Description": "of a walk", "VpcId": self.vpc}
        id: str = self.ec2.create_security_group(**wanted, TagSpecifications=tagged("security-group", walk=name))[
            "GroupId"
        ]
        self.wait("security_group_exists", GroupIds=[id])
        self.refused("InvalidGroup.Duplicate", self.ec2.create_security_group, **wanted)
        return id

    def rules(self, id: str, out: bool = False) -> list[dict[str, Any]]:
        """Of one direction."""
        found = self.ec2.describe_security_group_rules(Filters=by(group_id=id))["SecurityGroupRules"]
        return [rule for rule in found if rule["IsEgress"] == out]

    def writes_rules(self) -> None:
        """In the old form and the new, of ranges and of groups, each once."""
        allow = self.ec2.authorize_security_group_ingress
        allow(GroupId=self.web, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="192.0.2.0/24")
        page = allowed(
            80,
            IpRanges=[{"CidrIp": "0.0.0.0/0", "Description": "everyone"}],
            Ipv6Ranges=[{"CidrIpv6": "::/0", "Description": "and there"}],
        )
        allow(GroupId=self.web, IpPermissions=[page])
        self.refused("InvalidPermission.Duplicate", allow, GroupId=self.web, IpPermissions=[page])
        allow(GroupId=self.db, IpPermissions=[allowed(5432, UserIdGroupPairs=[{"GroupId": self.web}])])
        equal(len(self.rules(self.web)), 3)
        [rule] = self.rules(self.db)
        equal(rule["ReferencedGroupInfo"]["GroupId"], self.web)
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.web)
        references = self.ec2.describe_security_group_references(GroupId=[self.web])
        equal(references["SecurityGroupReferenceSet"], [])
        found = self.ec2.describe_security_groups(Filters=by(**{"ip-permission.group-id": self.web}))
        equal([group["GroupId"] for group in found["SecurityGroups"]], [self.db])

    def changes_rules(self) -> None:
        """Their descriptions, a rule as a whole, and away with one."""
        described = allowed(80, IpRanges=[{"CidrIp": "0.0.0.0/0", "Description": "the world"}])
        self.ec2.update_security_group_rule_descriptions_ingress(GroupId=self.web, IpPermissions=[described])
        [page] = [rule for rule in self.rules(self.web) if rule.get("CidrIpv4") == "0.0.0.0/0"]
        equal(page["Description"], "the world")
        id = page["SecurityGroupRuleId"]
        wanted = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIpv4": "198.51.100.0/24"}
        change = {"SecurityGroupRuleId": id, "SecurityGroupRule": wanted}
        self.ec2.modify_security_group_rules(GroupId=self.web, SecurityGroupRules=[change])
        [changed] = [rule for rule in self.rules(self.web) if rule["SecurityGroupRuleId"] == id]
        equal({name: changed[name] for name in wanted}, wanted)
        self.ec2.revoke_security_group_ingress(GroupId=self.web, SecurityGroupRuleIds=[id])
        [ssh] = [rule for rule in self.rules(self.web) if rule["FromPort"] == 22]
        plain = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": ssh["CidrIpv4"]}
        self.ec2.revoke_security_group_ingress(GroupId=self.web, **plain)
        equal([rule["CidrIpv6"] for rule in self.rules(self.web)], ["::/0"])

    def lets_out(self) -> None:
        """Everything at first, then what the rules say."""
        [everything] = self.rules(self.db, out=True)
        equal((everything["IpProtocol"], everything["CidrIpv4"]), ("-1", "0.0.0.0/0"))
        self.ec2.revoke_security_group_egress(GroupId=self.db, SecurityGroupRuleIds=[everything["SecurityGroupRuleId"]])
        only = allowed(53, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
        self.ec2.authorize_security_group_egress(GroupId=self.db, IpPermissions=[only])
        described = allowed(53, IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "names"}])
        self.ec2.update_security_group_rule_descriptions_egress(GroupId=self.db, IpPermissions=[described])
        equal([(rule["FromPort"], rule["Description"]) for rule in self.rules(self.db, out=True)], [(53, "names")])

    def launches_into_the_subnet(self) -> str:
        """By its id, into groups by theirs; everything shown agrees."""
        [subnet] = self.ec2.describe_subnets(Filters=by(vpc_id=self.vpc))["Subnets"]
        id = self.run_one(SubnetId=subnet["SubnetId"], SecurityGroupIds=[self.web, self.db])
        found = self.instance(id)
        equal((found["SubnetId"], found["VpcId"]), (subnet["SubnetId"], self.vpc))
        equal({group["GroupId"] for group in found["SecurityGroups"]}, {self.web, self.db})
        [port] = self.ec2.describe_network_interfaces(Filters=by(**{"attachment.instance-id": id}))["NetworkInterfaces"]
        equal((port["PrivateIpAddress"], port["Status"]), (found["PrivateIpAddress"], "in-use"))
        self.refused("DependencyViolation", self.ec2.delete_security_group, GroupId=self.db)
        refused = {"ImageId": self.image, "MinCount": 1, "MaxCount": 1, "SubnetId": "subnet-0123456789abcdef0"}
        self.refused("InvalidSubnetID.NotFound", self.ec2.run_instances, **refused)
        for call, list in (
            (self.ec2.describe_route_tables, "RouteTables"),
            (self.ec2.describe_network_acls, "NetworkAcls"),
            (self.ec2.describe_security_groups, "SecurityGroups"),
        ):
            assert call(Filters=by(vpc_id=self.vpc))[list], list
        self.refused("UnsupportedOperation", self.ec2.create_vpc, CidrBlock="10.9.0.0/16")
        return id

    def moves_between_groups(self) -> None:
        """While it runs."""
        self.ec2.modify_instance_attribute(InstanceId=self.id, Groups=[self.web])
        equal([group["GroupId"] for group in self.instance(self.id)["SecurityGroups"]], [self.web])
        found = self.ec2.describe_instances(Filters=by(**{"instance.group-id": self.web}))["Reservations"]
        equal([each["InstanceId"] for each in found[0]["Instances"]], [self.id])

    def shown(self, allocation: str) -> dict[str, Any]:
        """One address."""
        [address] = self.ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
        return address  # type: ignore[no-any-return]

    def has_an_address(self) -> None:
        """An elastic address is the instance's public one while they are associated."""
        made = self.ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip", walk=self.name))
        self.address, ip = made["AllocationId"], made["PublicIp"]
        done = self.ec2.associate_address(AllocationId=self.address, InstanceId=self.id)
        until("the address", lambda: self.instance(self.id).get("PublicIpAddress") == ip)
        equal(self.shown(self.address)["InstanceId"], self.id)
        found = self.ec2.describe_addresses(Filters=[{"Name": "tag:walk", "Values": [self.name]}])["Addresses"]
        equal([each["PublicIp"] for each in found], [ip])
        self.refused("InvalidIPAddress.InUse", self.ec2.release_address, AllocationId=self.address)
        self.ec2.disassociate_address(AssociationId=done["AssociationId"])
        until("no address", lambda: not self.instance(self.id).get("PublicIpAddress"))
        assert not self.shown(self.address).get("InstanceId"), self.shown(self.address)
        attributes = self.ec2.describe_addresses_attribute(AllocationIds=[self.address], Attribute="domain-name")
        equal([each["PublicIp"] for each in attributes["Addresses"]], [ip])

    def takes_an_address_over(self) -> None:
        """By another instance, when it is said that it may."""
        other = self.run_one()
        self.ec2.associate_address(AllocationId=self.address, InstanceId=self.id)
        over = {"AllocationId": self.address, "InstanceId": other}
        self.refused("Resource.AlreadyAssociated", self.ec2.associate_address, **over, AllowReassociation=False)
        self.ec2.associate_address(**over, AllowReassociation=True)
        ip = self.shown(self.address)["PublicIp"]
        until("moved", lambda: self.instance(other).get("PublicIpAddress") == ip)
        assert not self.instance(self.id).get("PublicIpAddress"), self.instance(self.id)
        self.end(other)
        until("free again", lambda: not self.shown(self.address).get("InstanceId"))
        self.ec2.release_address(AllocationId=self.address)
        self.refused("InvalidAllocationID.NotFound", self.ec2.describe_addresses, AllocationIds=[self.address])
