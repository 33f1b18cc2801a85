"""
How instances may ask the metadata door: each one's options, and a project's
defaults for new ones.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, inlineCallbacks

from fabric.cloud.access import Caller
from fabric.cloud.retry import until_written
from fabric.errors import Denied, NotFound, WrongState
from fabric.model.instance import Instance
from fabric.model.metadata_options import MetadataDefaults, MetadataOptions, effective
from fabric.store.interface import IStore, Stored, Want


class MetadataSettings:
    """
    Changes options and defaults.
    """

    def __init__(self, store: IStore) -> None:
        self._store = store

    def modify(self, caller: Caller, id: str, asked: Mapping[str, Any]) -> Deferred[MetadataOptions]:
        """
        Change some of an instance's options, whatever its state.

        @raise NotFound: the instance is not the caller's.
        @raise WrongState: it is terminated.
        @raise Denied: tokens are not to be optional in this project.
        """
        return until_written(lambda: self._modify(caller, id, asked))

    @inlineCallbacks
    def _modify(
        self, caller: Caller, id: str, asked: Mapping[str, Any]
    ) -> Generator[Deferred[Any], Any, MetadataOptions]:
        wants = [Want(Instance, id=id), Want(MetadataDefaults, id=caller.project)]
        stored, defaults = yield self._store.gather(wants)
        if stored is None or stored.record.project != caller.project:
            raise NotFound("instance", id)
        if not stored.record.live:
            raise WrongState("instance", id, stored.record.state, ["running", "stopped"])
        options = attrs.evolve(stored.record.metadata_options, **asked)
        if "tokens" in asked:
            _refuse_loose(options, defaults)
        if options != stored.record.metadata_options:
            transaction = self._store.transaction(caller.request_id)
            transaction.update(stored, attrs.evolve(stored.record, metadata_options=options))
            yield self._store.commit(transaction)
        return options  # type: ignore[no-any-return]

    @inlineCallbacks
    def defaults(self, caller: Caller) -> Generator[Deferred[Any], Any, MetadataDefaults]:
        """
        The project's; without any preference where none was ever set.
        """
        [stored] = yield self._store.read(MetadataDefaults, [caller.project])
        return stored.record if stored else MetadataDefaults(caller.project, caller.project)

    def set_defaults(self, caller: Caller, asked: Mapping[str, Any]) -> Deferred[None]:
        """
        Change some of the project's defaults; "" or 0 for no preference.
        """
        return until_written(lambda: self._set_defaults(caller, asked))

    @inlineCallbacks
    def _set_defaults(self, caller: Caller, asked: Mapping[str, Any]) -> Generator[Deferred[Any], Any, None]:
        [stored] = yield self._store.read(MetadataDefaults, [caller.project])
        before = stored.record if stored else MetadataDefaults(caller.project, caller.project)
        transaction = self._store.transaction(caller.request_id)
        if stored:
            transaction.update(stored, attrs.evolve(before, **asked))
        else:
            transaction.create(attrs.evolve(before, **asked))
        yield self._store.commit(transaction)


def agreed(asked: Mapping[str, Any], defaults: Stored[MetadataDefaults] | None) -> MetadataOptions:
    """
    The options of a launch that asks for these.

    @raise Denied: tokens are not to be optional in this project.
    """
    options = effective(dict(asked), defaults.record if defaults else None)
    _refuse_loose(options, defaults)
    return options


def _refuse_loose(options: MetadataOptions, defaults: Stored[MetadataDefaults] | None) -> None:
    if defaults and defaults.record.enforced == "enabled" and options.tokens != "required":
        raise Denied(defaults.record.project, "optional tokens: HttpTokens must be required")
