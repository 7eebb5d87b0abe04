"""What an HTTP answer must look like."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from fraisier.config.regexes import NESTED, NESTED_HINT, repeats_of
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.redaction import clip

BODY_MAX = 1024 * 1024
"""How many bytes of a body are read; what comes after them is not looked at."""

MATCHED_CHARS = 8 * 1024
"""So much of a body is matched with an expression that repeats something: the time grows with the square of it, and nothing
can end a match that has begun."""

_EXCERPT_CHARS = 200

StatusSpec = int | str | Iterable[int | str]


class Request(msgspec.Struct, frozen=True):
    """One HTTP question, ready to send. `ca_file` holds the certificates to trust instead of the system's."""

    method: str
    url: str
    headers: Mapping[str, str]
    verify_tls: bool = True
    ca_file: str = ""
    follow_redirects: bool = False
    connect_timeout_s: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came back; `body` holds at most BODY_MAX bytes, `truncated` says that there was more. `location` is where a
    redirect points, `certificate` the server's in DER (empty without TLS)."""

    status: int
    body: bytes = b""
    truncated: bool = False
    location: str = ""
    certificate: bytes = b""


Fetch = Callable[[Request], Awaitable[Answer]]
"""Sends one request and returns its answer; raises OSError, ProbeFailed or ProbeError."""


class Expectation:
    """Statuses (`200`, `"2xx"`, or several), a regular expression for the body, and values at paths of a JSON
    body.

    A path is keys and list indices with dots between them (`checks.0.state`). Raises ValueError when made without a
    status, or with an expression that repeats what is repeated; what else is wrong shows as ProbeError when an
    answer is judged.
    """

    def __init__(
        self, statuses: StatusSpec = 200, body: str = "", json: Mapping[str, Any] | None = None
    ) -> None:
        single = isinstance(statuses, int | str)
        self._statuses = tuple(str(one).lower() for one in ((statuses,) if single else statuses))  # type: ignore[union-attr]
        if not self._statuses:
            raise ValueError("expect_status: expected at least one status, found none")
        self._body = body
        self._json = dict(json or {})
        self._repeats = False
        self._body_problem = ""
        try:
            repeats = repeats_of(body)
        except (re.error, OverflowError, RecursionError) as error:
            self._body_problem = f"expect_body is not a regular expression: {error}"
        else:
            if repeats.nested:
                raise ValueError(f"expect_body: {NESTED}; {NESTED_HINT}")
            self._repeats = repeats.any

    @property
    def reads_body(self) -> bool:
        """Whether the body matters."""
        return bool(self._body or self._json)

    def judge(self, answer: Answer) -> None:
        """Return for a healthy answer; raise ProbeFailed for another, ProbeError when it cannot be judged."""
        if not any(_status_matches(spec, answer.status) for spec in self._statuses):
            excerpt = clip(
                answer.body[: 4 * _EXCERPT_CHARS].decode("utf-8", "replace").strip(), _EXCERPT_CHARS
            )
            said = f": {excerpt}" if excerpt else ""
            raise ProbeFailed(f"status {answer.status}, expected {' or '.join(self._statuses)}{said}")
        if self._body:
            self._judge_body(answer)
        if self._json:
            self._judge_json(answer)

    def _judge_body(self, answer: Answer) -> None:
        if self._body_problem:
            raise ProbeError(self._body_problem)
        text = answer.body.decode("utf-8", "replace")
        matched = text[:MATCHED_CHARS] if self._repeats else text
        if re.search(self._body, matched) is None:
            cut = _cut(answer)
            if len(matched) < len(text):
                cut += f" (only its first {MATCHED_CHARS} characters are matched with a repeat)"
            raise ProbeFailed(f"status {answer.status}, but the body does not match {self._body!r}{cut}")

    def _judge_json(self, answer: Answer) -> None:
        try:
            document = msgspec.json.decode(answer.body)
        except msgspec.DecodeError as error:
            raise ProbeFailed(f"status {answer.status}, but the body is not JSON{_cut(answer)}") from error
        for path, wanted in self._json.items():
            found = value_at(document, path)
            if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
                shown = "nothing" if found is MISSING else clip(repr(found), _EXCERPT_CHARS)
                raise ProbeFailed(f"status {answer.status}, but {path} is {shown}, expected {wanted!r}")


MISSING = object()
"""Stands for a value that is not there."""


def value_at(document: Any, path: str) -> Any:
    """Return the value at a dotted path (`$.` before it is allowed), or MISSING."""
    for key in path.removeprefix("$.").split("."):
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        else:
            return MISSING
    return document


def _status_matches(spec: str, status: int) -> bool:
    text = str(status)
    return len(spec) == len(text) and all(want in (have, "x") for want, have in zip(spec, text, strict=True))


def _cut(answer: Answer) -> str:
    return f" (only its first {BODY_MAX} bytes were read)" if answer.truncated else ""
