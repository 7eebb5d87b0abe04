"""A host that holds releases in a directory: the steps of a deployment, through whatever transport reaches it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import anyio
import msgspec

from fraisier.commands import fence as fences
from fraisier.commands import listeners, releases
from fraisier.commands.jobs import JOBS
from fraisier.commands.sh import pairs
from fraisier.config.schema import Environment
from fraisier.errors import (
    FencedError,
    FraisierError,
    ProviderConfigurationError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.providers.base import (
    HOST_STEPS,
    Action,
    Artifact,
    ProviderServices,
    StepCall,
    TargetContext,
    TargetFacts,
)
from fraisier.providers.hooks import run_at_target
from fraisier.providers.long_steps import LongSteps
from fraisier.providers.place import Place
from fraisier.providers.services import manager_of
from fraisier.providers.services.base import Evidence, Site
from fraisier.providers.sources import BuildJob, Sources
from fraisier.transports.base import OnOutput, Transport

_FOLLOW_S = 0.25
_DISCARD_S = 15.0
_SPARE_KB = 10 * 1024


class HostProvider(ABC):
    """Brings releases to hosts. Subclasses say how a host is reached; nothing here touches a target but its transport.

    `perform` knows the steps below; verify, bake and admission are not a provider's.
    """

    type: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    steps: ClassVar[tuple[str, ...]] = HOST_STEPS
    is_here: ClassVar[bool] = False
    """Whether probes may be made from this process instead of from the target."""

    def __init__(self, services: ProviderServices) -> None:
        self._services = services
        self._resolver = services.resolver
        self._sources = Sources(
            cache_dir=services.cache_dir,
            resolver=services.resolver,
            environ=services.environ,
            clock=services.clock,
            guard=services.guard,
        )
        self._transports: dict[str, Transport] = {}
        self._opening = anyio.Lock(fast_acquire=True)
        self._hosts: dict[str, anyio.Lock] = {}
        self._equipped: set[str] = set()
        self._sizes: dict[str, int] = {}

    # what subclasses say

    @abstractmethod
    async def _open(self, context: TargetContext) -> Transport:
        """Open a transport to the target."""

    def _host(self, context: TargetContext) -> str:
        """Return what stands for the machine that the target is on."""
        return context.target.name

    async def _free_kb(self, place: Place) -> int | None:
        """Return how much room there is for releases, when that is known without asking the target."""
        return None

    async def _bring(self, call: StepCall, place: Place, artifact: Artifact) -> str:
        """Bring the artifact to the target and return its path there."""
        there = f"{place.app}/{releases.STATE}/incoming-{place.release}.tar"
        transport = await self.transport(call.context)
        await Site(place, transport).script(releases.make_state(place.app), what="stage")
        await transport.put(Path(artifact.file), there)
        return there

    # the provider's port

    async def transport(self, context: TargetContext) -> Transport:
        """Return the target's transport; it is opened once and closed with the provider."""
        name = context.target.name
        if name not in self._transports:
            async with self._opening:
                if name not in self._transports:
                    self._transports[name] = await self._open(context)
        return self._transports[name]

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return what `ref` means now, with its tar in the cache of this machine."""
        return await self._sources.resolve(settings, ref)

    async def inspect(self, context: TargetContext) -> TargetFacts:
        """Look at `current` and at the service."""
        site = await self._site(context)
        service = context.settings.service
        manager = None if service is None else manager_of(service)
        look = "" if manager is None else manager.look_script(site)
        found = await site.facts(releases.describe(site.place.app) + look, what="look")
        release = found.get("current", "")
        if manager is None:
            return TargetFacts(release=release)
        site = await self._site(context, release=release, version=found.get("version", ""))
        state = await manager.state(site, found if look else None)
        return TargetFacts(
            release=release,
            running=state.running,
            running_release=state.running_release,
            invocation=state.invocation,
            pid=state.pid,
            detail=state.detail,
        )

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take one step; every one may be taken again."""
        steps = {
            "preflight": self._preflight,
            "fetch": self._fetch,
            "stage": self._stage,
            "migrate": self._migrate,
            "switch": self._switch,
            "restart": self._restart,
            "cleanup": self._cleanup,
        }
        if call.step not in steps and call.hook is None:
            raise ProviderError(f"the provider {self.type} knows no step {call.step!r}")
        site = await self._site(
            call.context,
            release=call.release,
            version=call.version,
            deployment_id=call.deployment_id,
            previous_version=call.previous_version,
            on_output=call.on_output,
            token=call.token,
            log_id=call.log_id,
        )
        return await (run_at_target(call, site) if call.hook is not None else steps[call.step](call, site))

    async def control(
        self,
        action: Action,
        context: TargetContext,
        on_output: OnOutput | None = None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> dict[str, Any]:
        """Start, stop or restart the service; `remove` stops it and takes everything away but what `shared` holds."""
        site = await self._current_site(context, on_output, token=token, log_id=log_id)
        service = context.settings.service
        if action == "remove":
            evidence = await manager_of(service).stop(site) if service is not None else {}
            found = await site.facts(releases.remove(site.place.app), what="remove", changes=True)
            return {**evidence, "removed": True, **({"left": found["left"]} if "left" in found else {})}
        if service is None:
            raise ProviderConfigurationError(f"{context.fraise} has no service that could be {_PAST[action]}")
        manager = manager_of(service)
        if action == "stop":
            return await manager.stop(site)
        if not site.place.release:
            raise ProviderError(
                f"{site.place} has no current release: deploy first", hint="run `fraisier deploy`"
            )
        found = await (manager.start(site) if action == "start" else manager.restart(site, retry=False))
        if not found.get("running", True):
            raise ProviderError(f"{action} of {site.place}: it has ended again: {found.get('detail', '')}")
        return found

    async def logs(self, context: TargetContext, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """Yield the last lines of the service's log, then each new one. Nothing is left running at the target meanwhile."""
        if context.settings.service is None:
            raise ProviderConfigurationError(f"{context.fraise} has no service, and so no log")
        self._resolver.make_known(context.settings)  # a service may print what it was given
        manager = manager_of(context.settings.service)
        site = await self._current_site(context, None)
        position = (await manager.since(site, ""))[1] if follow else ""
        for line in await manager.tail(site, lines):
            yield line
        while follow:
            await anyio.sleep(_FOLLOW_S)
            found, position = await manager.since(site, position)
            for line in found:
                yield line

    async def aclose(self) -> None:
        """Close every connection, and bound the cache."""
        transports, self._transports = self._transports, {}
        async with anyio.create_task_group() as group:
            for name, transport in transports.items():
                group.start_soon(transport.aclose, name=f"close:{name}")
        await self._sources.prune()

    # evidence beyond the port

    async def tail(self, context: TargetContext, lines: int) -> list[str]:
        """Return the last lines of the service's log; empty when there is none."""
        if context.settings.service is None:
            return []
        return await manager_of(context.settings.service).tail(await self._current_site(context, None), lines)

    async def serves_old_release(self, context: TargetContext, port: int, release: str) -> str:
        """Return a sentence when a process of another release of this app listens on `port`; empty without such evidence."""
        service = context.settings.service
        site = await self._site(context)
        main_pid = 0
        if service is not None and not service.process:
            main_pid = (await manager_of(service).state(await self._current_site(context, None))).pid
        script = listeners.serves_old(
            site.place.app, site.place.mark, port=port, release=release, main_pid=main_pid
        )
        said = pairs(await site.script(script, what="look")).get("old", "")
        pid, _, old = said.partition(" ")
        return f"port {port} is served by process {pid} of the release {old}, not of {release}" if pid else ""

    # steps

    async def _preflight(self, call: StepCall, site: Site) -> Evidence:
        _ = site.place.shared, site.place.env  # what cannot be resolved is found before anything is touched
        await self._check_tools(call.context, site)
        need_kb = _SPARE_KB
        if call.artifact is not None and call.artifact.file:
            need_kb += 2 * await self._size(call.artifact.file) // 1024
        script = releases.preflight(site.place.app, need_kb=need_kb, free_kb=await self._free_kb(site.place))
        found = await site.facts(script, what="preflight", changes=True)
        if call.context.settings.service is not None:
            await manager_of(call.context.settings.service).check(site)
        return {"app_path": site.place.app, "free_kb": int(found.get("free_kb", -1))}

    async def _fetch(self, call: StepCall, site: Site) -> Evidence:
        if call.settles:
            await self._sources.end_build(self._build_job(call))
            raise ProviderError(f"fetch of {site.place} had not ended, and was given up", code="NOT_ENDED")
        artifact = await self._shipped(call)
        size_bytes = await self._size(artifact.file)
        return {"version": artifact.version, "digest": artifact.digest, "size_bytes": size_bytes}

    async def _check_tools(self, context: TargetContext, site: Site) -> None:
        """Look once a host whether the programs are there that our scripts use."""
        host = self._host(context)
        async with self._hosts.setdefault(host, anyio.Lock(fast_acquire=True)):
            if host not in self._equipped:
                await site.script(releases.tools(), what="preflight")
                self._equipped.add(host)

    async def _size(self, file: str) -> int:
        """Return the size of an artifact's file in bytes, looked up once; 0 when it is not there."""
        async with self._opening:
            if file not in self._sizes:
                path = anyio.Path(file)
                self._sizes[file] = (await path.stat()).st_size if await path.exists() else 0
        return self._sizes[file]

    async def _shipped(self, call: StepCall) -> Artifact:
        """Return the artifact that goes to the targets, its file surely there."""
        if call.artifact is None:
            raise ProviderError(f"{call.step} on {call.context.target.name}: there is no artifact")
        settings = call.context.settings
        artifact = await self._sources.present(settings, call.artifact)
        if settings.build_on == "target" or not settings.build:
            return artifact
        return await self._sources.built(self._build_job(msgspec.structs.replace(call, artifact=artifact)))

    def _build_job(self, call: StepCall) -> BuildJob:
        context = call.context
        artifact = call.artifact or Artifact(version=call.version)
        names = {"fraise": context.fraise, "environment": context.environment, "version": artifact.version}
        return BuildJob(artifact, context.settings, names, call.deployment_id, call.on_output)

    async def _stage(self, call: StepCall, site: Site) -> Evidence:
        if call.settles:
            return await self._end_stage(call, site)
        artifact = await self._shipped(call)
        place = site.place
        if not place.release:
            raise ProviderError(f"stage on {place}: no release is named")
        long = LongSteps(call, site)
        builds = call.context.settings.build_on == "target" and bool(call.context.settings.build)
        evidence = {"digest": artifact.digest, "release_path": place.release_path}
        complete = releases.complete(place.app, place.release, digest=artifact.digest, version=place.version)
        try:
            # Under a build that goes on by itself, nothing may be unpacked.
            if not await long.goes_on():
                archive = await self._bring(call, place, artifact)
                done = "" if builds else complete
                found = "found"
                if not call.resumes:
                    found = await self._unpack(site, artifact, archive, done, unless_any=JOBS)
                if found.startswith("found"):
                    await long.clear_way()
                    found = await self._unpack(site, artifact, archive, done)
                if found.startswith("complete"):
                    return {**evidence, "unchanged": True}
            if builds:
                await long.build()
                await site.script(complete, what="stage", changes=True)
        except (ProviderConnectionError, FencedError):
            # A build may go on there, or belong to somebody else by now: its tree is not ours to remove.
            raise
        except BaseException:
            # The failure, or the cancellation, is what counts; what cannot be removed now goes with the next cleanup.
            with suppress(FraisierError), anyio.CancelScope(shield=True), anyio.move_on_after(_DISCARD_S):
                discard = long.forgetting() + releases.discard(place.app, place.release)
                await site.script(discard, what="stage", changes=True)
            raise
        return evidence

    async def _end_stage(self, call: StepCall, site: Site) -> Evidence:
        """End the build that an earlier attempt began, and take its tree away."""
        await self._sources.end_build(self._build_job(call))
        long = LongSteps(call, site)
        await long.end()
        discard = long.forgetting() + releases.discard(site.place.app, site.place.release)
        await site.script(discard, what="stage", changes=True)
        raise ProviderError(f"stage of {site.place} had not ended, and was given up", code="NOT_ENDED")

    async def _unpack(
        self, site: Site, artifact: Artifact, archive: str, done: str, *, unless_any: str = ""
    ) -> str:
        """Unpack the archive at the target, then run the script `done`; return what `releases.unpack` said."""
        place, fence = site.place, site.fence
        unpack = releases.unpack(
            place.app,
            place.release,
            digest=artifact.digest,
            archive=archive,
            shared=place.shared,
            guard="" if fence is None else fences.guard(fence, makes=releases.MADE),
            unless_any=unless_any,
        )
        return await site.script(fences.released(fence, unpack + done), what="stage")

    async def _migrate(self, call: StepCall, site: Site) -> Evidence:
        migrate = call.context.settings.migrate
        if migrate is None:
            return {"migrated": False}
        template = migrate.rollback_command if call.undo else migrate.command
        if not template:
            return {"migrated": False}
        where = "migrate.rollback_command" if call.undo else "migrate.command"
        if call.settles:
            await LongSteps(call, site).settle(may_repeat=migrate.resume == "rerun")
            return {"migrated": True, "undone": call.undo}
        await LongSteps(call, site).migrate(template, where, may_repeat=migrate.resume == "rerun")
        return {"migrated": True, "undone": call.undo}

    async def _switch(self, call: StepCall, site: Site) -> Evidence:
        place = site.place
        script = (
            releases.switch(place.app, place.release) if place.release else releases.switch_off(place.app)
        )
        found = await site.facts(script, what="switch", changes=True)
        return {"current": place.release, "previous": found.get("previous", "")}

    async def _restart(self, call: StepCall, site: Site) -> Evidence:
        service = call.context.settings.service
        if service is None:
            return {}
        manager = manager_of(service)
        return await (manager.restart(site, retry=call.attempt > 1) if call.release else manager.stop(site))

    async def _cleanup(self, call: StepCall, site: Site) -> Evidence:
        service = call.context.settings.service
        running = ""
        if service is not None:
            now = await self._current_site(call.context, None, token=call.token, log_id=call.log_id)
            running = (await manager_of(service).state(now)).running_release
        script = releases.cleanup(site.place.app, call.keep, running)
        found = await site.script(script, what="cleanup", changes=True)
        words = [line.split(" ", 1) for line in found.splitlines() if " " in line]
        return {word: [name for kind, name in words if kind == word] for word in ("removed", "kept")}

    # small things

    async def _site(
        self,
        context: TargetContext,
        *,
        on_output: OnOutput | None = None,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
        **about: str,
    ) -> Site:
        place = Place(context, self._resolver, **about)
        return Site(place, await self.transport(context), on_output, token, log_id)

    async def _current_site(
        self,
        context: TargetContext,
        on_output: OnOutput | None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> Site:
        """Return the site as the current release sees it, whose version only the target knows."""
        site = await self._site(context)
        found = await site.facts(releases.describe(site.place.app), what="look")
        return await self._site(
            context,
            on_output=on_output,
            token=token,
            log_id=log_id,
            release=found.get("current", ""),
            version=found.get("version", ""),
        )


_PAST = {"start": "started", "stop": "stopped", "restart": "restarted"}
