"""Trials as files: what once failed is kept as JSON, with the reason, and must never fail again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fraisier.simulation.spec import Spec


class Kept(msgspec.Struct, frozen=True):
    """A trial, and a sentence that says what went wrong in it."""

    why: str
    spec: Spec


def keep(kept: Kept, path: Path) -> None:
    """Write a trial to a file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def load(path: Path) -> Kept:
    """Return the trial of a file. Raises msgspec.ValidationError for one that this version does not know."""
    return msgspec.json.decode(path.read_bytes(), type=Kept)
