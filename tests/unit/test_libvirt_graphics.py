"""
Tests for L{fabric.compute.libvirt.graphics}, over trees like sysfs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.compute.libvirt import guests, moving
from fabric.compute.libvirt.graphics import Holder, choose, element, features, lent, offered, remove
from fabric.compute.libvirt.graphics import given as given_to
from fabric.errors import DriverFailure, WrongState

VGA, AUDIO, NETWORK, BRIDGE, THREE_D = "0x030000", "0x040300", "0x020000", "0x060400", "0x030200"


class Tree:
    """
    A directory as the kernel shows its PCI devices.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.devices = Path(self.root, "bus/pci/devices")
        self.groups = Path(self.root, "kernel/iommu_groups")
        self.devices.mkdir(parents=True)

    def add(
        self, address: str, kind: str, driver: str = "vfio-pci", group: int | None = 1, ids: str = "10de:1db4"
    ) -> None:
        """A device; without an IOMMU group if that is None, without a driver if that is empty."""
        vendor, _, device = ids.partition(":")
        place = self.devices / address
        place.mkdir()
        for name, text in (("class", kind), ("vendor", "0x" + vendor), ("device", "0x" + device)):
            (place / name).write_text(text + "\n")
        if driver:
            (place / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
        if group is not None:
            members = self.groups / str(group) / "devices"
            members.mkdir(parents=True, exist_ok=True)
            (members / address).symlink_to(place)
            (place / "iommu_group").symlink_to(self.groups / str(group))


class OfferedTests(SynchronousTestCase):
    """
    Which devices may be given to guests.
    """

    def setUp(self) -> None:
        """An empty host."""
        self.tree = Tree(self.mktemp())

    def addresses(self) -> list[str]:
        """What is offered."""
        return [gpu.address for gpu in offered(self.tree.root)]

    def test_card(self) -> None:
        """A card whose functions are all bound to vfio-pci is offered, by its display controller."""
        self.tree.add("0000:01:00.0", VGA)
        self.tree.add("0000:01:00.1", AUDIO, ids="10de:10f2")
        [gpu] = offered(self.tree.root)
        self.assertEqual((gpu.address, gpu.kind), ("0000:01:00.0", "gpu:10de:1db4"))
        self.assertEqual(gpu.group, {"0000:01:00.0", "0000:01:00.1"})

    def test_bound_elsewhere(self) -> None:
        """What is the host's own stays that: bound to another driver, or to none."""
        self.tree.add("0000:00:02.0", VGA, "i915", 1)
        self.tree.add("0000:01:00.0", VGA, "", 2)
        self.assertEqual(self.addresses(), [])

    def test_group_shared_with_the_host(self) -> None:
        """A GPU whose IOMMU group has something of the host's is not offered; bridges don't count."""
        self.tree.add("0000:01:00.0", VGA, group=1)
        self.tree.add("0000:01:00.1", AUDIO, "snd_hda_intel", 1)
        self.tree.add("0000:02:00.0", THREE_D, group=2)
        self.tree.add("0000:00:01.0", BRIDGE, "pcieport", 2)
        self.tree.add("0000:03:00.0", VGA, group=3)
        self.tree.add("0000:03:00.1", AUDIO, "", 3)
        self.assertEqual(self.addresses(), ["0000:02:00.0"])

    def test_one_of_a_group(self) -> None:
        """Two GPUs in one group can't be two guests': one of them is offered."""
        self.tree.add("0000:01:00.0", VGA, group=1)
        self.tree.add("0000:02:00.0", VGA, group=1)
        self.assertEqual(self.addresses(), ["0000:01:00.0"])

    def test_no_iommu(self) -> None:
        """Without an IOMMU, nothing is offered."""
        self.tree.add("0000:01:00.0", VGA, group=None)
        self.assertEqual(self.addresses(), [])

    def test_virtual_function(self) -> None:
        """A part of a GPU is none."""
        self.tree.add("0000:01:00.4", VGA)
        (self.tree.devices / "0000:01:00.4" / "physfn").symlink_to("../0000:01:00.0")
        self.assertEqual(self.addresses(), [])

    def test_member_that_is_no_pci_device(self) -> None:
        """A group that has something of another bus is the host's."""
        self.tree.add("0000:01:00.0", VGA)
        (self.tree.groups / "1" / "devices" / "AMDI0010:00").mkdir()
        self.assertEqual(self.addresses(), [])

    def test_no_pci(self) -> None:
        """A host without PCI offers none."""
        shutil.rmtree(self.tree.devices)
        self.assertEqual(self.addresses(), [])
        self.assertEqual(features([]), set())

    def test_features(self) -> None:
        """What types may require is one name for all, and one a kind."""
        self.tree.add("0000:01:00.0", VGA, group=1)
        self.tree.add("0000:02:00.0", VGA, group=2, ids="1002:744c")
        self.tree.add("0000:03:00.0", VGA, group=3)
        self.assertEqual(features(offered(self.tree.root)), {"gpu", "gpu:10de:1db4", "gpu:1002:744c"})

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([VGA, THREE_D, AUDIO, NETWORK, BRIDGE, "0x03", "", "nonsense", "0x0300\n00"]),
                st.sampled_from(["vfio-pci", "nvidia", "pcieport", ""]),
                st.sampled_from([1, 2, 3, None]),
                st.sampled_from(["10de:1db4", "1002:744c", "10de:", "zz"]),
            ),
            max_size=8,
        )
    )
    def test_any_tree(self, devices: list[tuple[str, str, int | None, str]]) -> None:
        """Whatever is there: what is offered is a display, bound, and alone in its group but for what is bound."""
        tree = Tree(self.mktemp())
        told = {}
        for number, (kind, driver, group, ids) in enumerate(devices):
            address = f"0000:{number:02x}:00.0"
            tree.add(address, kind, driver, group, ids)
            told[address] = (kind, driver, group, ids)
        found = offered(tree.root)
        able = set()
        for kind, driver, group, ids in told.values():
            others = [each for each in told.values() if each[2] == group]
            apart = all(each[1] == "vfio-pci" or each[0] == BRIDGE for each in others)
            if kind in (VGA, THREE_D) and driver == "vfio-pci" and group and apart and len(ids) == 9:
                able.add(group)
        self.assertEqual({told[gpu.address][2] for gpu in found}, able)
        self.assertEqual(len(found), len(able))
        for gpu in found:
            self.assertIn(told[gpu.address][0], (VGA, THREE_D))
            self.assertEqual(told[gpu.address][1], "vfio-pci")
        shutil.rmtree(tree.root)

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(["class", "vendor", "device", "driver", "iommu_group"]), st.binary(max_size=12))
    def test_any_file(self, name: str, content: bytes) -> None:
        """A file with anything in it, or a directory in its place, is no error."""
        for directory in (False, True):
            tree = Tree(self.mktemp())
            tree.add("0000:01:00.0", VGA)
            path = tree.devices / "0000:01:00.0" / name
            path.unlink()
            if directory:
                path.mkdir()
            else:
                path.write_bytes(content)
            self.assertTrue(len(offered(tree.root)) <= 1)
            shutil.rmtree(tree.root)


class ChooseTests(SynchronousTestCase):
    """
    Which of a host's GPUs a guest gets.
    """

    def setUp(self) -> None:
        """Three of two kinds, one of them with a sound function."""
        tree = Tree(self.mktemp())
        tree.add("0000:01:00.0", VGA, group=1)
        tree.add("0000:01:00.1", AUDIO, group=1)
        tree.add("0000:02:00.0", VGA, group=2, ids="1002:744c")
        tree.add("0000:03:00.0", VGA, group=3)
        self.gpus = offered(tree.root)

    def choose(self, count: int, *kinds: str, holding: tuple[Holder, ...] = ()) -> tuple[str, ...]:
        """For instance i-1."""
        return choose("i-1", count, kinds, self.gpus, holding)

    def held(self, instance: str, *gpus: str) -> Holder:
        """A domain that has them."""
        return Holder(instance, gpus, frozenset(gpus))

    def test_free_ones(self) -> None:
        """A new guest gets those that no other domain has."""
        holding = (self.held("i-2", "0000:01:00.0"),)
        self.assertEqual(self.choose(2, holding=holding), ("0000:02:00.0", "0000:03:00.0"))

    def test_kind(self) -> None:
        """A guest gets what its type requires, and not what else is free."""
        self.assertEqual(self.choose(1, "gpu:1002:744c"), ("0000:02:00.0",))
        self.assertEqual(self.choose(2, "gpu:10de:1db4"), ("0000:01:00.0", "0000:03:00.0"))
        error = self.assertRaises(DriverFailure, self.choose, 2, "gpu:1002:744c")
        self.assertEqual(error.what, "2 GPUs of gpu:1002:744c wanted, 1 free on this host")

    def test_keeps_its_own(self) -> None:
        """A guest that is defined anew keeps what it had, in its order."""
        own = self.held("i-1", "0000:03:00.0", "0000:01:00.0")
        self.assertEqual(self.choose(2, holding=(own,)), ("0000:03:00.0", "0000:01:00.0"))
        self.assertEqual(self.choose(3, holding=(own,)), ("0000:03:00.0", "0000:01:00.0", "0000:02:00.0"))
        self.assertEqual(self.choose(1, holding=(own,)), ("0000:03:00.0",))

    def test_its_own_is_gone(self) -> None:
        """What is not offered any more is replaced."""
        self.assertEqual(self.choose(1, holding=(self.held("i-1", "0000:09:00.0"),)), ("0000:01:00.0",))

    def test_rest_of_a_group(self) -> None:
        """A GPU is not free while another domain has anything of its IOMMU group."""
        stranger = Holder("", (), frozenset({"0000:01:00.1"}))
        self.assertEqual(self.choose(1, holding=(stranger,)), ("0000:02:00.0",))
        self.assertEqual([gpu.address for gpu in lent(self.gpus, [stranger])], ["0000:02:00.0", "0000:03:00.0"])

    def test_guests_are_counted(self) -> None:
        """What guests of the cloud have counts as the cloud's."""
        self.assertEqual(lent(self.gpus, [self.held("i-2", "0000:01:00.0")]), self.gpus)

    def test_none_left(self) -> None:
        """When all are taken, that is said."""
        holding = tuple(self.held(f"i-{n}", gpu.address) for n, gpu in enumerate(self.gpus, 2))
        error = self.assertRaises(DriverFailure, self.choose, 1, holding=holding)
        self.assertEqual(error.what, "1 GPUs of any kind wanted, 0 free on this host")


class ElementTests(SynchronousTestCase):
    """
    GPUs in domains.
    """

    def test_there_and_back(self) -> None:
        """What a domain was given is read from it again, in order; more than nine, too."""
        addresses = [f"0000:{bus:02x}:1f.7" for bus in range(12)]
        inner = "".join(tostring(element(each, n), encoding="unicode") for n, each in enumerate(addresses))
        domain = fromstring(f"<domain><devices>{inner}</devices></domain>")
        self.assertEqual(given_to(domain), tuple(addresses))
        remove(domain)
        self.assertEqual(given_to(domain), ())

    def test_others_devices(self) -> None:
        """A device that an operator gave a domain is none of ours."""
        other = tostring(element("0000:05:00.0", 0), encoding="unicode").replace("ua-gpu-0", "hostdev0")
        domain = fromstring(f"<domain><devices>{other}</devices></domain>")
        self.assertEqual(given_to(domain), ())
        remove(domain)
        self.assertIn(b"hostdev0", tostring(domain))

    def test_no_address(self) -> None:
        """What is no address is refused."""
        self.assertRaises(DriverFailure, element, "0000:01:00.9", 0)
        self.assertRaises(DriverFailure, element, "../etc", 0)

    def test_no_devices(self) -> None:
        """A domain without devices has no GPU to lose."""
        domain = fromstring("<domain/>")
        remove(domain)
        self.assertEqual((given_to(domain), os.fsdecode(tostring(domain))), ((), "<domain />"))


class Running:
    """
    A libvirt with one guest, that runs with a GPU; there is nothing else that could be done with it.
    """

    def lookupByUUIDString(self, uuid: str) -> Running:
        """The guest."""
        return self

    def isActive(self) -> bool:
        """It runs."""
        return True

    def jobInfo(self) -> list[int]:
        """Nothing is done with it."""
        return [0]

    def XMLDesc(self, flags: int) -> str:
        """What it has."""
        card = tostring(element("0000:05:00.0", 0), encoding="unicode")
        return f"<domain><devices>{card}</devices></domain>"


class RefusedTests(SynchronousTestCase):
    """
    What can't be done with a guest that runs with GPUs.
    """

    def test_move(self) -> None:
        """It is not moved, which is said before anything is begun."""
        error = self.assertRaises(WrongState, moving.migrate, Running(), "i-1", "/here", {"kind": "libvirt"}, 2)
        self.assertEqual((error.found, error.wanted), ("running with GPUs", ["stopped"]))

    def test_suspend(self) -> None:
        """It is not put to disk."""
        error = self.assertRaises(WrongState, guests.suspend, Running(), "i-1")
        self.assertEqual(error.found, "running with GPUs")
