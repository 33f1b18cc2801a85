"""
The wire compiled from EC2's model, against botocore's own serializer and
parser of the same model.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import botocore.loaders
from botocore.model import ServiceModel
from botocore.parsers import EC2QueryParser
from botocore.serialize import EC2Serializer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.api.ec2.errors import EC2Error
from fabric.api.ec2.wire.answers import Answers, error_document, escape, timestamp
from fabric.api.ec2.wire.model import load_model
from fabric.api.ec2.wire.requests import Requests
from fabric.api.form import parse_form
from fabric.errors import Unsupported

ACTIONS = [
    "RunInstances",
    "DescribeInstances",
    "TerminateInstances",
    "RebootInstances",
    "StopInstances",
    "StartInstances",
    "DescribeInstanceStatus",
    "GetConsoleOutput",
    "DescribeInstanceAttribute",
    "ModifyInstanceAttribute",
    "ResetInstanceAttribute",
    "DescribeInstanceTypes",
    "CreateKeyPair",
    "ImportKeyPair",
    "DescribeKeyPairs",
    "DeleteKeyPair",
    "DescribeImages",
    "DescribeRegions",
    "DescribeAvailabilityZones",
    "DescribeAccountAttributes",
    "CreateTags",
    "DescribeTags",
    "DeleteTags",
    "CreateSecurityGroup",
    "DescribeSecurityGroups",
    "DeleteSecurityGroup",
]

MODEL = load_model(ACTIONS, ["Instance"])
THEIRS = ServiceModel(botocore.loaders.Loader().load_service_model("ec2", "service-2"))
REQUESTS = {action: Requests(MODEL).operation(action) for action in ACTIONS}
ANSWERS = Answers(MODEL)
ENVELOPE = ("5c9ac2a4-0f0c-4f2d-9a38-1a1f1a1c2b1e", "2016-11-15")

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))

_texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, range(32)))), max_size=9)
_steps = ["InstanceId", "Filter", "Name", "Value", "Placement", "TagSpecification", "Tag", "Key", "UserData", "DryRun"]
_steps += ["Monitoring", "1", "2", "01", "9", "x", ""]
_names = st.lists(st.sampled_from(_steps), min_size=1, max_size=5).map(".".join)
_answer_texts = st.text(
    st.characters(
        exclude_categories=("Cs",),
        exclude_characters="".join(map(chr, [*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF])),
    ),
    max_size=9,
)
_moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_scalars = {
    "integer": st.integers(1, 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "blob": st.binary(max_size=9),
}


def values(shape: Any, texts: Any, moments: Any, least: int, depth: int = 0) -> Any:
    """Random values of a shape of botocore's; C{least} items of lists and members of structures."""
    kind = shape.type_name
    if kind == "string":
        return texts
    if kind == "timestamp":
        return moments
    if kind == "list":
        return st.lists(values(shape.member, texts, moments, least, depth + 1), min_size=least, max_size=2)
    if kind != "structure":
        return _scalars[kind]

    def members(names: list[str]) -> Any:
        wanted = dict.fromkeys([*shape.required_members, *names])
        return st.fixed_dictionaries(
            {name: values(shape.members[name], texts, moments, least, depth + 1) for name in wanted}
        )

    names = sorted(shape.members)
    return st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=8 >> depth or 1).flatmap(members)


class RequestTests(SynchronousTestCase):
    """
    L{Requests}.
    """

    def refusal(self, action: str, form: str, honours: Any = None) -> tuple[str, str]:
        """Code and message of the refusal of a form."""
        parse = Requests(MODEL).operation(action, honours)
        error = self.assertRaises(EC2Error, parse, parse_form(form.encode()))
        return error.code, error.message

    @given(st.data())
    @QUICK
    def test_what_botocore_writes(self, data: Any) -> None:
        """Whatever botocore serializes is read back as it was."""
        operation = THEIRS.operation_model(data.draw(st.sampled_from(ACTIONS)))
        moments = _moments.map(lambda moment: moment.replace(microsecond=0))
        parameters = data.draw(values(operation.input_shape, _texts, moments, 1))
        body = EC2Serializer().serialize_to_request(parameters, operation)["body"]
        form = parse_form(urlencode(body).encode())
        self.assertEqual(parameters, REQUESTS[operation.name](form))

    @given(st.dictionaries(_names, st.text(max_size=4), max_size=6), st.sampled_from(ACTIONS))
    @QUICK
    def test_anything(self, form: dict[str, str], action: str) -> None:
        """Whatever a client sends is taken or refused; nothing else happens."""
        with contextlib.suppress(EC2Error):
            REQUESTS[action](form)

    def test_unknown(self) -> None:
        """A parameter that the action does not have is refused by its name."""
        for form in (
            "Foo=1",
            "InstanceId.1.x=1",
            "InstanceId.x=1",
            "InstanceId.=1",
            "Filter.1.Nam=x",
            "=1",
            "Filter=x",
        ):
            name = form.partition("=")[0]
            wanted = ("UnknownParameter", f"The parameter {name} is not recognized")
            self.assertEqual(wanted, self.refusal("DescribeInstances", form))

    def test_missing(self) -> None:
        """A parameter that must be there is named, within structures too."""
        wanted = ("MissingParameter", "The request must contain the parameter InstanceId")
        self.assertEqual(wanted, self.refusal("TerminateInstances", ""))
        self.assertEqual(wanted, self.refusal("TerminateInstances", "InstanceId="))
        wanted = ("MissingParameter", "The request must contain the parameter MaxCount")
        self.assertEqual(wanted, self.refusal("RunInstances", "MinCount=1"))

    def test_bad_values(self) -> None:
        """What is not of the parameter's type is refused with its name and text."""
        for form in (
            "MaxResults=x",
            "MaxResults=",
            "MaxResults=1.5",
            "MaxResults=٣",
            "MaxResults=99999999999",
            "DryRun=maybe",
        ):
            name, _, text = form.partition("=")
            code, message = self.refusal("DescribeInstances", form)
            self.assertEqual("InvalidParameterValue", code)
            self.assertIn(f"Value ({text}) for parameter {name} is invalid.", message)
        self.assertEqual("InvalidParameterValue", self.refusal("ImportKeyPair", "KeyName=k&PublicKeyMaterial=x!")[0])

    def test_indexes(self) -> None:
        """Indexes order the items; gaps cost nothing; absurd ones are unknown."""
        parse = REQUESTS["DescribeInstances"]
        form = parse_form(b"InstanceId.99999=c&InstanceId.2=b&InstanceId.1=a")
        self.assertEqual({"InstanceIds": ["a", "b", "c"]}, parse(form))
        for index in ("100000", "9" * 4000, "-1", "1e3", "²"):
            self.assertEqual("UnknownParameter", self.refusal("DescribeInstances", f"InstanceId.{index}=x")[0])

    def test_one_without_index(self) -> None:
        """A list's only item may come without its index, as libcloud sends a key pair's name."""
        self.assertEqual({"KeyNames": ["a"]}, REQUESTS["DescribeKeyPairs"](parse_form(b"KeyName=a")))
        for form in ("InstanceId=a&InstanceId.1=b", "InstanceId.1=b&InstanceId=a"):
            self.assertEqual("MalformedQueryString", self.refusal("DescribeInstances", form)[0])

    def test_contradictions(self) -> None:
        """One item under two spellings of its index is a malformed request."""
        self.assertEqual("MalformedQueryString", self.refusal("DescribeInstances", "InstanceId.1=a&InstanceId.01=b")[0])
        self.assertEqual("MalformedQueryString", self.refusal("GetConsoleOutput", "InstanceId=a&InstanceId.1=b")[0])

    def test_honoured_only(self) -> None:
        """A parameter that the handler does not honour is refused by name, never dropped."""
        honours = {"ImageId", "MinCount", "MaxCount", "Placement.AvailabilityZone", "TagSpecifications.Tags.Key"}
        parse = Requests(MODEL).operation("RunInstances", honours)
        form = b"MinCount=1&MaxCount=1&Placement.AvailabilityZone=a&TagSpecification.1.Tag.1.Key=k&DryRun=true"
        self.assertEqual("a", parse(parse_form(form))["Placement"]["AvailabilityZone"])
        for name in (
            "SubnetId",
            "Placement.Tenancy",
            "TagSpecification.1.Tag.1.Value",
            "NetworkInterface.1.DeviceIndex",
        ):
            wanted = ("UnsupportedOperation", f"The parameter {name} is not supported by this cloud")
            self.assertEqual(wanted, self.refusal("RunInstances", f"MinCount=1&MaxCount=1&{name}=x", honours))

    def test_honours_are_of_the_model(self) -> None:
        """A declared member that the model does not have is a mistake found at start."""
        for name in ("InstanceId", "Filters.Value"):
            self.assertRaises(KeyError, Requests(MODEL).operation, "DescribeInstances", {name})

    def test_old_forms(self) -> None:
        """boto 2 sends GetConsoleOutput's id as a list; the door's own parameters are passed over."""
        form = b"Action=x&Version=y&AWSAccessKeyId=z&Signature=s&Timestamp=t&X-Amz-Date=d&InstanceId.1=i-1"
        self.assertEqual({"InstanceId": "i-1"}, REQUESTS["GetConsoleOutput"](parse_form(form)))


class AnswerTests(SynchronousTestCase):
    """
    L{Answers}.
    """

    def parsed(self, action: str, body: bytes) -> Any:
        """What botocore reads of an answer."""
        response = {"body": body, "headers": {}, "status_code": 200}
        found = EC2QueryParser().parse(response, THEIRS.operation_model(action).output_shape)
        self.assertEqual(ENVELOPE[0], found.pop("ResponseMetadata")["RequestId"])
        return found

    @given(st.data())
    @QUICK
    def test_what_botocore_reads(self, data: Any) -> None:
        """Whatever is rendered is what botocore reads."""
        action = data.draw(st.sampled_from([name for name in ACTIONS if MODEL.outputs[name]]))
        moments = _moments.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        answer = data.draw(values(THEIRS.operation_model(action).output_shape, _answer_texts, moments, 0))
        body = ANSWERS.operation(action)(answer, *ENVELOPE)
        found = self.parsed(action, body)
        self.assertEqual(answer, found)

    def test_no_output(self) -> None:
        """An action without output answers true, which boto 2 needs."""
        body = ANSWERS.operation("CreateTags")({}, *ENVELOPE)
        self.assertIn(b'<CreateTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>', body)
        self.assertIn(b"<return>true</return></CreateTagsResponse>", body)

    def test_true_besides(self) -> None:
        """Some actions answer true besides their output, which libcloud looks for."""
        body = Answers(load_model(["CreatePlacementGroup"])).operation("CreatePlacementGroup")
        answer = body({"PlacementGroup": {"GroupName": "near"}}, *ENVELOPE)
        self.assertIn(b"<return>true</return><placementGroup><groupName>near</groupName>", answer)

    def test_none_and_empty(self) -> None:
        """None is left out, an empty list is an empty element."""
        item = ANSWERS.item("Instance")({"InstanceId": "i-1", "KeyName": None, "ProductCodes": [], "LaunchTime": 0})
        wanted = (
            b"<item><instanceId>i-1</instanceId><productCodes/><launchTime>1970-01-01T00:00:00.000Z</launchTime></item>"
        )
        self.assertEqual(wanted, item)

    def test_fragment(self) -> None:
        """A fragment has nothing around it."""
        self.assertEqual(b"<reservationId>r</reservationId>", ANSWERS.fragment("Reservation")({"ReservationId": "r"}))

    def test_unknown_member(self) -> None:
        """A member that the model does not have is a mistake of the caller's."""
        self.assertRaises(KeyError, ANSWERS.item("Instance"), {"InstanceID": "i-1"})

    def test_escape(self) -> None:
        """Markup is escaped, and what XML can't hold is replaced."""
        self.assertEqual("&lt;a&gt;&amp;\"'\n&#13;\ufffd\ufffd\ufffd", escape("<a>&\"'\n\r\x00\ud800\uffff"))
        self.assertEqual("plain é \U0001f600", escape("plain é \U0001f600"))

    def test_timestamp(self) -> None:
        """Seconds, datetimes of any zone and texts all become UTC with milliseconds."""
        moment = datetime(2026, 11, 21, 12, 0, 0, 123999, timezone(timedelta(hours=2)))
        for value in (moment, moment.timestamp(), "2026-11-21T10:00:00.123Z"):
            self.assertEqual("2026-11-21T10:00:00.123Z", timestamp(value))

    def test_error_document(self) -> None:
        """A refusal is read by botocore, message escaped."""
        body = error_document("InvalidAction", "no <such> & such", "the-id")
        found = EC2QueryParser().parse({"body": body, "headers": {}, "status_code": 400}, None)
        self.assertEqual({"Code": "InvalidAction", "Message": "no <such> & such"}, found["Error"])
        self.assertEqual("the-id", found["ResponseMetadata"]["RequestId"])


class ModelTests(SynchronousTestCase):
    """
    L{load_model}.
    """

    def test_reduced(self) -> None:
        """Only what is implemented is kept, but every action's name."""
        model = load_model(["DescribeRegions"])
        self.assertLess(len(model.shapes), 20)
        self.assertIn("CreateVpc", model.actions)

    def test_unknown_names(self) -> None:
        """An action or shape that EC2 does not have is a mistake found at start."""
        self.assertRaises(Unsupported, load_model, ["DescribeUnicorns"])
        self.assertRaises(Unsupported, load_model, [], ["Unicorn"])
