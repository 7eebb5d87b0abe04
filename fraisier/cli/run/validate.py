"""`validate`: every problem of the configuration at once. It touches no target and starts no event loop."""

from __future__ import annotations

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.config.loader import validate_file


def validate(call: Call) -> int:
    """Print the problems, each with its place; exit with 2 when there are any."""
    path = call.config_path()
    problems = validate_file(path)
    if call.json:
        call.document({"ok": not problems, "problems": [problem.to_dict() for problem in problems]})
    elif problems:
        painter = call.painter()
        for problem in problems:
            place = painter.paint(f"{problem.file}:{problem.line}:{problem.column}", "bold")
            key = f" {problem.path}:" if problem.path else ""
            call.data(f"{place}:{key} {problem.message}")
            if problem.suggestion:
                call.data(f"    {problem.suggestion}")
        call.say(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {path}")
    else:
        call.data(f"{path} is valid")
    return exits.USAGE if problems else exits.OK
