"""How a rehearsal looks: what happens when, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fraisier.cli import exits
from fraisier.cli.render import Painter, one_line, table
from fraisier.cli.run.summary import how_it_ended
from fraisier.rollout.result import DeploymentResult

_CHARS_MAX = 110


def rehearsal_text(document: Mapping[str, Any], result: DeploymentResult, painter: Painter) -> str:
    """Return the timeline of a rehearsal and its end, from its JSON document, as people read it."""
    rows = [
        (_at(entry["at_s"]), str(entry["seq"] or ""), _where(entry), _clipped(entry["detail"]))
        for entry in document["timeline"]
    ]
    code = document["exit_code"]
    lines = [
        painter.paint("rehearsal, in virtual time: no target is touched", "bold"),
        *_script(document),
        "",
        table(("AT", "FACT", "WHERE", "WHAT"), rows, painter),
        "",
        *how_it_ended(result, painter),
    ]
    if document["reason"] and document["reason"] != result.reason:
        lines.append(f"  {one_line(document['reason'])}")
    lines.append(f"a real run would have ended with exit code {code}: {exits.MEANINGS[code]}")
    return "\n".join(lines)


def _script(document: Mapping[str, Any]) -> list[str]:
    """Return what was made to go wrong."""
    told = [f"  fails: {', '.join(steps)} on {name}" for name, steps in document["fail"].items()]
    after, facts = document["kill_after"], document["facts"]
    if document["killed"]:
        told.append(f"  kill -9 after fact {facts}, then resume")
    elif after:
        told.append(f"  kill -9 after fact {after}: it never came to that, for it wrote {facts}")
    return told


def _at(at_s: float) -> str:
    """Return an offset as `+0.4s`, `+12.3s`, `+3m05.0s`."""
    minutes, seconds = divmod(round(at_s, 1), 60)
    return f"+{int(minutes)}m{seconds:04.1f}s" if minutes else f"+{seconds:.1f}s"


def _where(entry: Mapping[str, Any]) -> str:
    """Return the target, or what else it is about: the linked rollback, a wave."""
    wave = f"wave {entry['wave']}" if entry["wave"] else ""
    place = entry["target"] or ("rollback" if entry["rollback"] else "")
    return " ".join(part for part in (place, wave) if part)


def _clipped(text: str) -> str:
    """Return the beginning of a long sentence; the end of the rehearsal quotes the one that counts in full."""
    return text if len(text) <= _CHARS_MAX else f"{text[:_CHARS_MAX]}…"
