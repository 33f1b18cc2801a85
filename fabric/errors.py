"""
Every error that one part of the cloud may raise to another.

An error is a small value with typed fields.  It crosses the queue by its class
name and fields (L{to_wire}, L{from_wire}), so a caller on another host catches
the same class that the worker raised.  Doors translate these to their own
faults in one place each; nothing here knows a wire format.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

import attrs

E = TypeVar("E", bound="type[FabricError]")

_known: dict[str, type[FabricError]] = {}


@attrs.define(auto_exc=True, eq=False, slots=False)
class FabricError(Exception):
    """
    The root of all errors that are part of an interface.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _known[cls.__name__] = cls

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in to_wire(self)["fields"].items())
        return f"{type(self).__name__}({fields})"


@dataclass_transform(eq_default=False)
def error(cls: E) -> E:
    """
    Make an error class of annotated fields.
    """
    made: E = attrs.define(auto_exc=True, eq=False, slots=False, str=False)(cls)
    return made


def to_wire(failure: FabricError) -> dict[str, Any]:
    """
    @return: the JSON shape of an error: C{{"error": class name, "fields": {...}}}.
    """
    fields = {field.name: getattr(failure, field.name) for field in attrs.fields(type(failure))}
    return {"error": type(failure).__name__, "fields": fields}


def from_wire(data: dict[str, Any]) -> FabricError:
    """
    The error that L{to_wire} described; L{RemoteFailure} for one that this
    version does not know.
    """
    cls = _known.get(str(data.get("error")))
    fields = data.get("fields") or {}
    if cls is not None:
        try:
            return cls(**fields)
        except TypeError:
            pass
    return RemoteFailure(what=f"{data.get('error')}: {fields}")


@error
class NotFound(FabricError):
    """Nothing of that kind has that id, or it belongs to somebody else."""

    kind: str
    id: str


@error
class AlreadyExists(FabricError):
    """A unique name is taken, by the record C{holder}."""

    kind: str
    name: str
    holder: str


@error
class WrongState(FabricError):
    """The thing is in state C{found}; the verb needs one of C{wanted}."""

    kind: str
    id: str
    found: str
    wanted: list[str]


@error
class Conflict(FabricError):
    """The record changed since the caller read it; read again and retry."""

    kind: str
    id: str


@error
class LimitExceeded(FabricError):
    """Counter C{counter} would become C{wanted}, above C{limit}; nothing was written."""

    counter: str
    limit: int
    used: int
    wanted: int


@error
class QuotaExceeded(FabricError):
    """A project's quota does not allow it."""

    resource: str
    limit: int
    used: int
    wanted: int


@error
class PoolEmpty(FabricError):
    """A pool has fewer free members than were asked for; none was taken."""

    pool: str
    wanted: int


@error
class MemberTaken(FabricError):
    """A named pool member is held by another record, or is not of the pool."""

    pool: str
    member: str
    holder: str


@error
class InvalidValue(FabricError):
    """A value that a caller gave can't be meant."""

    name: str
    value: str
    why: str


@error
class InUse(FabricError):
    """C{id} can't be removed while C{by} uses it."""

    kind: str
    id: str
    by: str


@error
class IdempotencyMismatch(FabricError):
    """A client token was used before, with other parameters."""

    token: str


@error
class TokenSpent(FabricError):
    """A client token was used before; what was made then is gone."""

    token: str


@error
class Denied(FabricError):
    """The person may not do this."""

    who: str
    what: str


@error
class Protected(FabricError):
    """The thing is protected against this verb by its own attribute."""

    kind: str
    id: str
    attribute: str


@error
class Unsupported(FabricError):
    """A lawful request that this cloud, or this driver, can't carry out."""

    what: str


@error
class NoCapacity(FabricError):
    """No host has room; C{reasons} maps a host's name to why it refused."""

    reasons: dict[str, str]


@error
class Unavailable(FabricError):
    """A part of the cloud does not answer now; a retry may succeed."""

    service: str
    why: str


@error
class DeadlineExceeded(FabricError):
    """No answer came in time; the work may or may not have been done."""

    what: str
    seconds: float


@error
class UnknownMethod(FabricError):
    """The worker's interface has no such method or argument."""

    interface: str
    method: str
    why: str


@error
class RemoteFailure(FabricError):
    """A worker failed in a way that its interface does not list."""

    what: str


@error
class DriverFailure(FabricError):
    """The tool under a driver failed; C{what} is fit for an operator's eyes."""

    what: str
