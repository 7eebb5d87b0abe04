"""Secrets that nobody registered, known by where they stand: in a URL, or under a telling name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fraisier.redaction.address import BREAKS, Userinfo, userinfo_of, userinfos
from fraisier.redaction.secret import MASK

_SECRET_WORDS = frozenset(
    {
        "password",
        "passwords",
        "passwd",
        "pwd",
        "passphrase",
        "passcode",
        "passcodes",
        "secret",
        "secrets",
        "token",
        "tokens",
        "bearer",
    }
    | {"authorization", "credential", "credentials", "cookie", "cookies", "apikey"}
)
_SECRET_PAIRS = ("api_key", "access_key", "private_key", "secret_key", "signing_key", "session_id")
_SECRET_ENDS = frozenset({"auth", "ssh_key", "sshkey", "auth_key", "authkey"})
"""Secret as the end of a name only: `auth_url` and `ssh_key_path` are none."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERENCE = re.compile(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}")
_NAME = (
    # Looked for from the beginning of a word on, and with a bound behind it: else a long word takes seconds.
    r"(?<![\w.-])(?:[\w.-]*(?:passw(?:or)?ds?|pwd|passphrase|passcodes?|secrets?|tokens?|bearer|authorization|credentials?|cookies?|"
    r"(?:api|access|private|secret|signing)[_-]?key|session[_-]?id)[\w-]{0,64}+"
    r"|(?:[\w.-]*[_.-])?(?:(?:ssh|auth)[_-]?key|auth)(?![\w-]))"
)
_NAMED = re.compile(
    # `password=value` without spaces, as in an environment, a query or an option; a quoted value ends at its quote
    rf"(?P<name>{_NAME})(?:(?P<equals>=)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'&;,]+)"
    # `"password": "value"`, also where the document is a text in another one
    r"|(?P<colon>\\?[\"']\s*:\s*)(?P<quote>\\?[\"'])(?P<text>(?:\\(?![\"'])[^\n]|[^\"'\\\n])*)"
    # `Authorization: Bearer value`
    r"|(?P<scheme>:\s*(?:bearer|basic|token|digest)\s+)(?P<credentials>[^\s\"']+)"
    # `password: value`, as in YAML and in a header
    r"|(?P<is>:[ \t]+)(?P<plain>\"[^\"\n]*\"|'[^'\n]*'"
    r"|[^\s\"',;<({\[*$`][^\s\"',;]*?(?=[)}\]]*(?:[\s\"',;]|$)))(?P<end>[ \t]*(?=$|[\n\r,;)}\]\"]))?)",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*[.:!?…]?")
_NO_VALUES = frozenset(
    {
        "missing",
        "required",
        "invalid",
        "none",
        "null",
        "nil",
        "true",
        "false",
        "yes",
        "no",
        "unset",
        "empty",
        "expired",
    }
    | {
        "unknown",
        "wrong",
        "denied",
        "rejected",
        "refused",
        "optional",
        "set",
        "string",
        "text",
        "failed",
        "ok",
        "rotated",
    }
    | {"bearer", "basic", "digest", "token", "found", "changed", "unchanged"}
)
_DIGITS_MIN = 4
_TRIGGER = re.compile(r"pass|pwd|secret|token|bearer|auth|credential|cookie|key|session", re.IGNORECASE)


def is_secret_key(key: object) -> str:
    """Return the normalised key when it names something secret, else an empty text."""
    if not isinstance(key, str):
        return ""
    name = re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", key).lower())
    if any(pair in name for pair in _SECRET_PAIRS) or not _SECRET_WORDS.isdisjoint(name.split("_")):
        return name
    if any(name == end or name.endswith(f"_{end}") for end in _SECRET_ENDS):
        return name
    return ""


def mask_url(url: str) -> str:
    """Return `url` (or a text with URLs in it) without passwords; a lone user name stays, but not in http(s),
    where it is a token. A password that should have been encoded ends at the last `@`.
    """
    return _masked(url, userinfos(url))


def mask_address(address: str) -> str:
    """Return a text that is one address and nothing else without its password, whatever characters that has."""
    found = userinfo_of(address)
    return address if found is None else _masked(address, [found])


def passwords_in(text: str, *, whole: bool = False) -> list[str]:
    """Return the passwords of the URLs in a text (`whole`: which is one address and nothing else), and of http(s) the users
    without one, which are tokens; of one that should have been encoded also the pieces that others take it apart into.
    References (`${…}`) are none."""
    found = []
    for place in {*userinfos(text), *filter(None, [userinfo_of(text) if whole else None])}:
        start, secret = _secret_of(text, place)
        if not secret:
            continue
        password = text[start : place.end]
        pieces = BREAKS.split(_REFERENCE.sub("/", password)) if any(c in password for c in "/?#") else []
        found += [one for one in (password, *pieces) if "${" not in one]
    return found


def _masked(text: str, places: Iterable[Userinfo]) -> str:
    parts, done = [], 0
    for place in places:
        start, secret = _secret_of(text, place)
        if secret:
            parts += [text[done:start], MASK]
            done = place.end
    return "".join((*parts, text[done:]))


def _secret_of(text: str, place: Userinfo) -> tuple[int, bool]:
    """Return where the secret part of user and password begins, and whether there is one that shows."""
    user, colon, _ = text[place.start : place.end].partition(":")
    start = place.start + len(user) + len(colon)
    if not colon:
        is_token = text[place.scheme : place.start].lower().endswith(("http://", "https://"))
        start = place.start if is_token else place.end
    shown = _REFERENCE.sub("", text[start : place.end])
    return start, bool(shown) or bool(colon and start == place.end)


def mask_named(text: str) -> str:
    """Return `text` without the values that stand under a telling name: `TOKEN=…`, `"password": "…"`,
    `Authorization: Bearer …`, `password: …`. A colon in a sentence (`API_TOKEN: is not set`) is none of these.
    """
    if _TRIGGER.search(text) is None:
        return text
    return _NAMED.sub(_masked_named, text)


def _masked_named(match: re.Match[str]) -> str:
    name = match["name"]
    if not is_secret_key(name):
        return match[0]
    if match["equals"] is not None:
        value = match["value"]
        if is_secret_key(name).endswith("token") and value.isdigit():
            return match[0]  # a fencing token
        edge = value[0] if value[0] in "\"'" else ""
        return f"{name}={edge}{MASK}{edge}"
    if match["colon"] is not None:
        return f"{name}{match['colon']}{match['quote']}{MASK}"
    if match["is"] is not None:
        return _masked_plain(match)
    return f"{name}{match['scheme']}{MASK}"


def _masked_plain(match: re.Match[str]) -> str:
    """Return `name: value` without the value, or as it is where what follows the colon reads like a sentence."""
    value = match["plain"]
    edge = value[0] if value[0] in "\"'" else ""
    if not edge:
        is_alone = match["end"] is not None
        if value.rstrip(".,:").isdigit() and (
            is_secret_key(match["name"]).endswith("token") or len(value) < _DIGITS_MIN
        ):
            return match[0]  # a fencing token, or a count
        if _LETTERS.fullmatch(value) and (not is_alone or value.rstrip(".:!?…").lower() in _NO_VALUES):
            return match[0]
    return f"{match['name']}{match['is']}{edge}{MASK}{edge}{match['end'] or ''}"
