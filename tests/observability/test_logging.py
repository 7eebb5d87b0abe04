"""Structured logging: the form of a line, the context of a task, and that no secret gets out."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import structlog

from fraisier.config.schema import Hook, Hooks
from fraisier.errors import ConfigurationError
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.logging import (
    ConsoleFormatter,
    ContextualLogger,
    JSONFormatter,
    LoggingSubscriber,
    choose_logging,
    current_context,
    log_context,
    setup_structured_logging,
)
from fraisier.redaction import Redactor
from tests.rollout.kit import Stage, environment

SECRET = "hunter2-and-more"


@pytest.fixture
def redactor() -> Redactor:
    known = Redactor()
    known.register(SECRET)
    return known


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def out(redactor: Redactor) -> io.StringIO:
    stream = io.StringIO()
    setup_structured_logging("DEBUG", "json", stream=stream, redactor=redactor)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in found if not line["message"].startswith("Using selector")]


def straight() -> logging.Logger:
    """Return a logger that writes to what was set up and not to pytest, which raises for a faulty call."""
    logger = logging.Logger("x")
    ours = [found for found in logging.getLogger().handlers if type(found).__module__.startswith("fraisier")]
    logger.handlers = ours
    return logger


def test_a_json_line_has_exactly_the_documented_keys(out: io.StringIO) -> None:
    """timestamp, level, logger, message, context, exception; the last is null without one."""
    ContextualLogger("fraisier.x").info("hello", answer=42)
    (line,) = lines(out)
    assert list(line) == ["timestamp", "level", "logger", "message", "context", "exception"]
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "fraisier.x", "hello")
    assert (line["context"], line["exception"]) == ({"answer": 42}, None)
    assert line["timestamp"].endswith("Z")


def test_json_formatter_works_on_any_stdlib_handler() -> None:
    """It needs no set-up; `extra` and arguments arrive."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter())
    logger = logging.Logger("own")
    logger.addHandler(handler)
    logger.warning("%d of %s", 3, "four", extra={"port": 8000})
    (line,) = lines(stream)
    assert (line["message"], line["context"]) == ("3 of four", {"port": 8000})


def test_structlog_lines_look_like_all_others(out: io.StringIO) -> None:
    """Fields, bound values and positional arguments arrive in the same keys."""
    structlog.get_logger("theirs").bind(a=1).warning("saw %s", "it", b=2)
    (line,) = lines(out)
    assert (line["logger"], line["level"], line["message"]) == ("theirs", "WARNING", "saw it")
    assert line["context"] == {"a": 1, "b": 2}


def test_a_percent_sign_in_a_structlog_event_is_only_text(out: io.StringIO) -> None:
    """Without positional arguments nothing is interpolated."""
    structlog.get_logger("theirs").info("100% done", password="x")
    (line,) = lines(out)
    assert (line["message"], line["context"]) == ("100% done", {"password": "***"})


@pytest.mark.parametrize("name", ["third.party", "asyncio", "aiohttp.access"])
def test_stdlib_loggers_of_others_are_redacted_too(out: io.StringIO, name: str) -> None:
    """A library that logs a secret value logs the mask."""
    logging.getLogger(name).error("refused for %s", SECRET)
    (line,) = lines(out)
    assert line["message"] == "refused for ***"


@pytest.mark.parametrize(
    "log",
    [
        lambda log: log.info(f"password is {SECRET}"),
        lambda log: log.info("nested", items=[{"deep": [("x", SECRET)]}]),
        lambda log: log.info("by key", db_password="another-value", api_key="k"),
        lambda log: log.info("object", it=type("Thing", (), {"__str__": lambda self: SECRET})()),
        lambda log: log.info("struct", it=ev.StepOutput(line=SECRET)),
        lambda log: log.info("key", **{SECRET: 1}),
    ],
)
@pytest.mark.parametrize("format", ["json", "console"])
def test_no_secret_leaves_in_any_place(redactor: Redactor, log: Any, format: Any) -> None:
    """In the message, in nested values, under a telling key, inside objects, as a key."""
    stream = io.StringIO()
    setup_structured_logging("DEBUG", format, stream=stream, redactor=redactor)
    log(ContextualLogger("x"))
    text = stream.getvalue()
    assert "***" in text
    assert SECRET not in text
    assert "another-value" not in text


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_is_kept_and_redacted(redactor: Redactor, format: Any) -> None:
    """The chain of causes is there, the secret value in it is not."""
    stream = io.StringIO()
    setup_structured_logging("DEBUG", format, stream=stream, redactor=redactor)
    try:
        try:
            raise ValueError(f"bad {SECRET}")
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        ContextualLogger("x").exception("it broke")
    text = stream.getvalue()
    assert "ValueError: bad ***" in text
    assert "RuntimeError: outer" in text
    assert SECRET not in text


def test_redaction_comes_before_truncation(redactor: Redactor) -> None:
    """A secret across the place where a message is cut leaves no half of itself."""
    formatter = JSONFormatter(redactor, message_chars_max=20)
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a" * 12 + SECRET + "b" * 40, (), None)
    message = json.loads(formatter.format(record))["message"]
    assert message.startswith("a" * 12 + "***bbbbb…")
    assert SECRET[:4] not in message


def test_arguments_are_redacted_by_key(out: io.StringIO) -> None:
    """A mapping of arguments keeps its form and loses its secrets."""
    logging.getLogger("x").info("%(user)s %(password)s", {"user": "alice", "password": "pw"})
    assert lines(out)[0]["message"] == "alice ***"


def test_a_wrong_number_of_arguments_loses_no_line(out: io.StringIO) -> None:
    """A mistake in a logging call is shown with its arguments, redacted."""
    straight().info("only %s", *("one", SECRET))
    assert lines(out)[0]["message"] == "only %s ('one', '***')"


def test_an_object_that_cannot_be_shown_leaks_nothing(out: io.StringIO) -> None:
    """The line is lost with a word about it, instead of stdlib's dump of the arguments."""

    class Broken:
        def __str__(self) -> str:
            raise OSError(SECRET)

    straight().info("%s " + SECRET, Broken())
    assert out.getvalue() == "a log line of x was lost: OSError\n"


def test_context_nests_and_ends(out: io.StringIO) -> None:
    """An inner block adds and overrides; after it the outer one holds, also for lines of others."""
    log = ContextualLogger("x")
    with log.context(a=1, b=1):
        with log.context(b=2):
            log.info("inner", c=3)
        logging.getLogger("other").info("outer")
    log.info("none")
    assert [line["context"] for line in lines(out)] == [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 1}, {}]


async def test_context_belongs_to_its_task(out: io.StringIO) -> None:
    """Tasks side by side do not see each other's fields."""
    log = ContextualLogger("x")
    turns = [anyio.Event(), anyio.Event()]

    async def work(number: int) -> None:
        with log.context(number=number):
            turns[number].set()
            await turns[1 - number].wait()
            log.info("here", expected=number)

    async with anyio.create_task_group() as group:
        group.start_soon(work, 0, name="zero")
        group.start_soon(work, 1, name="one")
    assert sorted(line["context"]["number"] for line in lines(out)) == [0, 1]
    assert all(line["context"]["number"] == line["context"]["expected"] for line in lines(out))


def test_the_level_holds(redactor: Redactor) -> None:
    """What is below it is not written."""
    stream = io.StringIO()
    setup_structured_logging("warning", "console", stream=stream, redactor=redactor)
    ContextualLogger("x").info("no")
    ContextualLogger("x").warning("yes", place="a b")
    assert stream.getvalue().endswith('WARNING  x: yes place="a b"\n')
    assert stream.getvalue().count("\n") == 1


def test_set_up_twice_writes_once(redactor: Redactor) -> None:
    """The second set-up replaces the first and leaves the handlers of others."""
    theirs = logging.NullHandler()
    logging.getLogger().addHandler(theirs)
    first, second = io.StringIO(), io.StringIO()
    setup_structured_logging(stream=first, redactor=redactor)
    setup_structured_logging(stream=second, redactor=redactor)
    ContextualLogger("x").info("once")
    assert (first.getvalue(), second.getvalue().count("once")) == ("", 1)
    assert theirs in logging.getLogger().handlers


@pytest.mark.parametrize("arguments", [{"level": "loud"}, {"format": "xml"}])
def test_a_wrong_setting_is_a_configuration_error(arguments: dict[str, Any]) -> None:
    """It names what can be used."""
    with pytest.raises(ConfigurationError) as caught:
        setup_structured_logging(**arguments)
    assert "use " in caught.value.hint


def test_importing_configures_nothing_and_is_cheap() -> None:
    """No handler, no level, no structlog, no prometheus_client."""
    code = (
        "import logging, sys; before = (logging.root.level, logging.root.handlers[:]);"
        "import fraisier.logging, fraisier.metrics, fraisier.audit;"
        "assert (logging.root.level, logging.root.handlers) == before;"
        "print(sorted({'structlog', 'prometheus_client', 'rich', 'aiohttp', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ev.StepFailed(), "ERROR"),
        (ev.DeploymentRolledBack(), "ERROR"),
        (ev.RecoveryDecided(action="retry"), "WARNING"),
        (ev.StepStarted(), "DEBUG"),
        (ev.StepOutput(), "DEBUG"),
        (ev.DeploymentStarted(), "INFO"),
        (ev.TargetUpdated(), "INFO"),
    ],
)
async def test_the_level_of_a_line_follows_the_event(out: io.StringIO, event: ev.Event, level: str) -> None:
    """Failures are errors, retries warnings, steps debug, the rest info."""
    await LoggingSubscriber()(Record(1, "id", 0, event))
    assert lines(out)[0]["level"] == level


async def test_an_event_is_one_line_with_its_place(out: io.StringIO, redactor: Redactor) -> None:
    """The type is the message; where it happened and what it says are fields; plans are left out."""
    subscriber = LoggingSubscriber(redactor=redactor)
    place = {"deployment_id": "d1", "fraise": "api", "environment": "production"}
    failed = ev.StepFailed(**place, target="web-1", step="restart", attempt=2, message=f"no {SECRET}")
    await subscriber(Record(7, "id", 0, failed))
    await subscriber(Record(8, "id", 0, ev.DeploymentPlanned(**place, version="v2")))
    first, second = lines(out)
    assert first["message"] == "step.failed"
    assert first["context"] == {
        **place, "target": "web-1", "step": "restart", "attempt": 2, "seq": 7, "message": "no ***",
        "duration_s": 0.0, "recoverable": False, "known": True,
    }  # fmt: skip
    assert second["context"] == {**place, "seq": 8, "version": "v2"}


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, (False, "info", "json")),
        ({"terminal": True}, (False, "info", "console")),
        ({"verbose": 1, "terminal": True}, (True, "info", "console")),
        ({"verbose": 2}, (True, "debug", "json")),
        ({"format_option": "console"}, (True, "info", "console")),
        ({"environ": {"FRAISIER_LOG_LEVEL": "WARNING"}, "terminal": True}, (True, "warning", "console")),
        ({"environ": {"FRAISIER_LOG_FORMAT": "json"}, "terminal": True}, (True, "info", "json")),
        ({"environ": {"FRAISIER_LOG_LEVEL": "", "FRAISIER_LOG_FORMAT": " "}}, (False, "info", "json")),
        ({"configured_level": "error"}, (True, "error", "json")),
        ({"configured_format": "console"}, (True, "info", "console")),
        (
            {
                "environ": {"FRAISIER_LOG_LEVEL": "warning"},
                "configured_level": "debug",
                "configured_format": "console",
            },
            (True, "warning", "console"),
        ),
        (
            {"verbose": 1, "environ": {"FRAISIER_LOG_LEVEL": "error", "FRAISIER_LOG_FORMAT": "console"}},
            (True, "info", "console"),
        ),
        ({"format_option": "json", "environ": {"FRAISIER_LOG_FORMAT": "console"}}, (True, "info", "json")),
    ],
)
def test_an_option_wins_over_the_environment_and_that_over_the_configuration(
    given: dict[str, Any], chosen: tuple[bool, str, str]
) -> None:
    """Level and format each for itself; without a word about the form, a terminal gets lines for people."""
    assert tuple(choose_logging(**{"environ": {}, **given})) == chosen


@pytest.mark.parametrize("variable", ["FRAISIER_LOG_LEVEL", "FRAISIER_LOG_FORMAT"])
def test_a_variable_with_another_word_is_a_configuration_error(variable: str) -> None:
    """It names the variable and what can stand there."""
    with pytest.raises(ConfigurationError, match=variable) as caught:
        choose_logging(environ={variable: "loud"})
    assert "use one of" in caught.value.hint


async def test_whatever_is_logged_in_a_block_carries_its_place(out: io.StringIO) -> None:
    """Also by libraries that know nothing of it, and in tasks that are started there; not after it."""

    async def library() -> None:
        logging.getLogger("aiohttp.client").warning("slow")

    with log_context(deployment_id="d1", target="web-1"), log_context(step="restart"):
        async with anyio.create_task_group() as group:
            group.start_soon(library, name="library")
        structlog.get_logger("theirs").warning("also")
    await library()
    assert dict(current_context()) == {}
    contexts = [line["context"] for line in lines(out)]
    assert contexts == [{"deployment_id": "d1", "target": "web-1", "step": "restart"}] * 2 + [{}]


def test_all_levels_are_written_with_their_names(out: io.StringIO) -> None:
    """By the methods of the logger."""
    log = ContextualLogger(logging.getLogger("x"))
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(log, name)("word")
    assert [line["level"] for line in lines(out)] == ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def test_what_has_no_form_of_its_own_becomes_text(redactor: Redactor) -> None:
    """A line is never refused: odd keys, objects, loops, and a traceback that was written before."""
    record = logging.makeLogRecord({"msg": "x", "exc_text": f"Traceback {SECRET}", "stack_info": "Stack"})
    loop: dict[str, Any] = {}
    loop["self"] = loop
    record.__dict__.update(odd={(1, 2): object}, loop=loop, amount=1.5)
    line = json.loads(JSONFormatter(redactor).format(record))
    assert line["exception"] == "Traceback ***\nStack"
    assert line["context"]["amount"] == 1.5
    assert "object" in json.dumps(line["context"]["odd"])
    assert "self" in json.dumps(line["context"]["loop"])
    assert "amount=1.5" in ConsoleFormatter(redactor).format(record)


def test_a_stream_that_is_gone_ends_nothing(redactor: Redactor) -> None:
    """A line that nobody takes is lost in silence."""
    stream = io.StringIO()
    setup_structured_logging("INFO", "json", stream=stream, redactor=redactor)
    stream.close()
    straight().warning("nobody hears this")
    assert stream.closed


class Noisy(list[Any]):
    """Calls of a provider, each of which a library logs that knows nothing of deployments."""

    def append(self, call: Any) -> None:
        logging.getLogger("third.party").warning("%s at %s", call[0], call[1])
        super().append(call)


def test_a_line_of_a_library_inside_a_step_names_deployment_target_and_step(out: io.StringIO) -> None:
    """With several targets at the same time, and hooks as steps of their own."""
    stage = Stage(
        environment(3, hooks=Hooks(before_switch=(Hook(command="true", name="ready", on="target"),)))
    )
    stage.world.calls = Noisy()
    result = stage.play(lambda o: o.deploy("api", "production"))
    said = [line for line in lines(out) if line["logger"] == "third.party"]
    assert result.outcome == "succeeded"
    assert len(said) == len(stage.world.calls) > 15
    for line in said:
        context = line["context"]
        assert line["message"] == f"{context['step']} at {context['target']}"
        assert (context["deployment_id"], context["fraise"]) == (result.deployment_id, "api")
