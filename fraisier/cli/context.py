"""What every command is given: the global options, its streams, and the ways to the configuration and the store."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fraisier.cli.ending import load_module
from fraisier.cli.render import Painter

if TYPE_CHECKING:
    from fraisier.config.schema import Config


_LOOKS_AGAIN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Globals:
    """The options that every command takes, before or after its name."""

    config: str = ""
    store: str = ""
    json: bool = False
    verbose: int = 0
    quiet: bool = False
    no_color: bool = False
    log_format: str = ""


class OutputError(OSError):
    """What a command was called for could not be written."""


class Call:
    """One invocation of a command. `scrubs` take out of an error's text what the invocation knows to be secret."""

    def __init__(
        self,
        options: Globals,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        scrubs: list[Callable[[Any], Any]] | None = None,
    ) -> None:
        self.options = options
        self.scrubs = [] if scrubs is None else scrubs
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.environ = os.environ
        self.is_logged = bool(options.verbose or options.log_format)
        """Whether log lines go to stderr, and take the place of the screen and of the plain lines."""
        self.is_cut = False
        """Whether the last line on stdout was not written to its end."""

    # streams

    @property
    def json(self) -> bool:
        """Whether the output is for programs."""
        return self.options.json

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked: there is a terminal to read from and to ask on, and nobody wants JSON."""
        return not self.json and sys.stdin is not None and sys.stdin.isatty() and self.stderr.isatty()

    @property
    def color(self) -> bool:
        """Whether colour is wanted at all; each stream must be a terminal as well."""
        return not (
            self.options.no_color or self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb"
        )

    @property
    def animated(self) -> bool:
        """Whether stderr is a terminal that can move its cursor; on another one a live screen would show nothing."""
        return self.stderr.isatty() and self.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def painter(self, stream: TextIO | None = None) -> Painter:
        """Return the painter for a stream (stdout when None)."""
        return Painter(color=self.color and (stream or self.stdout).isatty())

    def data(self, text: str) -> None:
        """Write what the command was called for to stdout, and let it be seen at once.

        Raises BrokenPipeError when the reader went away, OutputError when it cannot be written for another reason.
        """
        try:
            begin, self.is_cut = "\n" if self.is_cut else "", False
            self.stdout.write(f"{begin}{text}\n")
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error

    def document(self, found: Any) -> None:
        """Write a JSON document on one line to stdout."""
        self.data(to_json(found))

    def say(self, text: str) -> None:
        """Write something for people to stderr. A terminal that was closed, or a full disk, is no reason to fail."""
        with suppress(OSError):
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def note(self, text: str) -> None:
        """Write something for people to stderr that `--quiet` leaves out, and programs do not need."""
        if not self.options.quiet and not self.json:
            self.say(text)

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no question; everything but yes is no. Raises KeyboardInterrupt."""
        self.stderr.write(f"{question} [y/N] ")
        self.stderr.flush()
        # A Ctrl-C that comes between Python's last look for one and the read would wait for the next key.
        while not select.select([sys.stdin], [], [], _LOOKS_AGAIN_S)[0]:
            continue
        answer = sys.stdin.readline()
        if not answer:
            self.stderr.write("\n")
        return answer.strip().lower() in ("y", "yes")

    def scrubbed(self, found: Any) -> Any:
        """Return a text, or nested data, without the secrets that became known while the command ran."""
        for scrub in self.scrubs:
            found = scrub(found)
        return found

    # configuration and store

    def load(self) -> Config:
        """Return the configuration. Raises ConfigurationError with every problem in it."""
        config: Config = load_module("fraisier.config.loader").load_config(self.config_path())
        return config

    def config_path(self) -> Path:
        """Return the file that the options, the environment or the usual places name. Raises ConfigurationError."""
        found: Path = load_module("fraisier.config.loader").find_config(
            self.options.config, self.environ, Path.cwd()
        )
        return found

    def store_url(self, config: Config | None = None) -> str:
        """Return the store's URL; without an option or a variable the configuration is asked, where there is one."""
        stores = load_module("fraisier.journal.store")
        option = self.options.store
        configured = ""
        if not option and not self.environ.get(stores.STORE_VARIABLE):
            configured = self._configured_store(config)
        url: str = stores.choose_store_url(
            option=option, environ=self.environ, configured=configured, uid=os.getuid()
        )
        return url

    def _configured_store(self, config: Config | None) -> str:
        if config is None:
            errors = load_module("fraisier.errors")
            try:
                self.config_path()
            except errors.ConfigurationError:
                return ""  # what is in the store can be read without a configuration
            config = self.load()
        if not config.store.url:
            return ""
        resolve = load_module("fraisier.config.resolve")
        redaction = load_module("fraisier.redaction")
        resolver = resolve.Resolver(self.environ, redaction.Redactor(), Path(config.path).parent)
        url: str = resolver.text(config.store.url, {}, where="store.url")
        return url


def to_json(found: Any) -> str:
    """Return a JSON document on one line."""
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def forget_lost(stream: TextIO) -> None:
    """Let what a stream still holds, and nobody takes, go nowhere when it is flushed the next time."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
