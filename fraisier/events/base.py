"""What every event shares."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What all events share: which deployment, fraise, environment and target they are about (empty: none)."""

    ephemeral: ClassVar[bool] = False

    deployment_id: str = ""
    fraise: str = ""
    environment: str = ""
    target: str = ""


class StepEvent(Event, frozen=True, kw_only=True):
    """What the events of a step share: its name and which try it is, counted from 1."""

    step: str = ""
    attempt: int = 0


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked: the user and host, and through what (`cli`, `api`, `webhook`, `schedule`, `watch`)."""

    user: str = ""
    host: str = ""
    trigger: str = "api"
