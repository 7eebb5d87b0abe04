"""Fencing at the target, as pieces of scripts: whoever acts there registers, and the newest token wins.

A file `APP/.fraisier/fence-SPACE.TOKEN.PID.START.BOOT` tells of a token that was seen and who acts under it: a shell
that leads its process group, its start time (field 22 of /proc/PID/stat, 0 for one that leads none) and the beginning of the
boot id. The highest *name* wins, whatever a file holds. It says `idle` once a standing shell is done with the script, and
anything else, also nothing, means busy; the shell of a single command ends with it.

A command registers, which publishes its token, then looks for a higher one, and refuses to act when there is one. The
first command of a new epoch looks at the same time who else is registered, and ends the groups of older epochs that still
act. Either the old command registered before that look, and then it is seen; or it looks later, and then it refuses.

A SPACE is one lease in one journal. Tokens of different journals cannot be compared: a store that was lost and made anew
begins to count again, and must not be refused for ever. So two stores that deploy to one target are not fenced against each
other, nor are two environments that share a directory.

Both words have one length and are written over each other, because some file systems flush a file that is cut to nothing and
written anew, which takes longer than all the rest.

The guard takes no program unless there is something to end, many old files, or a directory to be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from fraisier.commands.releases import STATE
from fraisier.commands.sh import EXIT_BUSY, EXIT_FENCED, fields_after_name, quote

FENCE = f"{STATE}/fence-"
_EPOCH_DIGITS = 10
_SEQ_DIGITS = 12
_TOKENS = "[0-9]" * _EPOCH_DIGITS + "-" + "[0-9]" * _SEQ_DIGITS
_OLD_FILES_MAX = 16
_NAP_S = "0.05"
_NAPS_TERM = 40
_NAPS_KILL = 80
_SAID = "fenced:"


class Fence(msgspec.Struct, frozen=True):
    """The place and the token that a command is fenced with. `space` and `token` are names of files."""

    app: str
    space: str
    token: str

    @property
    def epoch(self) -> str:
        """The part of the token that its holder's other tokens share."""
        return self.token.partition("-")[0]


def fence_of(app: str, *, log_id: str, lease: tuple[str, str], token: tuple[int, int]) -> Fence | None:
    """Return the fence for a command at `app`, or None without a `log_id`. `lease` is fraise and environment, `token` is
    (epoch, seq of the intent)."""
    if not log_id:
        return None
    # The id is a UUIDv7, whose first digits are the same for all that were made within a minute.
    key = hashlib.sha256("\0".join((log_id, *lease)).encode("utf-8", "surrogateescape")).hexdigest()
    return Fence(app, f"{log_id[:8]}-{key[:8]}", f"{token[0]:0{_EPOCH_DIGITS}d}-{token[1]:0{_SEQ_DIGITS}d}")


def refuses(fence: Fence, exit_code: int, stderr: str) -> bool:
    """Whether a fenced command ended because of its token, and not by itself with the same exit code."""
    return exit_code == EXIT_FENCED and f"{_SAID} {fence.token} " in stderr


def introduction(pid: int, start: str, boot_id: str) -> str:
    """Return a line for a standing shell that leads its process group, which spares it to look who it is: its number, its
    start time (field 22 of /proc/PID/stat) and the boot id."""
    return f"_fr_me={pid}.{start}.{boot_id.partition('-')[0]}\n"


def guarded(fence: Fence | None, script: str) -> str:
    """Return a script of a standing shell that runs only when its token is the newest one, and is registered meanwhile."""
    return script if fence is None else released(fence, f"{guard(fence)}{script}")


def command(fence: Fence | None, text: str) -> str:
    """Return `sh -c` text of a user's command that is registered until its shell ends."""
    return text if fence is None else f"{guard(fence)}{_FORGET}{text}"


def argv(fence: Fence | None, words: Sequence[str]) -> list[str]:
    """Return the argv of a program that is registered until it ends."""
    if fence is None:
        return list(words)
    return ["sh", "-c", f'{guard(fence)}{_FORGET}exec "$@"', "sh", *words]


def released(fence: Fence | None, script: str) -> str:
    """Return a script that holds its guard already, with the end that says that the shell is idle again. The exit code
    of the last command is kept."""
    return script if fence is None else f'{script}\n_fr_release "$?"\n'


def guard(fence: Fence, *, makes: str = "") -> str:
    """Return the beginning of a script: register, publish, look; ends the shell when the token is refused.

    Where our state is not there yet, nothing is fenced, unless `makes` names (as words of sh) what the script would make
    anyway: then all is made at once, and `fence_made` is `yes`.
    """
    return f"""\
_fr_app={quote(fence.app)} _fr_t={fence.token} _fr_epoch={fence.epoch} _fr_is='{_TOKENS}' fence_made= _fr_r=
_fr_d=$_fr_app/{FENCE}{fence.space}.
{_HOT.replace("@WHEN@", ":" if makes else f'[ -d "$_fr_app/{STATE}" ]').replace("@MAKES@", makes)}"""


_HOT = f"""\
_fr_fail() {{ _fr_x=$1; shift; printf '%s\\n' "$*" >&2; exit "$_fr_x"; }}
_fr_who() {{ [ "$3" = "$$" ] && _fr_me=$$.${{20}} || _fr_me=$$.0; }}
_fr_release() {{ [ -z "$_fr_r" ] || echo idle 2>/dev/null 1<>"$_fr_r"; return "$1"; }}
if @WHEN@; then
  case ${{_fr_me-}} in "$$".*) ;; *)
    _fr_me=$$.0
    set -f
    read -r _fr_x 2>/dev/null </proc/$$/stat && {fields_after_name("_fr_x")} && _fr_who $_fr_x
    set +f
    _fr_x=none; read -r _fr_x 2>/dev/null </proc/sys/kernel/random/boot_id
    _fr_me=$_fr_me.${{_fr_x%%-*}} ;;
  esac
  _fr_r=$_fr_d$_fr_t.$_fr_me
  # On a full disk there is often room for a name still, and an empty file means busy, too: the way back must not be barred.
  echo busy 2>/dev/null 1<>"$_fr_r" || true 2>/dev/null >"$_fr_r" || {{
    mkdir -p -- "$_fr_app/{STATE}" @MAKES@ && fence_made=yes && echo busy 1<>"$_fr_r"
  }} || _fr_fail {EXIT_BUSY} "cannot register in $_fr_app/{STATE}"
  _fr_old=
  for _fr_x in "$_fr_d"$_fr_is.*; do
    _fr_x=${{_fr_x#"$_fr_d"}}
    case $_fr_x in "$_fr_epoch"-*) ;; *) _fr_old="$_fr_old $_fr_x" ;; esac
  done
  case $_fr_x in "$_fr_t".*) ;; *)
    _fr_fail {EXIT_FENCED} "{_SAID} $_fr_t is refused, for ${{_fr_x%%.*}} was seen in $_fr_app/{STATE}" ;;
  esac
  if [ -n "$_fr_old" ] && [ ! -e "${{_fr_d}}looked.$_fr_epoch" ]; then @COLD@; fi
fi
"""

_COLD = f"""\
_fr_stat() {{
  _fr_all=; [ -r "/proc/$1/stat" ] || return 1
  while IFS= read -r _fr_x || [ -n "$_fr_x" ]; do _fr_all="$_fr_all $_fr_x"; done 2>/dev/null <"/proc/$1/stat" || return 1
  set -f; {fields_after_name("_fr_all")}; set -- $_fr_all; set +f
  [ $# -ge 20 ] || return 1
  _fr_st=$1 _fr_pg=$3 _fr_bt=${{20}}
  case $_fr_st in Z|X) return 1 ;; esac
}}
_fr_group() {{
  kill -0 "-$1" 2>/dev/null || return 1
  for _fr_p in /proc/[0-9]*; do _fr_stat "${{_fr_p#/proc/}}" && [ "$_fr_pg" = "$1" ] && return 0; done
  return 1
}}
_fr_end() {{
  kill -TERM "-$1" 2>/dev/null
  _fr_n=0
  while _fr_group "$1"; do
    [ "$_fr_n" -ne {_NAPS_TERM} ] || kill -KILL "-$1" 2>/dev/null
    [ "$_fr_n" -lt {_NAPS_KILL} ] || return 1
    sleep {_NAP_S} || :; _fr_n=$((_fr_n + 1))
  done
}}
_fr_acts() {{
  # Whether the registration $1 is of a process that acts now: a group of this boot, not our own, whose leader runs.
  _fr_x=${{1#*.}}; _fr_pid=${{_fr_x%%.*}}; _fr_x=${{_fr_x#*.}}; _fr_start=${{_fr_x%%.*}}; _fr_boot=${{_fr_x#*.}}
  case $_fr_pid in ''|0*|1|*[!0-9]*) return 1 ;; esac
  [ "$_fr_boot" = "${{_fr_me##*.}}" ] && [ "$_fr_pid" != "$_fr_own" ] || return 1
  _fr_x=; read -r _fr_x 2>/dev/null <"$_fr_d$1"
  [ "$_fr_x" != idle ] && _fr_stat "$_fr_pid" && [ "$_fr_bt" = "$_fr_start" ]
}}
_fr_many() {{ [ $# -gt {_OLD_FILES_MAX} ]; }}
_fr_stat $$ && _fr_own=$_fr_pg || _fr_own=$$
for _fr_o in $_fr_old; do
  if _fr_acts "$_fr_o"; then
    _fr_end "$_fr_pid" || _fr_fail {EXIT_BUSY} "an older command does not end: process group $_fr_pid"
  fi
done
if _fr_many $_fr_old; then
  (
    set --
    for _fr_x in "${{_fr_d}}"looked.*; do set -- "$@" "$_fr_x"; done
    for _fr_x in $_fr_old; do set -- "$@" "$_fr_d$_fr_x"; done
    rm -f -- "$@"
  ) 2>/dev/null
fi
echo 2>/dev/null >"${{_fr_d}}looked.$_fr_epoch" || :
"""
# One word to the shell, which is not taken apart before it is needed.
_HOT = _HOT.replace("@COLD@", f"eval {quote(_COLD)}")

_FORGET = """\
unset -f _fr_fail _fr_who _fr_release _fr_stat _fr_group _fr_end _fr_acts _fr_many
unset _fr_app _fr_t _fr_epoch _fr_is _fr_r _fr_d _fr_me _fr_x _fr_old _fr_o _fr_p _fr_n _fr_all _fr_st _fr_pg _fr_bt
unset _fr_own _fr_pid _fr_start _fr_boot _fr_ifs fence_made
"""
"""A user's command sees nothing of this."""
