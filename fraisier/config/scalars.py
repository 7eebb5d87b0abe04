"""Reads single values: numbers, durations, percentages, choices. Each raises Refused with what was expected."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fraisier.config.durations import parse_duration
from fraisier.config.problems import did_you_mean, listed
from fraisier.config.regexes import NESTED, NESTED_HINT, repeats_of
from fraisier.config.schema import Kind
from fraisier.config.tree import Node, Scalar, describe, is_true

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PERCENT = re.compile(r"([0-9]{1,6})%")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")
_STATUS = re.compile(r"[1-5]xx|[1-5][0-9][0-9]")
NAME_LENGTH_MAX = 63


class Refused(ValueError):
    """Raised when a value is not what its key takes. `code` is the problem's stable word."""

    def __init__(self, code: str, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.suggestion = suggestion


def text_of(node: Node) -> str:
    """Return a text as it was written; numbers and dates count as text, `yes` and an empty value do not."""
    if not isinstance(node, Scalar):
        raise Refused("wrong_type", f"expected a text, found {describe(node)}")
    if node.tag == "bool":
        raise Refused(
            "wrong_type", f"expected a text, found {describe(node)}", f'write "{node.text}" in quotes'
        )
    if node.tag == "null":
        raise Refused("wrong_type", "expected a text, found nothing", 'write "" for an empty text')
    return node.text


def boolean(node: Node) -> bool:
    """Return true or false."""
    if isinstance(node, Scalar) and node.tag == "bool":
        return is_true(node)
    raise Refused("wrong_type", f"expected true or false, found {describe(node)}")


def whole(node: Scalar, text: str, kind: Kind | None) -> int:
    """Return a whole number within its bounds."""
    if node.tag == "bool" or not _WHOLE.fullmatch(text):
        raise Refused("wrong_type", f"expected a whole number, found {_found(node, text)}")
    _within(float(text), kind, text)
    return int(text)


def decimal(node: Scalar, text: str, kind: Kind | None) -> float:
    """Return a number within its bounds."""
    if node.tag == "bool" or not _DECIMAL.fullmatch(text):
        raise Refused("wrong_type", f"expected a number, found {_found(node, text)}")
    _within(float(text), kind, text)
    return float(text)


def duration(text: str, kind: Kind | None) -> float:
    """Return seconds."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise Refused("bad_duration", str(error)) from error
    if kind is not None and kind.minimum is not None and seconds < kind.minimum:
        raise Refused("bad_duration", f"expected at least {kind.minimum:g}s, found {text!r}")
    return seconds


def choice(text: str, allowed: Sequence[str]) -> str:
    """Return one of the words that are allowed."""
    if text not in allowed:
        message = f"expected {listed(allowed)}, found {text!r}"
        raise Refused("bad_choice", message, did_you_mean(text, allowed))
    return text


def name(text: str) -> str:
    """Return a name of a fraise, environment or target."""
    if len(text) > NAME_LENGTH_MAX:
        raise Refused(
            "bad_name", f"expected a name of at most {NAME_LENGTH_MAX} characters, found {len(text)}"
        )
    if not _NAME.fullmatch(text):
        message = f"expected a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit, found {text!r}"
        raise Refused("bad_name", message)
    return text


def count_or_percent(text: str) -> str:
    """Return `N` or `N%`."""
    word = text.strip()
    if (match := _PERCENT.fullmatch(word)) is not None or "%" in word:
        if match is None or not 1 <= int(match[1]) <= 100:
            raise Refused("bad_percentage", f"expected a percentage from 1% to 100%, found {text!r}")
        return f"{int(match[1])}%"
    if not _COUNT.fullmatch(word):
        raise Refused("bad_number", f"expected a number from 1 on or a percentage, found {text!r}")
    return word


def status(text: str) -> str:
    """Return an HTTP status or a class of them."""
    if not _STATUS.fullmatch(text.lower()):
        raise Refused("bad_status", f"expected a status such as 200, or a class such as 2xx, found {text!r}")
    return text.lower()


def regex(text: str) -> str:
    """Return a regular expression that compiles, and whose matching comes to an end."""
    try:
        is_nested = repeats_of(text).nested
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused("bad_regex", f"expected a regular expression: {error}") from error
    if is_nested:
        raise Refused("bad_regex", NESTED, NESTED_HINT)
    return text


def require(text: str) -> str:
    """Return `all`, `any` or a number from 1 on."""
    if text not in {"all", "any"} and not _COUNT.fullmatch(text):
        raise Refused("bad_choice", f"expected all, any or a number of checks, found {text!r}")
    return text


def _within(number: float, kind: Kind | None, text: str) -> None:
    if kind is None:
        return
    if kind.minimum is not None and number < kind.minimum:
        raise Refused("bad_number", f"expected at least {kind.minimum:g}, found {text}")
    if kind.maximum is not None and number > kind.maximum:
        raise Refused("bad_number", f"expected at most {kind.maximum:g}, found {text}")


def _found(node: Scalar, text: str) -> str:
    return describe(node) if node.tag in {"bool", "null"} else repr(text)
