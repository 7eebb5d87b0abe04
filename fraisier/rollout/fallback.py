"""The places that a deployment may go through when its provider fails. Pure.

A place is a whole environment of its own. Its targets are known by marked names (`web-1~standby`), so releases, last good
ones and health are recorded apart from those of the environment that it stands in for.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from fraisier.config.schema import FALLBACK_MARK, Environment, Target
from fraisier.errors import ConfigurationError
from fraisier.journal.fold import DeploymentState


def places_left(settings: Environment, state: DeploymentState) -> tuple[str, ...]:
    """Return the names of the places that a failed deployment may still go through, in order; none once a step was begun
    that changes what a target serves, or its data."""
    if state.waves or any(target.begun for target in state.targets.values()):
        return ()
    return tuple(place.name for place in settings.recovery.fallback)


def settings_at(settings: Environment, name: str) -> Environment:
    """Return the settings of a fallback, in which what stands behind it in the list is what may be tried after it.

    Raises ConfigurationError when the configuration no longer has it."""
    places = settings.recovery.fallback
    for number, place in enumerate(places, 1):
        if place.name == name:
            recovery = msgspec.structs.replace(place.settings.recovery, fallback=places[number:])
            return msgspec.structs.replace(place.settings, recovery=recovery)
    raise ConfigurationError(
        f"the fallback {name!r} was decided on, and is no longer configured",
        context={"fallback": name},
        hint="put it back into `recovery.fallback`, or end the deployment with `fraisier abort`",
    )


def meant_at(
    targets: Collection[Target], chosen: Collection[str], fleet: Collection[str]
) -> tuple[Target, ...]:
    """Return the targets of a fallback that stand in for the `chosen` ones of a `fleet` (names as in the file): their
    namesakes, or all of them where the fallback has targets of its own."""
    namesakes = tuple(target for target in targets if target.own_name in chosen)
    inherited = {target.own_name for target in targets} == set(fleet)
    return namesakes if inherited and namesakes else tuple(targets)


def is_beside(name: str) -> bool:
    """Whether a target's name is that of a fallback's target."""
    return FALLBACK_MARK in name
