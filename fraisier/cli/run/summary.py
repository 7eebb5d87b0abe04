"""The last words of a deployment: how it ended, why, where, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from fraisier.cli.context import Call, forget_lost
from fraisier.cli.render import Painter, one_line, short, took
from fraisier.rollout.result import NOT_ENDED, DeploymentResult, TargetResult

_TARGETS_TOLD = 10
_FINE = frozenset({"updated", "unchanged", "untouched"})


def summary(result: DeploymentResult, painter: Painter) -> str:
    """Return the closing lines."""
    lines = how_it_ended(result, painter)
    lines += [f"  next: {command}" for command in next_commands(result)]
    lines.append(painter.paint(f"  audit head {result.audit_head or '-'}", "dim"))
    return "\n".join(lines)


def how_it_ended(result: DeploymentResult, painter: Painter) -> list[str]:
    """Return the lines that tell the outcome, why, and where."""
    outcome = painter.state(result.outcome).replace(result.outcome, result.outcome.replace("_", " ").upper())
    counts = Counter(target.outcome for target in result.targets)
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items()))
    lines = [
        f"{outcome} {result.fraise} in {result.environment}: {_move(result)} after {took(result.duration_s)}"
        f"{f' ({told})' if told else ''}"
    ]
    if result.fallback:
        lines.append(f"  through the fallback {result.fallback} ({result.provider})")
    if reason := _because(result):
        lines.append(f"  {reason}")
    # The reason often quotes the first failed target; nobody needs to read that twice.
    troubled = [
        t for t in result.targets if t.outcome not in _FINE and t.error and one_line(t.error) not in reason
    ]
    lines += [f"  {_last_words(target)}" for target in troubled[:_TARGETS_TOLD]]
    if len(troubled) > _TARGETS_TOLD:
        lines.append(f"  … and {len(troubled) - _TARGETS_TOLD} more targets")
    return lines


def _move(result: DeploymentResult) -> str:
    if result.previous_version and result.previous_version != result.version:
        return f"{short(result.previous_version)} -> {short(result.version)}"
    return short(result.version) if result.version else "no version"


def _because(result: DeploymentResult) -> str:
    parts = [part for part in ((result.reason or "").replace("_", " "), result.detail or "") if part]
    shown = [part for part in parts if part != result.outcome]
    return one_line(": ".join(shown))


def _last_words(target: TargetResult) -> str:
    error = one_line(target.error or "").removeprefix(f"{target.name}: ")
    return f"{target.name}: {target.outcome.replace('_', ' ')}: {error}"


def next_commands(result: DeploymentResult) -> list[str]:
    """Return what a person would type next, the best first."""
    show = f"fraisier show {result.deployment_id}"
    place = f"{result.fraise} {result.environment}"
    match result.outcome:
        case "succeeded" | "unchanged":
            return []
        case "interrupted":
            return [f"fraisier resume {result.deployment_id}   (or `fraisier abort`)", show]
        case "paused":
            return [
                f"fraisier resume {result.deployment_id}   (or `fraisier abort {result.deployment_id}`)",
                show,
                *_logs(result),
            ]
        case "aborted":
            return [show]
        case outcome if outcome in NOT_ENDED:
            return [f"fraisier events {result.deployment_id} --follow"]
        case "locked":
            return [result.hint or f"fraisier deploy {place} --lock-wait 10m"]
        case "unreachable" | "skipped":
            return [result.hint or show]
        case "needs_attention":
            return [
                f"fraisier status {place} --live",
                result.hint or f"fraisier resume {result.deployment_id}   (it looks again)",
                show,
            ]
    return [show, *_logs(result)]


def _logs(result: DeploymentResult) -> list[str]:
    failed = [target.name for target in result.targets if target.error]
    return [f"fraisier logs {result.fraise} {result.environment} --target {failed[0]}"] if failed else []


def print_results(call: Call, results: Iterable[DeploymentResult]) -> None:
    """Print the end of each deployment: a JSON line, or the closing lines."""
    for result in results:
        if not call.json:
            call.say(summary(result, call.painter(call.stderr)))
            continue
        try:
            call.data(msgspec.json.encode(result.to_dict()).decode())
        except OSError:
            if result.outcome != "interrupted":
                raise
            # The terminal that was closed, which interrupted it, cannot show the result either.
            forget_lost(call.stdout)
