"""Reads the sections of a file in the right order: settings, defaults, fraises with their environments."""

from __future__ import annotations

from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any

import msgspec

from fraisier.config import schema
from fraisier.config.environments import check_environment, check_texts
from fraisier.config.fallbacks import read_fallbacks, without_fallbacks
from fraisier.config.fleet import Placed, check_dependencies, check_paths
from fraisier.config.merge import merge, with_source
from fraisier.config.paths import anchored
from fraisier.config.problems import Report, did_you_mean
from fraisier.config.reader import INVALID, Reader, TextUse, joined
from fraisier.config.rules import RULES
from fraisier.config.scalars import Refused, name
from fraisier.config.tree import Entry, Mapping, Node, describe

_EMPTY = Mapping(1, 1, {})


class Sections:
    """Reads one file's tree. `texts` holds, afterwards, every text that is resolved at the moment of use."""

    def __init__(self, report: Report, environ: Table[str, str], base_dir: Path) -> None:
        self.texts: list[TextUse] = []
        self._report = report
        self._environ = environ
        self._base_dir = base_dir
        self._placed: list[Placed] = []

    def config(self, root: Mapping, path: str) -> Any:
        """Return the configuration, or INVALID. Problems are in the report."""
        own = {word: entry for word, entry in root.entries.items() if word not in {"fraises", "defaults"}}
        reader = self._reader()
        defaults = self._defaults(root)
        if "fraises" not in root.entries:
            similar = [word for word in own if did_you_mean(word, ["fraises"])]
            hint = f"is `{similar[0]}` meant as `fraises`?" if similar else ""
            self._report.add(root, "fraises", "missing_key", "`fraises` is missing", hint)
        fraises = self._fraises(root.get("fraises"), defaults)
        top = Mapping(root.line, root.column, own)
        made = reader.struct(schema.Config, top, "", root, {"fraises": fraises, "path": path})
        check_texts(self._report, reader.texts, section="", targets=None)
        self.texts += reader.texts
        check_paths(self._report, self._placed)
        return made

    def _reader(self, names: Table[str, str] | None = None, *, partial: bool = False) -> Reader:
        return Reader(self._report, self._environ, rules=RULES, names=names, partial=partial)

    def _defaults(self, root: Mapping) -> Mapping:
        node = root.get("defaults")
        if node is None:
            return _EMPTY
        if not isinstance(node, Mapping):
            self._report.add(node, "defaults", "wrong_type", f"expected a mapping, found {describe(node)}")
            return _EMPTY
        whole = with_source(node, self._report, "defaults")
        node = without_fallbacks(whole)  # those are read where they lie over an environment
        reader = self._reader({"fraise": "fraise", "environment": "environment"}, partial=True)
        reader.struct(schema.Environment, node, "defaults", node)
        check_texts(self._report, reader.texts, section="defaults", targets=None)
        self.texts += reader.texts
        return whole

    def _fraises(self, node: Node | None, defaults: Mapping) -> dict[str, schema.Fraise]:
        if node is None:
            return {}
        if not isinstance(node, Mapping):
            self._report.add(node, "fraises", "wrong_type", f"expected a mapping, found {describe(node)}")
            return {}
        found = {}
        for word, entry in self._named(node, "fraises"):
            fraise = self._fraise(word, entry, defaults)
            if fraise is not INVALID:
                found[word] = fraise
        check_dependencies(self._report, found, node)
        return found

    def _named(self, node: Mapping, path: str) -> list[tuple[str, Entry]]:
        """Return the entries of a mapping from names, without `x-` keys; note names that are none."""
        kept = []
        for word, entry in node.entries.items():
            if word.startswith("x-"):
                continue
            try:
                kept.append((name(word), entry))
            except Refused as error:
                self._report.add(entry.key, joined(path, word), error.code, error.message, error.suggestion)
        return kept

    def _fraise(self, word: str, entry: Entry, defaults: Mapping) -> Any:
        path = joined("fraises", word)
        node = entry.value
        if not isinstance(node, Mapping):
            self._report.add(node, path, "wrong_type", f"expected a mapping, found {describe(node)}")
            return INVALID
        own = Mapping(node.line, node.column, {k: e for k, e in node.entries.items() if k != "environments"})
        fraise = self._reader().struct(
            schema.Fraise, own, path, entry.key, {"name": word, "environments": {}}
        )
        kind = fraise.type if fraise is not INVALID else "api"
        environments = self._environments(word, node, path, entry.key, defaults, kind)
        return INVALID if fraise is INVALID else msgspec.structs.replace(fraise, environments=environments)

    def _environments(
        self, fraise: str, node: Mapping, path: str, at: Node, defaults: Mapping, kind: str
    ) -> dict[str, schema.Environment]:
        place = joined(path, "environments")
        inner = node.get("environments")
        if inner is None:
            self._report.add(at, place, "missing_key", "`environments` is missing: at least one is needed")
            return {}
        if not isinstance(inner, Mapping):
            self._report.add(inner, place, "wrong_type", f"expected a mapping, found {describe(inner)}")
            return {}
        if not inner.entries:
            self._report.add(inner, place, "empty_value", "expected at least one environment, found none")
        found = {}
        for word, entry in self._named(inner, place):
            value = self._environment((fraise, word), entry, joined(place, word), defaults, kind)
            if value is not INVALID:
                found[word] = value
        return found

    def _environment(
        self, names: tuple[str, str], entry: Entry, path: str, defaults: Mapping, kind: str
    ) -> Any:
        if not isinstance(entry.value, Mapping):
            message = f"expected a mapping, found {describe(entry.value)}"
            self._report.add(entry.value, path, "wrong_type", message)
            return INVALID
        node = merge(defaults, with_source(entry.value, self._report, path))

        def read(merged: Mapping, place: str, at: Node) -> Any:
            return self._one_environment(names, merged, place, at, kind)

        value = read(without_fallbacks(node), path, entry.key)
        if value is INVALID:
            return INVALID
        fallbacks = read_fallbacks(self._report, node, path, read)
        recovery = msgspec.structs.replace(value.recovery, fallback=fallbacks)
        return msgspec.structs.replace(value, recovery=recovery)

    def _one_environment(self, names: tuple[str, str], node: Mapping, path: str, at: Node, kind: str) -> Any:
        reader = self._reader({"fraise": names[0], "environment": names[1]})
        value = reader.struct(schema.Environment, node, path, at)
        if value is INVALID:
            return INVALID
        check_environment(self._report, value, node, path, at, fraise_type=kind)
        check_texts(self._report, reader.texts, section=path, targets=value.targets, settings=value)
        self.texts += reader.texts
        value = anchored(value, self._base_dir, self._environ)
        app_path = node.entries.get("app_path")
        if app_path is not None and value.provider == "local":
            self._placed.append(Placed(*names, value, app_path.value, joined(path, "app_path")))
        return value
