"""Hooks as jobs: at a target beside its long steps, and here, on the machine that the orchestrator runs on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import anyio
import msgspec

from fraisier.commands.jobs import JOBS
from fraisier.config.resolve import Resolver, template_names
from fraisier.errors import ConfigurationError, HookError
from fraisier.providers.base import HookCall, StepCall
from fraisier.providers.jobs import Command, JobName, Jobs, OpenDoor
from fraisier.providers.outcome import failed
from fraisier.providers.place import Place
from fraisier.providers.services.base import Site
from fraisier.transports.base import Completed
from fraisier.transports.local import LocalTransport

_FORGET_S = 10.0
_OWN_PREFIX = "FRAISIER_"


class HookRunner(Protocol):
    """Runs the hooks that are not a target's. The call's target has no name when a hook is for the whole deployment."""

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Run a hook, or take what an earlier attempt of it came to, and return the evidence.

        A call that `settles` ends what an earlier attempt began, and begins nothing. Raises HookError when it failed or
        was ended, InDoubtError when nobody knows how it ended, and it may not be repeated.
        """
        ...

    async def forget(self, deployment_id: str) -> None:
        """End what still runs of a deployment's hooks, and remove what is known of them: it is over."""
        ...


async def run_at_target(call: StepCall, site: Site) -> dict[str, Any]:
    """Run a hook at its target, in the staged release or in the directory of the app. Raises what `HookRunner.run` does."""
    hook, place = _hook(call), site.place
    text, env = place.command(hook.command, _where(hook))
    cwd = place.release_path if hook.in_release else place.app
    jobs = Jobs(
        Site(place, site.transport, None, site.token, site.log_id),
        f"{place.app}/{JOBS}",
        where=str(place),
        abandoned=call.abandoned,
    )
    return await _run(jobs, call, Command(text, cwd, {**env, **_variables(hook)}), "")


class HooksHere:
    """Runs hooks on this machine, each in a session of its own. `directory` keeps their receipts, `cwd` is where they run."""

    def __init__(self, *, resolver: Resolver, environ: Mapping[str, str], directory: str, cwd: str) -> None:
        self._resolver = resolver
        self._environ = {key: value for key, value in environ.items() if not key.startswith(_OWN_PREFIX)}
        self._directory = directory
        self._cwd = cwd

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Run a hook; see the port."""
        hook = _hook(call)
        target = call.context.target.name
        text, env = self._of_target(call) if target else self._of_deployment(call)
        transport = LocalTransport(self._environ)
        try:
            command = Command(text, self._cwd, {**env, **_variables(hook)})
            return await _run(self._jobs(transport, call), call, command, _digest(target))
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    async def forget(self, deployment_id: str) -> None:
        """End what still runs, and remove the receipts."""
        if not await anyio.Path(self._directory).is_dir():
            return
        transport = LocalTransport(self._environ)
        try:
            with anyio.move_on_after(_FORGET_S):
                jobs = self._jobs(transport, None)
                receipts = [one for one in await jobs.survey() if one.name.deployment_id == deployment_id]
                for one in receipts:
                    if one.state not in ("ended", "void"):
                        await jobs.end(one.name)
                await jobs.forget(receipts)
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    def _jobs(self, transport: LocalTransport, call: StepCall | None) -> Jobs:
        where = "the orchestrator"
        abandoned = None if call is None else call.abandoned
        return Jobs(OpenDoor(transport, where), self._directory, where=where, abandoned=abandoned)

    def _of_target(self, call: StepCall) -> tuple[str, dict[str, str]]:
        place = Place(
            call.context,
            self._resolver,
            release=call.release,
            version=call.version,
            deployment_id=call.deployment_id,
            previous_version=call.previous_version,
        )
        return place.command(_hook(call).command, _where(_hook(call)))

    def _of_deployment(self, call: StepCall) -> tuple[str, dict[str, str]]:
        """Return the command with its variables; of `env`, what differs between targets is not set."""
        context, hook = call.context, _hook(call)
        names = {"fraise": context.fraise, "environment": context.environment, "version": call.version}
        text, secrets = self._resolver.command(hook.command, names, where=_where(hook))
        own = {
            name: self._resolver.text(value, names, where=f"env.{name}")
            for name, value in context.settings.env.items()
            if names.keys() >= set(template_names(value))
        }
        facts = {
            "FRAISIER_FRAISE": context.fraise,
            "FRAISIER_ENVIRONMENT": context.environment,
            "FRAISIER_TARGET": "",
            "FRAISIER_VERSION": call.version,
            "FRAISIER_PREVIOUS_VERSION": call.previous_version,
            "FRAISIER_RELEASE_PATH": "",
            "FRAISIER_DEPLOYMENT_ID": call.deployment_id,
        }
        return text, {**own, **facts, **secrets}


async def _run(jobs: Jobs, call: StepCall, command: Command, own: str) -> dict[str, Any]:
    hook = _hook(call)
    name = JobName(call.deployment_id, f"hook-{hook.phase}{own}", call.attempt, hook.number)
    if call.settles:
        await jobs.settle(msgspec.structs.replace(name, attempt=call.resumes))
        await jobs.end_step(name.deployment_id, name.step)
        raise HookError(f"hook {hook.name} ({hook.phase}) had not ended, and was given up", code="NOT_ENDED")
    done: Completed = await jobs.run_once(
        name, command, resumes=call.resumes, may_repeat=hook.may_repeat, on_output=call.on_output
    )
    if done.exit_code != 0:
        place = f" on {call.context.target.name}" if call.context.target.name else ""
        raise failed(f"hook {hook.name} ({hook.phase}){place}", hook.command, done, HookError)
    return {"exit_code": 0}


def _hook(call: StepCall) -> HookCall:
    if call.hook is None:
        raise ConfigurationError(f"{call.step} names no hook")
    return call.hook


def _where(hook: HookCall) -> str:
    return f"hooks.{hook.phase}[{hook.number - 1}].command"


def _variables(hook: HookCall) -> dict[str, str]:
    return {"FRAISIER_HOOK": hook.name, "FRAISIER_OUTCOME": hook.outcome}


def _digest(target: str) -> str:
    """Return what tells the jobs of targets apart. Their names may hold dots, which the names of jobs have for themselves."""
    return f"-{hashlib.sha256(target.encode()).hexdigest()[:12]}" if target else ""
