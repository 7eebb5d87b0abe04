"""Rules that look at several keys of one object."""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Mapping as Table
from typing import Any

from fraisier.config import hooks, schema
from fraisier.config.problems import Report, did_you_mean, listed
from fraisier.config.reader import Rule, joined
from fraisier.config.tree import Mapping, Node

SOURCE_FORMS = (("git",), ("archive", "sha256"), ("path",))
SERVICE_FORMS = (("systemd",), ("process",), ("start", "stop", "status"))
FORWARD_FORMS = (("file",), ("syslog",), ("journald",))
TYPE_KEYS: Table[str, tuple[str, ...]] = {
    "http": (
        "url",
        "method",
        "headers",
        "expect_status",
        "expect_body",
        "expect_json",
        "follow_redirects",
        "verify_tls",
        "ca_file",
        "tls_warn_before",
        "connect_timeout",
    ),
    "tcp": ("host", "port"),
    "exec": ("command",),
    "composite": ("require", "checks"),
}
_NEEDED = {"http": "url", "tcp": "port", "exec": "command", "composite": "checks"}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SYSLOG = re.compile(r"/.+|udp://(?:[\w.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")


def source(report: Report, value: schema.Source, node: Mapping, path: str, at: Node) -> None:
    """Exactly one of git, archive and path; an archive comes with its digest."""
    if _one_form(report, SOURCE_FORMS, node, path, at) == "archive" and "sha256" not in node.entries:
        report.add(at, joined(path, "sha256"), "missing_key", "an archive needs `sha256`")
    if value.sha256 and not _SHA256.fullmatch(value.sha256):
        place = node.entries["sha256"].value
        message = f"expected 64 hexadecimal digits, found {len(value.sha256)} characters"
        report.add(place, joined(path, "sha256"), "bad_sha256", message)
    if "git" in node.entries and value.git.startswith("-"):
        report.add(
            node.entries["git"].value, joined(path, "git"), "bad_value", "a repository cannot begin with `-`"
        )


def service(report: Report, value: schema.Service, node: Mapping, path: str, at: Node) -> None:
    """Exactly one way to run the service, and all of its parts."""
    if _one_form(report, SERVICE_FORMS, node, path, at) == "start":
        for word in SERVICE_FORMS[2]:
            if word not in node.entries:
                message = f"`{word}` is missing: `start`, `stop` and `status` belong together"
                report.add(at, joined(path, word), "missing_key", message)


def health_check(report: Report, value: schema.HealthCheck, node: Mapping, path: str, at: Node) -> None:
    """The keys fit the type, what the type needs is there, and the times can be kept."""
    for other, words in TYPE_KEYS.items():
        for word in words:
            if other != value.type and word in node.entries:
                message = f"`{word}` belongs to type {other}, not to {value.type}"
                report.add(node.entries[word].key, joined(path, word), "conflict", message)
    needed = _NEEDED[value.type]
    if needed not in node.entries:
        report.add(at, joined(path, needed), "missing_key", f"type {value.type} needs `{needed}`")
    _composite(report, value, node, path)
    _address(report, value, node, path)
    _json_paths(report, node, joined(path, "expect_json"))
    for word in ("interval", "initial_delay"):
        if getattr(value, f"{word}_s") > value.deadline_s and word in node.entries:
            message = f"`{word}` is longer than `deadline`, so no check could ever pass"
            report.add(node.entries[word].value, joined(path, word), "contradiction", message)


def _composite(report: Report, value: schema.HealthCheck, node: Mapping, path: str) -> None:
    checks = node.get("checks")
    if value.type != "composite" or checks is None:
        return
    items = getattr(checks, "items", (None,))
    if not items:
        report.add(checks, joined(path, "checks"), "empty_value", "expected at least one check, found none")
    elif value.require.isdecimal() and int(value.require) > len(items):
        message = f"{value.require} checks are required, but there are {len(items)}"
        report.add(node.entries["require"].value, joined(path, "require"), "contradiction", message)


def _json_paths(report: Report, node: Mapping, path: str) -> None:
    wanted = node.get("expect_json")
    for word, entry in wanted.entries.items() if isinstance(wanted, Mapping) else ():
        steps = word.removeprefix("$.").split(".")
        if "[" in word or any(step in ("", "$", "*") for step in steps):
            message = f"{word!r} is no path: expected keys and numbers of items with dots between them"
            report.add(entry.key, joined(path, word), "bad_value", message, "write it as items.0.state")


def _address(report: Report, value: schema.HealthCheck, node: Mapping, path: str) -> None:
    if value.type == "tcp" and value.port.isdecimal() and not 1 <= int(value.port[:9]) <= schema.PORT_MAX:
        message = f"expected a port from 1 to {schema.PORT_MAX}, found {value.port}"
        report.add(node.entries["port"].value, joined(path, "port"), "bad_number", message)
    elif value.type == "tcp" and value.port and not value.port.isdecimal() and "{{" not in value.port:
        message = f"expected a port, found {value.port!r}"
        report.add(node.entries["port"].value, joined(path, "port"), "wrong_type", message)
    if value.type == "http" and value.url and not re.match(r"https?://|\$\{|\{\{", value.url):
        message = "expected a URL that begins with http:// or https://"
        report.add(node.entries["url"].value, joined(path, "url"), "bad_value", message)
    if not re.fullmatch(r"[A-Za-z]+", value.method):
        message = f"expected a method such as GET, found {value.method!r}"
        report.add(node.entries["method"].value, joined(path, "method"), "bad_value", message)


def retry(report: Report, value: schema.Retry, node: Mapping, path: str, at: Node) -> None:
    """The first delay is not above the highest one, where both are given."""
    if {"base_delay", "max_delay"} <= set(node.entries) and value.base_delay_s > value.max_delay_s:
        message = "`base_delay` is longer than `max_delay`"
        report.add(node.entries["base_delay"].value, joined(path, "base_delay"), "contradiction", message)


def lease(report: Report, value: schema.LeaseSettings, node: Mapping, path: str, at: Node) -> None:
    """A lease is renewed before it ends."""
    if value.heartbeat_s >= value.ttl_s:
        word = "heartbeat" if "heartbeat" in node.entries else "ttl"
        place = node.get(word) or at
        message = f"`heartbeat` ({value.heartbeat_s:g}s) must be shorter than `ttl` ({value.ttl_s:g}s)"
        report.add(place, joined(path, word), "contradiction", message)


def store(report: Report, value: schema.StoreSettings, node: Mapping, path: str, at: Node) -> None:
    """The store is of a kind that this version knows."""
    if value.url.startswith(("postgres:", "postgresql:")):
        message = "PostgreSQL is not supported by this version"
        report.add(
            node.entries["url"].value, joined(path, "url"), "unsupported", message, "write sqlite:///PATH"
        )


def forward(report: Report, value: schema.Forward, node: Mapping, path: str, at: Node) -> None:
    """Exactly one place, at an address that can be one, and types that exist."""
    place = _one_form(report, FORWARD_FORMS, node, path, at)
    address = getattr(value, place) if place else ""
    if place == "syslog" and not _SYSLOG.fullmatch(address):
        message = "expected the path of a socket, or udp://HOST or udp://HOST:PORT"
        report.add(node.entries[place].value, joined(path, place), "bad_value", message)
    if place == "journald" and not address.startswith("/"):
        message = f"expected the path of a socket such as {schema.JOURNALD_SOCKET}"
        report.add(node.entries[place].value, joined(path, place), "bad_value", message)
    if "types" in node.entries:
        _types(report, value.types, node.entries["types"].value, joined(path, "types"))


def audit(report: Report, value: schema.AuditSettings, node: Mapping, path: str, at: Node) -> None:
    """No two forwards go to the same place: the place where each goes on is kept by its destination."""
    places = [entry.file or entry.syslog or entry.journald for entry in value.forward]
    for place in dict.fromkeys(one for one in places if places.count(one) > 1):
        key = node.entries["forward"].key
        report.add(key, joined(path, "forward"), "conflict", f"events are forwarded to {place} twice")


def _types(report: Report, patterns: tuple[str, ...], node: Node, path: str) -> None:
    # Every event class is loaded for this, which no other command over a configuration needs.
    events = importlib.import_module("fraisier.events")
    if not patterns:
        report.add(node, path, "empty_value", "expected at least one event type, found none")
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in events.EVENT_TYPES):
            near = did_you_mean(pattern, events.EVENT_PATTERNS)
            report.add(node, path, "bad_value", f"{pattern!r} matches no event type", near)


def _one_form(report: Report, forms: tuple[tuple[str, ...], ...], node: Mapping, path: str, at: Node) -> str:
    """Return the first word of the only form that is there, or note what is wrong and return an empty text."""
    names = [
        form[0] if len(form) == 1 or form[1] == "sha256" else " with ".join((form[0], "stop and status"))
        for form in forms
    ]
    here = [form for form in forms if any(word in node.entries for word in form)]
    if not here:
        report.add(at, path, "missing_key", f"expected one of {listed([f'`{name}`' for name in names])}")
        return ""
    if len(here) > 1:
        words = sorted(
            (node.entries[word].key.line, node.entries[word].key.column, word)
            for form in here
            for word in form
            if word in node.entries
        )
        first = next(form for form in here if words[0][2] in form)
        clash = next(word for _, _, word in words if word not in first)
        message = f"`{clash}` and `{words[0][2]}` exclude each other: expected one of {listed(names)}"
        report.add(node.entries[clash].key, joined(path, clash), "conflict", message)
        return ""
    return here[0][0]


RULES: dict[type[Any], Rule] = {
    schema.Source: source,
    schema.Service: service,
    schema.HealthCheck: health_check,
    schema.Retry: retry,
    schema.LeaseSettings: lease,
    schema.StoreSettings: store,
    schema.Forward: forward,
    schema.AuditSettings: audit,
    schema.Hooks: hooks.check,
}
