"""Where a release goes on one target, with every template and reference of the environment resolved."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property

from fraisier.commands.sh import is_variable
from fraisier.config.resolve import Resolver, names_for
from fraisier.errors import ProviderConfigurationError
from fraisier.providers.base import TargetContext

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


class Place:
    """A target seen by one release (or by none: a look, a stop)."""

    def __init__(
        self,
        context: TargetContext,
        resolver: Resolver,
        *,
        release: str = "",
        version: str = "",
        deployment_id: str = "",
        previous_version: str = "",
    ) -> None:
        self.context = context
        self.settings = context.settings
        self.release = check_release(release)
        self.version = version
        self.deployment_id = deployment_id
        self._previous_version = previous_version
        self._resolver = resolver
        names = self._names()
        self.app = self._app_path(names)
        self.release_path = f"{self.app}/releases/{release}" if release else ""
        own = (("version", version), ("release_path", self.release_path))
        self.names = names | {key: value for key, value in own if value}

    def __str__(self) -> str:
        return f"{self.context.fraise} on {self.context.target.name}"

    @property
    def mark(self) -> str:
        """The value by which processes of this service know each other, whatever they are called."""
        return hashlib.sha256(f"fraisier:{self.app}".encode("utf-8", "surrogateescape")).hexdigest()[:32]

    @property
    def facts(self) -> dict[str, str]:
        """The variables that tell every command where it runs."""
        return {
            "FRAISIER_FRAISE": self.context.fraise,
            "FRAISIER_ENVIRONMENT": self.context.environment,
            "FRAISIER_TARGET": self.context.target.own_name,
            "FRAISIER_VERSION": self.version,
            "FRAISIER_PREVIOUS_VERSION": self._previous_version,
            "FRAISIER_RELEASE_PATH": self.release_path,
            "FRAISIER_DEPLOYMENT_ID": self.deployment_id,
        }

    @cached_property
    def env(self) -> dict[str, str]:
        """The configured variables, resolved, and the facts. Raises ConfigurationError."""
        found: dict[str, str] = {}
        for name, template in self.settings.env.items():
            if not is_variable(name):
                raise ProviderConfigurationError(f"env.{name}: {name!r} cannot be the name of a variable")
            found[name] = self._checked(
                self._resolver.text(template, self.names, where=f"env.{name}"), f"env.{name}"
            )
        return {**found, **self.facts}

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The entries of `shared`, each inside of the release. A directory ends with a slash."""
        return tuple(_check_shared(self.text(entry, "shared")) for entry in self.settings.shared)

    def text(self, template: str, where: str) -> str:
        """Return a text with its templates resolved. `where` is its key."""
        return self._checked(self._resolver.text(template, self.names, where=where), where)

    def command(self, template: str, where: str) -> tuple[str, dict[str, str]]:
        """Return a command for `sh -c` and its whole environment (secrets stand only there)."""
        text, secrets = self._resolver.command(template, self.names, where=where)
        return self._checked(text, where), {**self.env, **secrets}

    def _names(self) -> dict[str, str]:
        context = self.context
        return names_for(fraise=context.fraise, environment=context.environment, target=context.target)

    def _app_path(self, names: Mapping[str, str]) -> str:
        path = self._checked(self._resolver.text(self.settings.app_path, names, where="app_path"), "app_path")
        if not path.startswith("/"):
            raise ProviderConfigurationError(f"app_path must be an absolute path, and is {path!r}")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise ProviderConfigurationError(f"app_path must name a directory of its own, and is {path!r}")
        return "/" + "/".join(parts)

    def _checked(self, value: str, where: str) -> str:
        if "\0" in value:
            raise ProviderConfigurationError(f"{where} holds a NUL byte, which no command can take")
        return value


def check_release(release: str) -> str:
    """Return a release id that can be the name of a directory (or the empty one). Raises ProviderConfigurationError."""
    if release and _RELEASE.match(release) is None:
        raise ProviderConfigurationError(f"{release!r} cannot be the id of a release")
    return release


def _check_shared(entry: str) -> str:
    parts = [part for part in entry.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or entry.startswith("/"):
        raise ProviderConfigurationError(f"shared: {entry!r} must be a relative path inside of the release")
    return "/".join(parts) + ("/" if entry.endswith("/") else "")
