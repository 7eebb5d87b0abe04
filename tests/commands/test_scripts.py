"""Commands as data: exact argv, scripts that parse, and values that stay values."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

from fraisier.commands import commanded, git, jobs, listeners, releases, services, systemd
from fraisier.commands.sh import exports, is_variable, pairs, words

HOSTILE = [
    "/srv/app",
    "/srv/with space",
    "/srv/it's",
    "/srv/$(touch x)`id`",
    "/srv/new\nline",
    "/srv/ünï",
    "/srv/-rf *;",
]
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]

SCRIPTS: dict[str, Callable[[str], str]] = {
    "tools": lambda app: releases.tools(),
    "preflight": lambda app: releases.preflight(app, need_kb=1),
    "unpack": lambda app: releases.unpack(
        app, "r1", digest="d", archive=app, shared=["a b/", "x'y", "d/e/f"]
    ),
    "complete": lambda app: releases.complete(app, "r1", digest="d", version=app),
    "discard": lambda app: releases.discard(app, "r1"),
    "switch": lambda app: releases.switch(app, "r1"),
    "switch_off": releases.switch_off,
    "describe": releases.describe,
    "cleanup": lambda app: releases.cleanup(app, ["r1", "r2"], "r3"),
    "cleanup_all": lambda app: releases.cleanup(app, [], ""),
    "remove": releases.remove,
    "look": lambda app: services.look(app, "mark"),
    "stop": lambda app: services.stop(app, "mark", timeout_ms=100),
    "start": lambda app: services.start(
        app, "mark", command="true", env={"A": app}, release="r1", deployment="d", timeout_ms=100, retry=True
    ),
    "tail_log": lambda app: services.tail_log(app, 5),
    "log_since": lambda app: services.log_since(app, 5),
    "note_start": lambda app: commanded.note_start(app, "i", "r1"),
    "read_start": commanded.read_start,
    "serves_old": lambda app: listeners.serves_old(app, "mark", port=8000, release="r1", main_pid=0),
    "show": lambda app: systemd.show(app, app),
    "journal": lambda app: systemd.journal(app, lines=5),
    "journal_since": lambda app: systemd.journal_since(app, "c"),
    "journal_of_start": lambda app: systemd.journal_of_start(app, lines=5),
    "forgive": systemd.forgive,
    "job_look": lambda app: jobs.look(app, out=0, err=5, limit=10),
    "job_settle": jobs.settle,
    "job_survey": jobs.survey,
    "job_end": lambda app: jobs.end(app, grace_ms=100),
    "job_forget": lambda app: jobs.forget(app, ["a.b.1.1", app]),
    "job_forget_step": lambda app: jobs.forget_step(app, app, "stage"),
    "job_launch": lambda app: jobs.launch(app, "true", cwd="/")[2],
    "job_wrapper": lambda app: jobs.WRAPPER,
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_parse_whatever_the_path_is(name: str, shell: str) -> None:
    """Each script is well-formed in each shell, for every hostile path."""
    argv = ["busybox", "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    for app in HOSTILE:
        done = subprocess.run(argv, input=SCRIPTS[name](app), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), app


@pytest.mark.parametrize("app", HOSTILE)
def test_paths_stay_one_quoted_word(app: str) -> None:
    """A path that the shell reads back is the path that was put in."""
    script = releases.describe(app).split("; current=", 1)[0] + '; printf %s "$APP"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == app


def test_git_command_lines() -> None:
    """What comes from outside stands behind `--`, or in a full ref name."""
    assert git.init("/m") == ["git", "init", "--quiet", "--bare", "--template=", "--", "/m"]
    assert git.fetch("/m", "-x", local=False)[-4:] == ["--", "-x", *git.REFSPECS]
    assert any(word.startswith("--upload-pack=") for word in git.fetch("/m", "/r", local=True))
    assert git.commit("/m", "abc") == [
        "git",
        "-C",
        "/m",
        "rev-parse",
        "--verify",
        "--end-of-options",
        "abc^{commit}",
    ]
    assert git.archive("/m", "c" * 40, "/o")[-2:] == ["--output=/o", "c" * 40]


@pytest.mark.parametrize("ref", ["main", "v1.0", "feature/x", "refs/tags/v1", "release-2024.1", "ünï"])
def test_names_that_git_knows(ref: str) -> None:
    """Ordinary names of branches and tags are refs."""
    assert git.is_ref(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "-x",
        "a b",
        "a..b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "@",
        "a@{1}",
        "/a",
        "a/",
        "a.lock",
        "a\n",
    ],
)
def test_names_that_git_does_not_know(ref: str) -> None:
    """Options, expressions and what git forbids are no refs."""
    assert not git.is_ref(ref)


def test_what_a_commit_id_looks_like() -> None:
    """Four to sixty-four digits may be a commit; only forty or sixty-four are one in full."""
    assert git.may_be_commit("abcd") and not git.may_be_commit("abc") and not git.may_be_commit("main")
    assert (
        git.is_full_commit("a" * 40) and not git.is_full_commit("a" * 39) and not git.is_full_commit("A" * 40)
    )


def test_systemd_is_asked_in_its_own_words() -> None:
    """Units stand behind `--`; what `show` prints is read by name, also values with `=`."""
    assert systemd.control("restart", "-x.service") == ["systemctl", "restart", "--", "-x.service"]
    script = systemd.show("/srv/app", "api.service")
    assert f"systemctl show --property={','.join(systemd.PROPERTIES)} -- api.service" in script
    assert systemd.properties("ActiveState=active\nResult=a=b\nnoise\n") == {
        "ActiveState": "active",
        "Result": "a=b",
    }
    assert "--unit='a b'" in systemd.journal("a b", lines=7) and "--lines=7" in systemd.journal(
        "a b", lines=7
    )
    assert "--after-cursor='s=1;x'" in systemd.journal_since("u", "s=1;x")


def test_small_pieces() -> None:
    """Exports, words and answers are read back as they were written."""
    text = exports({"A": "it's", "B": "x\ny"}) + 'printf "%s|" "$A" "$B" ' + words(["c d", ""])
    assert (
        subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout
        == "it's|x\ny|c d||"
    )
    assert pairs("a 1\nb two words\nflag\n\na 2\n") == {"a": "2", "b": "two words", "flag": ""}
    assert is_variable("A_1") and not any(map(is_variable, ["1A", "A-B", "", "A B", "A=1", "A\n"]))
