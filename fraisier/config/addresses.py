"""The addresses in a configuration: which they are, and whether each can be read once everything is put into it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from fraisier.config import template
from fraisier.config.schema import Environment, HealthCheck
from fraisier.config.template import Name, Reference, TemplateError
from fraisier.redaction import UnreadableURLError, read_url, userinfo_of

Change = Callable[[str, str], str]
"""Gets a key path and the address that stands there, and returns what is to stand there instead."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNENCODED = re.compile(r"[/?#\[\]\\\s]")
_STAND_IN = "1"
"""Put in for what is not known yet: it can be (a part of) a host and a port."""


class Filled(NamedTuple):
    """An address with everything put in. `unencoded` are the values in its user and password that take it apart."""

    text: str
    unencoded: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why it cannot be read, or an empty text; nothing of it is shown."""
        if self.unencoded:
            return str(UnreadableURLError(has_user=True))
        if _URL.match(self.text):
            try:
                read_url(self.text)
            except UnreadableURLError as error:
                return str(error)
        return ""


def filled(address: str, value: Callable[[Name | Reference], str]) -> Filled:
    """Return an address with what `value` gives for each name and reference. Raises TemplateError."""
    outline = text = ""
    put_in: list[tuple[int, str]] = []
    for piece in template.pieces(address):
        if isinstance(piece, str):
            outline, text = outline + piece, text + piece
            continue
        found = value(piece)
        put_in.append((len(outline), found))
        outline, text = outline + _STAND_IN, text + found
    place = userinfo_of(outline)
    if place is None:
        return Filled(text)
    inside = (found for at, found in put_in if place.start <= at < place.end)
    return Filled(text, tuple(found for found in inside if _UNENCODED.search(found)))


def outlined(address: str) -> Filled:
    """Return an address of which only is known what is written out; nothing of a template that cannot be read."""
    try:
        return filled(address, lambda _: _STAND_IN)
    except TemplateError:
        return Filled("")


def addresses(settings: Environment) -> Iterator[tuple[str, str]]:
    """Yield (key path, text) of every address of an environment and its fallbacks."""
    found: list[tuple[str, str]] = []

    def note(where: str, address: str) -> str:
        found.append((where, address))
        return address

    with_addresses(settings, note)
    yield from found


def with_addresses(settings: Environment, change: Change, where: str = "") -> Environment:
    """Return the settings with every address changed."""
    changed = settings
    if settings.source is not None:
        source = msgspec.structs.replace(
            settings.source,
            git=_changed(settings.source.git, change, f"{where}source.git"),
            archive=_changed(settings.source.archive, change, f"{where}source.archive"),
        )
        changed = msgspec.structs.replace(changed, source=source)
    if settings.health_check is not None:
        check = _with_urls(settings.health_check, change, f"{where}health_check")
        changed = msgspec.structs.replace(changed, health_check=check)
    if settings.recovery.fallback:
        fallbacks = tuple(
            msgspec.structs.replace(
                one, settings=with_addresses(one.settings, change, f"{where}recovery.fallback[{index}].")
            )
            for index, one in enumerate(settings.recovery.fallback)
        )
        recovery = msgspec.structs.replace(settings.recovery, fallback=fallbacks)
        changed = msgspec.structs.replace(changed, recovery=recovery)
    return changed


def _with_urls(check: HealthCheck, change: Change, where: str) -> HealthCheck:
    inner = tuple(
        _with_urls(one, change, f"{where}.checks[{index}]") for index, one in enumerate(check.checks)
    )
    return msgspec.structs.replace(check, url=_changed(check.url, change, f"{where}.url"), checks=inner)


def _changed(address: str, change: Change, where: str) -> str:
    return change(where, address) if address else ""
