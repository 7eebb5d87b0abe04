"""`list`: what is configured. It opens no store and starts no event loop."""

from __future__ import annotations

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.render import table
from fraisier.errors import FraisierError


def list_fraises(call: Call) -> int:
    """Print the fraises with their environments."""
    config = call.load()
    if call.json:
        rows = [
            {
                "name": name,
                "type": fraise.type,
                "description": fraise.description,
                "environments": list(fraise.environments),
            }
            for name, fraise in config.fraises.items()
        ]
        call.document({"fraises": rows})
        return exits.OK
    cells = [
        (name, fraise.type, env, settings.provider, str(len(settings.targets)), fraise.description)
        for name, fraise in config.fraises.items()
        for env, settings in fraise.environments.items()
    ]
    call.data(table(("FRAISE", "TYPE", "ENV", "PROVIDER", "TARGETS", "DESCRIPTION"), cells, call.painter()))
    return exits.OK


def names(call: Call, *, fraise: str) -> int:
    """Print the names that a completion script offers; nothing at all when the configuration cannot be read."""
    try:
        config = call.load()
    except FraisierError:
        return exits.OK
    wanted = [name for name in fraise.split(",") if name in config.fraises]
    found = (
        [env for name in wanted for env in config.fraises[name].environments]
        if fraise
        else list(config.fraises)
    )
    for name in dict.fromkeys(found):
        call.data(name)
    return exits.OK
