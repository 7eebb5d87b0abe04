"""Properties of durations, percentages and templates."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.config import scalars, template
from fraisier.config.durations import DURATION_MAX_S, format_duration, parse_duration
from fraisier.config.scalars import Refused


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.2", 0.2),
        ("200ms", 0.2),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("0", 0.0),
        ("1m500ms", 60.5),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_units(text: str, seconds: float) -> None:
    """The documented forms mean what they say."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1",
        "1 s",
        "30s5m",
        "1m1m",
        "1h 30m",
        "1e3",
        "inf",
        "nan",
        "99999d",
        "٣s",
        "5min",
        "1:30",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """Forms that could mean two things are refused."""
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=int(DURATION_MAX_S) * 1000 - 1))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    """What is written for a number of milliseconds is read as that number."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.text(max_size=12))
def test_reading_a_duration_gives_seconds_or_a_value_error(text: str) -> None:
    """No text makes the reader fail in another way."""
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(text) <= DURATION_MAX_S


@given(st.integers(min_value=-5, max_value=300))
def test_a_percentage_lies_between_1_and_100(number: int) -> None:
    """Exactly 1% to 100% are percentages."""
    if 1 <= number <= 100:
        assert scalars.count_or_percent(f"{number}%") == f"{number}%"
    else:
        with pytest.raises(Refused):
            scalars.count_or_percent(f"{number}%")


@given(st.text(alphabet="ab${}{file:-", max_size=30))
def test_an_escaped_value_renders_to_itself(value: str) -> None:
    """`escape` protects every text."""
    assert list(template.pieces(template.escape(value))) != [] or value == ""
    assert template.render(template.escape(value), name=_never, reference=_never) == value


@given(st.text(alphabet="ab ${}.:-{file", max_size=40))
def test_a_template_is_read_or_refused(text: str) -> None:
    """No text makes the reader of templates fail in another way."""
    with contextlib.suppress(template.TemplateError):
        assert isinstance(template.render(text, name=str, reference=str), str)


def _never(piece: object) -> str:
    raise AssertionError(piece)
