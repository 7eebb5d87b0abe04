"""What a person is told when the store took no more facts while a deployment was under way."""

from __future__ import annotations

from collections.abc import Iterable

from fraisier.errors import DatabaseError
from fraisier.journal.fold import DeploymentState

_NAMED_STEPS = 5


def unrecorded(error: DatabaseError, states: Iterable[DeploymentState]) -> DatabaseError:
    """Return `error` with what it means for the deployment and its rollbacks: which steps began whose end is not recorded,
    or that no target was changed, and how to go on. Its class and code stay."""
    known = list(states)
    if not known:
        return error
    first = known[0]
    open_steps = [
        {"target": name, "step": step}
        for state in known
        for name, target in state.targets.items()
        for step, found in target.steps.items()
        if found.status == "started"
    ]
    touched = any(target.begun for state in known for target in state.targets.values())
    told = ", ".join(f"{row['step']} on {row['target']}" for row in open_steps[:_NAMED_STEPS])
    more = f" and {len(open_steps) - _NAMED_STEPS} more" if len(open_steps) > _NAMED_STEPS else ""
    how = f"; how these ended is not recorded: {told}{more}" if told else ""
    served = "" if touched else "; what the targets serve was not changed"
    what = f"deployment {first.id} of {first.fraise} in {first.environment} stopped there"
    again = f"fraisier resume {first.rollback_of or first.id}"
    return type(error)(
        f"{error.message}; {what}{how}{served}",
        error.code,
        {**error.context, "deployment_id": first.id, "unrecorded": open_steps},
        recoverable=False,
        cause=error,
        hint=f"{error.hint}; then `{again}` looks at every target and goes on",
    )
