"""What one deployment tells while it runs: its exit code, its result, its events and its log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.acceptance.kit import Run, outcomes
from tests.lab.ten import Row

_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR"}


@dataclass
class Done:
    """A deployment that was carried out."""

    row: Row
    run: Run

    @property
    def id(self) -> str:
        found: str = self.run.result["deployment_id"]
        return found


def check_result(one: Done) -> None:
    """The exit code and the last line on stdout."""
    row, result = one.row, one.run.result
    told = (one.run.code, result["type"], result["outcome"], result["reason"], result["fallback"])
    assert told == (row.code, "result", row.outcome, row.reason, row.fallback), row.name
    assert (result["fraise"], result["environment"]) == (row.fraise, row.environment)
    assert result["provider"] == "local"
    assert outcomes(result) == row.outcomes, row.name
    assert row.error in (result["detail"] or ""), row.name
    assert bool(result["detail"]) == bool(row.error), row.name
    failed = {target["name"] for target in result["targets"] if target["error"]}
    assert failed == row.spoilt


def check_events(one: Done) -> None:
    """The lines before the last one on stdout."""
    lines = [line for line in one.run.lines if line["type"] != "result"]
    own = [words_of(line, line["data"]) for line in lines if line["deployment_id"] == one.id]
    assert missing(one.row.facts, own, levels=False) == [], one.row.name


def check_log(one: Done) -> None:
    """Each line on stderr says which deployment, and where in it."""
    own = []
    for text in one.run.err.splitlines():
        line = json.loads(text)
        context = line["context"]
        assert {"timestamp", "level", "logger", "message", "context", "exception"} == line.keys()
        assert context["deployment_id"]
        if line["message"].startswith("step."):
            # Only a hook of the deployment as a whole is at no target.
            assert context.get("target") or context["step"].startswith("hook:")
            assert context["step"]
        if context["deployment_id"] == one.id:
            assert (context["fraise"], context["environment"]) == (one.row.fraise, one.row.environment)
            place = {"type": line["message"], **{key: context.get(key) for key in ("target", "step")}}
            own.append({line["level"], *words_of(place, context)})
    assert missing(one.row.facts, own, levels=True) == [], one.row.name


def words_of(place: dict[str, Any], data: dict[str, Any]) -> set[str]:
    """An event as words: its type, target, step, and `key=value` of its simple fields."""
    fields = {**data, "attempt": place.get("attempt", data.get("attempt"))}
    simple = {f"{key}={value}" for key, value in fields.items() if isinstance(value, str | int | float)}
    return {place["type"], place["target"] or "-", place["step"] or "-", *simple}


def missing(facts: Iterable[str], found: Iterable[set[str]], *, levels: bool) -> list[str]:
    """The facts, from the first one on that is not found behind those before it."""
    left = list(facts)
    for words in found:
        wanted = set(left[0].split()) if left else {""}
        if (wanted if levels else wanted - _LEVELS) <= words:
            left.pop(0)
    return left
