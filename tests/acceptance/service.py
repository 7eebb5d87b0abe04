# ruff: noqa: T201, SIM115
"""A small HTTP service over bare sockets, so that fifty of them start quickly. `MODE` says how a version misbehaves.

ok: serves · exit: ends at once · sick: /health answers 503 · exit:NAME, sick:NAME: only on target NAME
· dies: ends after `LIFE_S` · slow: listens after `LIFE_S`
· mute: runs and never listens · escape: serves from a child in a session of its own
"""

import os
import socket
import sys
import time

if len(sys.argv) > 1:  # the escaped child: nothing of its parent's environment or directory is left
    VERSION, MODE, WHERE = sys.argv[1], "ok", ""
    os.chdir("/")
else:
    VERSION = open("VERSION").read().strip()
    MODE, _, WHERE = open("MODE").read().strip().partition(":")
MEANT = WHERE in ("", os.environ.get("FRAISIER_TARGET", ""))
LIFE_S = float(os.environ.get("LIFE_S", "1"))


def serve(until: float) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(100):
        try:
            listener.bind(("127.0.0.1", int(os.environ["PORT"])))
            break
        except OSError:
            time.sleep(0.05)
    else:
        sys.exit(98)
    listener.listen(64)
    sick = MODE == "sick" and MEANT
    while time.monotonic() < until:
        listener.settimeout(max(0.01, min(1.0, until - time.monotonic())))
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client:
            client.settimeout(2)
            try:
                request = client.recv(2048)
                status = "503 Sick" if sick and b" /health" in request else "200 OK"
                body = f"{VERSION} {os.getpid()}".encode()
                client.sendall(
                    b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                    % (status.encode(), len(body), body)
                )
            except OSError:
                pass
    sys.exit(3)


print(f"starting {VERSION} in mode {MODE}", flush=True)
forever = float("inf")
if MODE == "exit" and MEANT:
    print("no database", flush=True)
    sys.exit(7)
elif MODE == "mute":
    time.sleep(3600)
elif MODE == "dies":
    serve(time.monotonic() + LIFE_S)
elif MODE == "slow":
    time.sleep(LIFE_S)
    serve(forever)
elif MODE == "escape":
    if os.fork() == 0:
        os.setsid()
        here, python = os.path.abspath("service.py"), sys.executable
        os.execve(python, [python, "-I", "-S", here, VERSION], {"PORT": os.environ["PORT"]})
    time.sleep(3600)
else:
    serve(forever)
