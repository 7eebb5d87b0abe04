"""`history` and `show`: past deployments, and one of them in full."""

from __future__ import annotations

from typing import Any

from fraisier import reports
from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.render import Painter, age, one_line, short, table, took
from fraisier.cli.run.filters import check_word
from fraisier.cli.run.reading import one_deployment, reading
from fraisier.journal.state import OPEN_STATES, TERMINAL_STATES

ID_CHARS = 13
"""So much of a deployment's id is shown in tables: its time to the millisecond, which `show` finds it by."""


def history(call: Call, *, fraise: str, environment: str, status: str, limit: int) -> int:
    """Print past deployments, newest first. Raises UsageError for an outcome or state that there is not."""
    if status:
        check_word("--status", status, {*exits.OUTCOMES, *OPEN_STATES, *TERMINAL_STATES})

    async def read() -> dict[str, Any]:
        async with reading(call) as journal:
            return await reports.history(
                journal, fraise=fraise, environment=environment, status=status, limit=limit
            )

    found = run_async(read)
    if call.json:
        call.document(found)
    elif not found["deployments"]:
        call.note("no deployment matches")
    else:
        call.data(_rows(found["deployments"], call.painter()))
    return 0


def _rows(rows: list[dict[str, Any]], painter: Painter) -> str:
    heads = ("ID", "FRAISE", "ENV", "KIND", "VERSION", "OUTCOME", "REASON", "WHEN", "TOOK", "BY")
    cells = [
        (
            row["deployment_id"][:ID_CHARS],
            row["fraise"],
            row["environment"],
            row["kind"],
            short(row["version"]),
            row["outcome"],
            (row["reason"] or "-") if row["reason"] != row["outcome"] else "-",
            age(row["started_at"]),
            took(row["duration_s"]),
            row["actor"] or "-",
        )
        for row in rows
    ]
    return table(heads, cells, painter, states=(5,))


def show(call: Call, *, deployment: str) -> int:
    """Print all about one deployment."""

    async def read() -> dict[str, Any]:
        async with reading(call) as journal:
            return reports.show(await one_deployment(journal, deployment))

    found = run_async(read)
    if call.json:
        call.document(found)
    else:
        call.data(_story(found, call.painter()))
    return 0


def _story(found: dict[str, Any], painter: Painter) -> str:
    lines = [
        painter.paint(f"{found['kind']} {found['deployment_id']}", "bold"),
        f"  fraise       {found['fraise']} in {found['environment']}",
        f"  version      {short(found['previous_version'])} -> {short(found['version'])}",
        f"  outcome      {painter.state(found['outcome'])}{_because(found)}",
        f"  asked by     {found['actor'] or '-'} ({found['trigger'] or '-'})",
        f"  started      {found['started_at'] or '-'}",
        f"  ended        {found['finished_at'] or '-'} (took {took(found['duration_s'])})",
    ]
    told = (
        ("fallback", "fallback"),
        ("undoes", "rollback_of"),
        ("decision", "decision"),
        ("rolled back by", "child_id"),
    )
    for label, key in told:
        if found[key]:
            lines.append(f"  {label:<12} {found[key]}")
    for target in found["targets"]:
        lines += ["", *_target(target, painter)]
    return "\n".join(lines)


def _because(found: dict[str, Any]) -> str:
    told = [text for text in (found["reason"], found["detail"]) if text and text != found["outcome"]]
    return f" ({one_line(': '.join(told))})" if told else ""


def _target(target: dict[str, Any], painter: Painter) -> list[str]:
    wave = f", wave {target['wave']}" if target["wave"] else ""
    head = f"{painter.paint(target['name'], 'bold')}: {painter.state(target['outcome'])}{wave}, {took(target['duration_s'])}"
    lines = [head, f"  release {target['previous_release'] or 'none'} -> {target['release'] or 'none'}"]
    if target["error"]:
        lines.append(f"  {painter.paint(one_line(target['error']), 'red')}")
    for step in target["steps"]:
        tries = f", try {step['attempt']}" if step["attempt"] > 1 else ""
        error = f": {one_line(step['error'])}" if step["error"] else ""
        lines.append(
            f"    {step['step']:<10} {painter.state(step['status'])} {took(step['duration_s'])}{tries}{error}"
        )
    return lines
