"""
Launch templates, as EC2's clients use them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.model.instance import Instance
from fabric.model.quota import Quota
from tests.unit.ec2_stage import BOB, SERVER, TINY, EC2Case, encoded

Steps = Generator[Deferred[Any], Any, Any]

WEB = {"ImageId": SERVER, "InstanceType": "m1.tiny", "UserData": encoded(b"#!/bin/sh\n")}


class TemplateCase(EC2Case):
    """
    A project with one template.
    """

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        answer = yield self.ask("CreateLaunchTemplate", LaunchTemplateName="web", LaunchTemplateData=WEB)
        self.id = answer["LaunchTemplate"]["LaunchTemplateId"]

    @inlineCallbacks
    def add(self, data: dict[str, Any], **more: Any) -> Steps:
        """Make a version; its number."""
        answer = yield self.ask(
            "CreateLaunchTemplateVersion", LaunchTemplateId=self.id, LaunchTemplateData=data, **more
        )
        return answer["LaunchTemplateVersion"]["VersionNumber"]

    @inlineCallbacks
    def numbers(self, caller: Any = None, **asked: Any) -> Steps:
        """The version numbers that a Describe lists."""
        named = {} if "LaunchTemplateName" in asked else {"LaunchTemplateId": self.id}
        arguments = () if caller is None else (caller,)
        answer = yield self.ask("DescribeLaunchTemplateVersions", *arguments, **named | asked)
        return [each["VersionNumber"] for each in answer["LaunchTemplateVersions"]]


class TemplateTests(TemplateCase):
    """Templates themselves."""

    @inlineCallbacks
    def test_create(self) -> Steps:
        """A template has one version, the default and latest, which is shown as it was made."""
        [shown] = (yield self.ask("DescribeLaunchTemplates"))["LaunchTemplates"]
        self.assertRegex(shown["LaunchTemplateId"], r"^lt-[0-9a-f]{17}$")
        self.assertEqual((shown["DefaultVersionNumber"], shown["LatestVersionNumber"]), (1, 1))
        self.assertEqual((shown["LaunchTemplateName"], shown["CreatedBy"]), ("web", "ann"))
        answer = yield self.ask("DescribeLaunchTemplateVersions", LaunchTemplateName="web")
        [version] = answer["LaunchTemplateVersions"]
        self.assertEqual(version["LaunchTemplateData"], WEB)
        self.assertTrue(version["DefaultVersion"])

    @inlineCallbacks
    def test_names(self) -> Steps:
        """A name is taken once in a project, and must be one."""
        for code, name in (
            ("InvalidLaunchTemplateName.AlreadyExistsException", "web"),
            ("InvalidLaunchTemplateName.MalformedException", "w"),
            ("InvalidLaunchTemplateName.MalformedException", "a b c"),
        ):
            yield self.refused(code, "CreateLaunchTemplate", LaunchTemplateName=name, LaunchTemplateData=WEB)
        yield self.ask("CreateLaunchTemplate", BOB, LaunchTemplateName="web", LaunchTemplateData=WEB)

    @inlineCallbacks
    def test_token(self) -> Steps:
        """A repeat with the same token gives the same template and version."""
        wanted = {"LaunchTemplateName": "dbs", "LaunchTemplateData": WEB, "ClientToken": "tok"}
        first = yield self.ask("CreateLaunchTemplate", **wanted)
        self.assertEqual((yield self.ask("CreateLaunchTemplate", **wanted)), first)
        other = wanted | {"LaunchTemplateName": "db2"}
        yield self.refused("IdempotentParameterMismatch", "CreateLaunchTemplate", **other)
        numbers = yield gatherResults([self.add({"ImageId": TINY}, ClientToken="v") for _ in range(10)])
        self.assertEqual(set(numbers), {2})

    @inlineCallbacks
    def test_quota(self) -> Steps:
        """A project has no more templates than its quota."""
        yield self.write(Quota("alpha", "alpha", {"launch_templates": 1}))
        yield self.refused(
            "LaunchTemplateLimitExceeded", "CreateLaunchTemplate", LaunchTemplateName="dbs", LaunchTemplateData=WEB
        )

    @inlineCallbacks
    def test_tags_and_filters(self) -> Steps:
        """Tags are given at creation and later, and found by."""
        tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}]
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="db1", LaunchTemplateData=WEB, TagSpecifications=tags)
        yield self.ask("CreateTags", Resources=[self.id], Tags=[{"Key": "a", "Value": "c"}])
        for filters, names in (
            ([{"Name": "tag:a", "Values": ["b"]}], ["db1"]),
            ([{"Name": "tag-key", "Values": ["a"]}], ["web", "db1"]),
            ([{"Name": "launch-template-name", "Values": ["w*"]}], ["web"]),
        ):
            answer = yield self.ask("DescribeLaunchTemplates", Filters=filters)
            self.assertEqual([each["LaunchTemplateName"] for each in answer["LaunchTemplates"]], names)

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """Templates come in pages."""
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="db1", LaunchTemplateData=WEB)
        first = yield self.ask("DescribeLaunchTemplates", MaxResults=1)
        second = yield self.ask("DescribeLaunchTemplates", MaxResults=1, NextToken=first["NextToken"])
        names = [each["LaunchTemplateName"] for page in (first, second) for each in page["LaunchTemplates"]]
        self.assertEqual(names, ["web", "db1"])

    @inlineCallbacks
    def test_unknown(self) -> Steps:
        """What is not there, or another project's, is refused in EC2's words."""
        absent = "lt-0123456789abcdef0"
        for caller, code, name, parameters in (
            (None, "InvalidLaunchTemplateId.NotFound", "DeleteLaunchTemplate", {"LaunchTemplateId": absent}),
            (None, "InvalidLaunchTemplateId.NotFound", "DescribeLaunchTemplates", {"LaunchTemplateIds": [absent]}),
            (None, "InvalidLaunchTemplateId.Malformed", "DeleteLaunchTemplate", {"LaunchTemplateId": "lt-x"}),
            (
                None,
                "InvalidLaunchTemplateName.NotFoundException",
                "DescribeLaunchTemplateVersions",
                {"LaunchTemplateName": "nope"},
            ),
            (
                None,
                "InvalidLaunchTemplateName.NotFoundException",
                "DescribeLaunchTemplates",
                {"LaunchTemplateNames": ["web", "nope"]},
            ),
            (BOB, "InvalidLaunchTemplateId.NotFound", "DeleteLaunchTemplate", {"LaunchTemplateId": self.id}),
            (BOB, "InvalidLaunchTemplateId.NotFound", "DescribeLaunchTemplates", {"LaunchTemplateIds": [self.id]}),
            (
                None,
                "InvalidLaunchTemplateId.VersionNotFound",
                "DescribeLaunchTemplateVersions",
                {"LaunchTemplateId": self.id, "Versions": ["7"]},
            ),
            (
                None,
                "InvalidLaunchTemplateId.VersionNotFound",
                "ModifyLaunchTemplate",
                {"LaunchTemplateId": self.id, "DefaultVersion": "7"},
            ),
            (None, "MissingParameter", "DeleteLaunchTemplate", {}),
            (
                None,
                "InvalidParameterCombination",
                "DeleteLaunchTemplate",
                {"LaunchTemplateId": self.id, "LaunchTemplateName": "web"},
            ),
        ):
            arguments = () if caller is None else (caller,)
            yield self.refused(code, name, *arguments, **parameters)

    @inlineCallbacks
    def test_not_done_here(self) -> Steps:
        """What no launch of this cloud does can't be put into a template."""
        for data in ({"Placement": {"Tenancy": "dedicated"}}, {"HibernationOptions": {"Configured": True}}):
            yield self.refused(
                "UnsupportedOperation", "CreateLaunchTemplate", LaunchTemplateName="bad", LaunchTemplateData=data
            )
        yield self.refused(
            "InvalidUserData.Malformed",
            "CreateLaunchTemplate",
            LaunchTemplateName="bad",
            LaunchTemplateData={"UserData": "%%"},
        )


class VersionTests(TemplateCase):
    """Versions."""

    @inlineCallbacks
    def test_source(self) -> Steps:
        """A version has the source's data but for what it names."""
        number = yield self.add({"InstanceType": "m1.small"}, SourceVersion="1", VersionDescription="bigger")
        answer = yield self.ask("DescribeLaunchTemplateVersions", LaunchTemplateId=self.id, Versions=["$Latest"])
        [version] = answer["LaunchTemplateVersions"]
        self.assertEqual((version["VersionNumber"], version["VersionDescription"]), (number, "bigger"))
        self.assertEqual(version["LaunchTemplateData"], WEB | {"InstanceType": "m1.small"})
        yield self.add({"ImageId": TINY})
        answer = yield self.ask("DescribeLaunchTemplateVersions", LaunchTemplateId=self.id, Versions=["3"])
        self.assertEqual(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"], {"ImageId": TINY})

    @inlineCallbacks
    def test_numbers(self) -> Steps:
        """Parallel versions get a number each, none twice, and none again after it was deleted."""
        numbers = yield gatherResults([self.add({"ImageId": TINY}) for _ in range(10)])
        self.assertEqual(sorted(numbers), list(range(2, 12)))
        yield self.ask("DeleteLaunchTemplateVersions", LaunchTemplateId=self.id, Versions=["11"])
        [shown] = (yield self.ask("DescribeLaunchTemplates"))["LaunchTemplates"]
        self.assertEqual(shown["LatestVersionNumber"], 10)
        self.assertEqual((yield self.add({"ImageId": TINY})), 12)

    @inlineCallbacks
    def test_choice(self) -> Steps:
        """Versions by number, alias, range and filter, and in pages."""
        for kind in ("m1.small", "m1.medium", "m1.large"):
            yield self.add({"InstanceType": kind})
        yield self.ask("ModifyLaunchTemplate", LaunchTemplateId=self.id, DefaultVersion="2")
        for asked, numbers in (
            ({}, [1, 2, 3, 4]),
            ({"Versions": ["$Latest", "$Default", "1"]}, [4, 2, 1]),
            ({"MinVersion": "2", "MaxVersion": "3"}, [2, 3]),
            ({"Filters": [{"Name": "instance-type", "Values": ["m1.l*"]}]}, [4]),
            ({"Filters": [{"Name": "is-default-version", "Values": ["true"]}]}, [2]),
        ):
            self.assertEqual((yield self.numbers(**asked)), numbers)
        first = yield self.ask("DescribeLaunchTemplateVersions", LaunchTemplateId=self.id, MaxResults=3)
        rest = yield self.numbers(MaxResults=3, NextToken=first["NextToken"])
        self.assertEqual(rest, [4])

    @inlineCallbacks
    def test_of_all_templates(self) -> Steps:
        """Without a template, the latest or default version of each; anything else is refused."""
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="db1", LaunchTemplateData=WEB)
        yield self.add({"ImageId": TINY})
        answer = yield self.ask("DescribeLaunchTemplateVersions", Versions=["$Latest"])
        found = [(each["LaunchTemplateName"], each["VersionNumber"]) for each in answer["LaunchTemplateVersions"]]
        self.assertEqual(found, [("web", 2), ("db1", 1)])
        yield self.refused("MissingParameter", "DescribeLaunchTemplateVersions", Versions=["1"])

    @inlineCallbacks
    def test_delete(self) -> Steps:
        """Each version is deleted, or said why not; the default one stays."""
        yield self.add({"ImageId": TINY})
        answer = yield self.ask("DeleteLaunchTemplateVersions", LaunchTemplateName="web", Versions=["1", "2", "9"])
        gone = answer["SuccessfullyDeletedLaunchTemplateVersions"]
        left = answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
        self.assertEqual([each["VersionNumber"] for each in gone], [2])
        self.assertEqual(
            [(each["VersionNumber"], each["ResponseError"]["Code"]) for each in left],
            [(1, "unexpectedError"), (9, "launchTemplateVersionDoesNotExist")],
        )
        self.assertEqual((yield self.numbers()), [1])

    @inlineCallbacks
    def test_delete_all(self) -> Steps:
        """A template goes with all its versions, however many, and leaves nothing."""
        for _ in range(5):
            yield self.add({"ImageId": TINY})
        yield self.ask("DeleteLaunchTemplate", LaunchTemplateId=self.id)
        self.assertEqual((yield self.ask("DescribeLaunchTemplates"))["LaunchTemplates"], [])
        self.assertEqual(
            (yield self.store.counters([f"uses:launch_template:{self.id}"])), {f"uses:launch_template:{self.id}": 0}
        )
        self.assertEqual((yield self.store.check(False)), [])


class LaunchTests(TemplateCase):
    """Launching from templates."""

    @inlineCallbacks
    def launch(self, template: dict[str, Any], **more: Any) -> Steps:
        """Launch one; its record."""
        answer = yield self.ask("RunInstances", MinCount=1, MaxCount=1, LaunchTemplate=template, **more)
        [stored] = yield self.store.read(Instance, [answer["Instances"][0]["InstanceId"]])
        return stored.record

    @inlineCallbacks
    def test_launch(self) -> Steps:
        """An instance is as its template says, and tells which that was."""
        record = yield self.launch({"LaunchTemplateName": "web"})
        self.assertEqual((record.image, record.flavor.name), (SERVER, "m1.tiny"))
        self.assertEqual(record.user_data, WEB["UserData"])
        self.assertEqual(record.tags, {"aws:ec2launchtemplate:id": self.id, "aws:ec2launchtemplate:version": "1"})

    @inlineCallbacks
    def test_own_tags(self) -> Steps:
        """The tags that tell the template are no user's: they count for nothing, and are not deleted with the rest."""
        own = {"aws:ec2launchtemplate:id": self.id, "aws:ec2launchtemplate:version": "1"}
        tags = [{"Key": f"k{n}", "Value": ""} for n in range(50)]
        specification = [{"ResourceType": "instance", "Tags": tags}]
        record = yield self.launch({"LaunchTemplateName": "web"}, TagSpecifications=specification)
        yield self.ask("CreateTags", Resources=[record.id], Tags=[{"Key": "k1", "Value": "changed"}])
        yield self.refused("TagLimitExceeded", "CreateTags", Resources=[record.id], Tags=[{"Key": "l", "Value": ""}])
        yield self.ask("DeleteTags", Resources=[record.id])
        [stored] = yield self.store.read(Instance, [record.id])
        self.assertEqual(stored.record.tags, own)

    @inlineCallbacks
    def test_request_wins(self) -> Steps:
        """What the request names is the request's; versions are by number or alias, the default without."""
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "template"}]}]
        yield self.add({"InstanceType": "m1.small", "TagSpecifications": tags}, SourceVersion="1")
        record = yield self.launch({"LaunchTemplateId": self.id, "Version": "$Latest"}, ImageId=TINY)
        self.assertEqual((record.image, record.flavor.name, record.tags["a"]), (TINY, "m1.small", "template"))
        tags[0]["Tags"] = [{"Key": "a", "Value": "request"}]
        record = yield self.launch({"LaunchTemplateId": self.id, "Version": "2"}, TagSpecifications=tags)
        self.assertEqual(record.tags["a"], "request")
        record = yield self.launch({"LaunchTemplateId": self.id})
        self.assertEqual(record.flavor.name, "m1.tiny")

    @inlineCallbacks
    def test_refused(self) -> Steps:
        """A template that is not there, another project's or without an image launches nothing."""
        asked = {"MinCount": 1, "MaxCount": 1}
        yield self.add({"InstanceType": "m1.tiny"})
        for caller, code, template in (
            ("ann", "InvalidLaunchTemplateName.NotFoundException", {"LaunchTemplateName": "nope"}),
            ("ann", "InvalidLaunchTemplateId.VersionNotFound", {"LaunchTemplateId": self.id, "Version": "9"}),
            ("ann", "MissingParameter", {"LaunchTemplateId": self.id, "Version": "2"}),
            ("bob", "InvalidLaunchTemplateId.NotFound", {"LaunchTemplateId": self.id}),
        ):
            arguments = (BOB,) if caller == "bob" else ()
            yield self.refused(code, "RunInstances", *arguments, LaunchTemplate=template, **asked)
        self.assertEqual((yield self.listed()), [])

    @inlineCallbacks
    def test_token(self) -> Steps:
        """A repeat after the template has changed is still a repeat."""
        template = {"LaunchTemplateId": self.id, "Version": "$Latest"}
        first = yield self.launch(template, ClientToken="t")
        yield self.add({"InstanceType": "m1.small"}, SourceVersion="1")
        self.assertEqual((yield self.launch(template, ClientToken="t")).id, first.id)

    @inlineCallbacks
    def test_data_of_an_instance(self) -> Steps:
        """A template made of an instance launches another like it."""
        group = yield self.ask("CreateSecurityGroup", GroupName="www", Description="w")
        [id] = yield self.boot(
            1,
            UserData=encoded(b"x"),
            SecurityGroupIds=[group["GroupId"]],
            MetadataOptions={"HttpTokens": "required"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "k", "Value": "v"}]}],
        )
        data = (yield self.ask("GetLaunchTemplateData", InstanceId=id))["LaunchTemplateData"]
        yield self.ask("CreateLaunchTemplate", LaunchTemplateName="like", LaunchTemplateData=data)
        record = yield self.launch({"LaunchTemplateName": "like"})
        [stored] = yield self.store.read(Instance, [id])
        for name in ("image", "flavor", "groups", "user_data", "metadata_options", "zone"):
            self.assertEqual(getattr(record, name), getattr(stored.record, name), name)
        self.assertEqual(record.tags["k"], "v")
        yield self.refused("InvalidInstanceID.NotFound", "GetLaunchTemplateData", BOB, InstanceId=id)

    @inlineCallbacks
    def test_roles(self) -> Steps:
        """Looking is for everybody, changing for those who run machines."""
        from fabric.cloud.access import permit
        from fabric.errors import Denied

        reader = Caller("eve", "alpha", frozenset(), "r")
        permit(reader, "DescribeLaunchTemplates")
        for action in ("CreateLaunchTemplate", "DeleteLaunchTemplateVersions", "CreatePlacementGroup"):
            with self.assertRaises(Denied):
                permit(reader, action)
        yield self.ask("DescribeLaunchTemplates", reader)
