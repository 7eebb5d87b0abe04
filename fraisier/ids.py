"""Identifiers as a port: UUIDv7, so that they sort by time and tell nothing else."""

from __future__ import annotations

import random
from typing import Protocol

from fraisier.clock import Clock


class Ids(Protocol):
    """Makes identifiers; doubles live in `fraisier.testing`."""

    def deployment(self) -> str:
        """Return a new UUIDv7 (RFC 9562) in its canonical text form."""
        ...

    def event(self) -> str:
        """Return a new UUIDv7; cheaper, because one process may need a hundred thousand a second."""
        ...


def uuid7(at_ms: int, random_74_bits: int) -> str:
    """Return the UUIDv7 of a time in milliseconds since the epoch and 74 bits of randomness."""
    high = (at_ms & 0xFFFFFFFFFFFF) << 16 | 0x7000 | (random_74_bits >> 62 & 0xFFF)
    low = 0x8000000000000000 | random_74_bits & 0x3FFFFFFFFFFFFFFF
    text = f"{high << 64 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class SystemIds:
    """UUIDv7 from the given clock and source of randomness (the operating system's by default)."""

    def __init__(self, clock: Clock, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._counter = self._rng.getrandbits(31)
        self._prefix = f"{0x8000 | self._rng.getrandbits(14):04x}-{self._rng.getrandbits(16):04x}"
        self._millis = -1
        self._stamp = ""

    def deployment(self) -> str:
        """Return a new UUIDv7."""
        return uuid7(self._clock.now_us() // 1000, self._rng.getrandbits(74))

    def event(self) -> str:
        """Return a new UUIDv7 whose random part is fixed for the process, followed by a counter."""
        self._counter = counter = (self._counter + 1) & 0xFFFFFFFF
        millis = self._clock.now_us() // 1000
        if millis != self._millis:  # many events share a millisecond, and with it most of their ids
            self._millis, digits = millis, f"{millis:012x}"
            self._stamp = f"{digits[:8]}-{digits[8:]}-7000-{self._prefix}"
        return f"{self._stamp}{counter:08x}"
