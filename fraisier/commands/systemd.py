"""systemd units: argv, scripts, and how their answers are read."""

from __future__ import annotations

from typing import Literal

from fraisier.commands.identity import RELEASE_OF
from fraisier.commands.sh import EXIT_CONFIG, EXIT_REFUSED, FAIL, quote

PROPERTIES = (
    "LoadState",
    "InvocationID",
    "ActiveState",
    "SubState",
    "MainPID",
    "Result",
    "ExecMainStatus",
)
BEGINNING = "-"
"""The cursor before the first line of a unit that has written nothing yet."""
_NO_SYSTEMD = (
    f"command -v systemctl >/dev/null 2>&1 || "
    f'fail {EXIT_CONFIG} "systemctl is not there: this target has no systemd"'
)


def control(action: Literal["start", "stop", "restart"], unit: str) -> list[str]:
    """Return the argv that starts, stops or restarts a unit."""
    return ["systemctl", action, "--", unit]


def forgive(unit: str) -> str:
    """Forget failures and the count of starts, so that those of an earlier release do not forbid this one's start.

    Without the right to do so, or without anything to forget, nothing happens.
    """
    return f"systemctl reset-failed -- {quote(unit)} >/dev/null 2>&1 || :"


def show(app: str, unit: str) -> str:
    """Print the PROPERTIES of a unit as `Name=value` lines, and `running_release ID` of its main process."""
    return f"""\
{FAIL}
{RELEASE_OF}{_NO_SYSTEMD}
shown=$(systemctl show --property={",".join(PROPERTIES)} -- {quote(unit)}) || exit 1
printf '%s\\n' "$shown"
main=$(printf '%s\\n' "$shown" | {{ while IFS== read -r key value; do [ "$key" = MainPID ] && echo "$value"; done; }})
case $main in ''|0|*[!0-9]*) exit 0 ;; esac
root=$(cd -P -- {quote(app)} 2>/dev/null && pwd -P) || exit 0
release_of "$main"
[ -z "$of" ] || echo "running_release=$of"
exit 0
"""


def properties(output: str) -> dict[str, str]:
    """Return what `show` printed."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def journal(unit: str, *, lines: int) -> str:
    """Print the last lines of a unit's journal, and a last line `-- cursor: C` when there are any."""
    return _journalctl(f"--lines={lines} --show-cursor --unit={quote(unit)}")


def journal_since(unit: str, cursor: str) -> str:
    """Print what a unit's journal has after `cursor` (empty: nothing yet; BEGINNING: all), and the new `-- cursor: C`."""
    # The cursor has to be one of the unit's own: journalctl takes the first match after a foreign one for the cursor's entry.
    after = {"": "--lines=0", BEGINNING: "--lines=all"}.get(cursor) or f"--after-cursor={quote(cursor)}"
    return _journalctl(f"{after} --show-cursor --unit={quote(unit)}")


def journal_of_start(invocation: str, *, lines: int) -> str:
    """Print the last lines that one start of a unit wrote, and that systemd wrote about it."""
    of = quote(f"_SYSTEMD_INVOCATION_ID={invocation}")
    about = quote(f"INVOCATION_ID={invocation}")
    # What a process wrote just before it ended may still be on its way to the journal.
    return f"journalctl --sync >/dev/null 2>&1\n{_journalctl(f'--lines={lines} {of} + {about}')}"


def _journalctl(words: str) -> str:
    # That nothing was found also ends with 1, but silently.
    return f"""\
{FAIL}
command -v journalctl >/dev/null 2>&1 || fail {EXIT_CONFIG} "journalctl is not there: no systemd here"
{{ said=$(journalctl --quiet --no-pager --output=short-iso {words} 2>&1 1>&3); code=$?; }} 3>&1
[ "$code" = 0 ] || [ -z "$said" ] || fail {EXIT_REFUSED} "$said"
"""
