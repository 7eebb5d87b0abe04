"""One systemd host on this machine: a container over this machine's own files, with its own processes and network.

Everything that it mounts lies in a mount namespace of its own, so that the kernel takes it away when the container ends,
however the tests end. Only its control groups are directories that must be removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.kit import Run

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "journalctl": "systemd",
    "nsenter": "util-linux",
    "git": "git",
}
INSTALL = "apt-get -y --no-install-recommends install"

_BOOT_S = 20.0
_STOP_S = 5.0
_CAP_SYS_ADMIN = 21
_CGROUPS = Path("/sys/fs/cgroup")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The base of every boot; nothing of what this machine has enabled is started.
_TARGET = """\
[Unit]
Description=a host of the tests
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
_UNWANTED = (
    "dbus.service",
    "dbus.socket",
    "systemd-machine-id-commit.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-setup.service",
    "systemd-update-utmp.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
)

# Enters the control groups given before `--`, then becomes the rest.
_ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
# Runs in a mount namespace of its own: $1 is an empty directory; the rest is what boots the overlay in $1/root.
_MOUNT = """\
set -e
mount -t tmpfs -o mode=755 lab "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 lab /run/systemd/nspawn
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
shift
exec "$@"
"""


class LabError(Exception):
    """Raised when the host does not come up, or a command in it does not do what the tests rely on."""


def missing() -> str:
    """Return what this machine lacks for the lab, with the command that installs it; empty when nothing."""
    packages = sorted({package for tool, package in PACKAGES.items() if shutil.which(tool) is None})
    if packages:
        return f"needs {' '.join(packages)}: {INSTALL} {' '.join(packages)}"
    status = Path("/proc/self/status").read_text()
    granted = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not granted >> _CAP_SYS_ADMIN & 1:
        return f"needs root with CAP_SYS_ADMIN: run as root, after {INSTALL} {' '.join(sorted(PACKAGES.values()))}"
    return ""


@dataclass
class Host:
    """A running host. What lies below `base` is the same inside and outside; `units` is its /etc/systemd/system."""

    base: Path
    name: str
    leader: int = 0
    groups: list[Path] = field(default_factory=list)

    @property
    def units(self) -> Path:
        return self.base / "units"

    def argv(self, *words: str) -> list[str]:
        """Return the argv that runs `words` inside, with the environment of a fresh login."""
        enter = [
            "nsenter",
            f"--target={self.leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--cgroup",
        ]
        plain = ["env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8"]
        groups = [f"{group}/init.scope" for group in self._payload()]
        return ["sh", "-c", _ENTER, "enter", *groups, "--", *enter, "--root", "--wd", *plain, *words]

    def run(self, *words: str, timeout_s: float = 30) -> Run:
        """Run a command inside to its end."""
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
        return Run(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Have a command run inside meanwhile; afterwards it is killed, with what it started in its session."""
        process = subprocess.Popen(
            self.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # nsenter alone would leave what it runs inside behind, and that holds the pipe open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def check(self, *words: str) -> str:
        """Run a command inside that must succeed, and return what it printed."""
        done = self.run(*words)
        if done.code != 0:
            raise LabError(f"{' '.join(words)}: exit code {done.code}\n{done.out}{done.err}")
        return done.out.strip()

    def unit(self, name: str, text: str) -> None:
        """Write a unit and have systemd read it."""
        (self.units / name).write_text(text)
        self.check("systemctl", "daemon-reload")

    def show(self, unit: str, key: str) -> str:
        """Return one property of a unit as systemd tells it."""
        return self.check("systemctl", "show", "--value", f"--property={key}", "--", unit)

    def _payload(self) -> list[Path]:
        """Return the control groups that are the root for the host's systemd."""
        return [group / "payload" if (group / "payload").is_dir() else group for group in self.groups]


@contextlib.contextmanager
def booted(base: Path) -> Iterator[Host]:
    """Boot a host that keeps its files in `base`; it is gone afterwards, with everything that ran in it."""
    host = Host(base, f"fraisier-lab-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    _furnish(host)
    with contextlib.ExitStack() as undo:
        for root in _hierarchies():
            group = root / host.name
            group.mkdir()
            undo.callback(_remove_groups, group)
            host.groups.append(group)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            (base / "console.log").open("wb") as console,
        ):
            ready.bind(str(base / "ready"))
            process = subprocess.Popen(
                _boot_argv(host),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={"PATH": _PATH, "NOTIFY_SOCKET": str(base / "ready")},
                start_new_session=True,
            )
            undo.callback(_end, process, host)
            _wait_ready(host, process, ready)
            yield host


def _furnish(host: Host) -> None:
    host.units.mkdir()
    (host.base / "overlay").mkdir()
    (host.base / "machine-id").write_text(uuid.uuid4().hex + "\n")
    (host.units / "lab.target").write_text(_TARGET)
    for unit in _UNWANTED:
        (host.units / unit).symlink_to("/dev/null")


def _boot_argv(host: Host) -> list[str]:
    # The interpreter and the checkout may lie on another file system than `/`, or below the container's own /tmp.
    seen = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])} - {"/usr"}
    nspawn = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={host.base}/overlay/root",
        "--boot",
        f"--machine={host.name}",
        "--private-network",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--console=pipe",
        "--notify-ready=yes",
        "--kill-signal=SIGRTMIN+3",
        "--tmpfs=/var/log",
        f"--bind={host.base}",
        f"--bind={host.units}:/etc/systemd/system",
        f"--bind-ro={host.base}/machine-id:/etc/machine-id",
        *(f"--bind-ro={path}" for path in sorted(seen)),
        f"--bind={CHECKOUT}",  # writable, so that what was compiled once is kept
        "systemd.unit=lab.target",
    ]
    own = ["setpriv", "--pdeathsig=TERM", "unshare", "--mount", "--propagation=private"]
    mounted = ["sh", "-c", _MOUNT, "mount", f"{host.base}/overlay", *nspawn]
    return ["sh", "-c", _ENTER, "enter", *map(str, host.groups), "--", *own, *mounted]


def _wait_ready(host: Host, process: subprocess.Popen[bytes], ready: socket.socket) -> None:
    """Wait for the word that systemd is up, and learn from it which process is the host's first."""
    until = time.monotonic() + _BOOT_S
    ready.settimeout(0.25)
    while time.monotonic() < until and process.poll() is None:
        try:
            said = dict(line.split("=", 1) for line in ready.recv(4096).decode().splitlines() if "=" in line)
        except TimeoutError:
            continue
        host.leader = int(said.get("X_NSPAWN_LEADER_PID", host.leader))
        if said.get("READY") == "1" and host.leader:
            return
    console = (host.base / "console.log").read_text(errors="replace")
    raise LabError(f"the host is not up after {_BOOT_S:g} s; it said:\n{console[-3000:]}")


def _end(process: subprocess.Popen[bytes], host: Host) -> None:
    """Ask the host to shut down; what has not ended after a while is killed, first process first."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            if host.leader:
                os.kill(host.leader, signal.SIGKILL)
        process.kill()
        process.wait(_STOP_S)


def _hierarchies() -> list[Path]:
    """Return the control group trees that systemd uses: one with v2 alone, two beside v1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [root for root in (_CGROUPS / "systemd", _CGROUPS / "unified") if root.is_dir()]


def _remove_groups(group: Path) -> None:
    """Remove a control group and those in it, when the last process has left."""
    for _ in range(100):
        for path, _names, _files in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if not group.exists():
            return
        time.sleep(0.02)
    raise LabError(f"{group} is still used")
