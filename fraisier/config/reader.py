"""Turns a tree into the typed objects of the schema, and notes all that does not fit."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fraisier.config import batches, hints, scalars, schema, template
from fraisier.config import tree as t
from fraisier.config.problems import Report, did_you_mean
from fraisier.config.scalars import Refused
from fraisier.config.template import Name, Reference, TemplateError

INVALID: Any = object()
"""Stands for a value that could not be read; the problem is in the report."""

UNSUPPORTED_VALUES = {("Rollout", "strategy"): ("canary", "blue_green")}
_NONE: Mapping[str, Any] = types.MappingProxyType({})
Rule = Callable[[Report, Any, t.Mapping, str, t.Node], None]


class TextUse(msgspec.Struct, frozen=True):
    """A text in which templates and references may stand, as it was read, and where."""

    node: t.Scalar
    path: str
    text: str
    kind: str
    is_address: bool = False


class Reader:
    """Reads values of one section of a file.

    `names` is what templates can name already while the file is read. A partial section (`defaults`) may lack
    keys that must be there, and no rule that looks at several keys is asked about it.
    """

    def __init__(
        self,
        report: Report,
        environ: Mapping[str, str],
        *,
        rules: Mapping[type, Rule],
        names: Mapping[str, str] | None = None,
        partial: bool = False,
    ) -> None:
        self.report = report
        self.texts: list[TextUse] = []
        self._environ = environ
        self._rules = rules
        self._names = dict(names or {})
        self._partial = partial

    def struct(
        self,
        cls: type[schema.Settings],
        node: t.Node,
        path: str,
        at: t.Node,
        given: Mapping[str, Any] = _NONE,
    ) -> Any:
        """Return an object of a schema class, or INVALID.

        `at` is where a missing key is reported; `given` are attributes that do not come from the file.
        """
        if not isinstance(node, t.Mapping):
            self.report.add(node, path, "wrong_type", f"expected a mapping, found {t.describe(node)}")
            return INVALID
        keys = {word: key for word, key in hints.keys_of(cls).items() if key.attribute not in given}
        self._refuse_unknown(cls, node, path, keys)
        values = dict(given)
        broken = False
        for word, key in keys.items():
            entry = node.entries.get(word)
            if entry is None:
                if key.required and not self._partial:
                    self.report.add(at, joined(path, word), "missing_key", f"`{word}` is missing")
                broken = broken or key.required
                continue
            place = joined(path.rpartition(".")[0], entry.place) if entry.place else joined(path, word)
            value = self.value(key.hint, key.kind, entry.value, place, owner=(cls.__name__, word))
            if value is not INVALID:
                values[key.attribute] = value
            broken = broken or (value is INVALID and key.required)
        if broken:
            return INVALID
        made = cls(**values)
        if not self._partial and cls in self._rules:
            self._rules[cls](self.report, made, node, path, at)
        return made

    def _refuse_unknown(
        self, cls: type[Any], node: t.Mapping, path: str, keys: Mapping[str, hints.Key]
    ) -> None:
        reserved = schema.RESERVED.get(cls.__name__, ())
        for word, entry in node.entries.items():
            if word in keys or word.startswith("x-"):
                continue
            place = joined(path, word)
            if word in reserved:
                self.report.add(entry.key, place, "unsupported", f"`{word}` is not supported by this version")
            else:
                suggestion = did_you_mean(word, [*keys, *hints.extra_words(cls)])
                self.report.add(
                    entry.key, place, "unknown_key", f"the key `{word}` is not known here", suggestion
                )

    def value(
        self,
        hint: Any,
        kind: schema.Kind | None,
        node: t.Node,
        path: str,
        *,
        owner: tuple[str, str] = ("", ""),
    ) -> Any:
        """Return a value of the type that a hint names, or INVALID."""
        if isinstance(node, t.Scalar) and node.tag == "broken":
            return INVALID
        try:
            return self._value(hint, kind, node, path, owner)
        except Refused as error:
            self.report.add(node, path, error.code, error.message, error.suggestion)
        except TemplateError as error:
            self.report.add(node, path, "bad_template", str(error), error.suggestion)
        return INVALID

    def _value(
        self, hint: Any, kind: schema.Kind | None, node: t.Node, path: str, owner: tuple[str, str]
    ) -> Any:
        if kind is not None and kind.name == "batch":
            return batches.batch(self, node, path)
        if kind is not None and kind.name == "status":
            return self._several(node, path, scalars.status)
        if isinstance(hint, type) and issubclass(hint, schema.Settings):
            return self._settings(hint, node, path)
        origin = typing.get_origin(hint)
        if origin is tuple:
            return self._items(typing.get_args(hint)[0], node, path)
        if origin is dict:
            return self._dict(hint, node, path)
        if origin in {typing.Union, types.UnionType}:
            return self._union(hint, node, path)
        if hint is Any:
            return plain_data(node)
        if origin is typing.Literal:
            return self._choice(node, path, typing.get_args(hint), owner)
        return self._scalar(hint, kind, node, path, owner)

    def _settings(self, cls: type[schema.Settings], node: t.Node, path: str) -> Any:
        if cls is schema.Target and isinstance(node, t.Scalar):
            return schema.Target(name=scalars.name(self.plain(node, path)))
        if cls is schema.Hook and isinstance(node, t.Scalar):
            return schema.Hook(command=self._text("command", node, f"{path}.command", empty=False))
        if cls is schema.Forward and isinstance(node, t.Scalar):
            return self._machine_log(self.plain(node, path))
        return self.struct(cls, node, path, node)

    def _machine_log(self, word: str) -> schema.Forward:
        """Return where a bare word forwards to."""
        scalars.choice(word, ("syslog", "journald"))
        if word == "syslog":
            return schema.Forward(syslog=schema.SYSLOG_SOCKET)
        return schema.Forward(journald=schema.JOURNALD_SOCKET)

    def _scalar(
        self, hint: Any, kind: schema.Kind | None, node: t.Node, path: str, owner: tuple[str, str]
    ) -> Any:
        if hint is bool:
            return scalars.boolean(node)
        if hint in {int, float}:
            return self._number(hint, kind, node, path)
        name = kind.name if kind is not None else "plain"
        if name in {"text", "secret", "command"}:
            is_address = kind is not None and kind.is_address
            return self._text(name, node, path, empty=owner == ("", ""), is_address=is_address)
        text = self.plain(node, path)
        checks = {"count_or_percent": scalars.count_or_percent, "regex": scalars.regex, "name": scalars.name}
        checks["require"] = scalars.require
        return checks[name](text) if name in checks else text

    def _number(self, hint: Any, kind: schema.Kind | None, node: t.Node, path: str) -> Any:
        if not isinstance(node, t.Scalar) or node.tag in {"bool", "null"}:
            expected = "a duration" if kind and kind.name == "duration" else "a number"
            raise Refused("wrong_type", f"expected {expected}, found {t.describe(node)}")
        text = self.plain(node, path)
        if kind is not None and kind.name == "duration":
            return scalars.duration(text, kind)
        return scalars.whole(node, text, kind) if hint is int else scalars.decimal(node, text, kind)

    def _choice(self, node: t.Node, path: str, allowed: tuple[str, ...], owner: tuple[str, str]) -> str:
        text = self.plain(node, path)
        if text in UNSUPPORTED_VALUES.get(owner, ()):
            raise Refused("unsupported", f"{text!r} is not supported by this version")
        return scalars.choice(text, allowed)

    def _items(self, hint: Any, node: t.Node, path: str) -> Any:
        if not isinstance(node, t.Sequence):
            again = f"write [{node.text}]" if isinstance(node, t.Scalar) and node.tag != "null" else ""
            raise Refused("wrong_type", f"expected a list, found {t.describe(node)}", again)
        base, kind = hints.annotated(hint)
        read = [
            self.value(base, kind, item, f"{path}[{index}]", owner=("list", ""))
            for index, item in enumerate(node.items)
        ]
        return tuple(item for item in read if item is not INVALID)

    def _dict(self, hint: Any, node: t.Node, path: str) -> Any:
        if not isinstance(node, t.Mapping):
            raise Refused("wrong_type", f"expected a mapping, found {t.describe(node)}")
        base, kind = hints.annotated(typing.get_args(hint)[1])
        # In headers, labels and the like `x-…` is a key as any other; no environment variable is called so.
        extensible = path.endswith(".env")
        read = {
            word: self.value(base, kind, entry.value, joined(path, word))
            for word, entry in node.entries.items()
            if not (extensible and word.startswith("x-"))
        }
        return {word: value for word, value in read.items() if value is not INVALID}

    def _union(self, hint: Any, node: t.Node, path: str) -> Any:
        members = typing.get_args(hint)
        if bool in members:
            return self._variable(node, path)
        # A command: a text for the shell, or a list of arguments.
        base, kind = hints.annotated(members[1 if isinstance(node, t.Sequence) else 0])
        return self._value(base, kind, node, path, ("command", ""))

    def _variable(self, node: t.Node, path: str) -> str | int | float | bool:
        """Return a variable of a target: true, false, a number as it was written, or a text."""
        if isinstance(node, t.Scalar) and node.tag == "bool" and node.text.lower() in {"true", "false"}:
            return t.is_true(node)
        text = self.plain(node, path)
        if (
            isinstance(node, t.Scalar)
            and node.tag == "int"
            and text.isdecimal()
            and str(int(text[:18])) == text
        ):
            return int(text)
        return text

    def _several(self, node: t.Node, path: str, read: Callable[[str], str]) -> tuple[str, ...]:
        """Return one value or a list of them, as a tuple."""
        if not isinstance(node, t.Sequence):
            return (read(self.plain(node, path)),)
        if not node.items:
            raise Refused("empty_value", "expected at least one value, found an empty list")
        found = []
        for index, item in enumerate(node.items):
            try:
                found.append(read(self.plain(item, f"{path}[{index}]")))
            except Refused as error:
                self.report.add(item, f"{path}[{index}]", error.code, error.message, error.suggestion)
        return tuple(found) or INVALID

    def plain(self, node: t.Node, path: str) -> str:
        """Return a text that is complete now: `${VAR}` put in, and what templates can already name."""
        text = scalars.text_of(node)

        def named(name: str) -> str:
            if name not in self._names:
                known = ", ".join(self._names)
                message = f"{{{{ {name} }}}} cannot stand here"
                raise Refused("unknown_name", message, f"only {known} can" if known else "")
            return self._names[name]

        return template.render(text, name=named, reference=self._known)

    def _text(self, kind: str, node: t.Node, path: str, *, empty: bool, is_address: bool = False) -> str:
        """Return a text that is resolved at the moment of use; a structural `${VAR}` is put in now."""
        text = scalars.text_of(node)
        if not text.strip() and not empty:
            raise Refused("empty_value", "expected a text, found an empty one")
        if kind == "text":
            text = self._structural(text)
        self.texts.append(TextUse(typing.cast(t.Scalar, node), path, text, kind, is_address))
        return text

    def _structural(self, text: str) -> str:
        out, literal = [], ""
        for piece in template.pieces(text):
            if isinstance(piece, Name):
                out += [template.escape(literal), f"{{{{ {piece.name} }}}}"]
                literal = ""
            else:
                literal += piece if isinstance(piece, str) else self._known(piece)
        return "".join((*out, template.escape(literal)))

    def _known(self, reference: Reference) -> str:
        """Return the value of a structural reference. Raises Refused."""
        if reference.path:
            message = f"{reference} is a secret and cannot stand here"
            raise Refused("secret_here", message, "a file can stand in env, commands, URLs, headers and keys")
        value = self._environ.get(reference.variable)
        if reference.default is not None and not value:
            return reference.default
        if value is None:
            raise unset(reference)
        return value


def unset(reference: Reference) -> Refused:
    """Return the refusal of a variable that is not set."""
    variable = reference.variable
    message = f"the environment variable {variable} is not set"
    return Refused("unset_variable", message, f"set it, or write ${{{variable}:-default}}")


def joined(path: str, word: str) -> str:
    """Return the key path of `word` under `path`."""
    return f"{path}.{word}" if path else word


def plain_data(node: t.Node) -> Any:
    """Return a tree as ordinary Python data, for what has no schema."""
    if isinstance(node, t.Mapping):
        return {word: plain_data(entry.value) for word, entry in node.entries.items()}
    if isinstance(node, t.Sequence):
        return [plain_data(item) for item in node.items]
    if node.tag == "null":
        return None
    if node.tag == "bool":
        return t.is_true(node)
    try:
        return {"int": int, "float": float}.get(node.tag, str)(node.text)
    except ValueError:
        return node.text
