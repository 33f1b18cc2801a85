"""
The errors that many actions share: parameters that nobody knows, filters, pages.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import product
from typing import Any

from twisted.internet.defer import inlineCallbacks

from fabric.api.ec2.errors import EC2Error
from tests.integration.ec2_requests import REQUESTS
from tests.integration.ec2_world import WorldCase, filled
from tests.unit.ec2_stage import ANN, botocore_model

Steps = Generator[Any, Any, None]


class CommonErrorTests(WorldCase):
    """
    Of every action that has the parameter.
    """

    timeout = 300

    @inlineCallbacks
    def code(self, action: str, **fields: str) -> Generator[Any, Any, str]:
        """The code of the refusal of the first request with other fields besides; empty for an answer."""
        form = self.fields(action, filled(REQUESTS[action][0], self.ann))
        try:
            yield self.answered(action, {**form, **fields}, ANN)
        except EC2Error as refusal:
            self.assertEqual(refusal.status, 400)
            return refusal.code
        return ""

    def honouring(self, name: str) -> list[str]:
        """The actions that honour a parameter."""
        return [action.name for action in self.registry if name in action.honours]

    @inlineCallbacks
    def test_unknown_parameters(self) -> Steps:
        """A parameter that EC2 does not know is refused, and nothing is done."""
        before = yield self.seen()
        for action in REQUESTS:
            self.assertEqual((yield self.code(action, Nonsense="1")), "UnknownParameter", action)
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def test_missing_parameters(self) -> Steps:
        """An action without any of its parameters says which one it needs, or is one that needs none."""
        before = yield self.seen()
        for action in REQUESTS:
            shape = botocore_model().operation_model(action).input_shape
            if shape is not None and shape.required_members:
                yield self.refused_bare(action)
        self.assertEqual((yield self.seen()), before)

    @inlineCallbacks
    def refused_bare(self, action: str) -> Steps:
        """See what an action says of nothing."""
        error = yield self.assertFailure(self.answered(action, {"Action": action}, ANN), EC2Error)
        self.assertEqual(error.code, "MissingParameter", action)
        self.assertRegex(error.message, r"^The request must contain the parameter \w+")

    @inlineCallbacks
    def test_unknown_filters(self) -> Steps:
        """A filter that an action does not have is refused by its name."""
        for filters in ("Filters", "Filter"):
            for action in self.honouring(filters):
                asked = {"Filter.1.Name": "nonsense", "Filter.1.Value.1": "x"}
                self.assertEqual((yield self.code(action, **asked)), "InvalidParameterValue", action)

    @inlineCallbacks
    def test_filters_without(self) -> Steps:
        """A filter without a name, or of a name and no values, is answered as EC2 does."""
        for action in self.honouring("Filters"):
            code = yield self.code(action, **{"Filter.1.Value.1": "x"})
            self.assertIn(code, ("InvalidParameterValue", "MissingParameter"), action)

    @inlineCallbacks
    def test_pages(self) -> Steps:
        """A page can't have less than one item, and a token that was not given is none."""
        for action in self.honouring("MaxResults"):
            for number in ("0", "-1"):
                self.assertEqual((yield self.code(action, MaxResults=number)), "InvalidParameterValue", action)
        for action in self.honouring("NextToken"):
            code = yield self.code(action, NextToken="nonsense")
            self.assertIn(code, ("InvalidNextToken", "InvalidParameterValue", "InvalidPaginationToken"), action)

    @inlineCallbacks
    def test_ascii(self) -> Steps:
        """Descriptions and client tokens are of ASCII that answers can say, whichever action takes them."""
        before = yield self.seen()
        for name, text in product(("Description", "ClientToken", "VersionDescription"), ("\u00fc", "a\x01b")):
            if (name, text) == ("VersionDescription", "\u00fc"):
                continue  # EC2 does not say that it may not be
            for action in self.honouring(name):
                shape = botocore_model().operation_model(action).input_shape
                if action in REQUESTS and shape.members[name].type_name == "string":
                    sent = shape.members[name].serialization.get("name", name)
                    field = sent[0].upper() + sent[1:]
                    self.assertEqual((yield self.code(action, **{field: text})), "InvalidParameterValue", action)
        self.assertEqual((yield self.seen()), before)
