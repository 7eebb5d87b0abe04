"""What the end of a command means."""

from __future__ import annotations

from fraisier.commands.sh import EXIT_BUSY, EXIT_CONFIG, EXIT_FENCED
from fraisier.errors import (
    FencedError,
    FraisierError,
    ProviderConfigurationError,
    ProviderError,
    ProviderUnavailableError,
)
from fraisier.redaction import clip
from fraisier.transports.base import Completed

TAIL_LINES = 20
_CLASSES: dict[int, type[FraisierError]] = {
    EXIT_BUSY: ProviderUnavailableError,
    EXIT_CONFIG: ProviderConfigurationError,
    EXIT_FENCED: FencedError,
}


def last_lines(text: str, count: int = TAIL_LINES) -> list[str]:
    """Return the last lines that are not empty."""
    return [line for line in text.splitlines() if line.strip()][-count:]


def refused(where: str, done: Completed) -> FraisierError:
    """Return the error for one of our own scripts that ended with a refusal."""
    said = " ".join(last_lines(done.stderr, 3)) or f"exit code {done.exit_code}"
    return _CLASSES.get(done.exit_code, ProviderError)(
        f"{where}: {said}", context={"exit_code": done.exit_code}
    )


def failed(
    where: str, label: str, done: Completed, kind: type[FraisierError] = ProviderError
) -> FraisierError:
    """Return the error for a user's command (`label` as configured) that did not end with 0."""
    tail = last_lines(done.stdout + "\n" + done.stderr)
    how = f"ended by signal {done.exit_code - 128}" if done.exit_code > 128 else f"exit code {done.exit_code}"
    said = f": {clip(tail[-1], 300)}" if tail else ""
    return kind(
        f"{where}: `{label}` failed, {how}{said}",
        context={"exit_code": done.exit_code, "command": label, "output_tail": tail},
        recoverable=False,
    )
