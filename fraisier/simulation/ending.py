"""What can only be asked of a trial at its end, and how its story is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from fraisier.events import TYPE_OF, Record
from fraisier.simulation.hosts import ReceiptKey
from fraisier.simulation.spec import Spec

T = TypeVar("T")

_TOLD = ("attempt", "outcome", "reason", "action", "detail", "message", "epoch", "release")


def told_line(record: Record) -> str:
    """Return a record as a line of the story."""
    event = record.event
    step = getattr(event, "step", "")
    words: list[Any] = [TYPE_OF[event.__class__], f"{step}@{event.target}" if step else event.target]
    words += [f"{key}={value}" for key in _TOLD if (value := getattr(event, key, ""))]
    return f"{record.seq:4} {record.at_us} {event.deployment_id[-6:]} {' '.join(filter(None, words))}"


def repeated(migrations: list[tuple[str, str, str]], spec: Spec, *, is_forgetful: bool) -> list[str]:
    """Return the migrations that happened more often than they may. Where the store forgot what it had called safe, only
    the target itself can tell that it had migrated: another one cannot know it."""
    migrate = spec.settings.migrate
    if migrate is None or migrate.resume == "rerun":
        return []
    done = [(release, name) for kind, release, name in migrations if kind == "do"]
    if migrate.on == "first" and not is_forgetful:
        done = [(release, "") for release, _ in done]
    return [
        f"P6: the migration of {release} was done {count} times{f' on {name}' if name else ''}"
        for (release, name), count in Counter(done).items()
        if count > 1
    ]


def repeated_hooks(hooks: list[tuple[str, ReceiptKey]], spec: Spec) -> list[str]:
    """Return the hooks that came to their end more often than they may: once for each place and deployment."""
    configured = spec.settings.hooks
    once = {
        h.name
        for point in configured.__struct_fields__
        for h in getattr(configured, point)
        if h.resume == "manual"
    }
    times = Counter((name, key[:2]) for name, key in hooks if name in once)
    return [
        f"P6: the hook {name} of {key[0][-6:]} ({key[1]}) ran {count} times"
        for (name, key), count in times.items()
        if count > 1
    ]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what work comes to that never waits: the store is in memory."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast(T, ended.value)
    raise RuntimeError("the simulated store waited")
