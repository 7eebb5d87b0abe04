"""Whatever goes wrong outside, the command line tells it as an error of ours: with a documented code, and no traceback."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fraisier import errors
from fraisier.errors import FraisierError
from tests.docs.test_reference import special_codes

pytestmark = pytest.mark.once

OWN = {
    cls.default_code
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, FraisierError)
}
CONFIG = """\
fraises:
  api:
    type: etl
    environments:
      production:
        provider: local
        targets: [a]
        source: {source}
        app_path: {root}/srv
{more}"""


class Place:
    """A directory with a configuration, a source and a store that has seen one deployment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "src").mkdir(exist_ok=True)
        (root / "src" / "file").write_text("x")
        self.configure()

    def configure(self, source: str = "", more: str = "") -> None:
        source = source or f"{{path: {self.root}/src}}"
        text = CONFIG.format(source=source, root=self.root, more=more)
        (self.root / "fraises.yaml").write_text(text)

    def run(self, *words: str, store: str = "", env: dict[str, str] | None = None) -> tuple[int, Any]:
        """Run the command line and return its exit code and its last JSON line. Raises where it printed a traceback."""
        store = store or f"sqlite:///{self.root}/store/f.db"
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), "LC_ALL": "C.UTF-8", **(env or {})}
        done = subprocess.run(
            [sys.executable, "-m", "fraisier", "--json", "--store", store, *words],
            cwd=self.root,
            env=environ,
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        told = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert "Traceback" not in told, told
        return done.returncode, json.loads(done.stdout.decode().splitlines()[-1])

    def deploy(self, *words: str, **keys: Any) -> tuple[int, Any]:
        return self.run("deploy", "api", "production", "--version", "v1", *words, **keys)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a history."""
    place = Place(tmp_path_factory.mktemp("used"))
    assert place.deploy()[0] == 0
    return place.root


@pytest.fixture
def place(used: Path, tmp_path: Path) -> Place:
    shutil.copytree(used / "store", tmp_path / "store")
    return Place(tmp_path)


def spoil(place: Place, *statements: str) -> None:
    """Change the store behind Fraisier's back."""
    with sqlite3.connect(place.root / "store" / "f.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def _junk(place: Place) -> str:
    (place.root / "junk").write_text("no database " * 500)
    return f"sqlite:///{place.root}/junk"


STORES: dict[str, Callable[[Place], str]] = {
    "a directory": lambda place: f"sqlite:///{place.root}",
    "below a file": lambda place: f"sqlite:///{place.root}/fraises.yaml/f.db",
    "a name that is too long": lambda place: f"sqlite:///{place.root}/{'a' * 300}",
    "no database": _junk,
    "where nothing can be made": lambda place: "sqlite:////proc/nowhere/f.db",
}


@pytest.mark.parametrize("where", STORES)
@pytest.mark.parametrize("command", ["deploy", "history"])
def test_a_store_that_cannot_be_opened(place: Place, where: str, command: str) -> None:
    store = STORES[where](place)
    code, told = place.deploy(store=store) if command == "deploy" else place.run("history", store=store)
    if command == "history" and where in ("below a file", "where nothing can be made"):
        assert (code, told) == (0, {"deployments": []})  # there is no store, and so no history
        return
    assert (code, told["error"]["code"]) == (1, "DATABASE_CONNECTION_ERROR")
    assert told["error"]["hint"]


@pytest.mark.parametrize("statement", ["update plans set body = x'ff00'", "update plans set body = '[1]'"])
def test_a_plan_that_is_damaged(place: Place, statement: str) -> None:
    spoil(place, statement)
    deployment = place.run("history")[1]["deployments"][0]["deployment_id"]
    code, told = place.run("rollback", "api", "production")
    assert (code, told["outcome"], told["reason"]) == (1, "failed", "database_error")
    assert "damaged" in told["detail"]
    code, told = place.run("show", deployment)
    assert (code, told["deployment_id"]) == (0, deployment)
    assert place.run("db", "check")[0] == 1


def test_tables_that_are_damaged(place: Place) -> None:
    spoil(place, "update deployments set body = x'00'")
    code, told = place.run("history")
    assert (code, told["error"]["code"]) == (1, "DATABASE_TRANSACTION_ERROR")


def test_a_table_that_is_gone(place: Place) -> None:
    spoil(place, "drop table placements")
    code, told = place.run("status")
    assert (code, told["error"]["code"]) == (1, "DATABASE_TRANSACTION_ERROR")


def test_arguments_that_are_no_text(place: Place) -> None:
    for words in (("show", "\udcff"), ("events", "\udcff"), ("resume", "\udcff"), ("abort", "\udcff")):
        code, told = place.run(*words)
        assert (code, told["error"]["code"]) == (2, "VALIDATION_ERROR"), words
    code, told = place.run("deploy", "api", "production", "--version", "\udcff")
    assert (code, told["error"]["code"]) == (2, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{path: /nonexistent/place}", "is not a directory"),
        ("{git: /nonexistent/repository}", "nonexistent"),
        ("{git: 'http://127.0.0.1:1/x.git'}", "127.0.0.1"),
        ("{archive: 'http://127.0.0.1:1/x.tar', sha256: " + "0" * 64 + "}", "127.0.0.1"),
    ],
)
def test_a_source_that_cannot_be_had(place: Place, source: str, said: str) -> None:
    place.configure(source)
    code, told = place.deploy("--force")
    assert (code, told["outcome"], told["reason"]) == (1, "failed", "prepare_failed")
    assert said in told["detail"]


def test_an_address_that_cannot_be_read(place: Place) -> None:
    """It is refused before anything begins, with its place and without what it holds."""
    place.configure("{archive: 'http://[::1/x.tar', sha256: " + "0" * 64 + "}")
    code, told = place.deploy("--force")
    (problem,) = told["error"]["context"]["problems"]
    assert (code, problem["path"]) == (2, "fraises.api.environments.production.source.archive")
    assert problem["line"] > 0 and "URL" in problem["message"] and "::1" not in problem["message"]


@pytest.mark.parametrize(
    "check",
    [
        "{type: http, url: 'http://127.0.0.1:1/'}",
        "{type: tcp, host: no.such.host.invalid, port: 1}",
        "{type: exec, command: [/nonexistent/program]}",
    ],
)
def test_a_health_check_that_cannot_be_asked(place: Place, check: str) -> None:
    place.configure(more=f"        health_check: {check}\n")
    code, told = place.run("health", "api", "production")
    assert (code, told["healthy"]) == (1, False)
    assert told["targets"][0]["reason"] and told["targets"][0]["message"]


def test_a_health_check_whose_address_cannot_be_read(place: Place) -> None:
    place.configure(more="        health_check: {type: http, url: 'http://a b:99999/'}\n")
    code, told = place.run("health", "api", "production")
    (problem,) = told["error"]["context"]["problems"]
    assert (code, problem["path"]) == (2, "fraises.api.environments.production.health_check.url")
    assert problem["line"] > 0 and "URL" in problem["message"]


def test_files_that_secrets_come_from(place: Place) -> None:
    (place.root / "binary").write_bytes(b"\xff\xfe")
    for file in ("binary", "src", "nowhere"):
        place.configure(more=f"        env: {{A: '${{file:{place.root}/{file}}}'}}\n")
        code, told = place.deploy("--force")
        assert (code, told["error"]["code"]) == (2, "CONFIG_ERROR"), file


def test_places_that_cannot_be_written_to(place: Place) -> None:
    for words in (
        ("init", "/proc/x.yaml"),
        ("db", "backup", "/proc/x.db"),
        ("db", "backup", str(place.root)),
        ("plan", "api", "production", "--out", "/proc/x"),
    ):
        code, told = place.run(*words)
        assert code in (1, 2), words
        assert told["error"]["code"] in OWN - {"UNEXPECTED"}, words


def test_a_machine_without_programs(place: Place) -> None:
    place.configure(f"{{git: {place.root}/src}}")
    code, told = place.deploy("--force", env={"PATH": "/nonexistent"})
    assert (code, told["outcome"], told["reason"]) == (1, "failed", "prepare_failed")
    assert "git" in told["detail"]


def test_every_error_document_is_made_of_an_error_of_ours() -> None:
    """In the source: no code is written into a document by hand, but taken from a class."""
    known = OWN | special_codes().keys()
    cli = Path(errors.__file__).parent / "cli"
    written = [
        (path.name, code)
        for path in cli.rglob("*.py")
        for code in re.findall(r'(?:document\(|code=)"([A-Z_]+)"', path.read_text(encoding="utf-8"))
    ]
    assert [found for found in written if found[1] not in known] == []
