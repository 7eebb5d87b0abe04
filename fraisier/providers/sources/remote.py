"""Addresses of git repositories: what of them may be seen, and how git gets the rest."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlunsplit

import msgspec

from fraisier.errors import ProviderConfigurationError
from fraisier.redaction import UnreadableURLError, read_url

_PORTS = {"http": 80, "https": 443, "ssh": 22, "git+ssh": 22, "git": 9418}
_SCP = re.compile(r"(?!/)[^/:\s]+:(?!//)")
_REPOSITORY_VARIABLES = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
    }
    | {
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_CEILING_DIRECTORIES",
        "GIT_ASKPASS",
    }
    | {
        "SSH_ASKPASS",
        "GIT_QUARANTINE_PATH",
        "GIT_SHALLOW_FILE",
        "GIT_TRACE",
        "GIT_TRACE_CURL",
        "GIT_CURL_VERBOSE",
    }
)


class Remote(msgspec.Struct, frozen=True):
    """A repository. `url` carries no credentials; `authorization` is the header that does, or empty."""

    url: str
    is_local: bool = False
    authorization: str = ""
    secrets: tuple[str, ...] = ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for git: no questions, no repository of the caller's, credentials in no argv."""
        env = {key: value for key, value in base.items() if key not in _REPOSITORY_VARIABLES}
        for key in [key for key in env if key.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))]:
            del env[key]
        settings = [
            ("safe.directory", "*"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("protocol.ext.allow", "never"),
        ]
        if self.authorization:
            settings.append((f"http.{_origin(self.url)}.extraHeader", f"Authorization: {self.authorization}"))
        for number, (key, value) in enumerate(settings):
            env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        env |= {
            "GIT_CONFIG_COUNT": str(len(settings)),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        }
        if "GIT_SSH_COMMAND" not in env and "GIT_SSH" not in env:
            env["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
        return env

    def masked(self, text: str) -> str:
        """Return a text of git's without anything secret of the address."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parse_remote(address: str) -> Remote:
    """Return what an address (resolved) means.

    Raises ProviderConfigurationError.
    """
    if not address or address.startswith("-") or any(c in address for c in "\0\n\r"):
        raise ProviderConfigurationError("git_repo is not the address of a repository")
    if "://" not in address:
        if _SCP.match(address):
            if "::" in address:
                raise ProviderConfigurationError(
                    "git_repo: remote helpers (`ext::` and the like) are not allowed"
                )
            return Remote(address)
        return Remote(str(Path(address).expanduser().absolute()), is_local=True)
    try:
        parts = read_url(address)
    except UnreadableURLError as error:
        raise ProviderConfigurationError(f"git_repo: {error}") from None
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "file":
        return Remote(address, is_local=True)
    if parts.scheme not in ("http", "https", "ssh", "git", "git+ssh"):
        raise ProviderConfigurationError(f"git_repo: {parts.scheme}:// is not a transport for git here")
    if "@" not in parts.netloc:
        return Remote(address)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    where = f"[{host}]" if ":" in host else host
    where += f":{port}" if port else ""
    raw = parts.netloc.rpartition("@")[0]
    if parts.scheme not in ("http", "https"):
        netloc = f"{parts.username}@{where}" if parts.username else where
        return Remote(urlunsplit(parts._replace(netloc=netloc)), secrets=_secrets(password))
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    secret = password or user
    return Remote(
        urlunsplit(parts._replace(netloc=where)),
        authorization=f"Basic {pair}",
        secrets=_secrets(raw, secret, parts.password or "", pair),
    )


def server_of(address: str) -> str:
    """Return what the server behind a URL, or an address as scp takes it, is called where its connections are counted:
    `source:HOST:PORT`, without credentials and paths."""
    if "://" not in address:
        return f"source:{address.partition(':')[0].rpartition('@')[2]}:22"
    try:
        parts = read_url(address)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except UnreadableURLError:  # who opens the connection says what is wrong with it
        return "source:unknown"
    return f"source:{f'[{host}]' if ':' in host else host}:{port}"


def _secrets(*values: str) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}, key=len, reverse=True))


def _origin(url: str) -> str:
    parts = read_url(url)
    return urlunsplit((parts.scheme, parts.netloc, "/", "", ""))
