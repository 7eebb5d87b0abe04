"""Which process is which on a target, and how to end it: functions for scripts. Linux, because only /proc tells."""

from __future__ import annotations

from fraisier.commands.releases import STATE
from fraisier.commands.sh import EXIT_BUSY, fields_after_name, quote

PID_FILE = f"{STATE}/service.pid"
LOG_FILE = f"{STATE}/service.log"

RELEASE_OF = """\
release_of() {
  # Sets of to the id of the release that the working directory of process $1 lies in; $root is the app. Empty when in none.
  # `cd -P` leaves the real path in PWD, which takes no program; a directory that is gone needs one.
  back=$PWD of=
  if cd -P "/proc/$1/cwd" 2>/dev/null; then of=$PWD; fi
  cd -P -- "$back" || exit 1
  case $of in /proc/*|'') of=$(readlink "/proc/$1/cwd" 2>/dev/null) ;; esac
  case $of in "$root"/releases/*) of=${of#"$root"/releases/}; of=${of%%/*}; of=${of% (deleted)} ;; *) of= ;; esac
}
"""

FUNCTIONS = (
    RELEASE_OF + f"""\
stat_of() {{
  # Sets st (state), pg (group), ss (session), bt (start time). The name in parentheses may hold anything, also newlines.
  st=
  [ -r "/proc/$1/stat" ] || return 1
  all=
  while IFS= read -r line || [ -n "$line" ]; do all="$all $line"; done 2>/dev/null <"/proc/$1/stat" || return 1
  set -f; {fields_after_name("all")}; set -- $all; set +f
  [ $# -ge 20 ] || return 1
  st=$1 pg=$3 ss=$4; shift 19; bt=$1
}}
"""
    """\
read_pid() {
  # Sets pid, start, boot, of, by from the pid file; pid is empty when it tells nothing.
  pid= start= boot= of= by=
  [ -f "$PIDFILE" ] && read -r pid start boot of by <"$PIDFILE"
  case $pid in ''|0|1|*[!0-9]*) pid= ;; esac
}
boot_id() { read -r now_boot </proc/sys/kernel/random/boot_id 2>/dev/null || now_boot=none; }
is_up() {
  # Whether the main process lives and is the one that wrote the pid file.
  [ -n "$pid" ] && [ "$boot" = "$now_boot" ] && stat_of "$pid" && [ "$bt" = "$start" ] && [ "$st" != Z ] && [ "$st" != X ]
}
"""
)

STOP_ALL = """\
marked() {
  # Every process that carries the mark of this service in its environment.
  grep -lsF "FRAISIER_SERVICE=$MARK" /proc/[0-9]*/environ | while IFS=/ read -r none proc number rest; do echo "$number"; done
}
group_of_ours() {
  # Sets group to the number of our process group, or to nothing when that number may belong to somebody else.
  group=
  [ -n "$pid" ] && [ "$boot" = "$now_boot" ] || return 0
  if is_up; then [ "$pg" = "$pid" ] && group=$pid; return 0; fi
  # The leader is gone. Its number cannot be given away while the group has members, unless it was free in between:
  # then a living leader with another start time stands there, or a member that does not carry our mark.
  if stat_of "$pid" && [ "$bt" != "$start" ]; then return 0; fi
  kill -0 "-$pid" 2>/dev/null || return 0
  for one in $(marked); do stat_of "$one" && [ "$pg" = "$pid" ] && group=$pid; done
  return 0
}
group_runs() {
  [ -n "$group" ] && kill -0 "-$group" 2>/dev/null || return 1
  for one in /proc/[0-9]*; do
    stat_of "${one#/proc/}" && [ "$pg" = "$group" ] && [ "$st" != Z ] && [ "$st" != X ] && return 0
  done
  return 1
}
strays() { left=; for one in $(marked); do stat_of "$one" && [ "$st" != Z ] && [ "$st" != X ] && left="$left $one"; done; }
signal_all() {
  [ -z "$group" ] || kill "-$1" "-$group" 2>/dev/null
  for one in $left; do kill "-$1" "$one" 2>/dev/null; done
}
all_gone() {
  strays
  [ -z "$left" ] && ! group_runs
}
wait_gone() {
  # $1 milliseconds at most. Most services end at once, so the first looks follow each other quickly.
  waited=0
  for nap in 003 006 012 025 050; do
    all_gone && return 0
    [ "$waited" -lt "$1" ] || return 1
    sleep "0.$nap"; waited=$((waited + ${nap#0}))
  done
  while [ "$waited" -lt "$1" ]; do all_gone && return 0; sleep 0.1; waited=$((waited + 100)); done
  all_gone
}
stop_all() {
  # $1 milliseconds for TERM. Sets stopped to what was there before.
  read_pid; boot_id; stopped=
  # The log is made before the first start and never goes away: without it there is nothing to look for.
  [ -e "$PIDFILE" ] || [ -e @LOG@ ] || return 0
  is_up && stopped=$pid.$start
  group_of_ours; strays
  if [ -n "$group$left" ]; then
    signal_all TERM
    wait_gone "$1" || { signal_all KILL; forced=yes; wait_gone 5000; } ||
      fail @BUSY@ "the old process does not end: group $group, processes$left"
  fi
  [ ! -e "$PIDFILE" ] || rm -f -- "$PIDFILE"
}
""".replace("@BUSY@", str(EXIT_BUSY)).replace("@LOG@", LOG_FILE)

REPORT = """\
report() {
  echo "running $1"; echo "pid $pid"; echo "invocation $pid.$start"
  root=$PWD; release_of "$pid"
  [ -z "$of" ] || echo "running_release $of"
}
"""


def setting(app: str, mark: str) -> str:
    """Return the lines that set what the functions read. `mark` is the value of FRAISIER_SERVICE."""
    return f"APP={quote(app)}; PIDFILE={PID_FILE}; MARK={quote(mark)}; forced=; group=; left=\n"
