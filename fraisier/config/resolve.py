"""Puts values in the place of templates and references, at the moment of use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fraisier.config import shell, template
from fraisier.config.addresses import addresses, filled
from fraisier.config.schema import Environment, Target
from fraisier.config.template import Name, Reference, TemplateError
from fraisier.config.walk import texts
from fraisier.errors import ConfigurationError
from fraisier.redaction import Redactor, mask_address

FILE_BYTES_MAX = 1 << 20
"""A secret is small; a `${file:…}` beyond this is a mistake."""


class Resolver:
    """Resolves texts and commands of the configuration.

    Every value from outside is registered with the redactor first.
    """

    def __init__(self, environ: Mapping[str, str], redactor: Redactor, base_dir: Path | str) -> None:
        self._environ = environ
        self._redactor = redactor
        self._base_dir = Path(base_dir)
        self._addresses: dict[str, str] = {}

    @property
    def redactor(self) -> Redactor:
        """The redactor that knows every value that was put in; for texts that come back from outside."""
        return self._redactor

    def text(self, template: str, names: Mapping[str, str], *, where: str = "") -> str:
        """Return `template` with names and references replaced. `where` is the key that it stands at, for the
        error.

        Raises ConfigurationError for a name that is not known and a reference that cannot be resolved.
        """
        template = self._addresses.get(template, template)
        try:
            return _render(template, names, self._value)
        except TemplateError as error:
            raise _problem(error, where) from error

    def keep_address(self, template: str) -> None:
        """Take note of an address with a password written out in it: plans hold it masked, and `text` puts it back."""
        masked = mask_address(template)
        if masked != template:
            self._addresses[masked] = template
            self._redactor.register_address(template)

    def address(self, template: str, names: Mapping[str, str], *, where: str = "") -> str:
        """Return an address as `text` does, one that can be read.

        Raises ConfigurationError also for a URL that a value takes apart, since what is read of it then is a piece of that
        value.
        """
        template = self._addresses.get(template, template)
        try:
            found = filled(template, lambda piece: self._put_in(piece, names))
        except TemplateError as error:
            raise _problem(error, where) from error
        if found.problem:
            self._redactor.register_address(found.text)
            for value in found.unencoded:
                self._redactor.register_pieces(value)
            raise _problem(TemplateError(found.problem), where)
        return found.text

    def why_unreadable(self, template: str) -> str:
        """Return why an address cannot be read with the values that can be had now, or an empty text."""

        def value(piece: Name | Reference) -> str:
            if isinstance(piece, Reference):
                with suppress(TemplateError):
                    return self._read(piece)[0]
            return "1"

        try:
            return filled(template, value).problem
        except TemplateError:
            return ""

    def command(
        self, template: str, names: Mapping[str, str], *, where: str = ""
    ) -> tuple[str, dict[str, str]]:
        """Return a command for `sh -c`, and the environment variables FRAISIER_SECRET_<N> that carry its
        references.

        Names stand in the command as quoted values; references never do. Raises ConfigurationError as `text`
        does.
        """
        carried: dict[Reference, str] = {}
        values: dict[str, str] = {}

        def variable(reference: Reference) -> str:
            if reference not in carried:
                carried[reference] = f"FRAISIER_SECRET_{len(carried) + 1}"
                values[carried[reference]] = self._value(reference)
            return carried[reference]

        try:
            return shell.splice(template, value=lambda name: _named(name, names), variable=variable), values
        except TemplateError as error:
            raise _problem(error, where) from error

    def missing(self, settings: Environment) -> list[str]:
        """Return the references that cannot be resolved now, each with its key: `${TOKEN} (env.TOKEN)`."""
        return [f"{reference} ({where})" for where, reference, _ in self.unresolved(settings)]

    def unreadable(self, settings: Environment) -> list[str]:
        """Return the addresses that cannot be read with the values that can be had now: each its key and why."""
        found = ((where, self.why_unreadable(address)) for where, address in addresses(settings))
        return [f"{where}: {why}" for where, why in found if why]

    def unresolved(self, settings: Environment) -> Iterator[tuple[str, Reference, str]]:
        """Yield key, reference and reason for each reference that cannot be resolved now.

        No value is looked at.
        """
        for where, text, kind in texts(settings):
            for reference in references(text, command=kind == "command"):
                if reason := self.problem(reference):
                    yield where, reference, reason

    def make_known(self, settings: Environment) -> None:
        """Let the redactor know every secret of an environment that can be read now: for texts that its services wrote."""
        for _, text, kind in texts(settings):
            for reference in references(text, command=kind == "command"):
                with suppress(TemplateError):
                    self._value(reference)

    def problem(self, reference: Reference) -> str:
        """Return why a reference cannot be resolved now, or an empty text."""
        try:
            self._read(reference)
        except TemplateError as error:
            return str(error)
        return ""

    def _put_in(self, piece: Name | Reference, names: Mapping[str, str]) -> str:
        return _named(piece.name, names) if isinstance(piece, Name) else self._value(piece)

    def _value(self, reference: Reference) -> str:
        value, from_outside = self._read(reference)
        if from_outside:
            self._redactor.register(value)
        return value

    def _read(self, reference: Reference) -> tuple[str, bool]:
        """Return the value, and whether it came from outside of the configuration."""
        if reference.path:
            return self._file(reference), True
        value = self._environ.get(reference.variable)
        if reference.default is not None and not value:
            return reference.default, False
        if value is None:
            raise TemplateError(f"the environment variable {reference.variable} is not set")
        if "\0" in value:
            raise TemplateError(f"the environment variable {reference.variable} holds a NUL byte")
        return value, True

    def _file(self, reference: Reference) -> str:
        path = reference.path
        if path.startswith("~/") and (home := self._environ.get("HOME")):
            path = f"{home}{path[1:]}"
        try:
            with (self._base_dir / path).open("rb") as stream:
                raw = stream.read(FILE_BYTES_MAX + 1)
            text = raw.decode("utf-8")
        except (OSError, ValueError) as error:
            reason = (
                error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
            )
            raise TemplateError(f"the file of {reference} cannot be read: {reason}") from error
        if len(raw) > FILE_BYTES_MAX or "\0" in text:
            raise TemplateError(
                f"the file of {reference} is no secret: it is larger than 1 MiB or holds NUL bytes"
            )
        return text.removesuffix("\n").removesuffix("\r")


def names_for(
    *, fraise: str, environment: str, target: Target, version: str = "", release_path: str = ""
) -> dict[str, str]:
    """Return what `{{ … }}` can name for one target.

    `version` and `release_path` are left out while they are not known.
    """
    names = {"fraise": fraise, "environment": environment, "target.name": target.own_name}
    names |= {f"target.vars.{key}": var_text(value) for key, value in target.vars.items()}
    names |= {f"target.labels.{key}": value for key, value in target.labels.items()}
    names["target.address"] = _render(target.address, names, _no_reference)
    names |= {key: value for key, value in (("version", version), ("release_path", release_path)) if value}
    return names


def var_text(value: str | int | float | bool) -> str:
    """Return how a variable of a target is written in a text; booleans as YAML writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def references(text: str, *, command: bool = False) -> list[Reference]:
    """Return the references in a text or command, each once, in order; none when it is not well formed."""
    if "${" not in text:  # most texts, and each is asked about in each deployment
        return []
    try:
        found = (piece for piece, _ in shell.parts(text)) if command else template.pieces(text)
        return list(dict.fromkeys(piece for piece in found if isinstance(piece, Reference)))
    except TemplateError:
        return []


def template_names(text: str, *, command: bool = False) -> list[str]:
    """Return what `{{ … }}` names in a text or command, each once, in order. Raises TemplateError."""
    found = (piece for piece, _ in shell.parts(text)) if command else template.pieces(text)
    return list(dict.fromkeys(piece.name for piece in found if isinstance(piece, Name)))


def _render(text: str, names: Mapping[str, str], reference: Callable[[Reference], str]) -> str:
    return template.render(text, name=lambda name: _named(name, names), reference=reference)


def _named(name: str, names: Mapping[str, str]) -> str:
    if name not in names:
        raise TemplateError(f"{{{{ {name} }}}} is not known here; there are {', '.join(sorted(names))}")
    return names[name]


def _no_reference(reference: Reference) -> str:
    raise TemplateError(f"{reference} cannot stand in a target's address")


def _problem(error: TemplateError, where: str) -> ConfigurationError:
    place = f"{where}: " if where else ""
    context = {"where": where} if where else {}
    return ConfigurationError(f"{place}{error}", context=context, hint=error.suggestion or None)
