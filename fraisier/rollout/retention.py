"""Which releases of a target stay on its disk. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fraisier.journal.fold import Release


def kept(
    releases: Sequence[Release],
    *,
    keep_releases: int,
    keep_failed: int,
    always: Iterable[str],
    new_good: str = "",
) -> tuple[str, ...]:
    """Return the names to keep: `always` (current, last good, way back), the newest good ones, and failed ones to look at.

    `releases` are newest first. `new_good` is good already though its row does not say so yet; it counts as the newest.
    """
    always = [name for name in always if name]
    good = [new_good] if new_good else []
    good += [r.release for r in releases if r.good and r.status != "pruned" and r.release != new_good]
    failed = [r.release for r in releases if not r.good and r.status != "pruned" and r.release != new_good]
    wanted = [*always, *good[:keep_releases], *failed[:keep_failed]]
    return tuple(dict.fromkeys(wanted))
