"""How an event is written for each kind of receiver. No I/O."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from fraisier.events import Record, to_public

PROGRAM = "fraisier"
SYSLOG_BYTES_MAX = 8192
"""What common syslog servers take; the standard asks for 2048 at least."""

_FACILITY = 13
"""`log audit` of RFC 5424."""

_ERROR, _WARNING, _NOTICE = 3, 4, 5
_ERRORS = ("failed", "unreachable", "in_doubt", "needs_attention", "lost", "unavailable", "refused")
_WARNINGS = ("rolled_back", "interrupted", "paused", "superseded", "aborted", "waiting", "slow", "rejected")
_PLACE = ("deployment_id", "fraise", "environment", "target", "step")
_length = struct.Struct("<Q").pack


def line_of(record: Record) -> bytes:
    """Return the event in its public form as one line of JSON, without an end."""
    return msgspec.json.encode(to_public(record))


def severity_of(event_type: str) -> int:
    """Return the syslog severity of an event type: error, warning or notice."""
    if event_type == "security.reported":
        return _WARNING
    end = event_type.rpartition(".")[2]
    return _ERROR if end in _ERRORS else _WARNING if end in _WARNINGS else _NOTICE


def within(public: Mapping[str, Any], bytes_max: int) -> bytes:
    """Return the event as JSON of at most `bytes_max` bytes. One that is longer says how long its data is, in their place:
    a line that was cut would be no JSON any more."""
    whole = msgspec.json.encode(public)
    if len(whole) <= bytes_max:
        return whole
    return msgspec.json.encode(
        {**public, "data": {"omitted_bytes": len(msgspec.json.encode(public["data"]))}}
    )


def rfc5424(record: Record, *, host: str, pid: int) -> bytes:
    """Return a datagram for a syslog server. The message is JSON, its id the event's type."""
    public = to_public(record)
    kind = public["type"]
    head = f"<{_FACILITY * 8 + severity_of(kind)}>1 {public['time']} {host or '-'} {PROGRAM} {pid} {kind} - "
    return head.encode("ascii", "replace") + within(public, SYSLOG_BYTES_MAX - len(head))


def local_syslog(record: Record, *, pid: int) -> bytes:
    """Return a datagram as the C library writes it to the syslog socket of this machine."""
    public = to_public(record)
    at = datetime.fromtimestamp(record.at_us / 1_000_000, tz=UTC).astimezone()
    stamp = f"{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}"
    head = f"<{_FACILITY * 8 + severity_of(public['type'])}>{stamp} {PROGRAM}[{pid}]: "
    return head.encode() + within(public, SYSLOG_BYTES_MAX - len(head))


# Not strftime's: those follow the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def journal_entry(record: Record) -> bytes:
    """Return an entry of the native protocol of systemd's journal: a sentence, the place in fields, the event as JSON."""
    public = to_public(record)
    where = " ".join(str(public[key]) for key in ("fraise", "environment", "target", "step") if public[key])
    fields: dict[str, Any] = {
        "MESSAGE": f"{public['type']} {where}".rstrip(),
        "PRIORITY": severity_of(public["type"]),
        "SYSLOG_FACILITY": _FACILITY,
        "SYSLOG_IDENTIFIER": PROGRAM,
        "FRAISIER_TYPE": public["type"],
        "FRAISIER_ID": public["id"],
        "FRAISIER_SEQ": public["seq"],
        **{f"FRAISIER_{key.upper()}": public[key] for key in _PLACE if public[key]},
        "FRAISIER_EVENT": msgspec.json.encode(public).decode(),
    }
    return b"".join(_field(name, str(value).encode()) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return name.encode() + b"\n" + _length(len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
