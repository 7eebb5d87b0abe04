"""What a configuration is once it is read: frozen, typed, every default in one place.

An attribute that ends in `_s` is a duration in seconds; its key in the file has no suffix. The annotation of
a text says how it is read. In `Plain` `${VAR}` is put in when the file is read, and no template but the names
of the fraise and the environment. In `Text` templates may stand too, and wait for the moment of use. In
`SecretText` and `Command` `${VAR}` and `${file:PATH}` also stay references until then, so that no plan, event or
screen ever holds a value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

FALLBACK_MARK = "~"
"""Stands between the name of a target and that of the fallback it belongs to; no name in a file has it."""

PORT_MAX = 65_535


class Kind(msgspec.Struct, frozen=True):
    """How the loader reads a value beyond its Python type, and which bounds it has. `is_address`: it may be a URL with a
    password in it."""

    name: Literal[
        "plain",
        "text",
        "secret",
        "command",
        "duration",
        "batch",
        "count_or_percent",
        "status",
        "regex",
        "name",
        "require",
    ]
    minimum: float | None = None
    maximum: float | None = None
    is_address: bool = False


Plain = Annotated[str, Kind("plain")]
Name = Annotated[str, Kind("name")]
Text = Annotated[str, Kind("text")]
SecretText = Annotated[str, Kind("secret")]
Address = Annotated[str, Kind("secret", is_address=True)]
Command = Annotated[str, Kind("command")]
Regex = Annotated[str, Kind("regex")]
Duration = Annotated[float, Kind("duration", minimum=0)]
CountOrPercent = Annotated[str, Kind("count_or_percent")]
Batch = Annotated[tuple[str, ...], Kind("batch")]
StatusSet = Annotated[tuple[str, ...], Kind("status")]
Require = Annotated[str, Kind("require")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of all configuration objects."""


class Target(Settings, frozen=True):
    """One host, instance or application. A bare string in the file is its name.

    A target of a fallback is known by its name, `~` and the fallback's (`web-1~standby`), so that nothing that is
    recorded of the one place is taken for the other's.
    """

    name: Name
    address: Text = ""
    labels: dict[str, Plain] = {}
    vars: dict[str, str | int | float | bool] = {}

    @property
    def own_name(self) -> str:
        """The name in the file, which templates and commands see."""
        return self.name.partition(FALLBACK_MARK)[0]


class Source(Settings, frozen=True):
    """Where versions come from: exactly one of `git`, `archive` (with `sha256`) and `path`."""

    git: Address = ""
    archive: Address = ""
    sha256: Plain = ""
    path: Text = ""


class Service(Settings, frozen=True):
    """How the service is run: exactly one of `systemd`, `process`, and `start` with `stop` and `status`."""

    systemd: Text = ""
    process: Command = ""
    start: Command = ""
    stop: Command = ""
    status: Command = ""
    stop_timeout_s: Duration = field(default=10.0, name="stop_timeout")


class Migrate(Settings, frozen=True):
    """The command that migrates data, run in the staged release."""

    command: Command
    rollback_command: Command = ""
    on: Literal["first", "all"] = "first"
    resume: Literal["manual", "rerun"] = "manual"
    timeout_s: Duration = field(default=600.0, name="timeout")


class HealthCheck(Settings, frozen=True):
    """One check, or several with `type: composite`. The times of the outermost one count."""

    type: Literal["http", "tcp", "exec", "composite"]
    url: Address = ""
    method: Plain = "GET"
    headers: dict[str, SecretText] = {}
    expect_status: StatusSet = ("200",)
    expect_body: Regex = ""
    expect_json: dict[str, Any] = {}
    follow_redirects: bool = False
    verify_tls: bool = True
    ca_file: Text = ""
    tls_warn_before_s: Duration = field(default=14 * 86_400.0, name="tls_warn_before")
    connect_timeout_s: Duration = field(default=0.0, name="connect_timeout")
    host: Text = "127.0.0.1"
    port: Annotated[str, Kind("text")] = ""
    command: Command | tuple[SecretText, ...] = ""
    name: Plain = ""
    require: Require = "all"
    checks: tuple[HealthCheck, ...] = ()
    origin: Literal["target", "orchestrator"] = field(default="target", name="from")
    interval_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=1.0, name="interval")
    timeout_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=5.0, name="timeout")
    rise: Annotated[int, Kind("plain", minimum=1)] = 2
    fall: Annotated[int, Kind("plain", minimum=1)] = 3
    initial_delay_s: Duration = field(default=0.0, name="initial_delay")
    deadline_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=60.0, name="deadline")


class Rollout(Settings, frozen=True):
    """The shape of a rollout. `batch` is a number, a percentage or a cumulative ramp."""

    strategy: Literal["rolling", "all_at_once"] = "rolling"
    batch: Batch = ("1", "100%")
    pause_s: Duration = field(default=0.0, name="pause")
    max_unavailable: CountOrPercent | None = None
    max_failures: Annotated[int, Kind("plain", minimum=0)] = 0
    max_parallel: Annotated[int, Kind("plain", minimum=1)] = 32
    min_healthy_time_s: Duration = field(default=0.0, name="min_healthy_time")
    progress_deadline_s: Annotated[float, Kind("duration", minimum=0.01)] = field(
        default=600.0, name="progress_deadline"
    )
    on_failure: Literal["rollback", "hold", "stop"] = "rollback"
    on_unreachable: Literal["abort", "skip"] = "abort"


class Retry(Settings, frozen=True):
    """How often and how patiently a step is tried; `max_attempts` counts the first try."""

    max_attempts: Annotated[int, Kind("plain", minimum=1)] = 3
    base_delay_s: Duration = field(default=1.0, name="base_delay")
    backoff_factor: Annotated[float, Kind("plain", minimum=1)] = 2.0
    max_delay_s: Duration = field(default=60.0, name="max_delay")


class CircuitBreaker(Settings, frozen=True):
    """When a target whose connection keeps failing is left alone for a while.

    So many failures in a row open its circuit; with `failure_rate`, that share of the calls of the last `window` instead.
    """

    failure_threshold: Annotated[int, Kind("plain", minimum=1)] = 5
    recovery_timeout_s: Annotated[float, Kind("duration", minimum=0.01)] = field(
        default=300.0, name="recovery_timeout"
    )
    half_open_calls: Annotated[int, Kind("plain", minimum=1)] = 1
    trial_timeout_s: Annotated[float, Kind("duration", minimum=0.01)] = field(
        default=60.0, name="trial_timeout"
    )
    failure_rate: Annotated[float, Kind("plain", minimum=0.01, maximum=1)] | None = None
    window_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=60.0, name="window")
    minimum_calls: Annotated[int, Kind("plain", minimum=1)] = 10


class Fallback(Settings, frozen=True):
    """The other place that a deployment goes to when its provider fails: an environment of its own, under a name.

    In the file it holds any keys of an environment, which lie over those of the one that it stands in.
    """

    settings: Environment
    name: Name = ""


class Recovery(Settings, frozen=True):
    """What is tried before a failure is final. `fallback` is tried in its order."""

    retry: Retry = Retry()
    fallback: tuple[Fallback, ...] = ()
    circuit_breaker: CircuitBreaker = CircuitBreaker()


HookConsequence = Literal["abort", "rollback", "warn"]


class Hook(Settings, frozen=True):
    """A command of the user's at one point of a deployment. A bare string in the file is its command.

    What is None depends on where the hook stands; `fraisier.config.hooks.hooks_at` fills it in.
    """

    command: Command
    name: Name = ""
    on: Literal["orchestrator", "target"] | None = None
    timeout_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=600.0, name="timeout")
    on_failure: HookConsequence | None = None
    resume: Literal["manual", "rerun"] = "manual"


class Hooks(Settings, frozen=True):
    """Commands before and after every phase, and at the end."""

    before_deploy: tuple[Hook, ...] = ()
    before_prepare: tuple[Hook, ...] = ()
    before_preflight: tuple[Hook, ...] = ()
    after_preflight: tuple[Hook, ...] = ()
    before_fetch: tuple[Hook, ...] = ()
    after_fetch: tuple[Hook, ...] = ()
    before_stage: tuple[Hook, ...] = ()
    after_stage: tuple[Hook, ...] = ()
    after_prepare: tuple[Hook, ...] = ()
    before_migrate: tuple[Hook, ...] = ()
    after_migrate: tuple[Hook, ...] = ()
    before_switch: tuple[Hook, ...] = ()
    after_switch: tuple[Hook, ...] = ()
    before_restart: tuple[Hook, ...] = ()
    after_restart: tuple[Hook, ...] = ()
    before_verify: tuple[Hook, ...] = ()
    after_verify: tuple[Hook, ...] = ()
    before_bake: tuple[Hook, ...] = ()
    after_bake: tuple[Hook, ...] = ()
    after_deploy: tuple[Hook, ...] = ()
    before_cleanup: tuple[Hook, ...] = ()
    after_cleanup: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()
    on_rollback: tuple[Hook, ...] = ()
    on_abort: tuple[Hook, ...] = ()
    always: tuple[Hook, ...] = ()


class Environment(Settings, frozen=True):
    """A fraise in one environment: where it runs, what it is made of, how it is rolled out."""

    provider: Plain = "local"
    targets: tuple[Target, ...] = ()
    source: Source | None = None
    branch: Plain = "main"
    app_path: Text = ""
    keep_releases: Annotated[int, Kind("plain", minimum=1)] = 5
    keep_failed: Annotated[int, Kind("plain", minimum=0)] = 0
    shared: tuple[Text, ...] = ()
    env: dict[str, SecretText] = {}
    build: tuple[Command, ...] = ()
    build_on: Literal["target", "orchestrator"] = "target"
    build_timeout_s: Duration = field(default=600.0, name="build_timeout")
    migrate: Migrate | None = None
    service: Service | None = None
    health_check: HealthCheck | None = None
    rollout: Rollout = Rollout()
    recovery: Recovery = Recovery()
    hooks: Hooks = Hooks()
    timeout_s: Annotated[float, Kind("duration", minimum=0.01)] = field(default=1800.0, name="timeout")
    rollback_timeout_s: Annotated[float, Kind("duration", minimum=0.01)] | None = field(
        default=None, name="rollback_timeout"
    )


class Fraise(Settings, frozen=True):
    """A deployable service with its environments."""

    name: Name
    type: Literal["api", "etl", "scheduled", "backup"] = "api"
    description: Plain = ""
    depends_on: tuple[Name, ...] = ()
    environments: dict[Name, Environment] = {}


class StoreSettings(Settings, frozen=True):
    """Where the journal is kept."""

    url: SecretText = ""


class LeaseSettings(Settings, frozen=True):
    """How long a lease holds without a sign of life, and how often one is given."""

    ttl_s: Annotated[float, Kind("duration", minimum=0.1)] = field(default=30.0, name="ttl")
    heartbeat_s: Annotated[float, Kind("duration", minimum=0.05)] = field(default=5.0, name="heartbeat")


class Forward(Settings, frozen=True):
    """Where events are copied to: exactly one of `file`, `syslog` and `journald`. A bare `syslog` or `journald` in the file
    means the one of this machine."""

    file: Plain = ""
    syslog: Plain = ""
    journald: Plain = ""
    types: tuple[Plain, ...] = ("*",)


SYSLOG_SOCKET = "/dev/log"
JOURNALD_SOCKET = "/run/systemd/journal/socket"


class AuditSettings(Settings, frozen=True):
    """The key that signs checkpoints (empty: one is made in the store's directory), the keys that did so before it, and who
    gets a copy of every event."""

    key: SecretText = ""
    former_keys: tuple[SecretText, ...] = ()
    forward: tuple[Forward, ...] = ()


class LoggingSettings(Settings, frozen=True):
    """What is logged, and how it looks. None leaves it to `fraisier.logging.choose_logging`."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    format: Literal["console", "json"] | None = None


class Config(Settings, frozen=True):
    """A whole configuration file."""

    fraises: dict[Name, Fraise] = {}
    store: StoreSettings = StoreSettings()
    lease: LeaseSettings = LeaseSettings()
    audit: AuditSettings = AuditSettings()
    logging: LoggingSettings = LoggingSettings()
    path: str = ""


RESERVED: dict[str, tuple[str, ...]] = {
    "Config": ("git", "branch_mapping"),
    "Environment": (
        "traffic",
        "analysis",
        "windows",
        "notifications",
        "ssh",
        "canary",
        "blue_green",
    ),
    "Hooks": ("before_drain", "after_drain", "before_admit", "after_admit"),
}
"""Documented keys that this version does not act on.

They are refused: a setting that is silently ignored is a trap.
"""
