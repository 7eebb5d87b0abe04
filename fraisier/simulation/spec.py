"""What happens in one simulated trial: the configuration, how versions behave, who does what and when, and which faults come.

All of it is data, so that a trial can be printed, kept, repeated and made smaller.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fraisier.config.schema import Environment
from fraisier.simulation.services import Behaviour

ActKind = Literal[
    "deploy",
    "rollback",
    "resume",
    "abort",
    "pause",
    "promote",
    "retry",
    "freeze",
    "thaw",
    "kill",
    "stop",
    "continue",
    "interrupt",
]
FaultKind = Literal[
    "weather", "cut", "hole", "reboot", "disk_full", "clock", "store_busy", "store_fails", "store_loses"
]


class Act(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person does at `at_s`: starts a process (and what is done to it: dies at a handle or an append), or does
    something to the processes that were started before."""

    at_s: float
    kind: ActKind
    version: str = ""
    machine: str = "a"
    force: bool = False
    limit: tuple[str, ...] = ()
    lock_wait_s: float = 0.0
    dies_at: int = 0
    dies_before: int = 0
    dies_after: int = 0
    observer: Literal["", "raises", "hangs", "lags"] = ""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What goes wrong from `at_s` for `for_s` seconds, on one host or on all of them."""

    at_s: float
    kind: FaultKind
    for_s: float = 0.0
    host: str = ""
    lost: float = 0.0
    unanswered: float = 0.0
    silent: float = 0.0
    delay_s: float = 0.0
    by_s: float = 0.0
    rows: int = 0


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One trial. `behaviours` are (version, host or empty for all, behaviour); `settled` says that v1 is there at first;
    `impatient_s` is the timeout of deployments until the world is calm, where it is not the configured one."""

    seed: int
    settings: Environment
    supervised: bool = True
    settled: bool = True
    behaviours: tuple[tuple[str, str, Behaviour], ...] = ()
    durations_s: dict[str, float] = {}
    failing_migrations: bool = False
    failing_hooks: tuple[str, ...] = ()
    lease_ttl_s: float = 30.0
    heartbeat_s: float = 5.0
    impatient_s: float = 0.0
    acts: tuple[Act, ...] = ()
    faults: tuple[Fault, ...] = ()
    calm_at_s: float = 60.0
