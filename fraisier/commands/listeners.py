"""Who listens on a TCP port of a target, as a script. Linux."""

from __future__ import annotations

from fraisier.commands.identity import FUNCTIONS, setting
from fraisier.commands.sh import quote

_NAMED_IN = """\
named_in() {
  # Prints the id that follows $1 in the first line of the input that holds it.
  while IFS= read -r text || [ -n "$text" ]; do
    case $text in *"$1"*) text=${text#*"$1"}; printf '%s\\n' "${text%%/*}"; return 0 ;; esac
  done
}
"""


def serves_old(app: str, mark: str, *, port: int, release: str, main_pid: int) -> str:
    """Print `old PID RELEASE` when the port is served by a process of another release of this app; nothing otherwise.

    `main_pid` is the service's main process (0: look into the pid file). The whole process table is only searched when
    that process does not hold the port itself.
    """
    return f"""\
{setting(app, mark)}{FUNCTIONS}{_NAMED_IN}cd -P -- "$APP" 2>/dev/null || exit 0
root=$(pwd -P)
sockets=$(grep -hE '^ *[0-9]+: [0-9A-F]+:{port:04X} [0-9A-F]+:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null |
  while read -r sl local remote state queues timer retries uid timeout inode rest; do echo "$inode"; done)
[ -n "$sockets" ] || exit 0
main={main_pid}
if [ "$main" = 0 ]; then read_pid; boot_id; main=; is_up && main=$pid; fi
open=
[ -z "$main" ] || open=$(ls -l "/proc/$main/fd" 2>/dev/null)
missing=
for inode in $sockets; do case $open in *"socket:[$inode]"*) ;; *) missing="$missing -e socket:\\[$inode]" ;; esac; done
[ -n "$missing" ] || exit 0
session=; [ -z "$main" ] || {{ stat_of "$main" && session=$ss; }}
ls -l /proc/[0-9]*/fd 2>/dev/null | grep -e '^/proc/' $missing | while read -r line; do
  case $line in /proc/*) one=${{line#/proc/}}; one=${{one%%/*}}; continue ;; esac
  stat_of "$one" || continue
  [ -z "$session" ] || [ "$ss" != "$session" ] || continue
  of=$(tr '\\0' '\\n' <"/proc/$one/environ" 2>/dev/null | grep -F "FRAISIER_RELEASE_PATH=$APP/releases/")
  [ -z "$of" ] || of=${{of##*/}}
  [ -n "$of" ] || release_of "$one"
  # What has left its directory and its environment behind may still name the program that it was started from.
  [ -n "$of" ] || of=$(tr '\\0' '\\n' <"/proc/$one/cmdline" 2>/dev/null | named_in "$root/releases/")
  [ -n "$of" ] || of=$(readlink "/proc/$one/exe" 2>/dev/null | named_in "$root/releases/")
  [ -n "$of" ] || continue
  case $of in {quote(release)}) ;; *) echo "old $one $of"; break ;; esac
done
exit 0
"""
