"""`init`, `validate`, `list`, `providers`, `completion`: the commands to begin with."""

from __future__ import annotations

import subprocess

import pytest

from fraisier.cli.run.completion import known_commands
from fraisier.cli.run.init import TEMPLATE
from tests.cli.conftest import PROCESS_S, Project


def test_init_writes_a_file_that_validates_and_never_overwrites(project: Project) -> None:
    first = project.run("init", "new.yaml")
    assert "wrote new.yaml" in first.stdout
    written = (project.root / "new.yaml").read_text()
    assert project.json("-c", "new.yaml", "validate") == {"ok": True, "problems": []}
    again = project.run("init", "new.yaml", code=2)
    assert "exists already" in again.stderr
    assert (project.root / "new.yaml").read_text() == written


def test_what_init_writes_deploys_after_two_edited_lines(project: Project) -> None:
    lines = TEMPLATE.splitlines()
    edits = {"git_repo:": f"git_repo: {project.repo}", "service:": 'service: {process: "sleep 600"}'}
    for at, line in enumerate(lines):
        for key, new in edits.items():
            if line.strip().startswith(key):
                lines[at] = line[: len(line) - len(line.lstrip())] + new
    project.config.write_text("\n".join(lines))
    assert sum(old != new for old, new in zip(TEMPLATE.splitlines(), lines, strict=True)) == 2
    result = project.lines("deploy", "web", "production")[-1]
    assert result["outcome"] == "succeeded"
    assert [target["outcome"] for target in result["targets"]] == ["updated", "updated"]
    project.run("remove", "web", "production")


def test_validate_tells_every_problem_with_its_place(project: Project) -> None:
    project.config.write_text(
        "fraises:\n  shop:\n    tpye: api\n    environments:\n      staging: {provider: locl}\n"
    )
    as_json = project.json("validate", code=2)
    assert as_json["ok"] is False
    assert len(as_json["problems"]) >= 2
    for problem in as_json["problems"]:
        assert set(problem) == {"file", "line", "column", "path", "code", "message", "suggestion"}
    assert (as_json["problems"][0]["line"], as_json["problems"][0]["column"]) == (3, 5)
    as_text = project.run("validate", code=2).stdout
    assert f"{project.config}:3:5" in as_text


def test_list_shows_fraises_with_their_environments(untouched: Project) -> None:
    assert untouched.json("list") == {
        "fraises": [{"name": "shop", "type": "api", "description": "A shop", "environments": ["staging"]}]
    }
    assert "shop" in untouched.run("list").stdout


def test_providers_are_listed_and_explained(untouched: Project) -> None:
    known = untouched.json("providers")["providers"]
    assert "local" in [row["type"] for row in known]
    for row in known:
        info = untouched.json("provider-info", row["type"])
        assert info["type"] == row["type"]
        assert "verify" in info["steps"] or "switch" in info["steps"]
        assert row["type"] in untouched.run("provider-info", row["type"]).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_every_command_and_option(untouched: Project, shell: str) -> None:
    script = untouched.run("completion", shell).stdout
    for known in known_commands():
        for word in known.words:
            assert word in script
        for option in known.options:
            assert option.lstrip("-") in script


@pytest.fixture(scope="module")
def bash_script(untouched: Project) -> str:
    """The completion script, made once."""
    return untouched.run("completion", "bash").stdout


def complete(project: Project, bash_script: str, line: str) -> list[str]:
    """Return what bash offers for a command line that ends where the cursor is."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
{bash_script}
fraisier() {{ command {" ".join(project.command())} "$@"; }}
COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
_fraisier
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=project.environ,
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fraisier dep", ["deploy"]),
        ("fraisier audit ver", ["verify"]),
        ("fraisier deploy sh", ["shop"]),
        ("fraisier deploy shop ", ["staging"]),
        ("fraisier deploy --version v1 shop st", ["staging"]),
        ("fraisier deploy shop staging --exc", ["--exclude"]),
        ("fraisier --store x completion f", ["fish"]),
    ],
)
def test_bash_completes_commands_options_and_names(
    untouched: Project, bash_script: str, line: str, offered: list[str]
) -> None:
    assert complete(untouched, bash_script, line) == offered


def test_names_for_completion_are_silent_when_there_is_no_configuration(project: Project) -> None:
    project.config.unlink()
    done = project.run("_names")
    assert (done.stdout, done.stderr) == ("", "")
