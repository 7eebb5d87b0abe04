"""What holds for every command: streams, exit codes, errors, options in any place, and reading the configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import FRAISIER, PROCESS_S, Project


def bare(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without a project."""
    known = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    return subprocess.run(
        [*FRAISIER, *arguments],
        cwd=cwd,
        env=known | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
    )


def test_version_is_one_line_on_stdout_wherever_it_stands(tmp_path: Path) -> None:
    alone = bare("--version", cwd=tmp_path)
    with_others = bare("--no-color", "--version", cwd=tmp_path)
    assert alone.stdout == with_others.stdout
    assert alone.stdout.startswith("fraisier ")
    assert (alone.returncode, with_others.returncode) == (0, 0)


def test_version_loads_none_of_the_command_line(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['fraisier', '--version']\n"
        "from fraisier.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith(('fraisier', 'asyncclick', 'asyncio'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=PROCESS_S
    )
    assert done.stdout.splitlines()[1] == "['fraisier', 'fraisier.__main__', 'fraisier._version']"


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["validate"], ["completion", "bash"], ["deploy", "--help"]]
)
def test_quick_commands_start_no_event_loop_and_load_no_asyncio(untouched: Project, words: list[str]) -> None:
    script = (
        f"import sys; sys.argv = ['fraisier', '-c', {str(untouched.config)!r}, *{words!r}]\n"
        "from fraisier.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('asyncio' in sys.modules, 'anyio' in sys.modules, 'sqlite3' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=untouched.root, capture_output=True, text=True, timeout=PROCESS_S
    )
    assert done.stderr == "False False False\n"


def test_no_arguments_show_the_help(tmp_path: Path) -> None:
    done = bare(cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage: fraisier" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["depoy"], "did you mean 'deploy'?"),
        (["audit", "verfy"], "did you mean 'verify'?"),
        (["deploy", "shop", "staging", "--limt", "x"], "--limit"),
        (["deploy", "shop"], "ENV"),
        (["history", "--limit", "0"], "0"),
        (["deploy", "shop", "staging", "--lock-wait", "soon"], "expected a duration"),
        (["deploy", "shpo", "staging"], "did you mean 'shop'?"),
        (["deploy", "shop", "stagign"], "did you mean 'staging'?"),
        (["deploy", "shop", "staging", "--limit", "t9"], "no target matches"),
        (["deploy", "shop", "staging", "--strategy", "roling"], "did you mean 'rolling'?"),
        (["status", "shpo"], "did you mean 'shop'?"),
        (["health", "shpo"], "did you mean 'shop'?"),
        (["logs", "shpo", "staging"], "did you mean 'shop'?"),
        (["restart", "shop", "stagign"], "did you mean 'staging'?"),
        (["show", "0123"], "no deployment '0123'"),
        (["retry", "0123"], "no deployment '0123'"),
        (["provider-info", "locl"], "local"),
    ],
)
def test_what_does_not_exist_exits_with_2_and_names_the_nearest(
    untouched: Project, words: list[str], told: str
) -> None:
    as_json = untouched.json(*words, code=2)
    assert set(as_json) == {"error"}
    assert set(as_json["error"]) == {"code", "message", "hint", "context"}
    assert told in as_json["error"]["message"]
    assert as_json["error"]["hint"]


@pytest.mark.parametrize("words", [["depoy"], ["deploy", "shpo", "staging"]])
def test_an_error_without_json_is_on_stderr_with_what_to_try(untouched: Project, words: list[str]) -> None:
    done = untouched.run(*words, code=2)
    assert "did you mean" in done.stderr
    assert "\n  try: " in done.stderr
    assert done.stdout == ""


def test_global_options_may_stand_before_and_after_the_command(untouched: Project) -> None:
    before = untouched.run("--json", "list")
    after = untouched.run("list", "--json")
    assert before.stdout == after.stdout
    assert json.loads(after.stdout)["fraises"][0]["name"] == "shop"
    nested = untouched.run("audit", "--json", "list")
    assert json.loads(nested.stdout) == {"events": []}


def test_the_option_wins_over_the_variable_for_configuration_and_store(project: Project) -> None:
    other = project.root / "other.db"
    done = bare(
        "-c",
        str(project.config),
        "--json",
        "db",
        "upgrade",
        "--store",
        project.store,
        cwd=project.root,
        FRAISIER_STORE=f"sqlite:///{other}",
        FRAISIER_CONFIG="/nonexistent.yaml",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"] == project.store.removeprefix("sqlite:///")
    assert not other.exists()


def test_a_missing_configuration_says_where_it_was_looked_for(tmp_path: Path) -> None:
    done = bare("list", cwd=tmp_path)
    assert done.returncode == 2
    assert "fraises.yaml" in done.stderr
    assert "fraisier init" in done.stderr


def test_a_broken_configuration_is_a_message_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "fraises.yaml").write_text("fraises: [unclosed\n  - x: {")
    done = bare("deploy", "a", "b", cwd=tmp_path)
    assert done.returncode == 2
    assert "fraises.yaml:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_of_another_program_is_refused_with_its_path(project: Project) -> None:
    strange = project.root / "strange.db"
    strange.write_text("this is no database, but it is long enough to look at" * 50)
    done = subprocess.run(
        [*FRAISIER, "--store", f"sqlite:///{strange}", "history"],
        cwd=project.root,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
    )
    assert done.returncode == 1
    assert str(strange) in done.stderr


def test_the_past_can_be_read_without_a_configuration(tmp_path: Path) -> None:
    done = bare("--store", f"sqlite:///{tmp_path}/none.db", "history", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"deployments": []}
    assert done.returncode == 0
    assert not (tmp_path / "none.db").exists()


def test_a_reader_that_goes_away_ends_the_command_quietly(untouched: Project) -> None:
    process = untouched.start("list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(PROCESS_S) in (0, 141)
    assert process.stderr.read() == ""
    process.stderr.close()


def test_no_color_and_pipes_keep_escape_codes_away(untouched: Project) -> None:
    assert "\x1b" not in untouched.run("list").stdout
    assert "\x1b" not in untouched.run("--no-color", "deploy", "nope", "x", code=2).stderr


def test_a_locale_without_unicode_does_not_end_a_command(untouched: Project) -> None:
    done = untouched.run(
        "deploy",
        "--help",
        LANG="C",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING="ascii",
    )
    assert "FRAISE[,FRAISE" in done.stdout


def test_a_traceback_is_shown_only_when_it_is_asked_for_twice(untouched: Project) -> None:
    command = untouched.command("deploy", "shpo", "staging")
    for more, expected in (([], False), (["-v"], False), (["-vv"], True)):
        done = subprocess.run(
            [*command, *more],
            cwd=untouched.root,
            env=untouched.environ,
            capture_output=True,
            text=True,
            timeout=PROCESS_S,
        )
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) is expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", "--limit", "9" * 30),
        ("stats", "--days", "9" * 30),
        ("events", "--lines", "9" * 30),
        ("audit", "list", "--limit", "9" * 30, "--days", "9" * 30),
        ("audit", "export", "--days", "9" * 30),
    ],
    ids=" ".join,
)
def test_a_number_larger_than_all_that_is_on_record_means_all_of_it(
    untouched: Project, arguments: tuple[str, ...]
) -> None:
    untouched.run("db", "upgrade")
    done = untouched.run(*arguments)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("deploy", "--version="), ("plan", "--version="), ("rollback", "--to=")]
)
def test_an_empty_version_is_refused_and_never_the_default(
    untouched: Project, arguments: tuple[str, str]
) -> None:
    command, option = arguments
    assert "it is empty" in untouched.run(command, "shop", "staging", option, code=2).stderr


@pytest.mark.parametrize("command", ["history", "db check", "db upgrade", "audit list"])
def test_a_store_that_is_a_directory_is_named_as_such(untouched: Project, command: str) -> None:
    told = untouched.run(*command.split(), "--store", f"sqlite:///{untouched.root}", code=1).stderr
    assert str(untouched.root) in told
    assert "directory" in told
    assert "not one of Fraisier's own" not in told


def test_a_store_that_cannot_be_made_is_an_error_of_ours(untouched: Project) -> None:
    nowhere = f"sqlite:///{untouched.config}/below/a/file.db"
    error = untouched.json("db", "upgrade", "--store", nowhere, code=1)["error"]
    assert error["code"] == "DATABASE_CONNECTION_ERROR"
    assert "Not a directory" in error["message"]
