"""
boto 2.49's walk: its API is of 2014, and all of it that this cloud does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.ec2_clients import PATH, Account
from tests.integration.walking import SERVER, Guest, equal, refused, until


class BotoWalk:
    """
    Key pairs, groups, instances, addresses, volumes, snapshots, images, tags.
    """

    def __init__(self, account: Account, guest: Guest, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from boto.ec2.connection import EC2Connection
            from boto.ec2.regioninfo import RegionInfo
            from boto.exception import EC2ResponseError
            from boto.vpc import VPCConnection

        where: dict[str, Any] = {"is_secure": False, "port": account.port, "path": PATH}
        where["region"] = RegionInfo(name="nova", endpoint=account.host)
        self.errors = EC2ResponseError
        self.ec2 = EC2Connection(account.access_key, account.secret_key, **where)
        self.vpc = VPCConnection(account.access_key, account.secret_key, **where)
        self.ec2.num_retries = self.vpc.num_retries = 0
        self.guest = guest
        self.name = name

    def run(self) -> None:
        """All of it."""
        [image] = self.ec2.get_all_images(filters={"name": SERVER})
        self.image: str = image.id
        self.ec2.import_key_pair(self.name, self.guest.public.encode())
        self.makes_groups()
        self.instance = self.launches()
        self.is_protected()
        self.knows_its_password()
        self.is_watched_and_changed()
        self.has_an_address()
        self.uses_volumes()
        self.makes_images()
        self.sees_the_network()
        self.keeps_apart()
        self.ends()

    def refused(self, codes: str | Sequence[str], call: Callable[..., Any], *args: Any, **more: Any) -> None:
        """A call must be refused with one of these codes."""
        refused(codes, lambda error: str(error.error_code), self.errors, call, *args, **more)

    def state(self, thing: Any, wanted: str) -> None:
        """Wait until a thing is in a state."""
        until(f"{thing} {wanted}", lambda: thing.update() == wanted)

    def makes_groups(self) -> None:
        """With rules of ranges and of groups, in the forms that boto has for them."""
        self.web = self.ec2.create_security_group(f"{self.name}-web", "of a walk")
        self.db = self.ec2.create_security_group(f"{self.name}-db", "of a walk")
        assert self.web.authorize("tcp", 80, 80, "0.0.0.0/0")
        assert self.db.authorize(src_group=self.web)
        assert self.ec2.authorize_security_group(
            group_id=self.db.id,
            ip_protocol="tcp",
            from_port=5432,
            to_port=5432,
            src_security_group_group_id=self.web.id,
        )
        self.refused("InvalidPermission.Duplicate", self.web.authorize, "tcp", 80, 80, "0.0.0.0/0")
        [web] = self.ec2.get_all_security_groups(group_ids=[self.web.id])
        equal([(rule.from_port, str(rule.grants[0])) for rule in web.rules], [("80", "0.0.0.0/0")])
        [db] = self.ec2.get_all_security_groups(filters={"group-name": self.db.name})
        equal({grant.group_id for rule in db.rules for grant in rule.grants}, {self.web.id})
        assert self.ec2.authorize_security_group_egress(self.db.id, "tcp", 53, 53, cidr_ip="10.0.0.0/8")
        [db] = self.ec2.get_all_security_groups(group_ids=[self.db.id])
        equal({rule.from_port for rule in db.rules_egress}, {None, "53"})
        assert self.ec2.revoke_security_group_egress(self.db.id, "tcp", 53, 53, cidr_ip="10.0.0.0/8")
        assert self.web.revoke("tcp", 80, 80, "0.0.0.0/0")
        [web] = self.ec2.get_all_security_groups(group_ids=[self.web.id])
        equal(web.rules, [])
        self.refused("DependencyViolation", self.ec2.delete_security_group, group_id=self.web.id)
        self.refused("InvalidGroup.Duplicate", self.ec2.create_security_group, self.db.name, "again")

    def launches(self) -> Any:
        """With a volume by its block device mapping, user data, and groups by id."""
        from boto.ec2.blockdevicemapping import BlockDeviceMapping, BlockDeviceType

        mapping = BlockDeviceMapping()
        mapping["/dev/sdf"] = BlockDeviceType(size=2, delete_on_termination=True)
        reservation = self.ec2.run_instances(
            self.image,
            key_name=self.name,
            instance_type="m1.tiny",
            user_data="#!/bin/sh\n",
            security_group_ids=[self.db.id],
            block_device_map=mapping,
        )
        [instance] = reservation.instances
        self.state(instance, "running")
        until("its disk", lambda: self.disk(instance, "/dev/sdf").status == "attached")
        equal([group.id for group in instance.groups], [self.db.id])
        instance.add_tag("walk", self.name)
        [found] = self.ec2.get_only_instances(filters={"tag:walk": self.name})
        equal(found.id, instance.id)
        [status] = self.ec2.get_all_instance_status([instance.id])
        equal((status.state_name, status.instance_status.status), ("running", "ok"))
        equal(self.ec2.get_instance_attribute(instance.id, "userData")["userData"], "IyEvYmluL3NoCg==")
        return instance

    def disk(self, instance: Any, device: str) -> Any:
        """What is at a device, as the instance shows it."""
        [found] = self.ec2.get_only_instances([instance.id])
        return found.block_device_mapping[device]

    def is_protected(self) -> None:
        """Against termination while its attribute says so."""
        id = self.instance.id
        assert self.ec2.modify_instance_attribute(id, "disableApiTermination", True)
        self.refused("OperationNotPermitted", self.ec2.terminate_instances, [id])
        equal(self.ec2.get_instance_attribute(id, "disableApiTermination")["disableApiTermination"], True)
        assert self.ec2.modify_instance_attribute(id, "disableApiTermination", False)
        self.state(self.instance, "running")

    def knows_its_password(self) -> None:
        """What the guest sealed."""
        sealed = until("a password", lambda: self.ec2.get_password_data(self.instance.id))
        equal(self.guest.opened(sealed.strip()), self.guest.password)

    def is_watched_and_changed(self) -> None:
        """Monitoring, groups, and the type while it is stopped."""
        id = self.instance.id
        self.ec2.monitor_instances([id])
        self.instance.update()
        equal(self.instance.monitoring_state, "enabled")
        self.ec2.unmonitor_instances([id])
        assert self.ec2.modify_instance_attribute(id, "groupSet", [self.web.id])
        [found] = self.ec2.get_only_instances([id])
        equal([group.id for group in found.groups], [self.web.id])
        self.refused("IncorrectInstanceState", self.instance.modify_attribute, "instanceType", "m1.small")
        self.instance.stop()
        self.state(self.instance, "stopped")
        assert self.instance.modify_attribute("instanceType", "m1.small")
        self.instance.start()
        self.state(self.instance, "running")
        equal(self.instance.instance_type, "m1.small")

    def has_an_address(self) -> None:
        """The instance's public one while they are associated."""
        address = self.ec2.allocate_address(domain="vpc")
        assert address.associate(self.instance.id)
        until("the address", lambda: self.instance.update() and self.instance.ip_address == address.public_ip)
        [found] = self.ec2.get_all_addresses([address.public_ip])
        equal((found.instance_id, found.allocation_id), (self.instance.id, address.allocation_id))
        self.refused("InvalidIPAddress.InUse", self.ec2.release_address, allocation_id=address.allocation_id)
        assert self.ec2.disassociate_address(association_id=found.association_id)
        until("no address", lambda: self.instance.update() and not self.instance.ip_address)
        assert self.ec2.release_address(allocation_id=address.allocation_id)
        self.refused("InvalidAddress.NotFound", self.ec2.get_all_addresses, [address.public_ip])

    def uses_volumes(self) -> None:
        """Made, attached, copied by a snapshot, detached by force, deleted."""
        volume = self.ec2.create_volume(1, "nova", volume_type="gp2")
        volume.add_tag("walk", self.name)
        self.state(volume, "available")
        volume.attach(self.instance.id, "/dev/sdh")
        until("attached", lambda: volume.update() == "in-use" and volume.attachment_state() == "attached")
        equal(self.disk(self.instance, "/dev/sdh").volume_id, volume.id)
        self.refused("VolumeInUse", volume.delete)
        [status] = self.ec2.get_all_volume_status([volume.id])
        equal(status.volume_status.status, "ok")
        assert self.ec2.modify_volume_attribute(volume.id, "AutoEnableIO", True)
        self.snapshot = volume.create_snapshot("of a walk")
        until("the snapshot", lambda: self.snapshot.update() == "100%" and self.snapshot.status == "completed")
        assert self.snapshot.share(groups=["all"])
        equal(self.snapshot.get_permissions()["groups"], ["all"])
        assert self.snapshot.reset_permissions()
        copy = self.ec2.copy_snapshot("nova", self.snapshot.id, "a copy")
        until("the copy", lambda: self.ec2.get_all_snapshots([copy])[0].status == "completed")
        self.ec2.delete_snapshot(copy)
        restored = self.snapshot.create_volume("nova", size=2)
        self.state(restored, "available")
        equal((restored.size, restored.snapshot_id), (2, self.snapshot.id))
        restored.delete()
        until("restored is gone", lambda: not self.ec2.get_all_volumes(filters={"volume-id": restored.id}))
        volume.detach(force=True)
        self.state(volume, "available")
        [found] = self.ec2.get_all_volumes(filters={"tag:walk": self.name})
        equal(found.id, volume.id)
        volume.delete()
        until("volume is gone", lambda: not self.ec2.get_all_volumes(filters={"volume-id": volume.id}))

    def makes_images(self) -> None:
        """Of the instance; opened to all, copied, and gone."""
        id = self.instance.create_image(f"{self.name}-image", "of a walk", no_reboot=True)
        image = until("the image", lambda: self.available(id))
        assert image.set_launch_permissions(group_names="all")
        equal(image.get_launch_permissions()["groups"], ["all"])
        assert image.reset_launch_attributes()
        equal(image.get_launch_permissions().get("groups", []), [])
        copy = self.ec2.copy_image("nova", id, name=f"{self.name}-copy").image_id
        until("the copy", lambda: self.available(copy))
        for made in (id, copy):
            assert self.ec2.deregister_image(made)
        equal(self.ec2.get_all_images(owners=["self"], filters={"name": f"{self.name}-*"}), [])

    def available(self, id: str) -> Any:
        """An image when it is."""
        [image] = self.ec2.get_all_images([id])
        return image if image.state == "available" else None

    def sees_the_network(self) -> None:
        """One VPC with subnets, of which the instance has one."""
        [vpc] = self.vpc.get_all_vpcs(filters={"isDefault": "true"})
        subnets = {subnet.id: subnet for subnet in self.vpc.get_all_subnets(filters={"vpc-id": vpc.id})}
        [instance] = self.ec2.get_only_instances([self.instance.id])
        equal((instance.vpc_id, instance.subnet_id in subnets), (vpc.id, True))
        [port] = self.ec2.get_all_network_interfaces(filters={"attachment.instance-id": self.instance.id})
        equal(port.private_ip_address, instance.private_ip_address)
        reservation = self.ec2.run_instances(
            self.image, instance_type="m1.tiny", subnet_id=instance.subnet_id, security_group_ids=[self.web.id]
        )
        other = reservation.instances[0]
        self.state(other, "running")
        equal((other.subnet_id, [group.id for group in other.groups]), (instance.subnet_id, [self.web.id]))
        other.terminate()
        self.state(other, "terminated")
        self.refused("UnsupportedOperation", self.vpc.create_vpc, "10.9.0.0/16")

    def keeps_apart(self) -> None:
        """A placement group with an instance in it is kept."""
        assert self.ec2.create_placement_group(self.name)
        reservation = self.ec2.run_instances(self.image, instance_type="m1.tiny", placement_group=self.name)
        [inside] = reservation.instances
        self.state(inside, "running")
        equal(inside.placement_group, self.name)
        self.refused("InvalidPlacementGroup.InUse", self.ec2.delete_placement_group, self.name)
        inside.terminate()
        self.state(inside, "terminated")
        assert self.ec2.delete_placement_group(self.name)
        self.refused("InvalidPlacementGroup.Unknown", self.ec2.get_all_placement_groups, [self.name])

    def ends(self) -> None:
        """Tags go, the instance with its volume, then the groups and the key pair."""
        self.instance.remove_tag("walk")
        equal(self.ec2.get_all_tags(filters={"resource-id": self.instance.id}), [])
        disk = self.disk(self.instance, "/dev/sdf").volume_id
        self.instance.terminate()
        self.state(self.instance, "terminated")
        until("its disk is gone", lambda: not self.ec2.get_all_volumes(filters={"volume-id": disk}))
        self.ec2.delete_snapshot(self.snapshot.id)
        for group in (self.db, self.web):
            assert self.ec2.delete_security_group(group_id=group.id)
        assert self.ec2.delete_key_pair(self.name)
        self.refused("InvalidKeyPair.NotFound", self.ec2.get_all_key_pairs, [self.name])
