"""A process of ours as a service, as scripts: start, stop, look. Linux, because only /proc tells who is who.

`.fraisier/service.pid` holds one line: pid, start time (field 22 of /proc/PID/stat), boot id, release, deployment. It is
written by the process itself before it becomes the service. A process is ours only when pid, start time and boot id
agree; a process that left the group is found by FRAISIER_SERVICE in its environment.
"""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.commands.identity import FUNCTIONS, LOG_FILE, REPORT, STOP_ALL, setting
from fraisier.commands.releases import STATE
from fraisier.commands.sh import EXIT_REFUSED, FAIL, exports, fields_after_name, quote

LOG_START = "[fraisier] starting "
LOG_KB_MAX = 20480


def look(app: str, mark: str) -> str:
    """Print `running yes|no`, `pid`, `invocation`, `running_release` of the service process, as far as they are known."""
    return f"""\
{setting(app, mark)}{FUNCTIONS}{REPORT}pid=
if cd -P -- "$APP" 2>/dev/null; then read_pid; boot_id; fi
if is_up; then
  report yes
else
  echo 'running no'
  [ -z "$pid" ] || echo "ended $pid.$start"
fi
"""


def stop(app: str, mark: str, *, timeout_ms: int) -> str:
    """End every process of the service: TERM, `timeout_ms`, KILL. Prints `stopped INVOCATION` and `forced yes`."""
    return f"""\
[ -d {quote(app)}/{STATE} ] || exit 0
{FAIL}
{setting(app, mark)}{FUNCTIONS}{STOP_ALL}cd -- "$APP" || exit 0
stop_all {timeout_ms}
[ -z "$stopped" ] || echo "stopped $stopped"
[ -z "$forced" ] || echo "forced yes"
"""


def start(
    app: str,
    mark: str,
    *,
    command: str,
    env: Mapping[str, str],
    release: str,
    deployment: str,
    timeout_ms: int,
    retry: bool,
) -> str:
    """Stop what runs and start `command` (shell text after `exec`) in `current`, as a session of its own.

    With `retry`, a process that this very deployment has started for this very release is left alone. Prints `stopped`,
    `pid`, `invocation` and `running_release`.
    """
    return f"""\
{FAIL}
{setting(app, mark)}RELEASE={quote(release)}; BY={quote(deployment or "-")}
{FUNCTIONS}{STOP_ALL}{REPORT}cd -P -- "$APP" || fail {EXIT_REFUSED} "cannot enter $APP"
[ -d current/. ] || fail {EXIT_REFUSED} "$APP/current names no release: deploy first"
{_accept(retry)}stop_all {timeout_ms}
[ -z "$stopped" ] || echo "stopped $stopped"
[ -z "$forced" ] || echo "forced yes"
if [ -s {LOG_FILE} ] && [ "$(wc -c <{LOG_FILE})" -gt {LOG_KB_MAX * 1024} ]; then mv -f -- {LOG_FILE} {LOG_FILE}.1; fi
# What the script still needs is in its parameters: a variable of the service may have any name, also PATH.
setsid=/usr/bin/setsid; [ -x "$setsid" ] || setsid=$(command -v setsid)
said=$( set -- "$PWD/$PIDFILE" "$PWD/{LOG_FILE}" "$RELEASE" "$BY" "$setsid" "$MARK"
  cd current || exit 1
  {exports(env)}export FRAISIER_SERVICE="$6"
  "$5" /bin/sh -c {quote(_child(command))} fraisier "$1" "$3" "$4" </dev/null 3>&1 >>"$2" 2>&1 & )
[ "$said" != written ] || echo started
read_pid
[ -n "$pid" ] || fail {EXIT_REFUSED} "the service could not be started: see {LOG_FILE}"
report started
"""


def _accept(retry: bool) -> str:
    if not retry:
        return ""
    return """\
read_pid; boot_id
if is_up && [ "$of" = "$RELEASE" ] && [ "$by" = "$BY" ]; then echo again; report yes; exit 0; fi
"""


def _child(command: str) -> str:
    """Return what the new session runs: leave the pid file, tell the parent by closing descriptor 3, become the service."""
    return f"""\
set -f
_fr_file=$1 _fr_of="$2 $3"
_fr_all=; while IFS= read -r _fr_line || [ -n "$_fr_line" ]; do _fr_all="$_fr_all $_fr_line"; done </proc/$$/stat
{fields_after_name("_fr_all")}; set -- $_fr_all; shift 19
read -r _fr_line </proc/sys/kernel/random/boot_id
printf '{LOG_START}%s (pid %s)\\n' "${{_fr_of%% *}}" "$$"
printf '%s\\n' "$$ $1 $_fr_line $_fr_of" >"$_fr_file" || exit 1
echo written >&3
exec 3>&-
unset _fr_file _fr_of _fr_all _fr_line _fr_ifs
set --; set +f
exec {command}
"""


def tail_log(app: str, lines: int) -> str:
    """Print the last lines of the service's log."""
    path = quote(f"{app}/{LOG_FILE}")
    return f"[ ! -f {path} ] || tail -n {lines} -- {path}"


def log_since(app: str, offset: int) -> str:
    """Print `size N` of the log, then what it holds from byte `offset` on (-1: the end), up to 256 kB.

    It is read from its start when it was replaced."""
    path = quote(f"{app}/{LOG_FILE}")
    return f"""\
[ -f {path} ] || {{ echo 'size 0'; exit 0; }}
size=$(wc -c <{path}); size=$((size)); from={offset}
[ "$from" -ge 0 ] || from=$size
[ "$size" -ge "$from" ] || from=0
[ $((size - from)) -le 262144 ] || size=$((from + 262144))
echo "size $size"
[ "$size" -eq "$from" ] || tail -c +$((from + 1)) -- {path} | head -c $((size - from))
"""
