"""No form of a secret passes the redactor."""

from __future__ import annotations

import base64
import json
import shlex
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraisier.redaction import Redactor, mask_url

SECRET = 'p@ss/w0rd "it\'s" ü+=\\end'


def redactor(*values: str) -> Redactor:
    """A redactor that knows values."""
    made = Redactor()
    for value in values:
        made.register(value)
    return made


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        shlex.quote(SECRET),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_every_form_of_a_value_is_masked(form: str) -> None:
    """A value is found as it is, quoted, escaped and encoded."""
    scrubbed = redactor(SECRET).scrub(f"before {form} after")
    assert (
        "***" in scrubbed
        and "w0rd" not in scrubbed
        and scrubbed.startswith("before ")
        and scrubbed.endswith(" after")
    )


@pytest.mark.parametrize("user", ["", "a", "ab", "abc"])
def test_a_password_inside_basic_authentication_is_masked(user: str) -> None:
    """base64 of `user:password` shows no long run of the password's own encoding."""
    coded = base64.b64encode(f"{user}:correct-horse-battery".encode()).decode()
    assert len(redactor("correct-horse-battery").scrub(coded).replace("***", "")) <= 14


@given(
    st.text(min_size=6, max_size=30).filter(lambda text: len(text.strip()) >= 6),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_a_registered_value_is_never_left(value: str, before: str, after: str) -> None:
    """Whatever stands around it, the value is gone."""
    if value.strip("*"):
        assert value not in redactor(value).scrub(before + value + after).replace("***", "\0")


def test_overlapping_values_leave_no_rest() -> None:
    """Two secrets that overlap become one mask."""
    assert redactor("abcdefgh", "efghijkl").scrub("x abcdefghijkl y") == "x *** y"


def test_short_values_are_left_and_lines_of_long_ones_masked() -> None:
    """Five characters are no secret; each line of a key of several lines is."""
    made = redactor("12345", "-----BEGIN-----\nabcdefgh\nijklmnop\n")
    assert made.scrub("12345 and abcdefgh") == "12345 and ***"


def test_objects_are_masked_by_value_and_by_key() -> None:
    """Nested data keeps its shape; a number that is a fencing token stays."""
    made = redactor("secret-value")
    data = {
        "a": ["secret-value", ("x secret-value",)],
        "password": "p",
        "apiKey": "k",
        "headers": {"Authorization": "Bearer z"},
        "token": (3, 17),
        "n": 1,
        "client_secret": {"v": ["q"]},
    }
    assert made.scrub_object(data) == {
        "a": ["***", ("x ***",)],
        "password": "***",
        "apiKey": "***",
        "headers": {"Authorization": "***"},
        "token": (3, 17),
        "n": 1,
        "client_secret": {"v": ["***"]},
    }


def test_a_structure_that_holds_itself_ends() -> None:
    """Depth is bounded."""
    loop: list[object] = []
    loop.append(loop)
    assert "***" in repr(Redactor().scrub_object(loop))


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://user:pw@host/x", "https://user:***@host/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("see postgres://u:p%40@h:5/db and http://h/a@b", "see postgres://u:***@h:5/db and http://h/a@b"),
        ("https://host/x", "https://host/x"),
        ("https://u:p@ss@host/", "https://u:***@host/"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, masked: str) -> None:
    """User info of a URL shows no password, and in http no token."""
    assert mask_url(url) == masked
    assert Redactor().scrub(url) == masked


def test_the_directory_of_a_shell_is_no_password() -> None:
    """`PWD` stays readable in messages about files; another variable of that kind is masked as ever."""
    redactor = Redactor()
    redactor.register_named({"PWD": "/srv/orders", "OLDPWD": "/srv/before", "DB_PWD": "swordfish-1"})
    told = "/srv/orders/api and /srv/before/api, swordfish-1"
    assert redactor.scrub(told) == "/srv/orders/api and /srv/before/api, ***"
