"""The log of a service that writes into `.fraisier/service.log`."""

from __future__ import annotations

from fraisier.commands import services as commands
from fraisier.providers.services.base import Site


async def tail(site: Site, lines: int) -> list[str]:
    """Return the last lines of the log."""
    text = await site.script(commands.tail_log(site.place.app, lines), what="reading the log")
    return text.splitlines()[-lines:]


async def tail_of_start(site: Site, lines: int) -> list[str]:
    """Return the last lines that the latest start of the service has written."""
    found = await tail(site, max(lines, 1) + 100)
    for index in range(len(found) - 1, -1, -1):
        if found[index].startswith(commands.LOG_START):
            found = found[index + 1 :]
            break
    return [line for line in found if line.strip()][-lines:]


async def since(site: Site, position: str) -> tuple[list[str], str]:
    """Return complete new lines since `position`, a byte offset and what was read of a line without an end."""
    offset, _, held = position.partition(":")
    text = await site.script(commands.log_since(site.place.app, int(offset or -1)), what="reading the log")
    first, _, body = text.partition("\n")
    *lines, rest = (held + body).split("\n")
    return lines, f"{first.removeprefix('size ')}:{rest}"
