"""Values reach texts and commands unchanged, whatever they contain, and secrets never stand in a command."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraisier.config import schema
from fraisier.config.resolve import Resolver, names_for
from fraisier.config.schema import Environment, Target
from fraisier.errors import ConfigurationError
from fraisier.redaction import Redactor

HOSTILE = [
    "a b",
    "'",
    '"',
    "$(echo x)",
    "`id`",
    "\\",
    "a'b\"c$HOME`\n;id #",
    "-n",
    "",
    "*",
    "~",
    "#",
    "$$",
    "!",
    "2",
    "A=b",
    "${V}",
    "{{ v }}",
    "é…",
]
PLACES = [
    "printf %s @",
    'printf %s "@"',
    "printf %s '@'",
    'printf %s "$(printf %s @; printf x)"',
    'printf %s "$(printf %s "@"; printf x)"',
    "printf %s '' # it's a comment\nprintf %s @",
    "(printf %s @)",
    "if true; then printf %s @; fi",
    "x='it'\\''s'; printf %s \"@\"",
    'printf %s "\\"@\\""',
    "printf %s $(printf %s x) >/dev/null; printf %s @",
]


def resolver(environ: Mapping[str, str] | None = None, base_dir: Path | str = "/") -> Resolver:
    """A resolver over a small environment."""
    return Resolver(environ or {}, Redactor(), base_dir)


def shell(command: str, environ: Mapping[str, str]) -> str:
    """Run a command as Fraisier does and return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=dict(environ), capture_output=True, timeout=20, check=True
    )
    return done.stdout.decode()


def printed(place: str, value: str) -> str:
    """Return what a place prints for a value."""
    if place.endswith('x)"'):
        return f"{value}x"
    return f'"{value}"' if '\\"@' in place else value


@pytest.mark.parametrize("place", PLACES)
def test_a_name_in_a_command_is_one_literal_word_in_any_quotes(place: str) -> None:
    """`{{ name }}` gives its value to the shell, unchanged."""
    for value in HOSTILE:
        command, environ = resolver().command(place.replace("@", "{{ v }}"), {"v": value})
        assert environ == {}
        assert shell(command, {}) == printed(place, value)


@pytest.mark.parametrize("place", PLACES)
def test_a_reference_in_a_command_is_one_literal_word_and_not_in_the_argv(place: str) -> None:
    """`${VAR}` is carried in the environment and expands to its value, unchanged."""
    for value in HOSTILE:
        command, environ = resolver({"V": value}).command(place.replace("@", "${V}"), {})
        assert environ == {"FRAISIER_SECRET_1": value}
        assert len(value) < 3 or value in place or value not in command
        assert shell(command, environ) == printed(place, value)


@given(
    value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    place=st.sampled_from(PLACES),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_survives_the_shell(value: str, place: str) -> None:
    """No value that a process can carry is changed by the way through the shell."""
    command, environ = resolver({"V": value}).command(
        place.replace("@", "{{ v }}") + "; " + place.replace("@", "${V}"), {"v": value}
    )
    assert shell(command, environ) == printed(place, value) * 2


@given(st.text(alphabet="'\"$(){}`\\# \n<|x", max_size=14))
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_no_surrounding_text_lets_a_value_run_as_a_command(tmp_path: Path, text: str) -> None:
    """Whatever stands before a name, its value is never executed: it is quoted, or refused."""
    value = "';touch injected;'\"$(touch injected)`touch injected`\n touch injected #"
    try:
        command, _ = resolver().command(f"true {text} {{{{ v }}}}", {"v": value})
    except ConfigurationError:
        return
    script = f"touch() {{ echo RAN >&2; }}\n{command}"
    traced = subprocess.run(
        ["/bin/sh", "-c", script], env={}, capture_output=True, timeout=20, check=False, cwd=tmp_path
    )
    assert b"RAN" not in traced.stdout.split() + traced.stderr.split()


def test_what_is_the_shells_own_stays_its_own() -> None:
    """`$HOME`, `$(…)`, `$$`, `${x%y}` and `$${…}` are left to the shell."""
    command, environ = resolver().command("echo $HOME $(id -u) \"${PATH%%:*}\" $$ $${LATER} '$${x}'", {})
    assert command == "echo $HOME $(id -u) \"${PATH%%:*}\" $$ ${LATER} '${x}'"
    assert environ == {}


@pytest.mark.parametrize(
    "command",
    [
        "cat <<EOF\n{{ v }}\nEOF",
        "echo `echo {{ v }}`",
        "echo $(( {{ v }} + 1 ))",
        'echo "${x:-{{ v }}}"',
        "echo $'a' {{ v }}",
        "echo \\{{ v }}",
        "echo ${{ v }}",
        '"$(case x in x) echo {{ v }};; esac)"',
    ],
)
def test_places_where_no_quoting_is_safe_are_refused(command: str) -> None:
    """A name is refused where the shell would read it in a way that cannot be told."""
    with pytest.raises(ConfigurationError):
        resolver().command(command, {"v": "x"})


def test_a_reference_is_carried_once_and_numbered() -> None:
    """Two references get two variables; the same one again is the same variable."""
    command, environ = resolver({"A": "1", "B": "2"}).command("x ${A} ${B} ${A}", {})
    assert command == 'x "${FRAISIER_SECRET_1}" "${FRAISIER_SECRET_2}" "${FRAISIER_SECRET_1}"'
    assert environ == {"FRAISIER_SECRET_1": "1", "FRAISIER_SECRET_2": "2"}


def test_a_text_takes_names_variables_defaults_and_files(tmp_path: Path) -> None:
    """Each kind of reference gives its value; a file loses its last line end; values are not read again."""
    (tmp_path / "key").write_text("from-file {{ x }}\n", encoding="utf-8")
    text = "{{ n }}|${A}|${B:-b}|${C:-c}|${file:key}|$${A}|{{{{"
    found = resolver({"A": "${B}", "C": ""}, tmp_path).text(text, {"n": "${A}{{ n }}"})
    assert found == "${A}{{ n }}|${B}|b|c|from-file {{ x }}|${A}|{{"


def test_what_comes_from_outside_is_masked_and_defaults_are_not(tmp_path: Path) -> None:
    """A value is registered with the redactor before anybody sees it."""
    (tmp_path / "key").write_text("file-secret", encoding="utf-8")
    redactor = Redactor()
    found = Resolver({"A": "variable-secret"}, redactor, tmp_path)
    found.text("${A} ${B:-default-value} ${file:key}", {})
    assert redactor.scrub("variable-secret default-value file-secret") == "*** default-value ***"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NONE}", "NONE is not set"),
        ("${file:no-such}", r"\$\{file:no-such\} cannot be read: No such file"),
        ("{{ nope }}", "nope"),
        ("{{ a", "is no template"),
    ],
)
def test_a_missing_reference_is_named_with_its_place(text: str, says: str, tmp_path: Path) -> None:
    """The error says what is missing and at which key."""
    with pytest.raises(ConfigurationError, match=rf"^env\.A: .*{says}"):
        resolver({}, tmp_path).text(text, {}, where="env.A")


def test_missing_lists_every_reference_with_its_key(tmp_path: Path) -> None:
    """Everything that a run would lack is found before it begins."""
    environment = Environment(
        env={"A": "${NONE} ${HERE} ${NONE:-x}"},
        build=("echo '${NO2}' $HOME ${PATH%x}",),
        health_check=schema.HealthCheck(type="exec", command=("a", "${NO3}")),
        source=schema.Source(git="${file:token}"),
    )
    assert resolver({"HERE": "x"}, tmp_path).missing(environment) == [
        "${file:token} (source.git)",
        "${NONE} (env.A)",
        "${NO2} (build[0])",
        "${NO3} (health_check.command[1])",
    ]


def test_names_hold_what_templates_may_say() -> None:
    """All documented names are there; what is not known yet is left out."""
    target = Target(
        name="web-1",
        address="{{ target.name }}.example.com",
        labels={"zone": "b"},
        vars={"port": 8001, "debug": True},
    )
    names = names_for(fraise="api", environment="production", target=target, version="abc")
    assert names == {
        "fraise": "api",
        "environment": "production",
        "target.name": "web-1",
        "target.address": "web-1.example.com",
        "target.labels.zone": "b",
        "target.vars.port": "8001",
        "target.vars.debug": "true",
        "version": "abc",
    }
