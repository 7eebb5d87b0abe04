"""Whatever way a secret comes in, it goes out nowhere: no log, event, row, screen, error, file or argv of ours shows it."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import logging
import os
import re
import secrets as random_secrets
import string
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from fraisier.audit import AuditKey
from fraisier.errors import ProviderConfigurationError
from fraisier.health_check import HTTPHealthChecker
from fraisier.logging import ConsoleFormatter, JSONFormatter
from fraisier.providers.sources.archive import ArchiveSource
from fraisier.providers.sources.cache import Cache
from fraisier.providers.sources.remote import parse_remote
from fraisier.redaction import Redactor, Secret, clip, clip_start, mask_address, mask_url
from fraisier.transports.pipes import Lines
from tests.acceptance.conftest import project  # noqa: F401 - a fixture
from tests.acceptance.kit import GIT, Project, Run
from tests.observability.sentinel import EMIT, leaks, leaks_below, looks, watched_argv

# A service that tells every asker all that it knows.
SERVICE = """\
import http.server, os, pathlib, sys
mode = pathlib.Path("MODE").read_text().strip()
print("starting with", os.environ["FROM_VARIABLE"], os.environ["FROM_FILE"], flush=True)
if mode == "exit":
    sys.exit("cannot log in: " + os.environ["FROM_VARIABLE"])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if mode == "sick" else 200)
        self.end_headers()
        body = self.headers["X-Key"] + " " + self.path + " " * 40
        self.wfile.write((body + os.environ["FROM_FILE"] + body * 3).encode())
    def log_message(self, *args):
        print("asked with", self.headers["X-Key"], self.path, flush=True)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def make_secret(alphabet: str = string.ascii_letters + string.digits, length: int = 28) -> str:
    return "".join(random_secrets.choice(alphabet) for _ in range(length))


class GitServer:
    """Serves a repository to those who know the password, as a plain web server does."""

    def __init__(self, repository: Path, user: str, password: str) -> None:
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") == wanted:
                    super().do_GET()
                else:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", f'Basic realm="{wanted}"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(repository))
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="git-server")
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class Leaky:
    """A project into which secrets come in every way, and whose parts all tell them."""

    def __init__(self, web: Project) -> None:
        self.web = web
        self.variable = make_secret() + '/"+é\\ end'
        self.file = make_secret() + "\n" + make_secret()
        # Characters that have a meaning in a URL: where they have to be encoded, and where they need not.
        self.git_password = f"{make_secret()}+{make_secret()}@{make_secret()}"
        self.written_out = f"{make_secret()}%2F{make_secret()}%23%3F{make_secret()}+"
        self.header = make_secret()
        self.query = make_secret()
        self.unnamed = make_secret()
        (web.root / "secret.txt").write_text(self.file + "\n")
        (web.root / "emit.py").write_text(EMIT)
        (web.repo / "service.py").write_text(SERVICE)
        self.git = GitServer(web.repo / ".git", "bob", self.git_password)
        self.other_git = GitServer(web.repo / ".git", "bob", unquote(self.written_out))
        self.environ = {
            "SENTINEL": self.variable,
            "GIT_PASSWORD": self.git_password,
            "HEADER": self.header,
            "QUERY": self.query,
            "CI_DEPLOY_TOKEN": self.unnamed,
        }
        self.said: list[str] = []

    @property
    def secrets(self) -> list[str]:
        values = [self.variable, self.git_password, self.header, self.query, self.unnamed]
        values += [self.written_out, unquote(self.written_out)]
        return [*values, *self.file.splitlines()]

    def configure(
        self,
        *,
        git: str = "",
        build: str = "FROM_VARIABLE",
        hook: str = "CI_DEPLOY_TOKEN",
        check: str = "",
        logging_format: str = "",
    ) -> None:
        emit = f"{sys.executable} {self.web.root}/emit.py"
        (port,) = self.web.ports
        address = git or f"http://bob:${{GIT_PASSWORD}}@{self.git.address}/"
        url = f"http://127.0.0.1:{port}/health?token=${{QUERY}}"
        asked = check or f'{{type: http, url: "{url}", headers: {{X-Key: "${{HEADER}}"}}, {self.web.check}}}'
        log = f"logging: {{level: debug, format: {logging_format}}}" if logging_format else ""
        (self.web.root / "fraises.yaml").write_text(f"""\
{log}
fraises:
  web:
    environments:
      production:
        provider: local
        targets: [t1]
        git_repo: "{address}"
        app_path: {self.web.root}/srv/t1
        env: {{PORT: "{port}", FROM_VARIABLE: "${{SENTINEL}}", FROM_FILE: "${{file:secret.txt}}"}}
        build: ["{emit} {build}", "{emit} FROM_FILE", "echo ${{SENTINEL}}"]
        service: {{process: "{sys.executable} -I -S service.py", stop_timeout: 1s}}
        health_check: {asked}
        hooks: {{before_deploy: ["{emit} FROM_VARIABLE", {{command: "{emit} {hook}", on_failure: abort}}]}}
        recovery: {{retry: {{max_attempts: 2, base_delay: 10ms}}}}
""")

    def run(self, *words: str, code: int | None = 0) -> Run:
        done = self.web.run(*words, env={"PYTHONUTF8": "1", **self.environ})
        assert code in (None, done.code), done.err[-2000:]
        self.said.append(f"{' '.join(words)}\n{done.out}\n{done.err}")
        return done

    def commit(self, version: str, mode: str = "ok") -> None:
        self.web.commit(version, mode)
        subprocess.run(
            ["git", "update-server-info"],
            cwd=self.web.repo,
            check=True,
            env={**os.environ, **GIT},
            timeout=60,
        )

    def close(self) -> None:
        self.git.close()
        self.other_git.close()


@pytest.fixture
def leaky(project: Callable[..., Project]) -> Iterator[Leaky]:  # noqa: F811 - the fixture that is imported
    made = Leaky(project(count=1, check="interval: 20ms, timeout: 2s, rise: 1, fall: 1, deadline: 4s"))
    yield made
    made.close()


@pytest.mark.once
@pytest.mark.slow
def test_no_sink_of_a_real_deployment_shows_a_secret(leaky: Leaky) -> None:
    """Whether it goes well or wrong, at whatever place, in whatever form, and whoever looks at it afterwards."""
    with watched_argv(*leaky.secrets) as shown:
        leaky.configure()
        leaky.commit("v1")
        leaky.run("deploy", "web", "production", "-vv", "--log-format", "json")
        leaky.run("deploy", "web", "production", "--force", "--json")
        leaky.run("health", "web", code=None)
        leaky.run("health", "web", "--json", "-v", code=None)
        leaky.commit("v2", "sick")
        leaky.run("deploy", "web", "production", "-vv", "--log-format", "console", code=3)
        leaky.commit("v3", "exit")
        leaky.run("deploy", "web", "production", "--json", code=3)
        leaky.configure(build="FROM_VARIABLE 1")
        leaky.run("deploy", "web", "production", code=1)
        leaky.configure(hook="FROM_VARIABLE 3", logging_format="json")
        leaky.run("deploy", "web", "production", code=1)
        leaky.configure(git=f"http://bob:{leaky.written_out}@{leaky.other_git.address}/")
        leaky.commit("v4")
        leaky.run("deploy", "web", "production", "-vv")
        leaky.configure(git=f"http://bob:{leaky.written_out}@{leaky.git.address}/")
        leaky.run("deploy", "web", "production", "-vv", "--json", code=None)
        exec_check = f'{{type: exec, command: "{sys.executable} {leaky.web.root}/emit.py FROM_FILE 1", deadline: 600ms}}'
        leaky.configure(check=exec_check)
        leaky.run("deploy", "web", "production", "--force", "-v", code=3)
        leaky.configure()
        leaky.run("plan", "web", "production", "--json", code=None)
        leaky.run("logs", "web", "production", "-n", "500")
        for command in (
            "status --live",
            "history",
            "stats",
            "events",
            "audit list --limit 999",
            "metrics --once",
        ):
            leaky.run(*command.split())
            leaky.run(*command.split(), "--json")
        for row in json.loads(leaky.run("history", "--json").out)["deployments"][:6]:
            leaky.run("show", row["deployment_id"])
        leaky.run("audit", "export")
        leaky.run("audit", "export", "--format", "csv")
    assert shown == []
    for told in leaky.said:
        assert leaks(told, *leaky.secrets) == [], told.partition("\n")[0]
    # The mirror holds what was committed, and no more; what a build wrote into its release is the user's.
    assert leaks_below(leaky.web.root / "state", *leaky.secrets) == []
    assert "***" in "".join(leaky.said)


@pytest.mark.once
def test_a_configuration_error_shows_no_secret(leaky: Leaky) -> None:
    """Neither the value of a wrong file, nor that of a variable at a wrong place."""
    leaky.configure(git="ftp://bob:${GIT_PASSWORD}@127.0.0.1/")
    leaky.commit("v1")
    for words in (("deploy", "web", "production"), ("validate",), ("plan", "web", "production", "-vv")):
        leaky.run(*words, code=None)
        leaky.run(*words, "--json", code=None)
    (leaky.web.root / "secret.txt").write_text("x" * (1 << 20) + leaky.file)
    leaky.configure()
    leaky.run("deploy", "web", "production", "--json", "-vv", code=2)
    assert leaks("".join(leaky.said), *leaky.secrets) == []


# addresses that cannot be read

UNREADABLE = ["{}/{}", "{}#{}", "{}?{}", "{}/el+{}", "{}@{}/{}", "{}:{}/{}", "12345/{}"]
"""Passwords that should have been encoded, each as a form with random pieces in it."""


def made_of(form: str) -> str:
    return re.sub(r"\{\}", lambda _: make_secret(length=14), form)


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}/el+{}", "{}#{}?{}@{}"])
@pytest.mark.parametrize("by_reference", [True, False], ids=["reference", "written out"])
def test_an_address_that_cannot_be_read_is_refused_and_not_shown(
    leaky: Leaky, form: str, by_reference: bool
) -> None:
    """Of git and of a health check, by whatever command; `validate` says where it stands and how it is written."""
    password = made_of(form)
    leaky.environ["WRONG"] = password
    leaky.commit("v1")
    shown = "${WRONG}" if by_reference else password
    (port,) = leaky.web.ports
    check = f"{{type: http, url: 'http://bob:{shown}@127.0.0.1:{port}/health', deadline: 2s, interval: 20ms}}"
    for wrong, key in (
        ({"git": f"http://bob:{shown}@127.0.0.1:9/x.git"}, "source.git"),
        ({"check": check}, "health_check.url"),
    ):
        leaky.configure(**wrong)
        (problem,) = leaky.run("validate", "--json", code=2).document["problems"]
        place = "git_repo" if key == "source.git" else key
        assert (problem["code"], problem["path"].endswith(place)) == ("bad_url", True)
        assert problem["column"] > 1 and "%2F" in problem["message"]
        if key == "source.git":
            leaky.run("plan", "web", "production", "-vv", code=2)
        leaky.run("deploy", "web", "production", "--json", "-vv", code=2)
        leaky.run("deploy", "web", "production", code=2)
        leaky.run("health", "web", "-vv", code=None)
        leaky.run("audit", "export")
    assert leaks("".join(leaky.said), password) == []
    assert leaks_below(leaky.web.root / "state", password) == []


@pytest.mark.once
@pytest.mark.slow
def test_a_password_that_is_written_out_in_a_health_check_is_in_no_plan(leaky: Leaky) -> None:
    """The journal keeps the plan without it, and the check is asked with it."""
    password = f"{make_secret()}%2F{make_secret()}"
    (port,) = leaky.web.ports
    url = f"http://bob:{password}@127.0.0.1:{port}/health"
    leaky.configure(
        check=f"{{type: http, url: '{url}', deadline: 4s, headers: {{X-Key: k}}, interval: 20ms}}"
    )
    leaky.commit("v1")
    leaky.run("deploy", "web", "production", "--json", "-vv")
    leaky.run("audit", "export")
    assert leaks("".join(leaky.said), password, unquote(password)) == []
    assert leaks_below(leaky.web.root / "state", password, unquote(password)) == []


@pytest.mark.parametrize("form", UNREADABLE)
def test_a_library_tells_no_piece_of_a_url_that_it_cannot_read(form: str) -> None:
    """Neither in a message nor in a cause, an exception behind it, or a text that quotes the whole URL."""
    password = made_of(form)
    url = f"http://bob:{password}@127.0.0.1:9/x.git"
    said = [mask_url(f"said: cannot ask {url}, sorry"), mask_address(url), Redactor().scrub(url)]
    with pytest.raises(ProviderConfigurationError) as caught:
        parse_remote(url)
    said += [str(caught.value.to_dict()), "".join(traceback.format_exception(caught.value))]
    with pytest.raises(ProviderConfigurationError) as caught:
        ArchiveSource(url, "0" * 64, Cache("/nonexistent"))
    said += [str(caught.value.to_dict()), "".join(traceback.format_exception(caught.value))]
    redactor = Redactor()
    redactor.register(url)
    said += [redactor.scrub(f"cannot cast {piece!r}") for piece in re.split("[/?#:@]", password)]
    assert leaks("".join(said), password) == []


@pytest.mark.parametrize("form", UNREADABLE)
async def test_a_checker_tells_no_piece_of_a_url_that_it_cannot_read(form: str) -> None:
    """It is an error of the prober; the service is not asked."""
    password = made_of(form)
    result = await HTTPHealthChecker(f"http://bob:{password}@127.0.0.1:9/health").check()
    assert result.status == "error"
    assert "the URL cannot be read" in (result.message or "")
    assert leaks(str(result.to_dict()), password) == []


@pytest.mark.parametrize(
    "text",
    [
        "http://h/a@b and mail to bob@example.com",
        "http://web:8080/users/bob@example.com",
        "https://registry:5000/@scope/pkg@1.2.3",
        "http://127.0.0.1:8000/?to=bob@example.com",
        "http://[::1]:80/a@b#c@d",
        "ssh://git@host/a@b",
        "http://h:${PORT}/a@b",
        "http://h:{{ target.vars.port }}/a@b",
        "http://bob:${file:/run/pw}@h/",
        "https://h:99999/x",
    ],
)
def test_an_at_sign_elsewhere_in_a_url_hides_nothing(text: str) -> None:
    """In a path, a query or a fragment it ends no password."""
    assert Redactor().scrub(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://bob:pw@npm.corp/@scope/x", "https://bob:***@npm.corp/@scope/x"),
        ("https://bob:pw@web.corp/?to=a@b.example", "https://bob:***@web.corp/?to=a@b.example"),
        ("http://bob:a://b@h/x", "http://bob:***@h/x"),
        (
            "http://p.corp/http://bob:pw@h/,http://h:${PORT}/",
            "http://p.corp/http://bob:***@h/,http://h:${PORT}/",
        ),
        ("http://bob:12/x@127.0.0.1:80/", "http://bob:***@127.0.0.1:80/"),
        ('{"a": "http://bob:x/y@h/", "b": "c@d"}', '{"a": "http://bob:***@h/", "b": "c@d"}'),
        ("http://bob:half${PW}@h/", "http://bob:***@h/"),
    ],
)
def test_a_password_ends_where_a_host_can_begin(text: str, masked: str) -> None:
    """Where that is not sure, more is masked rather than less."""
    assert Redactor().scrub(text) == masked


# fuzzed


ALPHABET = st.characters(
    codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs"), exclude_characters="*…"
)
VALUES = st.text(ALPHABET, min_size=9, max_size=60)
AROUND = st.text(st.sampled_from("ab /=:\"'&%…\n\t{}[]"), max_size=30)


def quiet(value: str, around: str) -> bool:
    """Whether no piece of the value stands in what is written round it."""
    return not leaks(around, value)


@settings(max_examples=200, deadline=None)
@given(value=VALUES, before=AROUND, after=AROUND, data=st.data())
@example(value="aaaaaaaaaa", before="a", after="", data=None)
def test_fuzz_no_form_passes_the_redactor(value: str, before: str, after: str, data: Any) -> None:
    """In any encoding, in any surroundings, whole or cut anywhere, in texts and in nested data."""
    if data is None or not quiet(value, before + after):
        return
    redactor = Redactor()
    redactor.register(value)
    for name, form in looks(value).items():
        if len(form) < 6:
            continue
        text = before + form + after
        assert leaks(redactor.scrub(text), value) == [], name
        nested = {"k": [text, (text, {"deeper": text.encode()})], text: 1}
        assert leaks(repr(redactor.scrub_object(nested)), value) == [], name
        at = data.draw(st.integers(0, len(text)), label=f"cut of {name}")
        assert leaks(redactor.scrub(clip(text, at)), value) == []
        assert leaks(redactor.scrub(f"said: {clip_start(text, at)} and more"), value) == []


@settings(max_examples=100, deadline=None)
@given(value=VALUES, pad=st.integers(0, 90), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_fuzz_no_chunk_or_cut_of_output_lets_a_value_through(value: str, pad: int, sizes: list[int]) -> None:
    """However a stream is cut into chunks, and lines into pieces, and the rest into its last part."""
    redactor = Redactor()
    redactor.register(value)
    raw = ("-" * pad + value + "\n" + value).encode()
    # A value that is longer than two pieces has a middle; real pieces are 8 KiB long.
    size = max(64, len(value.encode()))
    said: list[str] = []
    lines = Lines(
        "stdout", lambda _, line: said.append(redactor.scrub(line)), tail_bytes=size, line_bytes=size
    )
    at = number = 0
    while at < len(raw):
        step = sizes[number % len(sizes)]
        lines.feed(raw[at : at + step])
        at, number = at + step, number + 1
    lines.end()
    assert leaks("\n".join(said), value) == []
    assert leaks(redactor.scrub(lines.text()), value) == []


@settings(max_examples=100, deadline=None)
@given(value=VALUES, before=AROUND, form=st.sampled_from(["json", "console"]), where=st.integers(0, 5))
def test_fuzz_no_log_line_shows_a_value(value: str, before: str, form: str, where: int) -> None:
    """As message, argument, field, key of a field, in a traceback, or across the place where the message is cut."""
    if not quiet(value, before):
        return
    redactor = Redactor()
    redactor.register(value)
    formatter = (JSONFormatter if form == "json" else ConsoleFormatter)(redactor, message_chars_max=40)
    message, arguments, extra, trace = before, (), {}, None
    match where:
        case 0:
            message = before + value
        case 1:
            message, arguments = "%s", (before + value,)
        case 2:
            extra = {"note": [before + value]}
        case 3:
            extra = {"fields": {value: 1}}
        case 4:
            try:
                raise ValueError(before + value)
            except ValueError:
                trace = sys.exc_info()
        case 5:
            message = "-" * 35 + value
    record = logging.LogRecord("x", logging.INFO, "f", 1, message, arguments, trace)
    record.__dict__.update(extra)
    assert leaks(formatter.format(record), value) == []


@pytest.mark.once
@pytest.mark.slow
def test_fuzz_no_value_passes_the_command_line(project: Callable[..., Project]) -> None:  # noqa: F811
    """A hook that prints a random value in random places, with the command line as a process of its own."""
    web = project(count=1)
    web.commit("v1")
    (web.root / "echo.py").write_text(
        "import os, sys\nv = os.environ['VALUE']\n"
        "sys.stdout.buffer.write(b'-' * int(os.environ['PAD']) + v.encode() + b'\\n' + v.encode())\nsys.exit(1)\n"
    )
    config = (web.root / "fraises.yaml").read_text()
    hook = f'{{before_deploy: ["{sys.executable} {web.root}/echo.py"]}}'
    config = config.replace("env: {PORT", 'env: {VALUE: "${VALUE}", PAD: "${PAD}", PORT')
    (web.root / "fraises.yaml").write_text(f"{config}\n        hooks: {hook}\n")

    tried: list[str] = []

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        value=VALUES,
        pad=st.one_of(st.integers(280, 300), st.integers(8150, 8192), st.integers(65_480, 65_536)),
    )
    def attempt(value: str, pad: int) -> None:
        environ = {"VALUE": value, "PAD": str(pad), "PYTHONUTF8": "1"}
        done = web.run("deploy", "web", "production", "--json", "-v", env=environ)
        assert done.code == 1, done.err
        assert re.search(r"\*\*\*", done.out)
        assert leaks(done.out + done.err, value) == []
        tried.append(value)

    attempt()
    assert leaks(web.run("audit", "export").out, *tried) == []


# by type


def test_a_secret_shows_itself_nowhere() -> None:
    """Not printed, formatted, in a container, pickled or logged; a key of the audit trail neither."""
    secret, key = Secret("hunter2-and-more"), AuditKey(b"hunter2-and-more", "id-1")
    logged = JSONFormatter().format(
        logging.makeLogRecord({"msg": "%s", "args": (secret,), "secret": secret, "key": key})
    )
    shown = (
        f"{secret} {secret!r} {secret!s:>20} {[secret]} {key} {Redactor().scrub_object([secret])} {logged}"
    )
    assert "hunter2" not in shown
    assert secret.reveal() == "hunter2-and-more"
    assert (secret == Secret("hunter2-and-more"), secret == Secret("other"), secret == "hunter2-and-more") == (
        True, False, False,
    )  # fmt: skip
    assert bool(Secret("")) is False
    assert len({secret, Secret("hunter2-and-more")}) == 1
    with pytest.raises(TypeError, match="pickled"):
        secret.__reduce__()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("export API_TOKEN=abc123 and go", "export API_TOKEN=*** and go"),
        ("--password='two words' -x", "--password='***' -x"),
        ('{"password": "pw", "user": "bob"}', '{"password": "***", "user": "bob"}'),
        ('said {\\"api_key\\": \\"pw\\"}', 'said {\\"api_key\\": \\"***\\"}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("GET /x?access_token=abc&page=2", "GET /x?access_token=***&page=2"),
        ("env.API_TOKEN: the environment variable API_TOKEN is not set", None),
        ("password: hunter2 for bob", "password: *** for bob"),
        ("user: bob\npassword: swordfish\nport: 80", "user: bob\npassword: ***\nport: 80"),
        ("db_password: 'two words', x: 1", "db_password: '***', x: 1"),
        ("{user: bob, password: swordfish}", "{user: bob, password: ***}"),
        ("X-Auth-Key: 0a1b2c", "X-Auth-Key: ***"),
        ("auth=abc&page=2", "auth=***&page=2"),
        ("SSH_KEY=abc passcode=1234", "SSH_KEY=*** passcode=***"),
        ('{"registry_auth": "abc", "author": "bob"}', '{"registry_auth": "***", "author": "bob"}'),
        ('author="token=abc"', 'author="token=***"'),
        ("password: must not be empty", None),
        ("password: required", None),
        ("auth: failed for bob", None),
        ("token: 17 is older", None),
        ("password: ${PASSWORD}", None),
        ("author: bob, authority: x, oauth: works", None),
        ("ssh_key_path=/root/.ssh/id auth_url=http://h/", None),
        ("key: value, keys: 3, monkey=banana", None),
        ("a.yaml:3:5: env.API_TOKEN: expected a text, found nothing", None),
        ("fenced: token=17 is older", None),
        ("the secret lies in a file, the password too", None),
        ("keys=3 passes=2", None),
    ],
)
def test_a_value_under_a_telling_name_is_masked_in_a_text(text: str, masked: str | None) -> None:
    """In variables, options, queries, JSON and headers; a sentence stays as it is."""
    assert Redactor().scrub(text) == (masked or text)


@pytest.mark.parametrize(
    "piece",
    ["a", "auth", "a.-", "x_auth_", "password", "http://a:b/", "a://", "http://a:b@c/", "://@", "${", "{{"],
)
def test_no_text_takes_long(piece: str) -> None:
    """Whatever a service prints, the time grows with its length and not with the square of it."""
    text = piece * (65_536 // len(piece))
    started = time.process_time()
    for around in (text, f"password: {text}", f"{text}: token", f"{text}@h token=x"):
        Redactor().scrub(around)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "key", ["auth", "basicAuth", "registry_auth", "ssh_key", "sshKey", "passcode", "X-Auth-Key", "SSHKEY"]
)
def test_a_value_under_a_telling_key_is_masked(key: str) -> None:
    """In fields and nested data."""
    assert Redactor().scrub_object({key: "abc", "n": {key: ["abc"]}}) == {key: "***", "n": {key: ["***"]}}


@pytest.mark.parametrize(
    "key", ["author", "authority", "auth_url", "auth_method", "ssh_key_path", "keyboard", "passes", "compass"]
)
def test_a_value_under_an_ordinary_key_stays(key: str) -> None:
    """A word that only begins or ends like a secret is none."""
    assert Redactor().scrub_object({key: "abc"}) == {key: "abc"}


def test_a_password_of_an_address_is_known_in_every_form() -> None:
    """As it stands there, and as it is sent; in http a lone user is a token."""
    redactor = Redactor()
    redactor.register("https://bob:p%40ssw0rd@host/x")
    redactor.register_address("http://t0ken-of-bob@host/ and http://bob:${PASSWORD}@host/")
    said = redactor.scrub("p%40ssw0rd p@ssw0rd t0ken-of-bob http://bob:${PASSWORD}@host/")
    assert said == "*** *** *** http://bob:${PASSWORD}@host/"


def test_variables_with_telling_names_are_known_without_being_named_in_the_configuration() -> None:
    """Hooks inherit them, and print them."""
    redactor = Redactor()
    redactor.register_named({"CI_JOB_TOKEN": "glcbt-0123456789", "HOME": "/home/somebody"})
    assert redactor.scrub("glcbt-0123456789 in /home/somebody") == "*** in /home/somebody"
