"""`python -m tests.mutation [GROUP]`: prints the figure of each group, and the mutants that no test noticed."""

from __future__ import annotations

import sys

from tests.mutation.groups import GROUPS, measure


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Measure the groups that are named, or all."""
    for name in sys.argv[1:] or GROUPS:
        found = measure(name, tell=say)
        say(f"{name}: {found.killed} of {found.total} mutants noticed ({found.share:.1%})")


if __name__ == "__main__":
    main()
