"""Ten deployments, each of another kind, and how each one looks wherever people and programs look for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SECRET = "Zw7-not-to-be-seen-41"
"""What the builds and hooks print; nothing may repeat it."""

LOCK_WAIT_S = 0.3


@dataclass(frozen=True)
class Row:
    """A deployment of `fraise` (of the type `kind`), and what becomes of it.

    `targets` and `steps` are those of the result and of `show` (target, step, status, attempt). `error` is the end of the
    result's detail. `facts` are in the audit trail, in the events on stdout and in the log on stderr, in this order: level
    in the log, type, target, step, fields. `moved` is by how much series of Prometheus grow, beside those of every
    deployment; `back_for` is the reason of the linked rollback."""

    name: str
    fraise: str
    kind: str
    code: int
    outcome: str
    targets: str
    facts: tuple[str, ...]
    reason: str | None = None
    error: str = ""
    steps: tuple[str, ...] = ()
    moved: Mapping[str, int] = field(default_factory=dict)
    back_for: str = ""
    fallback: str | None = None

    @property
    def environment(self) -> str:
        return "production" if self.fraise == "web" else "staging"

    @property
    def status(self) -> str:
        """The outcome as metrics write it."""
        return "success" if self.outcome == "succeeded" else self.outcome

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcomes of the targets."""
        pairs = (pair.partition(" ") for pair in self.targets.split(", ") if pair)
        return {name: outcome for name, _, outcome in pairs}

    @property
    def spoilt(self) -> set[str]:
        """The targets that an error belongs to. One that was well when a person ended the deployment has none."""
        bad = () if self.name == "aborted" else ("failed", "rolled_back")
        return {name for name, outcome in self.outcomes.items() if outcome in bad}

    def growth(self) -> dict[str, int]:
        """By how much which series grow, named as `series_of` does."""
        found = {
            f"deployments{{fraise_type={self.kind},status={self.status}}}": 1,
            f"fraise_deployments{{environment={self.environment},fraise={self.fraise},status={self.status}}}": 1,
            f"deployment_duration_seconds_count{{status={self.status}}}": 1,
            **self.moved,
        }
        if self.status not in ("success", "unchanged"):
            found[f"deployment_failures{{reason={self.reason}}}"] = 1
        if self.back_for:
            found[f"rollbacks{{reason={self.back_for}}}"] = 1
            found["rollback_duration_seconds_count{}"] = 1
            found["recovery_decisions{action=rollback}"] = 1
        return found


TEN = (
    Row(
        "success",
        "web",
        "api",
        code=0,
        outcome="succeeded",
        targets="t1 updated, t2 updated",
        facts=(
            "INFO deployment.requested kind=deploy provider=local",
            "INFO lease.acquired",
            "DEBUG step.succeeded t1 verify",
            "INFO target.updated t1",
            "INFO wave.succeeded wave=2",
            "INFO deployment.succeeded outcome=succeeded",
        ),
        steps=("t1 stage succeeded 1", "t2 verify succeeded 1"),
    ),
    Row(
        "unchanged",
        "web",
        "api",
        code=0,
        outcome="unchanged",
        reason="unchanged",
        targets="t1 unchanged, t2 unchanged",
        facts=("INFO target.unchanged t2", "INFO deployment.succeeded outcome=unchanged"),
    ),
    Row(
        "health failure with rollback",
        "web",
        "api",
        code=3,
        outcome="rolled_back",
        reason="health_check_failed",
        targets="t1 rolled_back, t2 untouched",
        error="status 503, expected 200: ",
        facts=(
            "ERROR health.failed t1 check_type=http reason=deadline",
            "ERROR step.failed t1 verify error_type=HealthCheckError",
            "WARNING recovery.decided t1 verify action=fail reason=never_retried",
            "ERROR wave.failed wave=1",
            "WARNING recovery.decided action=rollback reason=health_check_failed",
            "WARNING rollback.started reason=health_check_failed",
            "WARNING target.rolled_back t1",
            "INFO rollback.succeeded reason=health_check_failed",
            "ERROR deployment.rolled_back reason=health_check_failed",
        ),
        steps=("t1 restart succeeded 1", "t1 verify failed 1"),
        moved={
            "deployment_errors{error_type=HealthCheckError}": 1,
            "step_duration_seconds_count{status=failed,step=verify}": 1,
            "recovery_decisions{action=fail}": 1,
        },
        back_for="health_check_failed",
    ),
    Row(
        "retry then success",
        "flaky",
        "etl",
        code=0,
        outcome="succeeded",
        targets="t1 updated",
        facts=(
            "ERROR step.failed t1 stage attempt=1 error_type=ProviderUnavailableError",
            "WARNING recovery.decided t1 stage action=retry strategy=retry",
            "DEBUG step.succeeded t1 stage attempt=2",
            "INFO recovery.succeeded t1 stage strategy=retry",
            "INFO deployment.succeeded outcome=succeeded",
        ),
        steps=("t1 stage succeeded 2",),
        moved={
            "deployment_errors{error_type=ProviderUnavailableError}": 1,
            "step_duration_seconds_count{status=failed,step=stage}": 1,
            "step_retries{step=stage}": 1,
            "recovery_decisions{action=retry}": 1,
            "recoveries{status=success,strategy=retry}": 1,
        },
    ),
    Row(
        "fallback",
        "blocked",
        "backup",
        code=0,
        outcome="succeeded",
        targets="t1 failed, t1~standby updated",
        facts=(
            "ERROR step.failed t1 preflight error_type=ProviderUnavailableError",
            "ERROR target.failed t1 preflight reason=provider_unavailable",
            "WARNING recovery.decided action=fallback fallback=standby",
            "INFO target.updated t1~standby",
            "INFO recovery.succeeded strategy=fallback",
            "INFO deployment.succeeded outcome=succeeded",
        ),
        steps=("t1 preflight failed 1", "t1~standby switch succeeded 1"),
        moved={
            "deployment_errors{error_type=ProviderUnavailableError}": 1,
            "step_duration_seconds_count{status=failed,step=preflight}": 1,
            "recovery_decisions{action=fail}": 1,
            "recovery_decisions{action=fallback}": 1,
            "recoveries{status=success,strategy=fallback}": 1,
        },
        fallback="standby",
    ),
    Row(
        "hook failure",
        "hooked",
        "scheduled",
        code=1,
        outcome="failed",
        reason="hook_failed",
        targets="t1 untouched",
        error="exit code 3: no room for ***",
        facts=(
            "ERROR hook.failed hook:backup phase=before_deploy exit_code=3 on_failure=abort",
            "ERROR deployment.failed outcome=failed reason=hook_failed",
        ),
        moved={
            "deployment_errors{error_type=HookError}": 1,
            "hook_duration_seconds_count{phase=before_deploy,status=failed}": 1,
        },
    ),
    Row(
        "prepare failure",
        "broken",
        "etl",
        code=1,
        outcome="failed",
        reason="prepare_failed",
        targets="t1 failed",
        error="exit code 4: no compiler for ***",
        facts=(
            "ERROR step.failed t1 stage error_type=BuildError",
            "WARNING recovery.decided t1 stage action=fail reason=not_recoverable",
            "ERROR target.failed t1 stage",
            "ERROR deployment.failed outcome=failed reason=prepare_failed",
        ),
        steps=("t1 fetch succeeded 1", "t1 stage failed 1"),
        moved={
            "deployment_errors{error_type=BuildError}": 1,
            "step_duration_seconds_count{status=failed,step=stage}": 1,
            "recovery_decisions{action=fail}": 1,
        },
    ),
    Row(
        "timeout",
        "hanging",
        "api",
        code=1,
        outcome="failed",
        reason="timeout",
        # It has no release to go back to, so it is stopped.
        targets="t1 rolled_back",
        error="timeout of 5 s passed while waiting for verify on t1 since ",
        facts=(
            "ERROR step.failed t1 verify error_type=DeploymentTimeoutError",
            "ERROR target.failed t1 verify reason=deployment_timeout",
            "WARNING recovery.decided action=rollback",
            "WARNING rollback.started reason=timeout",
            "WARNING target.rolled_back t1",
            "INFO rollback.succeeded reason=timeout",
            "ERROR deployment.failed outcome=failed reason=timeout",
        ),
        steps=("t1 restart succeeded 1", "t1 verify unknown 1"),
        moved={
            "deployment_errors{error_type=DeploymentTimeoutError}": 1,
            "step_duration_seconds_count{status=failed,step=verify}": 1,
        },
        back_for="timeout",
    ),
    Row(
        "locked",
        "held",
        "scheduled",
        code=5,
        outcome="locked",
        reason="locked",
        targets="",
        error="held in staging is being deployed by ",
        facts=(
            "INFO deployment.queued",
            "WARNING lease.waiting",
            f"WARNING lease.refused waited_s={LOCK_WAIT_S}",
            "ERROR deployment.failed outcome=locked reason=locked",
        ),
        moved={"deployment_errors{error_type=DeploymentLockError}": 1},
    ),
    Row(
        "aborted",
        "held",
        "scheduled",
        code=130,
        outcome="aborted",
        reason="aborted",
        targets="t1 rolled_back, t2 untouched",
        error="aborted by ",
        facts=(
            "INFO target.updated t1",
            "INFO wave.succeeded wave=1",
            "INFO deployment.abort_requested",
            "WARNING recovery.decided action=rollback strategy=abort",
            "WARNING rollback.started reason=aborted",
            "WARNING target.rolled_back t1",
            "INFO rollback.succeeded reason=aborted",
            "WARNING deployment.aborted reason=aborted",
        ),
        steps=("t1 switch succeeded 1",),
        back_for="aborted",
    ),
)
