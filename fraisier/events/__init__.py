"""Facts, past tense, and how they are written down."""

from fraisier.events.codec import Record, decode_body, encode_body, to_public
from fraisier.events.types import EVENT_PATTERNS, EVENT_TYPES, TYPE_OF, Actor, Event, Holder

__all__ = [
    "EVENT_PATTERNS",
    "EVENT_TYPES",
    "TYPE_OF",
    "Actor",
    "Event",
    "Holder",
    "Record",
    "decode_body",
    "encode_body",
    "to_public",
]
