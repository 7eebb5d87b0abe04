"""Events as bytes: the stored body of a journal row, and the JSON line that people and programs read."""

from __future__ import annotations

from typing import Any, Union

import msgspec

from fraisier.clock import rfc3339
from fraisier.errors import ValidationError
from fraisier.events.types import EVENT_TYPES, TYPE_OF, Event

_ENVELOPE = ("deployment_id", "fraise", "environment", "target", "step", "attempt")


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event with its place: `seq` in the journal (0 when ephemeral), its id and its time in microseconds."""

    seq: int
    id: str
    at_us: int
    event: Event


class _Stamp(msgspec.Struct, frozen=True):
    id: str
    at: int


_encode = msgspec.json.Encoder().encode
_decode_stamp = msgspec.json.Decoder(_Stamp).decode
_decode_event = msgspec.json.Decoder(Union[tuple(EVENT_TYPES.values())]).decode  # noqa: UP007


def encode_body(event_id: str, at_us: int, event: Event) -> bytes:
    """Return the exact bytes that are stored and hashed. Raises ValidationError for what cannot be encoded."""
    if event.__class__ not in TYPE_OF:
        raise ValidationError(
            f"{type(event).__name__} is not a registered event type", context={"type": str(type(event))}
        )
    try:
        return b'{"id":"%b","at":%d,%b' % (event_id.encode(), at_us, _encode(event)[1:])
    except (TypeError, ValueError) as error:
        raise ValidationError(
            f"the event {TYPE_OF[event.__class__]} cannot be encoded: {error}", cause=error
        ) from error


def check_event(event: Event) -> None:
    """Raise ValidationError for an event that could not be stored and read again."""
    decode_event(encode_body("", 0, event))


def decode_event(body: bytes) -> Event:
    """Return the event in a body that was just encoded, as every reader will see it. Raises ValidationError."""
    try:
        event: Event = _decode_event(body)
    except msgspec.MsgspecError as error:
        raise ValidationError(f"the event could not be read again: {error}", cause=error) from error
    return event


def decode_body(seq: int, body: bytes) -> Record:
    """Return the record that `body` describes. Raises ValidationError when it is not one of ours."""
    try:
        stamp = _decode_stamp(body)
        return Record(seq, stamp.id, stamp.at, _decode_event(body))
    except msgspec.MsgspecError as error:
        raise ValidationError(
            f"row {seq} of the journal cannot be read: {error}", context={"seq": seq}, cause=error
        ) from error


def to_public(record: Record) -> dict[str, Any]:
    """Return the event as documented: id, seq, type, time, the envelope's keys (null where empty) and `data`."""
    event = record.event
    data: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        data[name] = (
            msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else msgspec.to_builtins(value)
        )
    public: dict[str, Any] = {
        "id": record.id,
        "seq": record.seq or None,
        "type": TYPE_OF[record.event.__class__],
        "time": rfc3339(record.at_us),
    }
    for key in _ENVELOPE:
        public[key] = data.pop(key, None) or None
    public["data"] = data
    return public
