"""
Key pairs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.api.ec2.actions.listing import Describe, all_records
from fabric.api.ec2.actions.refusals import check_ascii, combination, invalid_value, missing, unsupported
from fabric.api.ec2.actions.tagging import tags_at_creation
from fabric.api.ec2.call import Answer, Call
from fabric.api.ec2.filters import FilterTable, facet, literal
from fabric.api.ec2.registry import Action, Registry
from fabric.api.ec2.views import EC2Views, tags
from fabric.cloud.access import Caller
from fabric.cloud.keypairs import KeyPairs
from fabric.cloud.listings import Listings
from fabric.errors import NotFound
from fabric.model.keypair import KeyPair

FILTERS = FilterTable(
    {"key-pair-id": facet("id"), "key-name": facet("name"), "fingerprint": facet("fingerprint")},
)


class KeyPairActions:
    """
    Makes, imports, lists and removes key pairs.
    """

    def __init__(self, key_pairs: KeyPairs, listings: Listings, views: EC2Views) -> None:
        self._key_pairs = key_pairs
        self._listings = listings
        self._list = Describe(listings, KeyPair, "keySet", FILTERS, views.render_one)
        self._list_public = Describe(listings, KeyPair, "keySet", FILTERS, views.render_public_key, always=True)

    def register(self, registry: Registry) -> None:
        """Add the actions, with what each honours."""
        make = ("KeyName", "KeyType", "KeyFormat", "TagSpecifications")
        registry.add(Action("CreateKeyPair", self.create, make))
        registry.add(Action("ImportKeyPair", self.import_key, ("KeyName", "PublicKeyMaterial", "TagSpecifications")))
        listed = ("KeyNames", "KeyPairIds", "Filters", "IncludePublicKey")
        registry.add(Action("DescribeKeyPairs", self.describe, listed))
        registry.add(Action("DeleteKeyPair", self.delete, ("KeyName", "KeyPairId")))

    def create(self, call: Call) -> Deferred[Answer]:
        """
        Make a key pair; its private half is in this answer and nowhere else.
        """
        name = key_name(call.parameters["KeyName"])
        key_type = call.parameters.get("KeyType") or "rsa"
        if key_type not in ("rsa", "ed25519"):
            raise invalid_value("KeyType", key_type, "Expecting rsa or ed25519.")
        key_format = call.parameters.get("KeyFormat") or "pem"
        if key_format == "ppk":
            raise unsupported("This cloud makes keys in the format pem only")
        if key_format != "pem":
            raise invalid_value("KeyFormat", key_format, "Expecting pem.")
        made = self._key_pairs.create(call.caller, name, key_type, tags_at_creation(call.parameters, "key-pair"))
        return made.addCallback(lambda pair: {**_answer(pair[0]), "KeyMaterial": pair[1]})

    def import_key(self, call: Call) -> Deferred[Answer]:
        """
        Take the public half of a user's own key.
        """
        name = key_name(call.parameters["KeyName"])
        material = call.parameters["PublicKeyMaterial"]
        given = tags_at_creation(call.parameters, "key-pair")
        return self._key_pairs.import_key(call.caller, name, material, given).addCallback(_answer)

    @inlineCallbacks
    def describe(self, call: Call) -> Generator[Deferred[Any], Any, Answer]:
        """
        All key pairs, or those named; a name that is not there is an error.
        """
        describe = self._list_public if call.parameters.get("IncludePublicKey") else self._list
        narrowing = describe.narrow(call)
        names = tuple(dict.fromkeys(call.parameters.get("KeyNames") or ()))
        ids = tuple(dict.fromkeys(call.parameters.get("KeyPairIds") or ()))
        if names:
            yield self._check_names(call.caller, names)
            narrowing.add(("name", tuple(map(literal, names))))
        return (yield describe.listing(call, narrowing, ids))  # type: ignore[no-any-return]

    @inlineCallbacks
    def _check_names(self, caller: Caller, names: Sequence[str]) -> Generator[Deferred[Any], Any, None]:
        wanted = (("name", tuple(map(literal, names))),)
        found = yield all_records(lambda cursor: self._listings.records(caller, KeyPair, wanted, cursor=cursor))
        there = {stored.record.name for stored in found}
        absent = [name for name in names if name not in there]
        if absent:
            raise NotFound("key_pair", ", ".join(absent))

    def delete(self, call: Call) -> Deferred[Answer]:
        """
        Remove a key pair, by name or id; a name that is not there is as good
        as removed.
        """
        name, id = call.parameters.get("KeyName") or "", call.parameters.get("KeyPairId") or ""
        if not name and not id:
            raise missing("KeyName")
        if name and id:
            raise combination("The parameter KeyName cannot be used with the parameter KeyPairId")
        deleted = self._key_pairs.delete(call.caller, name=name, id=id)
        return deleted.addCallback(lambda gone: {"Return": True, "KeyPairId": gone})


def key_name(text: str) -> str:
    """
    @raise EC2Error: not a name that a key pair may have.
    """
    if not text:
        raise missing("KeyName")
    if not check_ascii("KeyName", text).isprintable() or text.strip() != text:
        raise invalid_value("KeyName", text, "It has no control characters, and no space at either end.")
    return text


def _answer(pair: KeyPair) -> dict[str, Any]:
    return {
        "KeyPairId": pair.id,
        "Tags": tags(pair.tags) if pair.tags else None,
        "KeyName": pair.name,
        "KeyFingerprint": pair.fingerprint,
    }
