"""Receivers of forwarded events: sockets as syslog servers and the journal of systemd have them."""

from __future__ import annotations

import array
import json
import os
import re
import socket
import struct
import threading
from pathlib import Path
from typing import Any


class Receiver:
    """Takes datagrams in a thread of its own until it is closed; `taken` are those that arrived, in order."""

    def __init__(self, bound: socket.socket) -> None:
        self.taken: list[bytes] = []
        self._socket = bound
        self._socket.settimeout(0.05)
        self._is_over = False
        self._thread = threading.Thread(target=self._take, name="receiver")
        self._thread.start()

    @classmethod
    def unix(cls, path: Path) -> Receiver:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(str(path))
        return cls(made)

    @classmethod
    def udp(cls) -> Receiver:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind(("127.0.0.1", 0))
        return cls(made)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def _take(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    1 << 20, socket.CMSG_LEN(array.array("i").itemsize)
                )
            except TimeoutError:
                if self._is_over:
                    return
                continue
            self.taken.append(_content(data, ancillary))

    def close(self) -> list[bytes]:
        """Take what has arrived, end, and return all of it."""
        self._is_over = True
        self._thread.join(10)
        self._socket.close()
        return self.taken


def _content(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Return the datagram, or what stands in the file that came with it."""
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            (descriptor,) = array.array("i", raw)
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                return file.read()
    return data


_RFC5424 = re.compile(
    rb"<(?P<pri>\d{1,3})>1 (?P<time>\d{4}-\d\d-\d\dT\S+Z) (?P<host>\S+) fraisier (?P<pid>\d+) (?P<id>\S+) - (?P<json>\{.*\})"
)
_LOCAL = re.compile(
    rb"<(?P<pri>\d{1,3})>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d fraisier\[(?P<pid>\d+)\]: (?P<json>\{.*\})"
)


def syslog(data: bytes, *, local: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the event of a syslog message, and what stands before it. Fails for what is no such message."""
    match = (_LOCAL if local else _RFC5424).fullmatch(data)
    assert match is not None, data[:200]
    head = {key: value.decode() for key, value in match.groupdict().items() if key != "json"}
    return json.loads(match["json"]), head


def entry(data: bytes) -> dict[str, str]:
    """Return the fields of an entry in the native protocol of systemd's journal."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[9 + size :]
        fields[name.decode()] = value.decode()
    return fields
