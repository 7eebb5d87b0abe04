"""A process of its own that takes one step on a local target, to be killed: `python -m tests.providers.job_process ORDER`.

ORDER is JSON: root, step, attempt, resumes, deployment_id, and the environment's settings. Each line of output is
printed; the last line is `evidence {...}` or `error TYPE MESSAGE`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio

from fraisier.clock import SystemClock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment, Migrate, Source, Target
from fraisier.errors import FraisierError
from fraisier.providers.base import ProviderServices, StepCall, TargetContext
from fraisier.providers.local import LocalProvider
from fraisier.redaction import Redactor


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def take(order: dict[str, Any]) -> None:
    root = Path(order["root"])
    environ = {"PATH": os.environ["PATH"], "HOME": str(root)}
    services = ProviderServices(
        SystemClock(), Resolver(environ, Redactor(), root), str(root / "cache"), environ
    )
    settings = dict(order["settings"])
    settings["build"] = tuple(settings.get("build", ()))
    if "migrate" in settings:
        settings["migrate"] = Migrate(**settings["migrate"])
    context = TargetContext(
        "api",
        "test",
        Target(name="t1"),
        Environment(
            app_path=str(root / "srv" / "{{ target.name }}"),
            source=Source(git=str(root / "repo")),
            **settings,
        ),
    )
    provider = LocalProvider(services)
    try:
        artifact = await provider.resolve(context.settings, "")
        call = StepCall(
            context=context,
            step=order["step"],
            deployment_id=order.get("deployment_id", "dep-r1"),
            attempt=order.get("attempt", 1),
            resumes=order.get("resumes", 0),
            release="r1",
            version=artifact.version,
            artifact=artifact,
            on_output=lambda stream, line: say(line),
        )
        say("evidence", json.dumps(await provider.perform(call)))
    except FraisierError as error:
        say("error", type(error).__name__, error.message)
    finally:
        await provider.aclose()


if __name__ == "__main__":
    anyio.run(take, json.loads(sys.argv[1]))
