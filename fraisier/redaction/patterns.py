"""Secrets that nobody registered, known by where they stand: in a URL, or under a telling name."""

from __future__ import annotations

import re

from fraisier.redaction.secret import MASK

_SECRET_WORDS = frozenset(
    {"password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "tokens", "bearer"}
    | {"authorization", "credential", "credentials", "cookie", "cookies", "apikey"}
)
_SECRET_PAIRS = ("api_key", "access_key", "private_key", "secret_key", "signing_key", "session_id")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USERINFO = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>@:]*)(?P<password>:[^\s/?#'\"<>]*)?@"
)
_NAME = (
    r"[\w.-]*(?:passw(?:or)?ds?|pwd|passphrase|secrets?|tokens?|bearer|authorization|credentials?|cookies?|"
    r"(?:api|access|private|secret|signing)[_-]?key|session[_-]?id)[\w-]*"
)
_NAMED = re.compile(
    # `password=value` without spaces, as in an environment, a query or an option; a quoted value ends at its quote
    rf"(?P<name>{_NAME})(?:(?P<equals>=)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'&;,]+)"
    # `"password": "value"`, also where the document is a text in another one
    r"|(?P<colon>\\?[\"']\s*:\s*)(?P<quote>\\?[\"'])(?P<text>(?:\\(?![\"'])[^\n]|[^\"'\\\n])*)"
    # `Authorization: Bearer value`
    r"|(?P<scheme>:\s*(?:bearer|basic|token|digest)\s+)(?P<credentials>[^\s\"']+))",
    re.IGNORECASE,
)
_TRIGGER = re.compile(
    r"pass|pwd|secret|token|bearer|authorization|credential|cookie|key|session", re.IGNORECASE
)


def is_secret_key(key: object) -> str:
    """Return the normalised key when it names something secret, else an empty text."""
    if not isinstance(key, str):
        return ""
    name = re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", key).lower())
    if any(pair in name for pair in _SECRET_PAIRS) or not _SECRET_WORDS.isdisjoint(name.split("_")):
        return name
    return ""


def mask_url(url: str) -> str:
    """Return `url` (or a text with URLs in it) without passwords; a lone user name stays, but not in http(s),
    where it is a token.
    """
    return _USERINFO.sub(_masked_userinfo, url)


def passwords_in(text: str) -> list[str]:
    """Return the passwords of the URLs in a text, and of http(s) the users without one, which are tokens. References
    (`${…}`) are none."""
    found = [
        match["password"] or match["user"]
        for match in _USERINFO.finditer(text)
        if mask_url(match[0]) != match[0]
    ]
    return [one.removeprefix(":") for one in found if "${" not in one]


def _masked_userinfo(match: re.Match[str]) -> str:
    scheme, user, password = match["scheme"], match["user"], match["password"]
    if "${" in (password or user):
        return match[0]  # a reference shows nothing
    if password is not None:
        return f"{scheme}{user}:{MASK}@"
    if user and scheme.lower() in {"http://", "https://"}:
        return f"{scheme}{MASK}@"
    return match[0]


def mask_named(text: str) -> str:
    """Return `text` without the values that stand under a telling name: `TOKEN=…`, `"password": "…"`,
    `Authorization: Bearer …`. A colon in a sentence (`API_TOKEN: is not set`) is none of these.
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
    return f"{name}{match['scheme']}{MASK}"
