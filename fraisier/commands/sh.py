"""Pieces of POSIX sh (dash, busybox): quoting, environments, exit codes of our own scripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

EXIT_REFUSED = 70
"""The target's state forbids it; repeating cannot help."""
EXIT_BUSY = 75
"""Something is missing or in the way at the moment; repeating may help."""
EXIT_FENCED = 76
"""A newer holder was seen at the target."""
EXIT_CONFIG = 78
"""The configuration does not fit the target."""

FAIL = 'fail() { code=$1; shift; printf "%s\\n" "$*" >&2; exit "$code"; }'

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

quote = shlex.quote


def is_variable(name: str) -> bool:
    """Whether the shell can export a variable of this name."""
    return _VARIABLE.match(name) is not None


def exports(env: Mapping[str, str]) -> str:
    """Return lines that export `env`. Names must be variables."""
    return "".join(f"export {name}={quote(value)}\n" for name, value in env.items())


def words(values: Iterable[str]) -> str:
    """Return the values as separate, quoted words."""
    return " ".join(quote(value) for value in values)


def fields_after_name(variable: str) -> str:
    """Return a command of sh that leaves of `variable`, a line of /proc/PID/stat, what follows the name in parentheses, which
    may hold parentheses itself. To be run under `set -f`.

    `${x##*)}` says the same, but dash tries the pattern at every place, which takes longer than all the rest of a look."""
    return f"{{ _fr_ifs=$IFS; IFS=')'; for {variable} in ${variable}; do :; done; IFS=$_fr_ifs; }}"


def pairs(output: str) -> dict[str, str]:
    """Return the `key value` lines that a script printed; the last one of a key counts."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        key, _, value = line.partition(" ")
        if key:
            found[key] = value
    return found
