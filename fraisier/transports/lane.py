"""The standing shell of a target on this machine: one `sh`, many short scripts, one after the other."""

from __future__ import annotations

import os
import secrets
import select
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import Process

from fraisier.commands import fence as fences
from fraisier.errors import ProviderConnectionError
from fraisier.transports.base import Completed
from fraisier.transports.child import collect
from fraisier.transports.groups import end_group
from fraisier.transports.pipes import CHUNK_BYTES, ReadEnd, WriteEnd

OUTPUT_BYTES = 4 * 1024 * 1024
_AFTER_EXIT_S = 0.1
_LEFT = "exit "
"""Stands before the exit code of a script that has ended the shell with it."""
_MARKS = """\
mark_of_lane() { printf '\\036%s %s\\n' "$nonce_of_lane" "$1"; printf '\\036%s %s\\n' "$nonce_of_lane" "$1" >&2; }
trap 'mark_of_lane "exit $?"' EXIT
"""


class Reply:
    """What one script printed on one stream: everything between two lines that only this script's nonce can make."""

    def __init__(self, nonce: str) -> None:
        self._mark = b"\x1e" + nonce.encode() + b" "
        self._buffer = bytearray()
        self.ended = ""

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; return True when the end mark is complete."""
        start = max(0, len(self._buffer) - len(self._mark) - 8)
        self._buffer += chunk
        at = self._buffer.rfind(self._mark, start)
        if at < 0 or self._buffer.find(b"\n", at) < 0:
            self._bound()
            return False
        word = bytes(self._buffer[at + len(self._mark) : self._buffer.index(b"\n", at)])
        if word == b"begin":
            return False
        self.ended = word.decode()
        del self._buffer[at:]
        return True

    def text(self) -> str:
        """Return what stands between the marks; bytes that are no UTF-8 are replaced."""
        begin = self._mark + b"begin\n"
        at = self._buffer.find(begin)
        body = self._buffer[at + len(begin) :] if at >= 0 else self._buffer
        return bytes(body).decode("utf-8", "replace")

    def _bound(self) -> None:
        if len(self._buffer) > 2 * OUTPUT_BYTES:
            del self._buffer[:-OUTPUT_BYTES]


class Lane:
    """One shell process. It is used up when a script is cancelled, calls `exit`, or the shell ends; its owner then opens
    another. Scripts run in the shell itself, since a subshell costs a process each: each sets what it reads.
    """

    def __init__(self, process: Process, stdin: WriteEnd, stdout: ReadEnd, stderr: ReadEnd) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._pidfd = os.pidfd_open(process.pid)
        # One descriptor that tells of output on either stream and of the shell's end, so that a script costs one wait.
        self._ready = select.epoll()
        for fd in (stdout.fd, stderr.fd, self._pidfd):
            self._ready.register(fd, select.EPOLLIN)
        self._preamble = ""
        self.usable = True

    @classmethod
    async def open(cls, env: Mapping[str, str]) -> Lane:
        """Start the shell. Raises ProviderConnectionError."""
        stdin, stdout, stderr = WriteEnd(), ReadEnd(), ReadEnd()
        try:
            process = await anyio.open_process(
                ["sh"],
                stdin=stdin.theirs,
                stdout=stdout.theirs,
                stderr=stderr.theirs,
                cwd="/",
                env=dict(env),
                start_new_session=True,
            )
        except OSError as error:
            for end in (stdin, stdout, stderr):
                end.close()
            raise ProviderConnectionError(f"cannot start a shell: {error.strerror}", cause=error) from error
        except BaseException:
            for end in (stdin, stdout, stderr):
                end.close()
            raise
        for end in (stdin, stdout, stderr):
            end.release()
        lane = cls(process, stdin, stdout, stderr)
        lane._preamble = _MARKS + _introduced(process.pid)
        return lane

    async def run(self, script: str) -> Completed:
        """Run a script. Raises ProviderConnectionError when the shell ends before it."""
        nonce = secrets.token_hex(8)
        out, err = Reply(nonce), Reply(nonce)
        self.usable = False  # until both marks were seen
        try:
            preamble, self._preamble = self._preamble, ""
            await self._stdin.write(_wrapped(preamble, script, nonce))
            await self._listen({self._stdout.fd: out, self._stderr.fd: err})
        except BrokenPipeError:
            pass  # the marks are missing, which says it all
        if not (out.ended and err.ended):
            raise ProviderConnectionError(
                "the shell ended before the command did; whether the command was done is not known",
                context={"reason": "shell_lost", "in_doubt": True},
            )
        self.usable = not out.ended.startswith(_LEFT)
        return Completed(exit_code=int(out.ended.removeprefix(_LEFT)), stdout=out.text(), stderr=err.text())

    async def _listen(self, replies: dict[int, Reply]) -> None:
        """Read until every reply is complete, or the shell has ended and its last words were read."""
        open_ends = set(replies)
        while open_ends:
            await anyio.wait_readable(self._ready)
            for fd, _ in self._ready.poll(0):
                if fd == self._pidfd:
                    # Children may hold the pipes for hours: the shell's own end decides.
                    self._ready.unregister(fd)
                    for end in open_ends:
                        _read_rest(end, replies[end])
                    return
                if fd in open_ends and _read_into(fd, replies[fd]):
                    open_ends.discard(fd)

    async def aclose(self, *, grace_s: float) -> None:
        """End the shell, with a script that still runs in it. Bounded and shielded."""
        self.usable = False
        self._stdin.close()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(0 if self._process.returncode is not None else _AFTER_EXIT_S):
                await self._process.wait()
            if self._process.returncode is None:
                await end_group(self._process.pid, grace_s)
                await collect(self._process)
        if not self._ready.closed:
            self._ready.close()
            os.close(self._pidfd)
        self._stdout.close()
        self._stderr.close()

    async def kill(self, *, grace_s: float) -> None:
        """End what runs in the shell at this moment, and the shell with it."""
        self.usable = False
        await end_group(self._process.pid, grace_s)
        await self.aclose(grace_s=0)


def _read_into(fd: int, reply: Reply) -> bool:
    """Read once; return True when the reply is complete, or the stream has ended."""
    try:
        chunk = os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return False
    return not chunk or reply.feed(chunk)


def _read_rest(fd: int, reply: Reply) -> None:
    with suppress(BlockingIOError):
        while (chunk := os.read(fd, CHUNK_BYTES)) and not reply.feed(chunk):
            pass


def _introduced(pid: int) -> str:
    """Return the line that tells a shell of ours who it is; without it, it looks itself, byte by byte."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""
    return fences.introduction(pid, stat.rpartition(")")[2].split()[19], boot_id)


def _wrapped(preamble: str, script: str, nonce: str) -> bytes:
    # A shell that stayed where the script went would keep that directory busy.
    return (
        f"{preamble}nonce_of_lane={nonce}; mark_of_lane begin\n"
        f"eval {shlex.quote(script)} </dev/null\n"
        "mark_of_lane $?; cd /\n"
    ).encode("utf-8", "surrogateescape")
