"""The project's checks: `nox` runs the default ones, `nox -l` lists all, `nox -s quick` is the developer's loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13")
LENIENT = (
    "--config-file=",
    "--check-untyped-defs",
    "--ignore-missing-imports",
    "--disable-error-code=arg-type",
)
CODE = ("fraisier", "tests", "benchmarks", "docs", "noxfile.py")

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "imports", "tests", "simulate"]


def works(executable: str | Path, version: str) -> bool:
    """Say whether this is a Python of that version; a version manager's stub on PATH may answer for one that is not there."""
    command = [str(executable), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def locate(version: str) -> Path | None:
    """Return a working interpreter from PATH or from a folder of versions as version managers keep them."""
    found = shutil.which(f"python{version}")
    if found and works(found, version):
        return Path(found)
    for root in filter(None, (os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv"))):
        for folder in sorted(Path(root, "versions").glob(f"{version}.*"), reverse=True):
            if works(folder / "bin" / f"python{version}", version):
                return folder / "bin" / f"python{version}"
    return None


def interpreters() -> list[str]:
    """Return the versions that are here, with their folders put on PATH, where nox looks for them."""
    here = []
    for version in PYTHONS:
        found = locate(version)
        if found is None:
            continue
        here.append(version)
        if shutil.which(f"python{version}") != str(found):
            os.environ["PATH"] = os.pathsep.join([str(found.parent), os.environ.get("PATH", "")])
    return here


HERE = interpreters()
CURRENT = "{}.{}".format(*sys.version_info)
NEWEST = HERE[-1] if HERE else CURRENT
"""What needs one Python only (servers, killed processes, the slow ones) runs here."""


COVERED = (
    "errors.py",
    "recovery/*",
    "error_handler/*",
    "logging/*",
    "metrics/*",
    "audit/*",
    "health_check/*",
)
COVERED_PERCENT = 95
COVERING_TESTS = (
    "tests/test_errors.py",
    "tests/test_recovery.py",
    "tests/test_error_handler.py",
    "tests/test_observability.py",
    "tests/observability",
    "tests/health",
    "tests/rollout/test_circuits.py",
    "tests/rollout/test_fallback.py",
)
"""What runs inside of the process that is measured: the command line's own processes are not."""

FINGERPRINTS: dict[str, str] = {}
"""What the trials of each Python came to in this run."""


def install(session: nox.Session) -> None:
    """Install the package with all that its development needs, from the checkout."""
    session.install("-q", ".[dev]")


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest; what is given after `--` on nox's command line is passed on."""
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


def check_style(session: nox.Session) -> None:
    """Run ruff as linter and as formatter."""
    there = [path for path in CODE if (ROOT / path).exists()]
    session.run("ruff", "check", *there)
    session.run("ruff", "format", "--check", *there)


def check_types(session: nox.Session) -> None:
    """Run mypy: strictly over the package, leniently over the scripts round it."""
    session.run("mypy")
    scripts = [
        ROOT / "noxfile.py",
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "docs").glob("*/*.py"),
    ]
    for script in sorted(scripts):  # one by one: scripts without a package do not disturb each other
        session.run("mypy", *LENIENT, str(script.relative_to(ROOT)))


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff check and ruff format."""
    session.install("-q", "ruff>=0.5")
    check_style(session)


@nox.session
def typing(session: nox.Session) -> None:
    """Types: mypy --strict."""
    install(session)
    check_types(session)


@nox.session
def imports(session: nox.Session) -> None:
    """Layers: who may import whom."""
    session.install("-q", "import-linter>=2.0")
    session.install("-q", "--no-deps", ".")
    session.run("lint-imports")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests that fit into CI, on each Python that is here; some of them on the newest only."""
    install(session)
    if session.python == NEWEST:
        pytest(session, "-n", "2", "--dist", "loadfile", "-m", "not long and not lab and not once")
        # Real servers and whole processes wait more than they compute, so three of them keep two processors busy.
        pytest(session, "-n", "3", "--dist", "worksteal", "-m", "not long and (lab or once)")
    else:
        side_by_side = "not long and not lab and not once and not virtual"
        pytest(session, "-n", "2", "--dist", "loadfile", "-m", side_by_side)
    compare_simulations(session)


def compare_simulations(session: nox.Session) -> None:
    """Let this Python live through some trials; they must go as on the Pythons before, byte for byte."""
    words = ("python", "-m", "fraisier.simulation", "--fingerprint", "--seeds", "60")
    told = str(session.run(*words, silent=True)).split()[0]
    FINGERPRINTS[str(session.python)] = told
    if len(set(FINGERPRINTS.values())) > 1:
        session.error(f"the same seeds tell different stories: {FINGERPRINTS}")


@nox.session
def simulate(session: nox.Session) -> None:
    """Whole rollouts in a simulated world that breaks: 2000 seeds, or what is given after `--`."""
    install(session)
    session.run("python", "-m", "fraisier.simulation", *(session.posargs or ["--seeds", "2000"]))


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """The developer's loop: style, types, and the quick tests on the current Python."""
    install(session)
    check_style(session)
    check_types(session)
    pytest(
        session, "-q", "-n", "2", "--dist", "loadfile", "-m", "not long and not lab and not once and not slow"
    )


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of what looks on and what helps after failures: COVERED_PERCENT at least, module by module."""
    install(session)
    session.install("-q", "coverage>=7.4")
    measured = [f"fraisier/{name}" for name in COVERED]
    session.run(
        *("coverage", "run", "--branch", f"--include={','.join(measured)}"),
        *("-m", "pytest", "-q", "-m", "not long and not lab and not slow"),
        *COVERING_TESTS,
    )
    for name in measured:
        session.run("coverage", "report", f"--include={name}", f"--fail-under={COVERED_PERCENT}")


@nox.session
def long(session: nox.Session) -> None:
    """The tests that are too slow for CI."""
    install(session)
    pytest(session, "-m", "long")


@nox.session
def demo(session: nox.Session) -> None:
    """Install the package as a user does, and run its demonstration."""
    session.install("-q", ".[all]")
    session.run("fraisier", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run every benchmark; each prints its figures and fails when a bound does not hold."""
    install(session)
    for path in sorted((ROOT / "benchmarks").glob("[!_]*.py")):
        if "__main__" in path.read_text(encoding="utf-8"):
            session.run("python", str(path.relative_to(ROOT)), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The tests of the documentation: every link, command, key, event, metric and error code."""
    install(session)
    pytest(session, "-q", "tests/docs", "tests/project")
