"""The HTTP side of `fraisier metrics`: `/metrics`, a page that says what is here, and whether it lives."""

from __future__ import annotations

import errno
import gzip
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from aiohttp import web

from fraisier._version import __version__
from fraisier.errors import FraisierError, UsageError
from fraisier.metrics.exporter import Exporter
from fraisier.metrics.runtime import measure_loop_lag
from fraisier.metrics.source import Source

SCRAPE_S_MAX = 10.0
"""A scrape takes so long at most, or as long as its own header allows."""

_MARGIN_S = 0.5
_COMPRESS_FROM = 1024
_CLOSE_S = 2.0
_BUSY_MAX = 16
"""More scrapes than this at the same time are refused."""

_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Fraisier metrics</title>
<h1>Fraisier {version}</h1>
<p>What the store holds, for Prometheus: <a href="metrics">/metrics</a>. Whether this process lives:
<a href="-/healthy">/-/healthy</a>; whether it has read the store: <a href="-/ready">/-/ready</a>.</p>
</html>
"""


class MetricsServer:
    """Answers scrapes from a source, one after the other. `tell` is told when the store fails and when it works again."""

    def __init__(self, source: Source, tell: Callable[[str], None]) -> None:
        self._source = source
        self._tell = tell
        self._lock = anyio.Lock()
        self._waiting = 0
        self._trouble = ""
        self._ready = False
        self._lag_s = 0.0

    @asynccontextmanager
    async def listening(self, address: str, port: int) -> AsyncIterator[int]:
        """Listen, and give the port (another than asked for when that is 0). Raises UsageError."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/metrics", self._metrics),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._readiness),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_S)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, address, port).start()
            except OSError as error:
                raise _refusal(address, port, error) from error
            yield runner.addresses[0][1]
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2 * _CLOSE_S):
                await runner.cleanup()

    async def watch(self) -> None:
        """Read the store before the first scrape asks for it, then measure how late the event loop is. Runs until it is
        cancelled."""
        try:
            async with self._lock:
                await self._refreshed()
        except FraisierError as error:
            self._note(error.message)
        await measure_loop_lag(self._record_lag)

    def _record_lag(self, lag_s: float) -> None:
        self._lag_s = lag_s

    async def _refreshed(self) -> Exporter:
        exporter = await self._source.exporter()
        await exporter.refresh()
        exporter.runtime.record_loop_lag(self._lag_s)
        self._ready = True
        self._note("")
        return exporter

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._tell(f"the store cannot be read: {trouble}" if trouble else "the store can be read again")

    # answers

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._waiting >= _BUSY_MAX:
            return _later("too many scrapes at the same time")
        self._waiting += 1
        try:
            with anyio.move_on_after(_patience_s(request)) as scope:
                answer = await self._scrape(request)
        finally:
            self._waiting -= 1
        return _later("the store is still being read") if scope.cancelled_caught else answer

    async def _scrape(self, request: web.Request) -> web.Response:
        async with self._lock:
            try:
                exporter = await self._refreshed()
            except FraisierError as error:
                self._note(error.message)
                # The next scrape opens the store anew.
                await self._source.close()
                return _later(f"the store cannot be read: {error.message}")
            body, content_type = await exporter.render(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", "") and len(body) >= _COMPRESS_FROM:
            body = await anyio.to_thread.run_sync(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=_PAGE.format(version=__version__), content_type="text/html")

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="Fraisier metrics is healthy.\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        if self._trouble or not self._ready:
            return _later(self._trouble or "the store is still being read")
        return web.Response(text="Fraisier metrics is ready.\n")


def _later(why: str) -> web.Response:
    return web.Response(status=503, text=f"{why}\n", headers={"Retry-After": "5"})


def _patience_s(request: web.Request) -> float:
    """Return how long the one who scrapes waits, less a margin to answer in."""
    try:
        asked = float(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds", ""))
    except ValueError:
        asked = math.nan
    if not 0 < asked <= SCRAPE_S_MAX:
        asked = SCRAPE_S_MAX
    return max(asked - _MARGIN_S, asked / 2)


def _refusal(address: str, port: int, error: OSError) -> UsageError:
    """Return what a person is told when nothing can listen there."""
    where = f"{address} port {port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"{where} is in use by another process",
            hint=f"choose another with --port, or see who has it: ss -ltnp 'sport = :{port}'",
            context={"address": address, "port": port},
            cause=error,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(
            f"listening on {where} is not allowed for this user",
            hint="choose a port from 1024 on with --port",
            context={"address": address, "port": port},
            cause=error,
        )
    return UsageError(
        f"{address} is not an address of this machine: {error.strerror or error}",
        hint="give --address 127.0.0.1 (this machine alone), 0.0.0.0 or :: (everybody), or one of `ip address`",
        context={"address": address, "port": port},
        cause=error,
    )
