"""Where forwarded events go. A sink waits for nobody longer than its deadline, and says when it is out of reach."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Protocol

import anyio

from fraisier.audit.forward import layout
from fraisier.events import Record

SEND_S = 2.0
"""How long one event may take; who closes the bus waits for it."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_LONG = (errno.EMSGSIZE, errno.ENOBUFS)


class SinkError(Exception):
    """Raised when a sink did not take an event, or nobody can know whether it did: it is sent again later."""


class Sink(Protocol):
    """Takes one event after the other."""

    async def send(self, record: Record) -> None:
        """Hand an event over. Raises SinkError."""
        ...

    def close(self) -> None:
        """Give back what is held open."""
        ...


class FileSink:
    """Appends a line of JSON for each event. The file is opened anew each time, so that it may be rotated; it is made with
    mode 0600, and what is written has reached the kernel, not yet the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = anyio.CapacityLimiter(1)
        self._is_torn = False

    async def send(self, record: Record) -> None:
        """Append the event. Raises SinkError."""
        line = layout.line_of(record) + b"\n"
        try:
            with anyio.fail_after(SEND_S):
                await anyio.to_thread.run_sync(self._append, line, limiter=self._turn, abandon_on_cancel=True)
        except TimeoutError as error:
            raise SinkError(f"{self._path}: no answer within {SEND_S:g} s") from error
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def _append(self, line: bytes) -> None:
        # O_NONBLOCK: a pipe that nobody reads is an error, not a wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            # What an attempt that ran out of space has left behind gets its end first, and stays a line of its own.
            rest = memoryview(b"\n" + line if self._is_torn else line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
                self._is_torn = bool(rest)
        finally:
            os.close(descriptor)


class _Datagrams:
    """A connected datagram socket that never blocks the loop, made when it is first needed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None

    async def send(self, data: bytes) -> None:
        """Send a datagram. Raises SinkError, and OSError with EMSGSIZE for one that is too long."""
        try:
            with anyio.fail_after(SEND_S):
                await self._send(data)
        except TimeoutError as error:
            self.close()
            raise SinkError(f"{self.address}: no answer within {SEND_S:g} s") from error
        except OSError as error:
            if error.errno in _TOO_LONG:
                raise
            self.close()
            raise SinkError(f"{self.address}: {error.strerror or error}") from error

    async def _send(self, data: bytes) -> None:
        if self._socket is None:
            self._socket = await self.connect()
        while True:
            try:
                self._socket.send(data)
                return
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def send_file(self, descriptor: int) -> None:
        """Send an open file with an empty datagram. Raises SinkError."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            if self._socket is None:
                self._socket = await self.connect()
            self._socket.sendmsg([b""], [rights])
        except OSError as error:
            self.close()
            raise SinkError(f"{self.address}: {error.strerror or error}") from error

    async def connect(self) -> socket.socket:
        """Return a connected socket. Raises OSError."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.connect(self.address)
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """Close the socket; the next event makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Udp(_Datagrams):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"udp://{host}:{port}")
        self._host, self._port = host, port

    async def connect(self) -> socket.socket:
        """Return a socket to the first address that the name has. Raises OSError."""
        found = await anyio.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, proto, _, address = found[0]
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, proto)
        try:
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made


class SyslogSink:
    """Sends to a syslog server: the socket of this machine, or one elsewhere over UDP. An event of more than
    SYSLOG_BYTES_MAX goes without its data. UDP tells nobody of what it loses."""

    def __init__(self, *, path: str = "", host: str = "", port: int = 514) -> None:
        self._datagrams = _Datagrams(path) if path else _Udp(host, port)
        self._is_local = bool(path)
        self._host = socket.gethostname()

    async def send(self, record: Record) -> None:
        """Send the event. Raises SinkError."""
        pid = os.getpid()
        data = (
            layout.local_syslog(record, pid=pid)
            if self._is_local
            else layout.rfc5424(record, host=self._host, pid=pid)
        )
        try:
            await self._datagrams.send(data)
        except OSError as error:
            raise SinkError(f"{self._datagrams.address}: {error.strerror}") from error

    def close(self) -> None:
        """Close the socket."""
        self._datagrams.close()


class JournaldSink:
    """Sends to systemd's journal, with the event in the field FRAISIER_EVENT and its place in fields of their own."""

    def __init__(self, path: str) -> None:
        self._datagrams = _Datagrams(path)

    async def send(self, record: Record) -> None:
        """Send the event; what is too long for a datagram goes as a sealed file in memory. Raises SinkError."""
        entry = layout.journal_entry(record)
        try:
            await self._datagrams.send(entry)
        except OSError:
            await self._send_as_file(entry)

    async def _send_as_file(self, entry: bytes) -> None:
        descriptor = os.memfd_create("fraisier-event", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb") as file:
            file.write(entry)
            file.flush()
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            await self._datagrams.send_file(descriptor)

    def close(self) -> None:
        """Close the socket."""
        self._datagrams.close()
