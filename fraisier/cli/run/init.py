"""`init`: a first configuration that explains itself."""

from __future__ import annotations

from pathlib import Path

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.errors import UsageError

TEMPLATE = """\
# What Fraisier deploys, and where. Check this file with `fraisier validate`; it touches nothing.
# A fraise is a service that can be deployed; it runs in environments, on targets.

fraises:
  web:
    type: api                      # api | etl | scheduled | backup
    description: A first service
    environments:
      production:
        # local: each target is a directory on this machine. `vars` are your own; they may stand in the lines below.
        provider: local
        targets:
          - {name: web-1, vars: {port: 8001}}
          - {name: web-2, vars: {port: 8002}}

        # EDIT 1 of 2: where the code comes from, a URL or the path of a git repository.
        git_repo: https://git.example.com/web.git
        branch: main

        # EDIT 2 of 2: what starts the service. It runs in the release, with `env`, and must stay in the foreground.
        service: {process: "python3 -m http.server {{ target.vars.port }}"}

        # Each target has a directory of its own: releases/, shared/, and current -> releases/<the one that serves>.
        app_path: "~/.local/share/fraisier/web/{{ target.name }}"
        keep_releases: 5           # so many good releases stay there to go back to

        # env:                     # secrets: "${TOKEN}" comes from the environment, "${file:/path}" from a file
        #   TOKEN: "${TOKEN}"
        # build: ["make build"]    # runs in the new release, before anything is switched

        # A target counts as updated only when its new process answers. Without a check it must keep running.
        # health_check: {type: http, url: "http://127.0.0.1:{{ target.vars.port }}/health", deadline: 60s}

        rollout:
          strategy: rolling        # or all_at_once
          batch: [1, 100%]         # one target first, then the rest
          max_unavailable: 1       # at most so many targets are down at the same time
          on_failure: rollback     # every changed target goes back to its last good release; or hold, or stop
"""


def init(call: Call, *, path: str) -> int:
    """Write the file and say what to do with it. Raises UsageError when it exists."""
    target = Path(path or call.options.config or "fraises.yaml")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise UsageError(
            f"{target} exists already; it was left as it is", hint="fraisier init OTHER.yaml"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}", hint="name another place: fraisier init PATH"
        ) from error
    if call.json:
        call.document({"path": str(target.absolute())})
    else:
        call.data(f"wrote {target}")
        named = "" if str(target) == "fraises.yaml" else f"-c {target} "
        call.note(
            f"next: edit the two marked lines, then `fraisier {named}validate` and `fraisier {named}deploy web production`"
        )
    return exits.OK
