"""
The walk of apache-libcloud's EC2 driver, as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.ec2_clients import PATH, Account
from tests.integration.walking import SERVER, Guest, equal, refused, until


class LibcloudWalk:
    """
    All of the driver's calls that this cloud does; the rest are refused.
    """

    def __init__(self, account: Account, guest: Guest, name: str, signature: str = "4") -> None:
        from libcloud.common.exceptions import BaseHTTPError
        from libcloud.compute.providers import get_driver
        from libcloud.compute.types import Provider

        self.errors = BaseHTTPError
        self.name = name
        self.guest = guest
        where = {"host": account.host, "port": account.port, "secure": False, "signature_version": signature}
        there = {"host": account.host, "port": account.port, "secure": False, "path": PATH}
        self.eucalyptus: Any = get_driver(Provider.EUCALYPTUS)(account.access_key, account.secret_key, **there)
        self.driver: Any = get_driver(Provider.EC2)(account.access_key, account.secret_key, **where)
        self.sizes = {size.id: size for size in self.driver.list_sizes()}
        self.driver.region_name = "nova"

    def run(self) -> None:
        """All of it."""
        [self.image] = self.driver.list_images(ex_filters={"name": SERVER})
        self.imports_keys()
        self.makes_groups()
        self.node = self.creates_a_node()
        self.stops_and_starts()
        self.changes()
        self.tags()
        self.has_an_address()
        self.uses_volumes()
        self.makes_images()
        self.sees_the_network()
        self.keeps_apart()
        self.is_refused_what_is_not_there()
        self.ends()

    def refused(self, codes: str | Sequence[str], call: Callable[..., Any], *args: Any, **more: Any) -> None:
        """A call must be refused with one of these codes."""
        refused(codes, lambda error: str(error).partition(":")[0], self.errors, call, *args, **more)

    def shown(self, node: Any) -> Any:
        """A node as it is listed."""
        [found] = self.driver.list_nodes(ex_node_ids=[node.id])
        return found

    def state(self, node: Any, wanted: str) -> Any:
        """Wait until a node is in one of EC2's states."""

        def there() -> Any:
            found = self.shown(node)
            return found if found.extra["status"] == wanted else None

        return until(f"{node.id} {wanted}", there)

    def imports_keys(self) -> None:
        """One made, one imported; by name, and by what it is."""
        from libcloud.compute.types import KeyPairDoesNotExistError

        assert "PRIVATE KEY" in self.driver.create_key_pair(f"{self.name}-made").private_key
        self.driver.import_key_pair_from_string(self.name, self.guest.public)
        found = {pair.name for pair in self.driver.list_key_pairs()}
        assert {self.name, f"{self.name}-made"} <= found, found
        pair = self.driver.get_key_pair(f"{self.name}-made")
        assert self.driver.delete_key_pair(pair)
        try:
            self.driver.get_key_pair(pair.name)
        except KeyPairDoesNotExistError:
            pass
        else:
            raise AssertionError("it is still there")
        by_material = self.driver.ex_find_or_import_keypair_by_key_material(self.guest.public)
        equal(by_material["keyFingerprint"], self.driver.get_key_pair(self.name).fingerprint)

    def makes_groups(self) -> None:
        """By name and by id; of ranges and groups; in and out; each rule once."""
        driver = self.driver
        self.web = driver.ex_create_security_group(f"{self.name}-web", "of a walk")["group_id"]
        self.db = driver.ex_create_security_group(f"{self.name}-db", "of a walk")["group_id"]
        assert driver.ex_authorize_security_group(f"{self.name}-web", 22, 22, "192.0.2.0/24")
        driver.ex_authorize_security_group(f"{self.name}-web", 22, 22, "192.0.2.0/24")
        assert driver.ex_authorize_security_group_ingress(
            self.web, 80, 81, cidr_ips=["0.0.0.0/0", "198.51.100.0/24"], description="pages"
        )
        assert driver.ex_authorize_security_group_ingress(self.db, 5432, 5432, group_pairs=[{"group_id": self.web}])
        assert driver.ex_authorize_security_group_egress(self.db, 53, 53, ["10.0.0.0/8"])
        equal(self.ports(self.web), {("22", "192.0.2.0/24"), ("80", "0.0.0.0/0"), ("80", "198.51.100.0/24")})
        [db] = driver.ex_get_security_groups(group_names=[f"{self.name}-db"])
        equal([pair["group_id"] for rule in db.ingress_rules for pair in rule["group_pairs"]], [self.web])
        equal(
            {(rule["from_port"], *rule["cidr_ips"]) for rule in db.egress_rules},
            {(None, "0.0.0.0/0"), ("53", "10.0.0.0/8")},
        )
        assert driver.ex_revoke_security_group_ingress(self.web, 80, 81, cidr_ips=["0.0.0.0/0"])
        equal(self.ports(self.web), {("22", "192.0.2.0/24"), ("80", "198.51.100.0/24")})
        assert driver.ex_revoke_security_group_egress(self.db, 53, 53, ["10.0.0.0/8"])
        assert f"{self.name}-web" in driver.ex_list_security_groups()
        self.refused("DependencyViolation", driver.ex_delete_security_group_by_id, self.web)
        driver.ex_authorize_security_group_permissive(f"{self.name}-db")
        equal({port for port, *_ in self.ports(self.db)}, {"0", "-1"})

    def ports(self, group: str) -> set[tuple[str, str]]:
        """First ports of a group's rules, and their ranges."""
        [found] = self.driver.ex_get_security_groups(group_ids=[group])
        return {(rule["from_port"], cidr) for rule in found.ingress_rules for cidr in rule["cidr_ips"]}

    def creates_a_node(self) -> Any:
        """Once by a token; with a key, a group, a disk, a zone and metadata."""
        wanted = {
            "name": self.name,
            "size": self.sizes["m1.small"],
            "image": self.image,
            "location": self.driver.list_locations()[0],
            "ex_keyname": self.name,
            "ex_security_groups": [f"{self.name}-db"],
            "ex_userdata": "#!/bin/sh\n",
            "ex_clienttoken": f"token-{self.name}",
            "ex_metadata": {"walk": self.name},
            "ex_blockdevicemappings": [
                {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 2, "DeleteOnTermination": "true"}}
            ],
        }
        node = self.driver.create_node(**wanted)
        equal(self.driver.create_node(**wanted).id, node.id)
        self.state(node, "running")
        [(found, addresses)] = self.driver.wait_until_running([node], wait_period=0.1, ssh_interface="private_ips")
        equal((found.name, found.private_ips), (self.name, addresses))
        equal([group["group_id"] for group in found.extra["groups"]], [self.db])
        until("its disk", lambda: self.disks(node)["/dev/sdf"]["status"] == "attached")
        [listed] = self.driver.list_nodes(ex_filters={"tag:walk": self.name})
        equal(listed.id, node.id)
        assert node.id in {each.id for each in self.eucalyptus.list_nodes()}
        until("the console", lambda: node.id in self.driver.ex_get_console_output(node)["output"])
        return found

    def disks(self, node: Any) -> dict[str, Any]:
        """What is at which device."""
        return {disk["device_name"]: disk["ebs"] for disk in self.shown(node).extra["block_device_mapping"]}

    def stops_and_starts(self) -> None:
        """And reboots; the size changes while it is stopped."""
        driver, node = self.driver, self.node
        assert driver.reboot_node(node)
        self.refused("IncorrectInstanceState", driver.ex_change_node_size, node, self.sizes["m1.medium"])
        assert driver.stop_node(node)
        self.state(node, "stopped")
        assert driver.ex_change_node_size(node, self.sizes["m1.medium"])
        assert driver.start_node(node)
        equal(self.state(node, "running").extra["instance_type"], "m1.medium")

    def changes(self) -> None:
        """Attributes by their names on the wire."""
        change = self.driver.ex_modify_instance_attribute
        assert change(self.node, {"DisableApiTermination.Value": "true"})
        self.refused("OperationNotPermitted", self.driver.destroy_node, self.node)
        assert change(self.node, {"DisableApiTermination.Value": "false"})
        assert change(self.node, {"GroupId.1": self.web})
        equal([group["group_id"] for group in self.shown(self.node).extra["groups"]], [self.web])

    def tags(self) -> None:
        """Set, told, and gone, with a value or without."""
        driver, node = self.driver, self.node
        assert driver.ex_create_tags(node, {"a": "1", "b": "<2>"})
        equal(driver.ex_describe_tags(node), {"Name": self.name, "walk": self.name, "a": "1", "b": "<2>"})
        assert driver.ex_delete_tags(node, {"a": "1", "b": None})
        equal(driver.ex_get_metadata_for_node(self.shown(node)), {"Name": self.name, "walk": self.name})

    def has_an_address(self) -> None:
        """By the address, and by its ids as in a VPC."""
        driver, node = self.driver, self.node
        old, new = driver.ex_allocate_address(), driver.ex_allocate_address("vpc")
        assert driver.ex_associate_address_with_node(node, old)
        until("the address", lambda: old.ip in self.shown(node).public_ips)
        equal(driver.ex_describe_addresses_for_node(node), [old.ip])
        assert driver.ex_disassociate_address(old)
        assert driver.ex_associate_address_with_node(node, new, "vpc")
        until("the other", lambda: set(self.shown(node).public_ips) == {new.ip})
        [new] = [each for each in driver.ex_describe_all_addresses(only_associated=True) if each.ip == new.ip]
        equal(new.instance_id, node.id)
        self.refused("InvalidIPAddress.InUse", driver.ex_release_address, new, "vpc")
        assert driver.ex_disassociate_address(new, "vpc")
        until("no address", lambda: not self.shown(node).public_ips)
        assert driver.ex_release_address(old)
        assert driver.ex_release_address(new, "vpc")
        assert not {old.ip, new.ip} & {each.ip for each in driver.ex_describe_all_addresses()}

    def volume_in(self, volume: Any, state: str) -> Any:
        """Wait until a volume is in a state."""

        def there() -> Any:
            [found] = self.driver.list_volumes(ex_filters={"volume-id": volume.id})
            return found if found.extra["state"] == state else None

        return until(f"{volume.id} {state}", there)

    def uses_volumes(self) -> None:
        """Made, attached, grown, copied, restored, detached, destroyed."""
        driver, node = self.driver, self.node
        volume = driver.create_volume(1, f"{self.name}-volume", ex_volume_type="gp2")
        self.volume_in(volume, "available")
        assert driver.attach_volume(node, volume, "/dev/sdh")
        until("attached", lambda: self.disks(node).get("/dev/sdh", {}).get("status") == "attached")
        assert volume.id in {each.id for each in driver.list_volumes(node)}
        self.refused("VolumeInUse", driver.destroy_volume, volume)
        driver.ex_modify_volume(volume, {"Size": 2})
        until("grown", lambda: self.volume_in(volume, "in-use").size == 2)
        [grown] = driver.ex_describe_volumes_modifications(volume_ids=[volume.id])
        equal((grown.original_size, grown.target_size), (1, 2))
        snapshot = driver.create_volume_snapshot(volume, f"{self.name}-snapshot", {"walk": self.name})
        until("complete", lambda: driver.list_snapshots(snapshot)[0].extra["state"] == "completed")
        [listed] = driver.list_volume_snapshots(volume)
        equal((listed.id, listed.size, listed.extra["tags"]["walk"]), (snapshot.id, 2, self.name))
        assert driver.ex_modify_snapshot_attribute(snapshot, {"CreateVolumePermission.Add.1.Group": "all"})
        restored = driver.create_volume(3, f"{self.name}-restored", snapshot=snapshot, ex_volume_type="gp2")
        equal(self.volume_in(restored, "available").extra["snapshot_id"], snapshot.id)
        assert driver.detach_volume(volume, ex_force=True)
        self.volume_in(volume, "available")
        for each in (volume, restored):
            assert driver.destroy_volume(each)
            gone = {"volume-id": each.id}
            until("gone", lambda gone=gone: not driver.list_volumes(ex_filters=gone))  # type: ignore[misc]
        assert driver.destroy_volume_snapshot(snapshot)
        until("gone", lambda: snapshot.id not in {each.id for each in driver.list_snapshots(owner="self")})

    def makes_images(self) -> None:
        """Of the node; opened to all, copied, and deleted."""
        driver = self.driver
        made = driver.create_image(self.node, f"{self.name}-image", description="of a walk")
        image = until("the image", lambda: self.available(made.id))
        equal((image.name, image.extra["description"]), (f"{self.name}-image", "of a walk"))
        assert driver.ex_modify_image_attribute(image, {"LaunchPermission.Add.1.Group": "all"})
        equal(driver.get_image(image.id).extra["is_public"], "true")
        copy = driver.copy_image(image, "nova", name=f"{self.name}-copy")
        until("the copy", lambda: self.available(copy.id))
        for each in (image, copy):
            assert driver.delete_image(each)
        equal(driver.list_images(ex_owner="self", ex_filters={"name": f"{self.name}-*"}), [])

    def available(self, id: str) -> Any:
        """An image when it is."""
        image = self.driver.get_image(id)
        return image if image.extra["state"] == "available" else None

    def sees_the_network(self) -> None:
        """A network with a subnet, into which a node is created."""
        driver = self.driver
        [network] = driver.ex_list_networks()
        [subnet] = driver.ex_list_subnets(filters={"vpc-id": network.id})
        self.size = self.sizes["m1.small"]
        other = driver.create_node(
            name=self.name, size=self.size, image=self.image, ex_subnet=subnet, ex_security_group_ids=[self.web]
        )
        found = self.state(other, "running")
        equal((found.extra["subnet_id"], found.extra["vpc_id"]), (subnet.id, network.id))
        equal([group["group_id"] for group in found.extra["groups"]], [self.web])
        ports = {each.extra["attachment"]["instance_id"] for each in driver.ex_list_network_interfaces()}
        assert other.id in ports, ports
        equal(len(driver.ex_list_internet_gateways()), 1)
        [table] = driver.ex_list_route_tables()
        equal({route.cidr for route in table.routes} >= {"0.0.0.0/0"}, True)
        assert driver.destroy_node(other)
        self.state(other, "terminated")

    def keeps_apart(self) -> None:
        """A placement group with a node in it is kept."""
        driver = self.driver
        assert driver.ex_create_placement_group(self.name)
        assert self.name in {group.name for group in driver.ex_list_placement_groups()}
        inside = driver.create_node(name=self.name, size=self.size, image=self.image, ex_placement_group=self.name)
        self.state(inside, "running")
        self.refused("InvalidPlacementGroup.InUse", driver.ex_delete_placement_group, self.name)
        assert driver.destroy_node(inside)
        self.state(inside, "terminated")
        assert driver.ex_delete_placement_group(self.name)

    def is_refused_what_is_not_there(self) -> None:
        """What this cloud does not do is said so; limits are told."""
        assert self.driver.ex_get_limits()["resource"]["max-instances"] > 0
        self.refused("UnsupportedOperation", self.driver.ex_create_network, "10.9.0.0/16")
        self.refused("UnsupportedOperation", self.driver.ex_list_reserved_nodes)

    def ends(self) -> None:
        """Nothing of it is left."""
        disk = self.disks(self.node)["/dev/sdf"]["volume_id"]
        assert self.driver.destroy_node(self.node)
        self.state(self.node, "terminated")
        until("its disk is gone", lambda: not self.driver.list_volumes(ex_filters={"volume-id": disk}))
        assert self.driver.ex_delete_security_group(f"{self.name}-db")
        assert self.driver.ex_delete_security_group_by_id(self.web)
        assert self.driver.delete_key_pair(self.driver.get_key_pair(self.name))
