"""A project whose one target is a unit of the lab's host, or a service of commands that drive one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.kit import Project, Run
from tests.lab.kit import Host

CHECK = "interval: 50ms, timeout: 1s, rise: 1, fall: 2, deadline: 2s"
NOTIFIES = """\
Type=notify
NotifyAccess=all
TimeoutStartSec=1s
ExecStart=/bin/sh -c 'grep -q mute MODE || systemd-notify --ready; exec {python} -I -S service.py'
"""
SIMPLE = "ExecStart={python} -I -S service.py\n"


@dataclass
class Site:
    """The unit `name` on `host`; `unit_text` is what stands in its [Service] section beside directory and environment."""

    host: Host
    name: str
    unit_text: str = SIMPLE
    settings: str = "{{systemd: {name}.service}}"


class UnitProject(Project):
    """The acceptance kit's project, with everything run inside the host."""

    def __init__(
        self, root: Path, site: Site, *, check: str = CHECK, rollout: str = "{strategy: rolling}"
    ) -> None:
        self.site = site
        super().__init__(root, count=1, rollout=rollout, check=check)
        self.write_unit(site.unit_text)

    @property
    def unit(self) -> str:
        return f"{self.site.name}.service"

    @property
    def unit_file(self) -> str:
        """The file that the unit comes from: of `web@t1` the template `web@`."""
        name, at, _ = self.site.name.partition("@")
        return f"{name}{at}.service"

    @property
    def app(self) -> Path:
        return self.root / "srv"

    @property
    def current(self) -> str:
        """The release that `current` names, or nothing."""
        link = self.app / "current"
        return link.readlink().name if link.is_symlink() else ""

    @property
    def started(self) -> str:
        """Which start of the unit it is."""
        return self.site.host.show(self.unit, "InvocationID")

    @property
    def active(self) -> str:
        return self.site.host.show(self.unit, "ActiveState")

    def write_unit(self, text: str) -> None:
        """Let the unit run in `current`; `text` stands in its [Service] section."""
        self.site.host.unit(
            self.unit_file,
            f"[Service]\nWorkingDirectory={self.app}/current\nEnvironment=PORT={self.ports[0]} LIFE_S=0.4\n"
            + text.format(python=sys.executable),
        )

    def write(self) -> None:
        """Write the configuration."""
        service = self.site.settings.format(name=self.site.name)
        (self.root / "fraises.yaml").write_text(f"""\
fraises:
  web:
    type: api
    environments:
      production:
        provider: local
        targets: [t1]
        git_repo: {self.repo}
        app_path: {self.app}
        service: {service}
        health_check: {{type: http, url: "http://127.0.0.1:{self.ports[0]}/health", {self.check}}}
        rollout: {self.rollout}
        recovery: {{retry: {{max_attempts: 2, base_delay: 50ms}}}}
""")

    def run(self, *words: str, timeout_s: float = 60, env: dict[str, str] | None = None) -> Run:
        """Run the command line inside the host to its end."""
        given = [f"{key}={value}" for key, value in (env or {}).items()]
        return self.site.host.run("env", *given, *self.argv(*words), timeout_s=timeout_s)

    def ask(self, port: int) -> str:
        """What the service answers inside the host; an error's name when it does not."""
        talk = (
            "exec 3<>/dev/tcp/127.0.0.1/$0 || exit 1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; "
            "while IFS= read -r line; do [ \"$line\" = $'\\r' ] && break; done <&3; cat <&3"
        )
        found = self.site.host.run("bash", "-c", talk, str(port), timeout_s=5)
        return found.out if found.code == 0 and found.out else "ConnectionError"

    @property
    def answer(self) -> str:
        """The version that answers a real request."""
        return self.ask(self.ports[0]).split()[0]

    def put(self, version: str, mode: str = "ok") -> Run:
        """Commit a version that behaves as `mode` says, and deploy it."""
        self.commit(version, mode)
        return self.deploy(version)

    def set(self, old: str, new: str) -> None:
        """Change the configuration: `old`, which must stand in it, for `new`."""
        path = self.root / "fraises.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def end(self) -> None:
        """Stop the unit and take it away."""
        self.site.host.run("systemctl", "kill", "--signal=KILL", "--", self.unit)
        self.site.host.run("systemctl", "stop", "--", self.unit)
        (self.site.host.units / self.unit_file).unlink(missing_ok=True)


def ended(run: Run) -> tuple[int, str, str]:
    """How a deployment ended: exit code, outcome, reason; or all that was said when there is no result."""
    last = run.lines[-1] if run.out.strip() else {}
    return run.code, last.get("outcome") or f"{run.out}{run.err}"[-2000:], last.get("reason") or ""
