"""The layout of releases on a target, as scripts.

`APP/releases/ID` holds one release each, `APP/shared` what outlives them, `APP/.fraisier` our own state, and `APP/current`
is a link to `releases/ID`. A release is complete when its file MARKER has content: lines with digest and version. Until
then the file is empty. A release is built at its final path, because tools write that path into what they build.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from fraisier.commands.sh import EXIT_BUSY, EXIT_CONFIG, EXIT_REFUSED, FAIL, quote, words

MARKER = ".fraisier-release"
STATE = ".fraisier"
TOOLS = (
    "tar",
    "mv",
    "ln",
    "mkdir",
    "rm",
    "readlink",
    "df",
    "grep",
    "setsid",
    "tail",
    "ls",
    "sleep",
    "cat",
    "tr",
    "wc",
    "head",
    "base64",
)

CURRENT = """\
current=
if [ -L current ]; then
  # `cd -P` leaves the real path in PWD, which takes no program; only a link that leads nowhere or elsewhere needs one.
  cd -P . && root=$PWD
  if cd -P ./current 2>/dev/null; then current=$PWD; cd -P -- "$root" || exit 1; fi
  case $current in
    "$root"/releases/*) current=${current#"$root"/} ;;
    *) current=$(readlink current); current=${current%/}; current=${current#"$APP"/} ;;
  esac
  case $current in releases/*/*|releases/) current= ;; releases/*) current=${current#releases/} ;; *) current= ;; esac
fi
"""
"""Sets `current` to the id of the release that the link names, empty when it names none of ours. Runs in APP."""


def _enter(app: str) -> str:
    return f'{FAIL}\nAPP={quote(app)}\ncd -- "$APP" || fail {EXIT_REFUSED} "cannot enter $APP"\n'


def tools() -> str:
    """Check that the programs are there that our scripts use."""
    return f"""\
{FAIL}
for tool in {words(TOOLS)}; do
  command -v "$tool" >/dev/null 2>&1 || fail {EXIT_CONFIG} "the command $tool is not there"
done
"""


def preflight(app: str, *, need_kb: int, free_kb: int | None = None) -> str:
    """Check that a release can be put there; changes nothing. Prints `free_kb N`, asked of `df` unless it is known."""
    ask = """$(df -Pk -- "$at" 2>/dev/null | { read -r line; read -r _ _ _ free _; echo "$free"; })"""
    return f"""\
{FAIL}
APP={quote(app)}
at=$APP
while [ ! -e "$at" ] && [ ! -L "$at" ]; do at=${{at%/*}}; [ -n "$at" ] || at=/; done
[ -d "$at" ] || fail {EXIT_CONFIG} "$at is not a directory"
[ -w "$at" ] && [ -x "$at" ] || fail {EXIT_CONFIG} "$at is not writable for $(id -un)"
for part in releases shared {STATE}; do
  [ ! -e "$APP/$part" ] || {{ [ -d "$APP/$part" ] && [ -w "$APP/$part" ]; }} ||
    fail {EXIT_CONFIG} "$APP/$part is not a writable directory"
done
if [ -e "$APP/current" ] && [ ! -L "$APP/current" ]; then
  fail {EXIT_CONFIG} "$APP/current is a directory or file, not a link: move it away first"
fi
free={ask if free_kb is None else free_kb}
case $free in ''|*[!0-9]*) ;; *)
  echo "free_kb $free"
  [ "$free" -ge {need_kb} ] || fail {EXIT_BUSY} "$free kB are free at $at, and {need_kb} kB are needed" ;;
esac
"""


def make_state(app: str) -> str:
    """Make the directory of our own state, where a tar may be brought to."""
    return f'{FAIL}\nmkdir -p -- {quote(f"{app}/{STATE}")} || fail {EXIT_REFUSED} "cannot make {STATE}"'


MADE = '${new:+"$APP/$R" "$APP/shared"}'
"""Words for the directories that `unpack` makes for a new release, for the `guard` that makes its own together with them."""


def unpack(
    app: str,
    release: str,
    *,
    digest: str,
    archive: str,
    shared: Iterable[str],
    guard: str = "",
    unless_any: str = "",
) -> str:
    """Unpack `archive` (a tar at the target) as an unfinished release. Prints `complete` when it was finished earlier, and
    `found` when nothing was done because there is something in the directory APP/`unless_any`.

    `guard` are lines to run before anything is changed; they set `fence_made` when they have made MADE."""
    unless = f'for name in "$APP"/{unless_any}/*; do [ ! -e "$name" ] || {{ echo found; exit 0; }}; done\n'
    links = "".join(_link(entry) for entry in shared)
    return f"""\
{FAIL}
APP={quote(app)}; ID={quote(release)}
R=releases/$ID; new= fence_made=
[ -e "$APP/$R" ] || [ -L "$APP/$R" ] || new=yes
{guard}{unless if unless_any else ""}if [ -z "$new" ]; then
  cd -- "$APP" || fail {EXIT_REFUSED} "cannot enter $APP"
  if [ -s "$R/{MARKER}" ]; then
    read -r digest <"$R/{MARKER}"
    [ "$digest" = {quote(digest)} ] && {{ echo complete; exit 0; }}
  fi
{CURRENT}
  [ "$current" != "$ID" ] || fail {EXIT_REFUSED} "$R is current and not what was staged; it is left alone"
  rm -rf -- "$R" || fail {EXIT_REFUSED} "cannot remove the unfinished $R"
fi
[ -n "$new$fence_made" ] && [ "$new" = "$fence_made" ] ||
  mkdir -p -- "$APP/$R" "$APP/shared" "$APP/{STATE}" || fail {EXIT_REFUSED} "cannot make directories in $APP"
cd -- "$APP" || fail {EXIT_REFUSED} "cannot enter $APP"
# Empty from the first moment, for cleanup knows by it what is ours and unfinished. What is unpacked cannot make it say
# that the release is complete: it would have to hold its own digest.
: >"$R/{MARKER}" || fail {EXIT_REFUSED} "cannot write to $R"
tar -xof {quote(archive)} -C "$R" || {{ rm -rf -- "$R"; fail {EXIT_BUSY} "cannot unpack the release"; }}
[ -f "$R/{MARKER}" ] && [ ! -L "$R/{MARKER}" ] || rm -rf -- "$R/{MARKER}"
: >"$R/{MARKER}" || fail {EXIT_REFUSED} "cannot write to $R"
{links}"""


def _link(entry: str) -> str:
    """Return the lines that link one entry of `shared`; what stands in the release at that place is replaced."""
    path = PurePosixPath(entry)
    inside = quote(str(path))
    target = quote("../" * (len(path.parts) + 1) + f"shared/{path}")
    parent = str(path.parent)
    parents = "" if parent == "." else f'mkdir -p -- "$R"/{quote(parent)} shared/{quote(parent)}\n'
    is_directory = "true" if entry.endswith("/") else f'[ -d "$R"/{inside} ]'
    return f"""\
{parents}if [ ! -e shared/{inside} ] && [ ! -L shared/{inside} ]; then
  if {is_directory}; then mkdir -p -- shared/{inside}; else : >shared/{inside}; fi ||
    fail {EXIT_REFUSED} "cannot make shared/"{inside}
fi
[ ! -e "$R"/{inside} ] && [ ! -L "$R"/{inside} ] || rm -rf -- "$R"/{inside}
ln -s -- {target} "$R"/{inside} || fail {EXIT_REFUSED} "cannot link shared/"{inside}
"""


def complete(app: str, release: str, *, digest: str, version: str) -> str:
    """Mark a built release as complete; what is marked is never built again."""
    return f"""\
{_enter(app)}cd -- {quote("releases/" + release)} || fail {EXIT_REFUSED} "the staged release is gone"
[ -f {MARKER} ] && printf '%s\\n' {quote(digest)} {quote(version)} >{MARKER} ||
  fail {EXIT_REFUSED} "cannot write to the staged release"
"""


def discard(app: str, release: str) -> str:
    """Remove a release that was not completed."""
    return f"""\
cd -- {quote(app)} || exit 0
[ -s {quote(f"releases/{release}/{MARKER}")} ] || rm -rf -- {quote("releases/" + release)}
"""


def switch(app: str, release: str) -> str:
    """Point `current` at a complete release, in one system call. Prints `previous ID` and `current ID`."""
    return f"""\
{_enter(app)}ID={quote(release)}
[ -s "releases/$ID/{MARKER}" ] || fail {EXIT_REFUSED} "the release $ID is not there, or not complete"
[ -L current ] || [ ! -e current ] || fail {EXIT_CONFIG} "$APP/current is a directory or file, not a link: move it away first"
{CURRENT}
echo "previous $current"
if [ ! -L current ]; then
  # -T: what appears there meanwhile is neither entered nor taken for what was asked for.
  ln -sT -- "releases/$ID" current || fail {EXIT_REFUSED} "cannot make $APP/current"
elif [ "$current" != "$ID" ] || [ ! -e current ]; then
  [ ! -L {STATE}/next ] || rm -f -- {STATE}/next
  ln -s -- "releases/$ID" {STATE}/next && mv -Tf -- {STATE}/next current || fail {EXIT_REFUSED} "cannot switch $APP/current"
fi
echo "current $ID"
"""


def switch_off(app: str) -> str:
    """Remove `current`, so that nothing is. Prints `previous ID`."""
    return f"""\
[ -d {quote(app)} ] || exit 0
{_enter(app)}[ -L current ] || [ ! -e current ] || fail {EXIT_CONFIG} "$APP/current is not a link; it is left alone"
{CURRENT}
echo "previous $current"
rm -f -- current || fail {EXIT_REFUSED} "cannot remove $APP/current"
"""


def describe(app: str) -> str:
    """Print `current ID`, `digest D` and `version V` of the release that is current; nothing without one.

    Never ends the script, so that another look can follow in the same one."""
    return f"""\
APP={quote(app)}; current=
if cd -- "$APP" 2>/dev/null; then
{CURRENT}fi
if [ -n "$current" ]; then
  echo "current $current"
  {{ read -r digest && read -r version; }} 2>/dev/null <"releases/$current/{MARKER}" &&
    {{ echo "digest $digest"; echo "version $version"; }}
fi
:
"""


def cleanup(app: str, keep: Iterable[str], running: str) -> str:
    """Remove releases of ours that are not in `keep`, never the current one or the one at `running` (a path, or empty).

    Prints `removed ID` and `kept ID` lines. A release is renamed before it is taken apart, so that no half of one is left
    under its name.
    """
    kept = "|".join(quote(name) for name in keep) or "''"
    return f"""\
[ -d {quote(app)}/releases ] || exit 0
{_enter(app)}RUNNING={quote(running)}
{CURRENT}
for name in {STATE}/incoming-*; do [ ! -e "$name" ] || rm -f -- "$name"; done
cd releases || exit 0
for name in * .tmp-*; do
  [ -d "$name" ] && [ ! -L "$name" ] || continue
  case $name in .tmp-*) rm -rf -- "$name" || fail {EXIT_BUSY} "cannot remove releases/$name"; continue ;; esac
  [ -f "$name/{MARKER}" ] || continue
  case $name in {kept}) echo "kept $name"; continue ;; esac
  if [ "$name" = "$current" ] || [ "$name" = "$RUNNING" ]; then echo "kept $name"; continue; fi
  mv -- "$name" ".tmp-gone-$name" && rm -rf -- ".tmp-gone-$name" || fail {EXIT_BUSY} "cannot remove releases/$name"
  echo "removed $name"
done
"""


def remove(app: str) -> str:
    """Take everything of ours away but what is in `shared`; the directory too when nothing is left in it."""
    return f"""\
[ -d {quote(app)} ] || exit 0
{_enter(app)}[ -L current ] && rm -f -- current
if [ -d releases ]; then
  for name in releases/* releases/.tmp-*; do
    case $name in
      releases/.tmp-*) rm -rf -- "$name" ;;
      *) if [ -f "$name/{MARKER}" ]; then rm -rf -- "$name"; fi ;;
    esac || fail {EXIT_BUSY} "cannot remove $name"
  done
  rmdir releases 2>/dev/null
fi
rm -rf -- {STATE} || fail {EXIT_BUSY} "cannot remove {STATE}"
rmdir shared 2>/dev/null
cd / && rmdir -- "$APP" 2>/dev/null
[ ! -d "$APP" ] || echo "left $APP"
exit 0
"""
