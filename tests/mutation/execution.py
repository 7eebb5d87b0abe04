"""Runs tests against mutants: each in a process that is forked off, so that pytest is loaded only once."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import CodeType, ModuleType

import pytest

from tests.mutation.mutate import Mutant

TEST_S = 10
"""A test that runs for longer has noticed: the mutant does not end."""

MUTANT_S = 120.0
_OURS = ("fraisier", "tests")
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from code that is given."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._module = module
        self._code = code

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self._module:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        assert found is not None and found.origin is not None
        made = importlib.machinery.ModuleSpec(
            name, self, origin=found.origin, is_package=found.submodule_search_locations is not None
        )
        made.submodule_search_locations = found.submodule_search_locations
        made.has_location = True
        return made

    def create_module(self, spec: object) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def preload(tests: Sequence[str]) -> None:
    """Load what the tests need, so that the children find all that is not ours loaded already."""
    for test in tests:
        importlib.import_module(test.removesuffix(".py").replace("/", "."))


def survives(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Return whether no test notices the mutant (None: the modules as they are)."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = _run(mutant, tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + MUTANT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _run(mutant: Mutant | None, tests: Sequence[str]) -> int:
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    if mutant is not None:
        code = compile(mutant.tree, f"<mutant of {mutant.module}>", "exec")
        sys.meta_path.insert(0, _Finder(mutant.module, code))  # type: ignore[arg-type]
    sys.argv = ["pytest"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # each that is loaded costs every mutant its time
    plugins = [word for name in _PLUGINS for word in ("-p", name)]
    words = ["-x", "-q", "--assert=plain", *plugins, "-p", "no:cacheprovider", f"--timeout={TEST_S}", *tests]
    return int(pytest.main(words))
