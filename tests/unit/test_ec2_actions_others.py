"""
Key pairs, groups, images and tags, as botocore sees them.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Generator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.internet.defer import inlineCallbacks

from fabric.model.image import Image
from fabric.model.vpc import vpc_id
from tests.unit.ec2_stage import ANN, BOB, NOW, SERVER, TINY, EC2Case

Steps = Generator[Any, Any, None]


def by(name: str, *values: str) -> dict[str, Any]:
    """One filter."""
    return {"Filters": [{"Name": name, "Values": list(values)}]}


def tagged(resource: str, **tags: str) -> dict[str, Any]:
    """Tags at creation."""
    given = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": resource, "Tags": given}]}


class KeyPairTests(EC2Case):
    """Key pairs."""

    @inlineCallbacks
    def names(self, **parameters: Any) -> Generator[Any, Any, list[str]]:
        """The names that DescribeKeyPairs lists."""
        answer = yield self.ask("DescribeKeyPairs", **parameters)
        return [pair["KeyName"] for pair in answer["KeyPairs"]]

    @inlineCallbacks
    def test_create(self) -> Steps:
        """The private key is in the answer, and the listing has the rest."""
        made = yield self.ask("CreateKeyPair", KeyName="k", **tagged("key-pair", a="b"))
        key = load_pem_private_key(made["KeyMaterial"].encode(), None)
        self.assertEqual(key.key_size, 2048)
        self.assertRegex(made["KeyFingerprint"], "^([0-9a-f]{2}:){19}[0-9a-f]{2}$")
        [pair] = (yield self.ask("DescribeKeyPairs"))["KeyPairs"]
        self.assertEqual((pair["KeyPairId"], pair["KeyType"]), (made["KeyPairId"], "rsa"))
        self.assertEqual(pair["KeyFingerprint"], made["KeyFingerprint"])
        self.assertEqual(pair["Tags"], [{"Key": "a", "Value": "b"}])
        self.assertEqual(pair["CreateTime"].timestamp(), NOW)
        self.assertNotIn("PublicKey", pair)

    @inlineCallbacks
    def test_create_refusals(self) -> Steps:
        """A name is taken once; type and format must be known; ppk is not made."""
        yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519")
        yield self.refused("InvalidKeyPair.Duplicate", "CreateKeyPair", KeyName="k", KeyType="ed25519")
        yield self.refused("InvalidParameterValue", "CreateKeyPair", KeyName="x", KeyType="dsa")
        yield self.refused("UnsupportedOperation", "CreateKeyPair", KeyName="x", KeyFormat="ppk")
        yield self.refused("InvalidParameterValue", "CreateKeyPair", KeyName="x" * 256)
        yield self.refused("InvalidParameterValue", "CreateKeyPair", KeyName="x", **tagged("instance", a="b"))

    @inlineCallbacks
    def test_names_are_ascii(self) -> Steps:
        """A name with a character beyond ASCII is refused in EC2's words, made or imported."""
        wrong = "Value (cl\u00e9) for parameter KeyName is invalid. Character sets beyond ASCII are not supported."
        key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        code = "InvalidParameterValue"
        self.assertEqual((yield self.refused(code, "CreateKeyPair", KeyName="cl\u00e9")), wrong)
        imported = yield self.refused(code, "ImportKeyPair", KeyName="cl\u00e9", PublicKeyMaterial=key)
        self.assertEqual(imported, wrong)
        yield self.refused(code, "CreateKeyPair", KeyName="a\tb")
        yield self.refused(code, "CreateKeyPair", KeyName="a ")
        yield self.ask("CreateKeyPair", KeyName="~" * 255, KeyType="ed25519")

    @inlineCallbacks
    def test_import(self) -> Steps:
        """A user's own public key is taken, and shown when asked for."""
        public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        yield self.ask("ImportKeyPair", KeyName="own", PublicKeyMaterial=public + b" me@home")
        [pair] = (yield self.ask("DescribeKeyPairs", IncludePublicKey=True))["KeyPairs"]
        self.assertEqual((pair["KeyType"], pair["PublicKey"]), ("ed25519", public.decode()))
        self.assertEqual(len(b64decode(pair["KeyFingerprint"])), 32)
        yield self.refused("InvalidKey.Format", "ImportKeyPair", KeyName="bad", PublicKeyMaterial=b"nonsense")

    @inlineCallbacks
    def test_describe(self) -> Steps:
        """By name, id, filter and tag; a name that is not there is an error."""
        for name in ("one", "two", "t*o"):
            yield self.ask("CreateKeyPair", KeyName=name, KeyType="ed25519", **tagged("key-pair", name=name))
        answer = yield self.ask("DescribeKeyPairs", KeyNames=["t*o"])
        [pair] = answer["KeyPairs"]
        self.assertEqual(pair["KeyName"], "t*o")
        self.assertEqual((yield self.names(KeyPairIds=[pair["KeyPairId"]])), ["t*o"])
        self.assertEqual((yield self.names(**by("key-name", "t*"))), ["two", "t*o"])
        self.assertEqual((yield self.names(**by("fingerprint", pair["KeyFingerprint"]))), ["t*o"])
        self.assertEqual((yield self.names(**by("key-pair-id", pair["KeyPairId"]))), ["t*o"])
        self.assertEqual((yield self.names(**by("tag:name", "one"))), ["one"])
        message = yield self.refused("InvalidKeyPair.NotFound", "DescribeKeyPairs", KeyNames=["one", "none"])
        self.assertEqual(message, "The key pair 'none' does not exist")
        yield self.refused("InvalidKeyPair.NotFound", "DescribeKeyPairs", KeyPairIds=["key-00000000"])

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """By name or id; a name that is not there is as good as deleted."""
        made = yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519")
        yield self.ask("CreateKeyPair", KeyName="l", KeyType="ed25519")
        answer = yield self.ask("DeleteKeyPair", KeyName="k")
        self.assertEqual(answer, {"Return": True, "KeyPairId": made["KeyPairId"]})
        self.assertEqual((yield self.ask("DeleteKeyPair", KeyName="k")), {"Return": True})
        [pair] = (yield self.ask("DescribeKeyPairs"))["KeyPairs"]
        yield self.ask("DeleteKeyPair", KeyPairId=pair["KeyPairId"])
        self.assertEqual((yield self.names()), [])
        yield self.refused("MissingParameter", "DeleteKeyPair")

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Each project has names of its own, and deletes only its own."""
        mine = yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519")
        yield self.ask("CreateKeyPair", BOB, KeyName="k", KeyType="ed25519")
        yield self.refused("InvalidKeyPair.NotFound", "DeleteKeyPair", BOB, KeyPairId=mine["KeyPairId"])
        yield self.ask("DeleteKeyPair", BOB, KeyName="k")
        self.assertEqual((yield self.names()), ["k"])
        self.assertEqual((yield self.names(caller=BOB)), [])
        yield self.refused("InvalidKeyPair.NotFound", "DescribeKeyPairs", BOB, KeyPairIds=[mine["KeyPairId"]])


class GroupTests(EC2Case):
    """Security groups."""

    @inlineCallbacks
    def names(self, caller: Any = ANN, **parameters: Any) -> Generator[Any, Any, list[str]]:
        """The names that DescribeSecurityGroups lists."""
        answer = yield self.ask("DescribeSecurityGroups", caller, **parameters)
        return [group["GroupName"] for group in answer["SecurityGroups"]]

    @inlineCallbacks
    def test_default(self) -> Steps:
        """Each project has a default group, which can't be deleted."""
        self.assertEqual((yield self.names()), ["default"])
        self.assertEqual((yield self.names(BOB)), ["default"])
        yield self.refused("CannotDelete", "DeleteSecurityGroup", GroupName="default")

    @inlineCallbacks
    def test_default_reserved(self) -> Steps:
        """Nobody makes the default group, with a description and rules of another, before the cloud does."""
        yield self.refused("InvalidGroup.Reserved", "CreateSecurityGroup", GroupName="default", Description="mine")
        answer = yield self.ask("DescribeSecurityGroups")
        self.assertEqual([group["Description"] for group in answer["SecurityGroups"]], ["default group"])

    @inlineCallbacks
    def test_create(self) -> Steps:
        """A group is listed as it was made."""
        made = yield self.ask(
            "CreateSecurityGroup", GroupName="web", Description="the web", **tagged("security-group", a="b")
        )
        self.assertEqual(made["Tags"], [{"Key": "a", "Value": "b"}])
        [group] = (yield self.ask("DescribeSecurityGroups", GroupIds=[made["GroupId"]]))["SecurityGroups"]
        self.assertEqual(
            group,
            {
                "OwnerId": "alpha",
                "GroupId": made["GroupId"],
                "GroupName": "web",
                "Description": "the web",
                "VpcId": vpc_id("alpha"),
                "IpPermissions": [],
                "IpPermissionsEgress": [
                    {
                        "IpProtocol": "-1",
                        "UserIdGroupPairs": [],
                        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                        "Ipv6Ranges": [],
                        "PrefixListIds": [],
                    }
                ],
                "Tags": [{"Key": "a", "Value": "b"}],
            },
        )

    @inlineCallbacks
    def test_create_refusals(self) -> Steps:
        """Names are unique and printable; there is one VPC."""
        yield self.ask("CreateSecurityGroup", GroupName="web", Description="x")
        yield self.refused("InvalidGroup.Duplicate", "CreateSecurityGroup", GroupName="web", Description="x")
        yield self.refused("InvalidParameterValue", "CreateSecurityGroup", GroupName="sg-x", Description="x")
        yield self.refused("InvalidParameterValue", "CreateSecurityGroup", GroupName="w\n", Description="x")
        yield self.refused(
            "InvalidVpcID.NotFound", "CreateSecurityGroup", GroupName="w", Description="x", VpcId="vpc-1"
        )

    @inlineCallbacks
    def test_characters(self) -> Steps:
        """Names and descriptions are of the characters that EC2 takes in a VPC; spaces after a name go."""
        code, signs = "InvalidParameterValue", "a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"
        said = yield self.refused(code, "CreateSecurityGroup", GroupName="caf\u00e9", Description="x")
        beyond = "is invalid. Character sets beyond ASCII are not supported."
        self.assertEqual(said, f"Value (caf\u00e9) for parameter GroupName {beyond}")
        said = yield self.refused(code, "CreateSecurityGroup", GroupName="web", Description="\u2014")
        self.assertEqual(said, f"Value (\u2014) for parameter GroupDescription {beyond}")
        said = yield self.refused(code, "CreateSecurityGroup", GroupName="web", Description="Bob's")
        why = "Valid descriptions are strings less than 256 characters from the following set:  "
        self.assertEqual(said, f"Invalid security group description. {why}{signs}")
        yield self.refused(code, "CreateSecurityGroup", GroupName="a>b", Description="x")
        yield self.refused("MissingParameter", "CreateSecurityGroup", GroupName="  ", Description="x")
        yield self.ask("CreateSecurityGroup", GroupName="jclouds#one ", Description="_:/()#,@[]+=&;{}!$*")
        self.assertIn("jclouds#one", (yield self.names()))

    @inlineCallbacks
    def test_describe(self) -> Steps:
        """By name, id, filter; unknown names and ids are errors; pages."""
        for n in range(6):
            yield self.ask("CreateSecurityGroup", GroupName=f"g{n}", Description=f"group {n}")
        yield self.names()
        self.assertEqual((yield self.names(GroupNames=["g1", "g2"])), ["g1", "g2"])
        self.assertEqual((yield self.names(**by("description", "*3"))), ["g3"])
        self.assertEqual((yield self.names(**by("group-name", "def*"))), ["default"])
        self.assertEqual((yield self.names(**by("owner-id", "beta"))), [])
        self.assertEqual((yield self.names(**by("ip-permission.cidr", "*"))), [])
        page = yield self.ask("DescribeSecurityGroups", MaxResults=5)
        rest = yield self.names(MaxResults=5, NextToken=page["NextToken"])
        self.assertEqual((len(page["SecurityGroups"]), len(rest)), (5, 2))
        yield self.refused("InvalidGroup.NotFound", "DescribeSecurityGroups", GroupNames=["nope"])
        yield self.refused("InvalidGroup.NotFound", "DescribeSecurityGroups", GroupIds=["sg-12345678"])
        yield self.refused("InvalidGroupId.Malformed", "DescribeSecurityGroups", GroupIds=["g1"])

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """An empty group goes by id or name; one with an instance stays; another project's isn't there."""
        one = (yield self.ask("CreateSecurityGroup", GroupName="one", Description="x"))["GroupId"]
        yield self.ask("CreateSecurityGroup", GroupName="two", Description="x")
        [id] = yield self.boot(SecurityGroups=["two"])
        yield self.refused("InvalidGroup.NotFound", "DeleteSecurityGroup", BOB, GroupId=one)
        self.assertEqual((yield self.ask("DeleteSecurityGroup", GroupId=one)), {"Return": True, "GroupId": one})
        yield self.refused("DependencyViolation", "DeleteSecurityGroup", GroupName="two")
        yield self.ask("TerminateInstances", InstanceIds=[id])
        yield self.move([id], "vanish")
        yield self.ask("DeleteSecurityGroup", GroupName="two")
        yield self.refused("InvalidGroup.NotFound", "DeleteSecurityGroup", GroupName="two")


class ImageTests(EC2Case):
    """DescribeImages."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        tags = {"secret": "word"}
        yield self.write(
            Image("ami-0000000a", "alpha", "mine", "a/mine", created_at=NOW, tags={"a": "b"}),
            Image("ami-0000000b", "beta", "shared", "b/shared", created_at=NOW, shared_with=("alpha",), tags=tags),
            Image("ami-0000000c", "beta", "hidden", "b/hidden", created_at=NOW),
            Image("ami-0000000d", "beta", "open", "b/open", created_at=NOW + 86400, public=True, tags=tags),
        )

    @inlineCallbacks
    def names(self, caller: Any = ANN, **parameters: Any) -> Generator[Any, Any, set[str]]:
        """The names that DescribeImages lists."""
        answer = yield self.ask("DescribeImages", caller, **parameters)
        return {image["Name"] for image in answer["Images"]}

    @inlineCallbacks
    def test_all(self) -> Steps:
        """One's own, those that were shared, and what is public; each once."""
        answer = yield self.ask("DescribeImages")
        found = sorted(image["Name"] for image in answer["Images"])
        samples = ["sample-kernel", "sample-ramdisk", "sample-server", "sample-tiny"]
        self.assertEqual(found, sorted(["mine", "shared", "open", *samples]))

    @inlineCallbacks
    def test_shown(self) -> Steps:
        """An image shows owner, kind, parts and when it was made."""
        [image] = (yield self.ask("DescribeImages", ImageIds=[TINY]))["Images"]
        self.assertEqual((image["OwnerId"], image["ImageType"], image["Public"]), ("cloud", "machine", True))
        self.assertEqual((image["KernelId"], image["State"]), ("aki-00000000000000001", "available"))
        self.assertEqual(image["CreationDate"], "2026-09-21T14:13:20.000Z")

    @inlineCallbacks
    def test_ids(self) -> Steps:
        """Kernels and ramdisks are images; hidden ones are not there."""
        self.assertEqual((yield self.names(ImageIds=["aki-00000000000000001"])), {"sample-kernel"})
        yield self.refused("InvalidAMIID.NotFound", "DescribeImages", ImageIds=[SERVER, "ami-0000000c"])
        yield self.refused("InvalidAMIID.Malformed", "DescribeImages", ImageIds=["i-12345678"])

    @inlineCallbacks
    def test_owners(self) -> Steps:
        """Owners are projects; self is the caller's."""
        self.assertEqual((yield self.names(Owners=["self"])), {"mine"})
        self.assertEqual((yield self.names(Owners=["beta"])), {"shared", "open"})
        self.assertEqual((yield self.names(Owners=["amazon"])), set())
        self.assertEqual((yield self.names(BOB, Owners=["self"])), {"shared", "hidden", "open"})

    @inlineCallbacks
    def test_executable(self) -> Steps:
        """By who may launch: everybody, or the caller explicitly."""
        self.assertEqual((yield self.names(ExecutableUsers=["self"])), {"shared"})
        self.assertIn("open", (yield self.names(ExecutableUsers=["all"])))
        self.assertNotIn("mine", (yield self.names(ExecutableUsers=["all"])))
        self.assertEqual((yield self.names(BOB, ExecutableUsers=["alpha"])), {"shared"})

    @inlineCallbacks
    def test_filters(self) -> Steps:
        """What is filed, what is alike and what is read can be filtered by."""
        for name, value, found in (
            ("name", "m*", {"mine"}),
            ("image-type", "kernel", {"sample-kernel"}),
            ("is-public", "false", {"mine", "shared"}),
            ("creation-date", "2026-09-22T*", {"open"}),
            ("image-id", "ami-0000000a", {"mine"}),
            ("manifest-location", "b/*", {"shared", "open"}),
            ("kernel-id", "aki-*", {"sample-tiny"}),
            ("platform", "windows", set()),
        ):
            self.assertEqual((yield self.names(**by(name, value))), found, name)
        self.assertEqual(len((yield self.names(**by("root-device-type", "instance-store")))), 7)

    @inlineCallbacks
    def test_tags_are_private(self) -> Steps:
        """Nobody sees, or finds by, tags on another project's image."""
        answer = yield self.ask("DescribeImages", **by("name", "mine", "open", "shared"))
        found = {image["Name"]: image.get("Tags") for image in answer["Images"]}
        self.assertEqual(found, {"mine": [{"Key": "a", "Value": "b"}], "open": None, "shared": None})
        self.assertEqual((yield self.names(**by("tag:secret", "word"))), set())
        self.assertEqual((yield self.names(BOB, **by("tag:secret", "word"))), {"shared", "open"})
        self.assertEqual((yield self.names(**by("tag-key", "a"))), {"mine"})

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """MaxResults gives pages."""
        page = yield self.ask("DescribeImages", MaxResults=4)
        rest = yield self.ask("DescribeImages", MaxResults=4, NextToken=page["NextToken"])
        self.assertEqual(len({image["ImageId"] for image in page["Images"] + rest["Images"]}), 7)

    @inlineCallbacks
    def test_pages_of_ids(self) -> Steps:
        """Images that are named have pages, too."""
        ids = ["ami-0000000a", "ami-0000000b", SERVER]
        page = yield self.ask("DescribeImages", ImageIds=ids, MaxResults=2)
        rest = yield self.ask("DescribeImages", ImageIds=ids, MaxResults=2, NextToken=page["NextToken"])
        found = [image["ImageId"] for image in page["Images"] + rest["Images"]]
        self.assertEqual((sorted(found), "NextToken" in rest), (sorted(ids), False))


class TagTests(EC2Case):
    """Tags."""

    @inlineCallbacks
    def rows(self, caller: Any = ANN, **parameters: Any) -> Generator[Any, Any, list[tuple[str, ...]]]:
        """Type, key and value of what DescribeTags lists."""
        answer = yield self.ask("DescribeTags", caller, **parameters)
        return sorted((tag["ResourceType"], tag["Key"], tag.get("Value", "")) for tag in answer["Tags"])

    @inlineCallbacks
    def test_create(self) -> Steps:
        """Several things get several tags; a key that is there gets a new value."""
        [id] = yield self.run_instances(**tagged("instance", a="old"))
        group = (yield self.ask("CreateSecurityGroup", GroupName="g", Description="g"))["GroupId"]
        tags = [{"Key": "a", "Value": "new"}, {"Key": "b", "Value": ""}]
        yield self.ask("CreateTags", Resources=[id, group], Tags=tags)
        self.assertEqual((yield self.listed())[0]["Tags"], tags)
        self.assertEqual((yield self.matching("tag:a", "new")), [id])
        self.assertEqual((yield self.matching("tag:a", "old")), [])
        kinds = ("instance", "security-group")
        self.assertEqual((yield self.rows()), [(kind, *tag) for kind in kinds for tag in (("a", "new"), ("b", ""))])

    @inlineCallbacks
    def test_create_refusals(self) -> Steps:
        """All or nothing, of one's own things, with lawful keys."""
        [id] = yield self.run_instances()
        tag = [{"Key": "a", "Value": "b"}]
        missing = "i-12345678"
        yield self.refused("InvalidInstanceID.NotFound", "CreateTags", Resources=[id, missing], Tags=tag)
        yield self.refused("InvalidInstanceID.NotFound", "CreateTags", BOB, Resources=[id], Tags=tag)
        yield self.refused("InvalidID", "CreateTags", Resources=["thing"], Tags=tag)
        [subnet] = (yield self.ask("DescribeSubnets"))["Subnets"]
        for untagged in (subnet["SubnetId"], subnet["VpcId"]):
            yield self.refused("UnsupportedOperation", "CreateTags", Resources=[untagged], Tags=tag)
        message = yield self.refused("InvalidParameterValue", "CreateTags", Resources=[id], Tags=[{"Key": "aws:x"}])
        self.assertEqual(message, "Tag keys starting with 'aws:' are reserved for internal use")
        self.assertEqual((yield self.rows()), [])

    @inlineCallbacks
    def test_too_many(self) -> Steps:
        """A thing has at most 50 tags, also over several requests."""
        [id] = yield self.run_instances(**tagged("instance", **{f"k{n}": "" for n in range(50)}))
        yield self.refused("TagLimitExceeded", "CreateTags", Resources=[id], Tags=[{"Key": "one", "Value": "more"}])
        yield self.ask("CreateTags", Resources=[id], Tags=[{"Key": "k1", "Value": "changed"}])

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """By key, by key and value, or all."""
        [id] = yield self.run_instances(**tagged("instance", a="1", b="2", c="", d="4"))
        yield self.ask("DeleteTags", Resources=[id], Tags=[{"Key": "a"}, {"Key": "b", "Value": "other"}])
        self.assertEqual([row[1] for row in (yield self.rows())], ["b", "c", "d"])
        yield self.ask("DeleteTags", Resources=[id], Tags=[{"Key": "b", "Value": "2"}, {"Key": "c", "Value": ""}])
        self.assertEqual([row[1] for row in (yield self.rows())], ["d"])
        yield self.ask("CreateTags", Resources=[id], Tags=[{"Key": "e", "Value": "1"}])
        yield self.ask("DeleteTags", Resources=[id], Tags=[{"Key": "e", "Value": "1"}, {"Key": "e", "Value": "2"}])
        self.assertEqual([row[1] for row in (yield self.rows())], ["d"])
        yield self.ask("DeleteTags", Resources=[id])
        self.assertEqual((yield self.rows()), [])
        yield self.refused("InvalidInstanceID.NotFound", "DeleteTags", BOB, Resources=[id])

    @inlineCallbacks
    def test_filters(self) -> Steps:
        """By key, value, thing, kind, and by key with value."""
        [id] = yield self.run_instances(**tagged("instance", a="1", b="2"))
        yield self.ask("CreateKeyPair", KeyName="k", KeyType="ed25519", **tagged("key-pair", a="2"))
        for name, value, found in (
            ("key", "a", [("instance", "a", "1"), ("key-pair", "a", "2")]),
            ("value", "2", [("instance", "b", "2"), ("key-pair", "a", "2")]),
            ("resource-id", id, [("instance", "a", "1"), ("instance", "b", "2")]),
            ("resource-type", "key-pair", [("key-pair", "a", "2")]),
            ("resource-type", "volume", []),
            ("tag:a", "2", [("key-pair", "a", "2")]),
            ("tag:a", "*", [("instance", "a", "1"), ("key-pair", "a", "2")]),
        ):
            self.assertEqual((yield self.rows(**by(name, value))), found, (name, value))
        both = [{"Name": "tag:a", "Values": ["*"]}, {"Name": "value", "Values": ["1"]}]
        self.assertEqual((yield self.rows(Filters=both)), [("instance", "a", "1")])
        yield self.refused("InvalidParameterValue", "DescribeTags", **by("colour", "red"))

    @inlineCallbacks
    def test_tenancy(self) -> Steps:
        """Nobody sees another project's tags."""
        yield self.run_instances(**tagged("instance", a="1"))
        self.assertEqual((yield self.rows(BOB)), [])

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """MaxResults gives pages, also in the midst of a thing's tags."""
        yield self.run_instances(2, **tagged("instance", **{f"k{n}": "" for n in range(4)}))
        page = yield self.ask("DescribeTags", MaxResults=5)
        rest = yield self.ask("DescribeTags", MaxResults=5, NextToken=page["NextToken"])
        self.assertEqual((len(page["Tags"]), len(rest["Tags"])), (5, 3))
        found = {(tag["ResourceId"], tag["Key"]) for tag in page["Tags"] + rest["Tags"]}
        self.assertEqual(len(found), 8)
