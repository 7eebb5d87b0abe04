"""The provider's port: how a rollout acts on targets without knowing what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from fraisier.clock import Clock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment, Target
from fraisier.transports.base import OnOutput, Transport

Action = Literal["start", "stop", "restart", "remove"]

HOST_STEPS = ("preflight", "fetch", "stage", "migrate", "switch", "restart", "cleanup")
"""The steps of a provider whose targets have releases of their own and a link to the current one."""


class Artifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version made concrete, the same for every target of a deployment.

    `version` is the full commit id, or the given name of an archive or directory; `digest` the content's SHA-256 in hex
    (of a git version the commit id); `file` the tar that `stage` unpacks, empty until it is fetched.
    """

    version: str
    ref: str = ""
    kind: Literal["git", "archive", "path"] = "git"
    digest: str = ""
    file: str = ""


class TargetFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a look at a target found. None means that there is nothing to look at (no service configured).

    `release` is what `current` names; `running_release` is where the main process's cwd resolves to; `invocation` is
    different for each start of the service (pid and start time, or systemd's InvocationID).
    """

    release: str = ""
    running: bool | None = None
    running_release: str = ""
    invocation: str = ""
    pid: int = 0
    detail: str = ""


class TargetContext(msgspec.Struct, frozen=True):
    """A target in the environment that it belongs to; the settings are as configured, templates and references unresolved."""

    fraise: str
    environment: str
    target: Target
    settings: Environment


class HookCall(msgspec.Struct, frozen=True):
    """A hook to run. `phase` and `number` (from 1) say where it stands in the configuration; `command` is unresolved.

    `in_release` says that the staged release is its directory; `outcome` is how the deployment goes so far, where that is
    known; `may_repeat` that it may run again when nobody knows how it ended.
    """

    phase: str
    number: int
    name: str
    command: str
    outcome: str = ""
    in_release: bool = False
    may_repeat: bool = False


class StepCall(msgspec.Struct, frozen=True):
    """One step to take on one target.

    `release` and `version` are what to bring (both empty: nothing may be current afterwards, which is how a first
    deployment is undone); `previous_release` is what was current before; `token` orders the effects of holders at the
    target: (lease epoch, seq of the intent) in the journal `log_id` (32 hex digits, the journal's `fence_id`), and a
    call without one is not fenced; `resumes` is the number of the earlier attempt whose outcome nobody recorded (0:
    there is none). A call that `settles` finds out what became of that attempt and begins nothing: it waits for a
    migration, and ends a build or a hook. `abandoned` says, when the call is cancelled, whether what it began at the
    target is another's by now, and is left alone;
    `keep` names releases that cleanup must not remove. With a `hook` the step is to run it, and `release`
    is what the deployment brings.
    """

    context: TargetContext
    step: str
    deployment_id: str
    attempt: int = 1
    token: tuple[int, int] = (0, 0)
    log_id: str = ""
    resumes: int = 0
    settles: bool = False
    abandoned: Callable[[], bool] | None = None
    release: str = ""
    version: str = ""
    previous_release: str = ""
    previous_version: str = ""
    artifact: Artifact | None = None
    keep: tuple[str, ...] = ()
    undo: bool = False
    hook: HookCall | None = None
    on_output: OnOutput | None = None


class Provider(Protocol):
    """Acts on targets. One instance serves one deployment (or one command) and is closed at its end.

    Every method raises ProviderConnectionError for a target out of reach, another ProviderError or DeploymentError for a
    refusal by a live target, and takes its deadline from the caller's cancel scope.
    """

    type: ClassVar[str]
    summary: ClassVar[str]
    steps: ClassVar[tuple[str, ...]]
    """The steps it knows, in order."""

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return what `ref` (empty: the head of the branch) means now, fetched once for the deployment.

        Raises GitProviderError or ProviderConfigurationError for what does not exist, ProviderConnectionError."""
        ...

    async def inspect(self, context: TargetContext) -> TargetFacts:
        """Look at a target and change nothing."""
        ...

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take a step and return the evidence (JSON-ready, no secrets)."""
        ...

    async def control(
        self,
        action: Action,
        context: TargetContext,
        on_output: OnOutput | None = None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> dict[str, Any]:
        """Start, stop, restart or remove the service outside a deployment; `token` and `log_id` as in a StepCall."""
        ...

    def logs(self, context: TargetContext, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """Yield the last lines of the service's log, then, when following, each new one."""
        ...

    async def transport(self, context: TargetContext) -> Transport:
        """Return the target's transport, for probes that run where the target is."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


ConnectionGuard = Callable[[str], AbstractAsyncContextManager[None]]
"""Surrounds a connection to a server that versions come from, whose name it is given (`source:HOST:PORT`, no credentials).

Raises ProviderUnavailableError instead when that server is left alone for now; a ProviderConnectionError inside is a
failure of the server."""


def always_open(server: str) -> AbstractAsyncContextManager[None]:
    """A guard that lets every connection be made."""
    return nullcontext()


class ProviderServices(msgspec.Struct, frozen=True):
    """What a provider is made with. `cache_dir` is a directory of ours for mirrors and artifacts; `guard` goes round each
    connection to a source."""

    clock: Clock
    resolver: Resolver
    cache_dir: str
    environ: Mapping[str, str]
    guard: ConnectionGuard = always_open


ProviderFactory = Callable[[ProviderServices], Provider]
