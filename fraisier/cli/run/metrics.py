"""`metrics`: what the store holds, for Prometheus."""

from __future__ import annotations

import signal

import anyio

from fraisier.cli import exits
from fraisier.cli.context import Call, to_json
from fraisier.cli.ending import ending, held
from fraisier.cli.listening import run_async, signals_go_to
from fraisier.clock import SystemClock
from fraisier.errors import ConfigurationError
from fraisier.ids import SystemIds
from fraisier.metrics.deployment import load_prometheus
from fraisier.metrics.server import MetricsServer
from fraisier.metrics.source import Source
from fraisier.rollout.processes import SystemProcesses


def metrics(call: Call, *, address: str, port: int, once: bool) -> int:
    """Serve the metrics of the store until a signal ends it, or print them once."""
    with held():
        is_missing = load_prometheus() is None
    if is_missing:
        raise ConfigurationError(
            "`fraisier metrics` needs prometheus_client, which is not installed",
            hint="pip install 'fraisier[metrics]'; everything else works without it",
        )
    clock = SystemClock()
    source = Source(call.store_url(), clock=clock, ids=SystemIds(clock), is_dead=SystemProcesses().is_dead)
    if once:
        call.data(run_async(_once, call, source))
        return exits.OK
    return run_async(_serve, call, source, address, port)


async def _once(call: Call, source: Source) -> str:
    try:
        exporter = await source.exporter()
        await exporter.refresh()
        if not call.json:
            text, _ = await exporter.render()
            return text.decode().rstrip("\n")
        samples = [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for metric in exporter.registry.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        ]
        return to_json({"metrics": samples})
    finally:
        await source.close()


async def _serve(call: Call, source: Source, address: str, port: int) -> int:
    """Serve until the first signal: SIGTERM is how a service manager ends what it started, the others are a person's."""
    asked: list[signal.Signals] = []
    is_asked = anyio.Event()

    def end(number: signal.Signals) -> None:
        asked.append(number)
        is_asked.set()

    server = MetricsServer(source, call.say)
    try:
        with signals_go_to(end):
            async with server.listening(address, port) as chosen:
                # A store that cannot be read at all is told now, and not at every scrape.
                await source.exporter()
                _tell(call, source, address, chosen)
                async with anyio.create_task_group() as group:
                    group.start_soon(server.watch, name="metrics:watch")
                    await is_asked.wait()
                    group.cancel_scope.cancel()
    finally:
        await source.close()
    ending.hold()
    return exits.OK if asked[0] == signal.SIGTERM else exits.INTERRUPTED


def _tell(call: Call, source: Source, address: str, port: int) -> None:
    """Say where the metrics are, and which store they are of."""
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}/metrics"
    if call.json:
        call.document({"url": url, "store": str(source.path or "memory:")})
    else:
        call.note(f"serving the metrics of {source.path or 'an empty store'} at {url}; Ctrl-C ends it")
