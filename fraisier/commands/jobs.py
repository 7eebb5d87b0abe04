"""Commands that outlive whoever started them, as scripts: started once, found again, ended with all that they started.

A job is a directory, made by `mkdir`, which succeeds once. Its wrapper, a session of its own, writes `pid` (pid, start
time, boot id), then takes `go` by `mkdir`, runs the command with its output in the files `out` and `err`, and renames
the exit code into `rc`. Whoever finds that nothing has begun takes `go` as a plain file; only one of the two can be, so
that what was found not begun never begins. Whoever ends a job leaves the file `cut` first: the exit code of what was
ended tells nothing about what it had done. The environment is inherited, and nothing of it is written down.
Linux, because only /proc tells who is who.
"""

from __future__ import annotations

from collections.abc import Iterable

from fraisier.commands.identity import FUNCTIONS
from fraisier.commands.releases import STATE
from fraisier.commands.sh import EXIT_REFUSED, FAIL, fields_after_name, quote, words

JOBS = f"{STATE}/jobs"
MARK = "FRAISIER_JOB"
"""The variable by which what a job started is known, also when the wrapper is gone. Its value is the job's directory."""

_OUR_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

WRAPPER = f"""\
_fr_dir=$1 _fr_cwd=$2 _fr_command=$3 _fr_path=$4 _fr_sync=$5
cd -- "$_fr_dir" || exit 1
# A signal to the group is for the command; the wrapper stays, to tell how it ended. No `trap ''`: it would be inherited.
trap : HUP INT TERM
set -f
_fr_all=; while IFS= read -r _fr_line || [ -n "$_fr_line" ]; do _fr_all="$_fr_all $_fr_line"; done </proc/$$/stat
{fields_after_name("_fr_all")}; set -- $_fr_all; shift 19
set +f
read -r _fr_boot </proc/sys/kernel/random/boot_id 2>/dev/null || _fr_boot=none
printf '%s\\n' "$$ $1 $_fr_boot" >pid || exit 1
set --
mkdir go || exit 1
# A machine that loses its power must still know afterwards that this had begun.
[ -z "$_fr_sync" ] || sync pid go . .. || sync
(
  PATH=$_fr_path
  cd -- "${{_fr_cwd:-/}}" || {{ echo "cannot enter the directory $_fr_cwd" >&2; exit 126; }}
  exec sh -c "$_fr_command"
) </dev/null >out 2>err
_fr_rc=$?
printf '%s\\n' "$_fr_rc" >rc.new && mv -f rc.new rc
[ -z "$_fr_sync" ] || sync rc . || sync
# What the command has left behind in its group goes, and this shell with it.
kill -KILL 0
"""
"""What the session of a job runs. $1 is the job's directory, $2 the command's, $3 the command, $4 the PATH for it, and
$5 says by any content that the beginning and the end have to be on the disk."""

_LAUNCH = f"""\
_fr_path=$PATH; PATH={_OUR_PATH}:$PATH
case $1 in */*/*) mkdir -p -m 700 -- "${{1%/*}}" ;; *) exit {EXIT_REFUSED} ;; esac || exit {EXIT_REFUSED}
mkdir -m 700 -- "$1" 2>/dev/null || {{
  [ -d "$1" ] && {{ echo there; exit 0; }}
  echo "cannot make $1" >&2; exit {EXIT_REFUSED}
}}
export {MARK}="$1"
# The first setsid leads a group, so the second one has to fork: it leaves us behind without `&`, which would make the
# command ignore SIGINT and SIGQUIT.
setsid setsid /bin/sh -c {quote(WRAPPER)} fraisier-job "$1" "$2" "$3" "$_fr_path" "$4" </dev/null >/dev/null 2>&1
echo started
"""

_STATE = (
    FUNCTIONS
    + """\
known() {
  # Sets state of the job in this directory: new, void, running, ended (with rc), orphan or lost; and pid, start, boot.
  state=new rc= PIDFILE=pid
  read_pid; boot_id
  if ended; then has_ended; return 0; fi
  if [ -f go ]; then state=void; return 0; fi
  [ -d go ] || return 0
  # It may have begun between the two looks: who has `go` wrote `pid` before.
  [ -n "$pid" ] || read_pid
  if is_up; then state=running; return 0; fi
  # It may have ended between the two looks.
  if ended; then has_ended; return 0; fi
  members
  if [ -n "$left" ]; then state=orphan; else state=lost; fi
}
ended() { [ -e rc ] && read -r rc <rc && [ -n "$rc" ]; }
has_ended() { if [ -e cut ]; then state=lost rc=; else state=ended; fi; }
take() {
  # Takes `go`, so that what has not begun never does.
  known
  [ "$state" != new ] || ( set -C; : >go ) 2>/dev/null
  known
}
members() {
  # Sets left to the living processes of the job's session, whichever their group is.
  left= led=
  [ -n "$pid" ] && [ "$boot" = "$now_boot" ] || return 0
  # A leader with another start time means that the number went to somebody else, after all of ours were gone.
  if stat_of "$pid"; then [ "$bt" = "$start" ] || return 0; led=yes; fi
  for one in /proc/[0-9]*; do
    one=${one#/proc/}
    stat_of "$one" && [ "$ss" = "$pid" ] && [ "$st" != Z ] && [ "$st" != X ] || continue
    [ -n "$led" ] || grep -qsF "@MARK@=$JOB" "/proc/$one/environ" || continue
    left="$left $one"
  done
}
signal() {
  [ -z "$led" ] || kill "-$1" "-$pid" 2>/dev/null
  for one in $left; do
    [ -n "$led" ] && stat_of "$one" && [ "$pg" = "$pid" ] || kill "-$1" "$one" 2>/dev/null
  done
}
wait_gone() {
  # $1 milliseconds at most.
  waited=0
  for nap in 003 006 012 025; do
    members; [ -n "$left" ] || return 0
    [ "$waited" -lt "$1" ] || return 1
    sleep "0.$nap"; waited=$((waited + ${nap#0}))
  done
  while [ "$waited" -lt "$1" ]; do members; [ -n "$left" ] || return 0; sleep 0.1; waited=$((waited + 120)); done
  members; [ -z "$left" ]
}
""".replace("@MARK@", MARK)
)


def launch(job: str, command: str, *, cwd: str, durable: bool = False) -> list[str]:
    """Return the argv that starts a job in the environment that it is given, unless its directory is there.

    Prints `started` or `there`; returns as soon as the session is made. `durable` brings its beginning and its end to
    the disk before they count.
    """
    return ["/bin/sh", "-c", _LAUNCH, "fraisier-launch", job, cwd, command, "yes" if durable else ""]


def look(job: str, *, out: int, err: int, limit: int) -> str:
    """Print `state STATE RC`, then what the output files hold from these byte offsets on, at most `limit` bytes each.

    The state is read first, so that an ended job's output is complete. Bytes follow `out SIZE` and `err SIZE` (the sizes
    of the whole files) as base64 lines. A job whose last processes are just being ended has the state `ending`.
    """
    return f"""\
JOB={quote(job)}; state=none rc=
{_STATE}if cd -- "$JOB" 2>/dev/null; then
  known
  if [ "$state" = ended ] && [ -n "$pid" ] && kill -0 "-$pid" 2>/dev/null; then
    members
    [ -z "$left" ] || state=ending
  fi
fi
echo "state $state $rc"
if [ "$state" != none ] && [ -e err ] && {{ [ -s out ] || [ -s err ]; }}; then
  set -- $(wc -c out err)
  echo "out $1"
  [ "$1" -le {out} ] || tail -c +{out + 1} out | head -c {limit} | base64
  echo "err $3"
  [ "$3" -le {err} ] || tail -c +{err + 1} err | head -c {limit} | base64
fi
:
"""


def settle(job: str) -> str:
    """Print `state STATE RC` of a job, never `new`: what has not begun is made sure never to, also when it is still on
    its way (its directory is made for that)."""
    return f"""\
{FAIL}
JOB={quote(job)}; state= rc=
{_STATE}[ -d "$JOB" ] || mkdir -p -m 700 -- "${{JOB%/*}}" || fail {EXIT_REFUSED} "cannot make ${{JOB%/*}}"
[ -d "$JOB" ] || mkdir -m 700 -- "$JOB" 2>/dev/null
cd -- "$JOB" || fail {EXIT_REFUSED} "cannot enter $JOB"
take
echo "state $state $rc"
"""


def survey(jobs: str) -> str:
    """Print `NAME STATE RC` of every job in the directory `jobs`; changes nothing."""
    return f"""\
jobs={quote(jobs)}
{_STATE}if cd -- "$jobs" 2>/dev/null; then
  for name in *; do
    cd -- "$jobs/$name" 2>/dev/null || continue
    JOB=$jobs/$name
    known
    echo "$name $state $rc"
  done
fi
:
"""


def end(job: str, *, grace_ms: int) -> str:
    """End a job with everything in its session: TERM, `grace_ms`, KILL; one that has not begun never will.

    Prints `left PIDS` when some of it could not be ended.
    """
    return f"""\
JOB={quote(job)}
{_STATE}if cd -- "$JOB" 2>/dev/null; then
  take
  if [ "$state" != void ]; then
    members
    if [ -n "$left" ]; then
      [ "$state" = ended ] || : >cut
      signal TERM
      wait_gone {grace_ms} || {{ signal KILL; wait_gone 200; }} || {{ signal KILL; wait_gone 1000; }} || echo "left$left"
    fi
  fi
fi
:
"""


def forget_step(jobs: str, deployment: str, step: str) -> str:
    """Remove the directories of every job of a deployment's step."""
    return f"cd -- {quote(jobs)} 2>/dev/null && rm -rf -- {quote(f'{deployment}.{step}')}.*\n:\n"


def forget(jobs: str, names: Iterable[str]) -> str:
    """Remove the directories of jobs."""
    return f"cd -- {quote(jobs)} 2>/dev/null && rm -rf -- {words(names)}\n:"
