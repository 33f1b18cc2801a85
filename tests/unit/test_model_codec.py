"""
Records to JSON and back.
"""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fabric.model.codec import decode, encode
from fabric.model.flavor import BUILT_IN, Flavor
from fabric.model.host import Capacity, Service
from fabric.model.instance import GroupName, Instance, Port, StateReason

text = st.text(max_size=20)
instances = st.builds(
    Instance,
    id=text,
    project=text,
    reservation=text,
    image=text,
    state=text,
    flavor=st.sampled_from(list(BUILT_IN.values())),
    ports=st.lists(st.builds(Port, network=text, mac=text, address=text), max_size=3).map(tuple),
    groups=st.lists(st.builds(GroupName, id=text, name=text), max_size=3).map(tuple),
    reason=st.none() | st.builds(StateReason, code=text, message=text),
    tags=st.dictionaries(text, text, max_size=3),
    refusals=st.dictionaries(text, text, max_size=3),
    launched_at=st.floats(0, 1e10),
    changed_at=st.floats(0, 1e10),
    review_at=st.floats(0, 1e10),
    launch_index=st.integers(0, 1000),
    order=st.integers(1, 1000),
)


class CodecTests(SynchronousTestCase):
    """
    L{encode} and L{decode}.
    """

    @given(instances)
    def test_round_trip(self, instance: Instance) -> None:
        """A value is itself again after a trip through JSON."""
        self.assertEqual(decode(Instance, orjson.loads(orjson.dumps(encode(instance)))), instance)

    def test_unknown_key_is_ignored(self) -> None:
        """A key that a newer version wrote does no harm."""
        data = encode(Flavor("a", 1, 2, 3)) | {"sockets": 4}
        self.assertEqual(decode(Flavor, data), Flavor("a", 1, 2, 3))

    def test_missing_key_takes_the_default(self) -> None:
        """A key that an older version did not write has its default."""
        data = {"id": "compute.a", "topic": "compute", "host": "a"}
        self.assertEqual(decode(Service, data).capacity, Capacity())
        before = encode(Flavor("a", 1, 2, 3))
        del before["gpus"]
        self.assertEqual(decode(Flavor, before), Flavor("a", 1, 2, 3, gpus=0))

    def test_missing_key_without_default_is_an_error(self) -> None:
        """What can't be left out is not invented."""
        self.assertRaises(TypeError, decode, Flavor, {"name": "a"})
