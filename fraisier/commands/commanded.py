"""The state of a service that is run by commands of the user's: which start it was, since no process tells."""

from __future__ import annotations

from fraisier.commands.identity import LOG_FILE
from fraisier.commands.releases import STATE
from fraisier.commands.sh import EXIT_REFUSED, FAIL, quote

STARTED_FILE = f"{STATE}/service.started"


def note_start(app: str, invocation: str, release: str) -> str:
    """Keep which start this is, and of which release."""
    return f"""\
{FAIL}
cd -- {quote(app)}/{STATE} && printf '%s\\n' {quote(invocation)} {quote(release)} >service.started.new &&
  mv -f -- service.started.new service.started || fail {EXIT_REFUSED} "cannot write to .fraisier"
"""


def forget_start(app: str) -> str:
    """Forget the last start: the service is being stopped."""
    return f"rm -f -- {quote(f'{app}/{STARTED_FILE}')}"


def read_start(app: str) -> str:
    """Print `invocation I` and `running_release R` of the last start that is known."""
    return f"""\
FILE={quote(f"{app}/{STARTED_FILE}")}
[ -f "$FILE" ] || exit 0
{{ read -r invocation && read -r release; }} <"$FILE" || exit 0
echo "invocation $invocation"; echo "running_release $release"
"""


def logged(app: str, command: str) -> str:
    """Return `command` with its output in the service's log, where what it leaves running may go on writing."""
    return f"exec >>{quote(f'{app}/{LOG_FILE}')} 2>&1\n{command}"
