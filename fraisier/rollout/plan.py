"""The frozen plan of a deployment: a pure function of configuration, request, recorded state and a look at the targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from fraisier.config.addresses import with_addresses
from fraisier.config.schema import Environment, Target
from fraisier.errors import DatabaseError, DeploymentError
from fraisier.journal.fold import Placement, Release
from fraisier.providers.base import Artifact, TargetFacts
from fraisier.redaction import mask_address
from fraisier.rollout.strategies import STRATEGIES

PLAN_FORMAT = 1

PREPARE_STEPS = ("preflight", "fetch", "stage")
"""Steps that every target takes before the first one is changed."""


class PlanTarget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target of a plan. `previous_*` is the good release that it goes back to (empty: it has none), `current_*` what
    was there when the plan was made, which after a hold or a stop is another one.
    `settings` is set where the release belongs to an earlier plan; `undo_migrate` names the release to undo."""

    name: str
    target: Target
    action: Literal["update", "unchanged", "remove", "skip"] = "update"
    wave: int = 0
    release: str = ""
    version: str = ""
    digest: str = ""
    previous_release: str = ""
    previous_version: str = ""
    current_release: str = ""
    current_version: str = ""
    baseline: str = ""
    steps: tuple[str, ...] = ()
    settings: Environment | None = None
    undo_migrate: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a deployment is driven by. `settings` keeps templates and secret references unresolved, and no targets.
    `fallback` names the place beside its environment that it goes through; what may be tried after it is in `settings`."""

    deployment_id: str
    kind: Literal["deploy", "rollback"]
    fraise: str
    fraise_type: str
    environment: str
    provider: str
    fallback: str = ""
    settings: Environment
    version: str = ""
    artifact: Artifact | None = None
    strategy: str = ""
    waves: tuple[tuple[str, ...], ...] = ()
    targets: tuple[PlanTarget, ...] = ()
    fleet: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    max_unavailable: int = 1
    max_failures: int = 0
    rollback_of: str = ""
    undoes: tuple[str, ...] = ()
    format: int = PLAN_FORMAT

    @property
    def changes(self) -> tuple[PlanTarget, ...]:
        """The targets that this plan changes."""
        return tuple(target for target in self.targets if target.action in ("update", "remove"))

    @property
    def previous_version(self) -> str:
        """The version that the changed targets had, when they had one and the same."""
        versions = {target.previous_version for target in self.changes or self.targets}
        return versions.pop() if len(versions) == 1 else ""


class Seen(msgspec.Struct, frozen=True):
    """What a look at one target found: facts, the answer of one probe (None: not asked), why it is out of reach, or
    the `problem` that kept a target that answers from being looked at."""

    facts: TargetFacts = TargetFacts()
    healthy: bool | None = None
    unreachable: str = ""
    reason: str = ""
    problem: str = ""

    @property
    def serves(self) -> bool:
        """Whether the target does its work now, as far as can be seen."""
        return (
            not self.unreachable
            and not self.problem
            and bool(self.facts.release)
            and self.facts.running is not False
            and self.healthy is not False
        )


class Recorded(msgspec.Struct, frozen=True):
    """What the journal knows of the targets: by target name, and releases by (target, release)."""

    placements: Mapping[str, Placement] = {}
    releases: Mapping[tuple[str, str], Release] = {}


def settings_digest(settings: Environment, target: Target, artifact: Artifact | None = None) -> str:
    """Return the SHA-256, in hex, of all that makes the same version a different release on this target: settings,
    variables, and the content of an archive or directory, whose version is but a name."""
    content = "" if artifact is None or artifact.kind == "git" else artifact.digest
    parts = (
        settings.build,
        settings.build_on,
        settings.env,
        settings.shared,
        settings.service,
        settings.migrate,
        target,
        content,
    )
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def release_id(at_us: int, version: str, deployment_id: str) -> str:
    """Return `<UTC time>-<short version>-<deployment's short id>`: never the bare version, so no release is overwritten."""
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    short = "".join(c for c in version[:12] if c.isalnum() or c in "._-") or "none"
    return f"{moment:%Y%m%dT%H%M%S}-{short}-{deployment_id.replace('-', '')[-8:]}"


def unavailable_limit(settings: Environment, strategy: str, fleet: int) -> int:
    """Return how many targets may be away at once: percentages round down, at least 1."""
    value = settings.rollout.max_unavailable or ("100%" if strategy == "all_at_once" else "25%")
    if value.endswith("%"):
        return max(1, int(fleet * float(value[:-1]) / 100))
    return max(1, int(value))


def target_steps(settings: Environment, *, migrates: bool) -> tuple[str, ...]:
    """Return the steps of an update, in order. Steps that would do nothing are not in the plan."""
    steps = [*PREPARE_STEPS]
    if migrates:
        steps.append("migrate")
    steps.append("switch")
    if settings.service is not None:
        steps.append("restart")
    steps.append("verify")
    if settings.rollout.min_healthy_time_s > 0:
        steps.append("bake")
    steps.append("cleanup")
    return tuple(steps)


def way_back(name: str, recorded: Recorded, seen: Seen) -> tuple[str, str]:
    """Return the release and version that a target goes back to: its recorded last good one, never one known to be bad.

    A target that the journal does not know but that has a current release keeps that one: a lost store must not cost
    anybody the version that serves.
    """
    place = recorded.placements.get(name)
    if place is not None and place.good_release:
        known = recorded.releases.get((name, place.good_release))
        if known is None or not known.bad:
            return place.good_release, place.good_version
        if older := _older_good(known, recorded):
            return older.release, older.version
    current = seen.facts.release
    known = recorded.releases.get((name, current))
    if current and (known is None or (not known.bad and known.status != "staged")):
        return current, known.version if known else ""
    return "", ""


def version_of(name: str, release: str, recorded: Recorded) -> str:
    """Return the version of a release on a target, empty when the journal does not know it."""
    known = recorded.releases.get((name, release))
    return known.version if known is not None else ""


def _older_good(release: Release, recorded: Recorded) -> Release | None:
    """Return the newest good release before this one that is still on the disk and not known to be bad."""
    passed = {release.release}
    while release.previous and release.previous not in passed:
        older = recorded.releases.get((release.target, release.previous))
        if older is None:
            return None
        if older.good and not older.bad and older.status != "pruned":
            return older
        passed.add(older.release)
        release = older
    return None


def is_unchanged(name: str, version: str, digest: str, recorded: Recorded, seen: Seen) -> bool:
    """Whether the target already serves what is wanted: record, link, running process and health all agree."""
    place = recorded.placements.get(name)
    if place is None or not place.release or seen.unreachable:
        return False
    known = recorded.releases.get((name, place.release))
    facts = seen.facts
    return (
        (place.version, place.digest) == (version, digest)
        and (known is None or not known.bad)
        and facts.release == place.release
        and facts.running is not False
        and facts.running_release in ("", place.release)
        and seen.healthy is not False
    )


def make_plan(
    *,
    deployment_id: str,
    at_us: int,
    fraise: str,
    fraise_type: str,
    environment: str,
    settings: Environment,
    targets: Sequence[Target],
    artifact: Artifact,
    recorded: Recorded,
    seen: Mapping[str, Seen],
    strategy: str = "",
    force: bool = False,
    skip: Sequence[str] = (),
    fallback: str = "",
) -> Plan:
    """Return the plan that brings `artifact` to `targets`, less those in `skip`.

    Raises DeploymentError (CAPACITY) when too many are down."""
    strategy = strategy or settings.rollout.strategy
    release = release_id(at_us, artifact.version, deployment_id)
    planned: list[PlanTarget] = []
    for target in targets:
        look = seen.get(target.name, Seen())
        digest = settings_digest(settings, target, artifact)
        place = recorded.placements.get(target.name)
        previous, previous_version = way_back(target.name, recorded, look)
        base = PlanTarget(
            name=target.name,
            target=target,
            release=release,
            version=artifact.version,
            digest=digest,
            previous_release=previous,
            previous_version=previous_version,
            current_release=look.facts.release,
            current_version=version_of(target.name, look.facts.release, recorded),
            baseline=look.facts.invocation,
        )
        if target.name in skip:
            base = msgspec.structs.replace(base, action="skip", release="")
        elif (
            not force
            and place is not None
            and is_unchanged(target.name, artifact.version, digest, recorded, look)
        ):
            base = msgspec.structs.replace(base, action="unchanged", release=place.release)
        planned.append(base)
    changing = [target.name for target in planned if target.action == "update"]
    waves = STRATEGIES[strategy](changing, settings.rollout)
    fleet = tuple(target.name for target in settings.targets)
    down = tuple(name for name in fleet if is_down(name, recorded, seen))
    limit = unavailable_limit(settings, strategy, len(fleet))
    check_capacity(changing, down, limit)
    return Plan(
        deployment_id=deployment_id,
        kind="deploy",
        fraise=fraise,
        fraise_type=fraise_type,
        environment=environment,
        provider=settings.provider,
        fallback=fallback,
        settings=msgspec.structs.replace(settings, targets=()),
        version=artifact.version,
        artifact=artifact,
        strategy=strategy,
        waves=waves,
        targets=tuple(_place_in_wave(target, waves, settings) for target in planned),
        fleet=fleet,
        down=down,
        max_unavailable=limit,
        max_failures=settings.rollout.max_failures,
    )


def _place_in_wave(target: PlanTarget, waves: Sequence[Sequence[str]], settings: Environment) -> PlanTarget:
    if target.action != "update":
        return target
    wave = next(number for number, names in enumerate(waves, 1) if target.name in names)
    migrates = settings.migrate is not None and (settings.migrate.on == "all" or target.name == waves[0][0])
    return msgspec.structs.replace(target, wave=wave, steps=target_steps(settings, migrates=migrates))


def is_down(name: str, recorded: Recorded, seen: Mapping[str, Seen]) -> bool:
    """Whether a target that has served before, be it for a deployment that did not succeed, does not serve now. One that
    never did is not missed."""
    place = recorded.placements.get(name)
    served = place is not None and (place.served or bool(place.good_release))
    return served and name in seen and not seen[name].serves


def check_capacity(changing: Sequence[str], down: Sequence[str], limit: int) -> None:
    """Raise DeploymentError (CAPACITY) when so many are down that none may be taken away, unless only those change."""
    if len(down) < limit or set(changing) <= set(down):
        return
    names = ", ".join(down)
    raise DeploymentError(
        f"{len(down)} of the targets are down already ({names}) and max_unavailable is {limit}: "
        "changing more would leave too few",
        code="CAPACITY",
        context={"down": list(down), "max_unavailable": limit},
        hint=repair_first(down),
    )


def encode_plan(plan: Plan) -> bytes:
    """Return the plan as the JSON that the journal keeps: without the password of an address that was written out in the
    configuration, which the resolver puts back."""
    targets = tuple(
        target
        if target.settings is None
        else msgspec.structs.replace(target, settings=_without_password(target.settings))
        for target in plan.targets
    )
    settings = _without_password(plan.settings)
    return msgspec.json.encode(msgspec.structs.replace(plan, settings=settings, targets=targets))


def _without_password(settings: Environment) -> Environment:
    return with_addresses(settings, lambda _, address: mask_address(address))


_decode = msgspec.json.Decoder(Plan).decode


class _Format(msgspec.Struct):
    format: int = PLAN_FORMAT


def decode_plan(data: bytes) -> Plan:
    """Return the plan that the journal kept. Raises DeploymentError for one of a newer format, DatabaseError for what is no
    plan any more."""
    try:
        return _decoded(data)
    except msgspec.MsgspecError as error:
        raise DatabaseError(f"a plan in the store is damaged: {error}", cause=error) from error


def _decoded(data: bytes) -> Plan:
    found = msgspec.json.decode(data, type=_Format).format
    if found > PLAN_FORMAT:
        raise DeploymentError(
            f"the plan has format {found}, and this version of Fraisier knows formats up to {PLAN_FORMAT}",
            code="PLAN_FORMAT",
            hint="use the version of Fraisier that made the plan, or a newer one",
        )
    return _decode(data)


def repair_first(down: Sequence[str]) -> str:
    """Return the hint for a deployment that others than its own targets keep from taking any away."""
    return f"repair them first with --limit {','.join(down)}, or raise rollout.max_unavailable"
