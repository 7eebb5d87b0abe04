"""A transport that answers from a script and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from fraisier.errors import ProviderConnectionError
from fraisier.transports.base import Completed, OnOutput

Answer = Completed | BaseException
Rule = tuple[Callable[[str], bool], Answer, float]


class ScriptedTransport:
    """A `Transport` whose commands never run.

    `when(text, answer)` says what a command or script that contains `text` comes to (the newest matching rule
    counts; by default exit code 0 without output), after `delay_s` of the loop's time. An exception as answer
    is raised. `calls` holds every command and script in order; `files` what was put, by destination.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.files: dict[str, bytes] = {}
        self.closed = False
        self._rules: list[Rule] = []

    def when(self, text: str, answer: Answer, *, delay_s: float = 0.0) -> None:
        """Script the answer to commands that contain `text`."""
        self._rules.append((lambda command: text in command, answer, delay_s))

    def cut(self) -> None:
        """Lose the link: everything from now on raises ProviderConnectionError."""
        self.when("", ProviderConnectionError("the scripted link is cut"))

    async def shell(self, script: str) -> Completed:
        """Answer a script."""
        return await self._answer(script)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Completed:
        """Answer a command; its scripted output goes to `on_output` line by line."""
        completed = await self._answer(command if isinstance(command, str) else " ".join(command))
        if on_output is not None:
            for stream, text in (("stdout", completed.stdout), ("stderr", completed.stderr)):
                for line in text.splitlines():
                    on_output(stream, line)
        return completed

    async def put(self, source: Path, destination: str) -> None:
        """Keep the file's content under its destination."""
        self.calls.append(f"put {destination}")
        self.files[destination] = await anyio.Path(source).read_bytes()

    async def open_connection(self, host: str, port: int) -> ByteStream:
        """Refuse: nothing listens in a script."""
        self.calls.append(f"connect {host}:{port}")
        raise ProviderConnectionError(f"nothing listens on {host}:{port} in this script")

    async def aclose(self) -> None:
        """Note that the transport was closed."""
        self.closed = True

    async def _answer(self, command: str) -> Completed:
        self.calls.append(command)
        for matches, answer, delay_s in reversed(self._rules):
            if matches(command):
                await anyio.sleep(delay_s)
                if isinstance(answer, BaseException):
                    raise answer
                return answer
        await anyio.lowlevel.checkpoint()
        return Completed(0, "", "")
