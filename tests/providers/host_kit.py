"""A small world for the local provider: a git repository, one or more targets, and a service that answers who it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from fraisier.clock import SystemClock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment, Service, Source, Target
from fraisier.providers.base import (
    ConnectionGuard,
    ProviderServices,
    StepCall,
    TargetContext,
    always_open,
)
from fraisier.providers.local import LocalProvider
from fraisier.redaction import Redactor

SERVER = """\
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("version.txt").read().encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
print("serving", os.environ["PORT"], flush=True)
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"""


def git(repo: Path, *args: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00Z"}
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *args], cwd=repo, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def make_repo(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q")
    commit(path, {"version.txt": "v1", "server.py": SERVER})
    return path


def commit(repo: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "change")
    return git(repo, "rev-parse", "HEAD")


def marked_processes(place: str) -> list[int]:
    """Return living processes that run below a directory, or were told so."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            told = place.encode() in (entry / "environ").read_bytes() or str(
                (entry / "cwd").readlink()
            ).startswith(place)
            if state not in "ZX" and told and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


class Kit:
    """One fraise on local targets below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repo = make_repo(root / "repo")
        self.redactor = Redactor()
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(root), "SECRET": "s3cr3t-value"}
        self.made: list[LocalProvider] = []
        self.output: list[str] = []

    def provider(self, guard: ConnectionGuard = always_open) -> LocalProvider:
        made = LocalProvider(
            ProviderServices(
                clock=SystemClock(),
                resolver=Resolver(self.environ, self.redactor, self.root),
                cache_dir=str(self.root / "cache"),
                environ=self.environ,
                guard=guard,
            )
        )
        self.made.append(made)
        return made

    def context(self, target: str = "t1", **settings: Any) -> TargetContext:
        settings.setdefault("source", Source(git=str(self.repo)))
        settings.setdefault("app_path", str(self.root / "srv" / "{{ target.name }}"))
        return TargetContext("api", "test", Target(name=target), Environment(**settings))

    def app(self, target: str = "t1") -> Path:
        return self.root / "srv" / target

    async def call(
        self, provider: LocalProvider, context: TargetContext, step: str, release: str, **more: Any
    ) -> dict[str, Any]:
        more.setdefault("deployment_id", f"dep-{release}")
        more.setdefault("on_output", lambda stream, line: self.output.append(line))
        return await provider.perform(StepCall(context=context, step=step, release=release, **more))

    async def deploy(
        self, provider: LocalProvider, context: TargetContext, release: str, ref: str = ""
    ) -> dict[str, Any]:
        """Take every step up to the restart and return all evidence by step."""
        artifact = await provider.resolve(context.settings, ref)
        steps = ["preflight", "fetch", "stage", "switch"]
        if context.settings.service is not None:
            steps.append("restart")
        return {
            step: await self.call(
                provider, context, step, release, artifact=artifact, version=artifact.version
            )
            for step in steps
        }

    async def close(self) -> None:
        for provider in self.made:
            await provider.aclose()
        self.kill_all()

    def kill_all(self) -> None:
        for pid in marked_processes(str(self.root / "srv")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def server(port: int) -> dict[str, Any]:
    return {"service": Service(process=f"{sys.executable} server.py"), "env": {"PORT": str(port)}}


async def ask(port: int) -> str:
    """Return what the service answers, waiting for it to listen."""
    with anyio.fail_after(10):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.01)
                continue
            async with stream:
                await stream.send(b"GET / HTTP/1.0\r\n\r\n")
                data = b""
                with suppress(anyio.EndOfStream):
                    while True:
                        data += await stream.receive()
            return data.rpartition(b"\r\n\r\n")[2].decode()


async def until(condition: Any, limit_s: float = 10.0) -> None:
    """Wait until a condition about other processes holds; it is asked again and again."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await anyio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
