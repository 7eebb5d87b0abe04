"""`providers` and `provider-info`: the kinds of targets there are."""

from __future__ import annotations

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.render import table
from fraisier.errors import UsageError
from fraisier.providers.registry import PROVIDERS, find_factory
from fraisier.rollout.request import suggestion


def providers(call: Call) -> int:
    """List the providers."""
    if call.json:
        call.document(
            {"providers": [{"type": info.type, "summary": info.summary} for info in PROVIDERS.values()]}
        )
    else:
        rows = [(info.type, info.summary) for info in PROVIDERS.values()]
        call.data(table(("TYPE", "DEPLOYS TO"), rows, call.painter()))
    return exits.OK


def provider_info(call: Call, *, type: str) -> int:
    """Tell the steps and keys of one provider. Raises UsageError for one that does not exist."""
    info = PROVIDERS.get(type)
    if info is None:
        raise UsageError(
            f"there is no provider {type!r}{suggestion(type, list(PROVIDERS))}",
            code="NOT_FOUND",
            hint="fraisier providers",
        )
    steps: tuple[str, ...] = getattr(find_factory(type), "steps", ())
    if call.json:
        call.document(
            {"type": info.type, "summary": info.summary, "steps": list(steps), "keys": dict(info.keys)}
        )
        return exits.OK
    painter = call.painter()
    call.data(f"{painter.paint(info.type, 'bold')}: {info.summary}\n\nsteps: {' '.join(steps)}\n")
    call.data(table(("KEY", "MEANING"), list(info.keys.items()), painter))
    return exits.OK
