"""Rules of one environment: its provider, its targets, what must be there, what its templates name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fraisier.config import hooks, schema
from fraisier.config.addresses import Filled, filled, outlined
from fraisier.config.problems import Report, did_you_mean
from fraisier.config.reader import TextUse, joined
from fraisier.config.resolve import template_names, var_text
from fraisier.config.template import Name, Reference, TemplateError
from fraisier.config.tree import Entry, Mapping, Node, Scalar

PROVIDERS = ("local",)
PLANNED_PROVIDERS = ("bare_metal", "docker_compose", "coolify")

_STATIC = ("fraise", "environment")
_TARGET = ("target.name", "target.address")
_RELEASE = ("version", "release_path")
_BEFORE_RELEASE = ("app_path", "shared", "targets", "service.systemd")


def check_environment(
    report: Report, value: schema.Environment, node: Mapping, path: str, at: Node, *, fraise_type: str
) -> None:
    """Note what an environment lacks, and what contradicts itself in it."""
    _provider(report, value, node, path)
    _targets(report, node, path, at)
    if fraise_type == "api" and "service" not in node.entries:
        message = "a fraise of type api needs `service`"
        report.add(
            at, joined(path, "service"), "missing_key", message, "or set `type` to etl, scheduled or backup"
        )
    if value.provider == "local":
        for word in ("app_path", "source"):
            if word not in node.entries:
                more = " (or `git_repo`)" if word == "source" else ""
                report.add(at, joined(path, word), "missing_key", f"the provider local needs `{word}`{more}")
    if value.branch.startswith("-") or not value.branch:
        entry = node.entries.get("branch")
        message = f"expected the name of a branch, found {value.branch!r}"
        report.add(entry.value if entry else at, joined(path, "branch"), "bad_value", message)
    for word, entry in _entries(node, "env"):
        if not word.replace("_", "a").isalnum() or not word.isascii() or word[0].isdigit():
            message = f"expected the name of an environment variable, found {word!r}"
            report.add(entry.key, joined(path, f"env.{word}"), "bad_name", message)
    _times(report, value, node, path)
    if value.health_check is not None:
        place, where = node.get("health_check"), joined(path, "health_check")
        _check_places(report, value.health_check, place, where, value.targets)


def _entries(node: Mapping, word: str) -> list[tuple[str, Entry]]:
    inner = node.get(word)
    found = inner.entries.items() if isinstance(inner, Mapping) else ()
    return [(key, entry) for key, entry in found if not key.startswith("x-")]


def _provider(report: Report, value: schema.Environment, node: Mapping, path: str) -> None:
    if value.provider in PROVIDERS:
        return
    place, where = node.entries["provider"].value, joined(path, "provider")
    if value.provider in PLANNED_PROVIDERS:
        message = f"the provider {value.provider} is not supported by this version"
        report.add(place, where, "unsupported", message, "use local")
        return
    suggestion = did_you_mean(value.provider, (*PROVIDERS, *PLANNED_PROVIDERS)) or "use local"
    report.add(place, where, "unknown_provider", f"there is no provider {value.provider!r}", suggestion)


def _targets(report: Report, node: Mapping, path: str, at: Node) -> None:
    where = joined(path, "targets")
    listed = node.get("targets")
    items: Sequence[Node] = getattr(listed, "items", ())
    if listed is None:
        report.add(at, where, "missing_key", "`targets` is missing: at least one is needed")
    elif isinstance(getattr(listed, "items", None), tuple) and not items:
        report.add(listed, where, "empty_value", "expected at least one target, found none")
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        place = item.get("name") if isinstance(item, Mapping) else item
        if not isinstance(place, Scalar):
            continue
        if place.text in first:
            message = f"the target {place.text!r} is here twice (first as targets[{first[place.text]}])"
            report.add(place, f"{where}[{index}]", "duplicate_target", message)
        first.setdefault(place.text, index)


def _check_places(
    report: Report,
    check: schema.HealthCheck,
    node: Node | None,
    path: str,
    targets: Sequence[schema.Target],
) -> None:
    """Note a port or a URL that cannot be one once the variables of some target are put in."""
    if not isinstance(node, Mapping):
        return
    port, url = node.get("port"), node.get("url")
    if check.type == "tcp" and port is not None and "{{" in check.port:
        for target in targets:
            found = _for_target(check.port, target)
            if not (found.text.isdecimal() and 1 <= int(found.text[:9]) <= schema.PORT_MAX):
                message = f"expected a port from 1 to {schema.PORT_MAX}, found {found.text!r} for the target {target.name!r}"
                report.add(port, joined(path, "port"), "bad_number", message)
                break
    if check.type == "http" and url is not None and "{{" in check.url and not outlined(check.url).problem:
        for target in targets:
            if problem := _for_target(check.url, target).problem:
                report.add(url, joined(path, "url"), "bad_url", f"{problem} (for the target {target.name!r})")
                break
    inner = getattr(node.get("checks"), "items", ())
    for index, (one, place) in enumerate(zip(check.checks, inner, strict=False)):
        _check_places(report, one, place, f"{joined(path, 'checks')}[{index}]", targets)


def _for_target(text: str, target: schema.Target) -> Filled:
    """Return a text with the variables of a target; what else is put in at the moment of use counts as a digit."""

    def value(piece: Name | Reference) -> str:
        variable = piece.name.removeprefix("target.vars.") if isinstance(piece, Name) else ""
        return var_text(target.vars[variable]) if variable in target.vars else "1"

    try:
        return filled(text, value)
    except TemplateError:  # which is noted by itself
        return Filled("1")


def _times(report: Report, value: schema.Environment, node: Mapping, path: str) -> None:
    for word in ("pause", "min_healthy_time"):
        rollout = node.get("rollout")
        place = rollout.get(word) if isinstance(rollout, Mapping) else None
        if place is not None and getattr(value.rollout, f"{word}_s") >= value.timeout_s:
            message = f"`{word}` is not shorter than the environment's `timeout`, so no rollout could end"
            report.add(place, joined(path, f"rollout.{word}"), "contradiction", message)


def check_texts(
    report: Report,
    uses: Sequence[TextUse],
    *,
    section: str,
    targets: Sequence[schema.Target] | None,
    settings: schema.Environment | None = None,
) -> None:
    """Note templates that cannot be read or that name what is not known at their place, and addresses that cannot be read
    whatever is put into them.

    `section` is the key path of the environment and `settings` what was read of it; `targets` are the targets that
    must define what is named (None: not known).
    """
    for use in uses:
        key = use.path.removeprefix(f"{section}.")
        try:
            for name in template_names(use.text, command=use.kind == "command"):
                _check_name(report, use, name, key=key, targets=targets, settings=settings)
            if use.is_address and (problem := outlined(use.text).problem):
                report.add(use.node, use.path, "bad_url", problem)
        except TemplateError as error:
            report.add(use.node, use.path, "bad_template", str(error), error.suggestion)


def _check_name(
    report: Report,
    use: TextUse,
    name: str,
    *,
    key: str,
    targets: Sequence[schema.Target] | None,
    settings: schema.Environment | None,
) -> None:
    fixed = _names_at(key, settings)
    group, _, variable = name.rpartition(".")
    on_target = _TARGET[0] in fixed
    if name in fixed or (on_target and group in {"target.vars", "target.labels"} and variable):
        _check_defined(report, use, name, targets or ())
        return
    known = [*fixed, *_variables(targets or ())] if on_target else list(fixed)
    if name in {*_STATIC, *_TARGET, *_RELEASE} or group in {"target.vars", "target.labels"}:
        message = f"{{{{ {name} }}}} is not known yet where this text is used"
        report.add(
            use.node, use.path, "unknown_name", message, f"known are {', '.join(known)}" if known else ""
        )
        return
    suggestion = did_you_mean(name, known) or (f"known are {', '.join(known)}" if known else "")
    report.add(use.node, use.path, "unknown_name", f"{{{{ {name} }}}} is not known here", suggestion)


def _names_at(key: str, settings: schema.Environment | None) -> tuple[str, ...]:
    """Return the names that are known where the text under `key` of an environment is used."""
    if key.startswith(("store.", "audit.")):
        return ()
    if key.startswith(("source.", "git_repo")):
        return _STATIC
    if key.startswith("targets"):
        return (*_STATIC, "target.name")
    if key.startswith(_BEFORE_RELEASE):
        return (*_STATIC, *_TARGET)
    if settings is not None and key.startswith("build[") and settings.build_on == "orchestrator":
        return (*_STATIC, *_RELEASE)
    if settings is not None and key.startswith("hooks.") and not hooks.knows_target(key, settings.hooks):
        return (*_STATIC, "version")
    return (*_STATIC, *_TARGET, *_RELEASE)


def _check_defined(report: Report, use: TextUse, name: str, targets: Sequence[schema.Target]) -> None:
    """Every target has what a text names; in a target's own address only that target is asked."""
    group, _, variable = name.rpartition(".")
    for index, target in enumerate(targets):
        if ".targets[" in use.path and f".targets[{index}]" not in use.path:
            continue
        tables: dict[str, Collection[str]] = {"target.vars": target.vars, "target.labels": target.labels}
        there = tables.get(group)
        if (there is not None and variable not in there) or (name == "target.address" and not target.address):
            word = name.removeprefix("target.")
            suggestion = did_you_mean(variable, there or ())
            message = f"{{{{ {name} }}}} is used here, but the target {target.name!r} has no {word}"
            report.add(use.node, use.path, "undefined_name", message, suggestion)
            return


def _variables(targets: Sequence[schema.Target]) -> list[str]:
    found = {f"target.vars.{word}": None for target in targets for word in target.vars}
    found |= {f"target.labels.{word}": None for target in targets for word in target.labels}
    return list(found)
