"""What goes wrong with the world of a trial: links, hosts, disks, clocks, and the store."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.simulation.cast import Cast
from fraisier.simulation.links import Weather
from fraisier.simulation.spec import Fault


class Faults:
    """Brings the faults of a trial about, each at its time, and ends them."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._world = cast.world

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Let each fault come, counted from now."""
        for fault in faults:
            self._world.later(fault.at_s, self._break, fault)

    def _break(self, fault: Fault) -> None:
        self._cast.outcomes[f"faults: {fault.kind}"] += 1
        self._cast.tell(f"fault {fault.kind} {fault.host} for {fault.for_s:g} s")
        world = self._world
        hosts = [fault.host] if fault.host else list(world.hosts)
        match fault.kind:
            case "weather" | "cut" | "hole":
                weather = Weather(
                    lost=fault.lost,
                    unanswered=fault.unanswered,
                    silent=fault.silent,
                    delay_s=fault.delay_s,
                    cut=fault.kind == "cut",
                    hole=fault.kind == "hole",
                )
                for name in hosts:
                    world.weather[name] = weather
                world.later(fault.for_s, self._clear, hosts)
            case "reboot":
                for name in hosts[:1]:
                    world.reboot(name, down_s=fault.for_s)
            case "disk_full":
                for name in hosts:
                    world.hosts[name].disk_full = True
                world.later(fault.for_s, self._empty_disks, hosts)
            case "clock":
                self._cast.clock.shift(fault.by_s)
            case _:
                self._break_store(fault)

    def _break_store(self, fault: Fault) -> None:
        living = [door for process, door in self._cast.doors.items() if not process.gone]
        match fault.kind:
            case "store_busy":
                self._cast.busy_s = 0.4
                for door in living:
                    door.busy_s = self._cast.busy_s
                self._world.later(fault.for_s, self.idle_store)
            case "store_fails":
                for door in living:
                    door.fails = "the disk reported an I/O error"
            case "store_loses":
                for (
                    process
                ) in self._cast.processes:  # the power of every machine that had it open is cut, too
                    process.kill()
                if self._cast.store.lose_tail(fault.rows):
                    self._cast.judge.forget_tail()

    def _clear(self, hosts: list[str]) -> None:
        for name in hosts:
            self._world.weather.pop(name, None)

    def _empty_disks(self, hosts: list[str]) -> None:
        for name in hosts:
            self._world.hosts[name].disk_full = False

    def idle_store(self) -> None:
        """Let the store be quick again."""
        self._cast.busy_s = 0.0
        for door in self._cast.doors.values():
            door.busy_s = 0.0
