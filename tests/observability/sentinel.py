"""A secret that is looked for everywhere: what it looks like, what writes it, and who shows it in an argv."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

PIECE = 8
"""So many characters in a row of a secret are a leak."""

EMIT = '''\
"""Write a secret in the ways that programs do. Usage: emit.py VARIABLE [EXIT_CODE]"""
import base64, html, json, os, sys, time, urllib.parse

value = os.environ[sys.argv[1]]
out, err = sys.stdout, sys.stderr
print("plain", value, flush=True)
print("url", urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), flush=True)
print("base64", base64.b64encode(value.encode()).decode(), flush=True)
print("basic", base64.b64encode(f"user:{value}".encode()).decode(), flush=True)
print("json", json.dumps({"why": value}), json.dumps(json.dumps({"why": value})), repr(value), flush=True)
print("hex", value.encode().hex(), "html", html.escape(value), flush=True)
half = len(value) // 2
for part in ("split ", value[:half], value[half:], "\\n"):
    out.write(part)
    out.flush()
    time.sleep(0.02)
print("password=" + value, "Authorization: Bearer " + value, file=err, flush=True)
print("x" * (8192 - len(value) // 2) + value, flush=True)
print("y" * 295 + value, file=err, flush=True)
try:
    raise ValueError("cannot log in with " + value)
except ValueError:
    import traceback
    traceback.print_exc()
print("z" * (300 - half) + value, file=err, flush=True)
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
'''


def looks(secret: str) -> dict[str, str]:
    """Return the secret in the encodings that occur, by name."""
    raw = secret.encode()
    return {
        "plain": secret,
        "url": quote(secret, safe=""),
        "form": quote_plus(secret),
        "json": json.dumps(secret)[1:-1],
        "base64": base64.b64encode(raw).decode().rstrip("="),
        "hex": raw.hex(),
    }


def leaks(text: str, *secrets: str) -> list[str]:
    """Return what of the secrets stands in a text: each piece of PIECE characters, in whatever encoding."""
    found = []
    for secret in secrets:
        for name, form in looks(secret).items():
            size = PIECE if name != "hex" else 2 * PIECE
            pieces = {form[at : at + size] for at in range(len(form) - size + 1)}
            found += [
                f"{name}: {piece} in {_around(text, piece)}" for piece in sorted(pieces) if piece in text
            ]
    return found


def _around(text: str, piece: str) -> str:
    at = text.find(piece)
    return repr(text[max(0, at - 80) : at + len(piece) + 40])


def leaks_below(directory: Path, *secrets: str) -> list[str]:
    """Return what of the secrets stands in the names and the contents of files."""
    found = []
    for path in directory.rglob("*"):
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        found += [f"{path}: {leak}" for leak in leaks(f"{path}\n{text}", *secrets)]
    return found


@contextmanager
def watched_argv(*secrets: str) -> Iterator[list[str]]:
    """Look at the argv of every process that begins meanwhile, again and again; give those that showed a secret."""
    shown: list[str] = []
    old = set(os.listdir("/proc"))
    is_over = threading.Event()
    needles = [secret.encode() for secret in secrets]

    def watch() -> None:
        while not is_over.wait(0.004):
            for entry in set(os.listdir("/proc")) - old:
                if entry.isdigit() and (argv := _argv(entry)) and any(needle in argv for needle in needles):
                    shown.append(argv.replace(b"\0", b" ").decode("utf-8", "replace"))

    thread = threading.Thread(target=watch, name="argv")
    thread.start()
    try:
        yield shown
    finally:
        is_over.set()
        thread.join(10)


def _argv(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
