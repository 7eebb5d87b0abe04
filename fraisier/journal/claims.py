"""Who runs a durable subscriber: one process each, or a daemon and a terminal would both send the
notification."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from fraisier.journal.faults import opening_error

CLAIMS_FOLDER = "claims"
"""Beside the store; it comes into being when a store is first used."""


class Claims(Protocol):
    """Grants the right to run a durable subscriber to one live holder at a time."""

    def claim(self, subscriber: str) -> bool:
        """Take the right; False while another live holder has it. Never waits."""
        ...

    def release(self, subscriber: str) -> None:
        """Give the right back; nothing happens when it is not held."""
        ...


class UncontestedClaims:
    """Grants everything: for a journal that no other process can open."""

    def claim(self, subscriber: str) -> bool:
        """Return True."""
        return True

    def release(self, subscriber: str) -> None:
        """Do nothing."""


class FileClaims:
    """Holds an flock on one file a subscriber in `directory`; the kernel gives it back when the process
    dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def claim(self, subscriber: str) -> bool:
        """Take the lock if nobody has it. Raises DatabaseConnectionError when the file cannot be opened."""
        if subscriber in self._held:
            return True
        path = self._directory / f"{quote(subscriber, safe='')}.lock"
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise opening_error(path, error, what="lock file") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[subscriber] = descriptor
        return True

    def release(self, subscriber: str) -> None:
        """Drop the lock. The file stays: removing it would let two processes lock two files of one name."""
        descriptor = self._held.pop(subscriber, None)
        if descriptor is not None:
            os.close(descriptor)
