"""
One walk through an EC2, the same for every client and for every way to run the
cloud.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.ec2_clients import Account, Client, Fault
from tests.integration.walking import PATIENCE


class Walk:
    """
    The steps, in order; each checks what it promises.  Blocks.
    """

    def __init__(self, make: Callable[[Account], Client], account: Account, name: str) -> None:
        self._make = make
        self._account = account
        self._name = name
        self._client = make(account)
        self._ids: list[str] = []

    def run(self) -> None:
        """All of it."""
        try:
            self._run()
        finally:
            self._client.close()

    def _run(self) -> None:
        image = next(id for id in self._client.images() if id.startswith("ami-"))
        self.makes_a_key_pair()
        self.runs_three_once(image)
        self.tags_and_filters()
        self.reads_the_console()
        self.reboots_stops_and_starts()
        self.modifies_an_attribute()
        self.is_refused(image)
        self.terminates()

    def makes_a_key_pair(self) -> None:
        """A private key comes back, and a name may be used once."""
        material = self._client.create_key_pair(self._name)
        assert "PRIVATE KEY" in material, material
        assert self._name in self._client.key_pairs()
        self._refused("InvalidKeyPair.Duplicate", self._client.create_key_pair, self._name)

    def runs_three_once(self, image: str) -> None:
        """The same token twice is one launch; all three come up."""
        token = f"token-{self._name}"
        reservation, self._ids = self._client.run(image, 3, self._name, token)
        again, ids = self._client.run(image, 3, self._name, token)
        assert again == reservation, (again, reservation)
        assert sorted(ids) == sorted(self._ids), (ids, self._ids)
        assert len(set(self._ids)) == 3, self._ids
        self._refused("IdempotentParameterMismatch", self._client.run, image, 2, self._name, token)
        self._await(self._ids, "running")

    def tags_and_filters(self) -> None:
        """A tag is shown, and finds its instance alone."""
        first = self._ids[0]
        self._client.tag(first, "role", f"web & <{self._name}>")
        assert self._client.tags(first) == {"role": f"web & <{self._name}>"}, self._client.tags(first)
        assert self._client.find("tag:role", f"web*{self._name}>") == [first]
        assert sorted(self._client.find("key-name", self._name)) == sorted(self._ids)
        self._refused("InvalidInstanceID.NotFound", self._client.states, ["i-0123456789abcdef0"])

    def reads_the_console(self) -> None:
        """The guest has said something."""
        ends = time.monotonic() + PATIENCE
        while not self._client.console(self._ids[0]):
            assert time.monotonic() < ends, "the console stayed empty"
            time.sleep(0.2)

    def reboots_stops_and_starts(self) -> None:
        """A reboot leaves it running; stop and start are there and back."""
        self._client.act("reboot", [self._ids[0]])
        self._await([self._ids[0]], "running")
        self._client.act("stop", [self._ids[1]])
        self._await([self._ids[1]], "stopped")
        assert self._ids[1] in self._client.find("instance-state-name", "stopped")
        self._client.act("start", [self._ids[1]])
        self._await([self._ids[1]], "running")

    def modifies_an_attribute(self) -> None:
        """The type may be changed only while it is stopped."""
        third = self._ids[2]
        self._refused("IncorrectInstanceState", self._client.set_type, third, "m1.small")
        self._client.act("stop", [third])
        self._await([third], "stopped")
        self._client.set_type(third, "m1.small")
        assert self._client.type(third) == "m1.small"

    def is_refused(self, image: str) -> None:
        """Beyond the quota, with a forged signature, and for a dry run."""
        self._refused("InstanceLimitExceeded", self._client.run, image, 5000)
        forger = self._make(self._account.forged())
        self._refused(("AuthFailure", "SignatureDoesNotMatch"), forger.key_pairs)
        forger.close()
        self._refused("DryRunOperation", self._client.run, image, 1, dry=True)
        assert sorted(self._client.find("key-name", self._name)) == sorted(self._ids)

    def terminates(self) -> None:
        """All are gone in the end, and the key pair too."""
        self._client.act("terminate", self._ids)
        self._await(self._ids, "terminated")
        self._client.delete_key_pair(self._name)
        assert self._name not in self._client.key_pairs()

    def _await(self, ids: Sequence[str], state: str) -> None:
        self.await_state(self._client, ids, state)

    @staticmethod
    def await_state(client: Client, ids: Sequence[str], state: str) -> None:
        """
        Look until all are in a state.

        @raise AssertionError: they were not in time.
        """
        ends = time.monotonic() + PATIENCE
        while True:
            states = client.states(ids)
            if set(states.values()) == {state}:
                return
            assert time.monotonic() < ends, f"{states}, not {state}"
            time.sleep(0.1)

    def _refused(self, codes: str | tuple[str, ...], call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        try:
            answer = call(*args, **keywords)
        except Fault as fault:
            assert fault.code in (codes if isinstance(codes, tuple) else (codes,)), str(fault)
        else:
            raise AssertionError(f"{codes} expected, not {answer}")
