"""`completion`: scripts for shells, made from the commands as they are declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import asyncclick as click

from fraisier.cli import exits
from fraisier.cli.command import Tree
from fraisier.cli.context import Call
from fraisier.cli.tree import make_tree

_TAKES_FRAISE = "fraise"


class Known(NamedTuple):
    """A command as a completion script knows it: its path, its options, the words that may follow it, and whether
    a fraise and an environment follow."""

    path: str
    options: tuple[str, ...]
    words: tuple[str, ...]
    summaries: tuple[str, ...]
    names: bool


def known_commands() -> list[Known]:
    """Return every command that is not hidden, the root first."""
    root = make_tree()
    return list(_walk(root, "", click.Context(root, info_name="fraisier")))


def _walk(command: click.Command, path: str, ctx: click.Context) -> Iterator[Known]:
    children = []
    if isinstance(command, Tree):
        children = [name for name in command.list_commands(ctx) if not name.startswith("_")]
        words, summaries = tuple(children), tuple(command.summary(name) for name in children)
    else:
        words = tuple(
            str(choice)
            for param in command.params
            if isinstance(param, click.Argument) and isinstance(param.type, click.Choice)
            for choice in param.type.choices
        )
        summaries = ("",) * len(words)
    options = [
        opt for param in command.get_params(ctx) if isinstance(param, click.Option) for opt in param.opts
    ]
    arguments = [param.name or "" for param in command.params if isinstance(param, click.Argument)]
    names = bool(arguments) and arguments[0].startswith(_TAKES_FRAISE)
    yield Known(path, tuple(options), words, summaries, names)
    for name in children:
        assert isinstance(command, Tree)
        found = command.get_command(ctx, name)
        assert found is not None
        yield from _walk(found, f"{path} {name}".strip(), click.Context(found, info_name=name, parent=ctx))


def completion(call: Call, *, shell: str) -> int:
    """Print the script."""
    call.data({"bash": bash, "zsh": zsh, "fish": fish}[shell](known_commands()))
    return exits.OK


# bash, and zsh by way of it ---------------------------------------------------------------------------------------------

_BASH = """# Completion of fraisier for {shell}.
_fraisier() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} path="" word candidate index place=0 configuration=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $word in
            -c|--config) configuration=(-c "${{COMP_WORDS[index + 1]}}"); ((index++)); continue ;;
            {valued}) ((index++)); continue ;;
            -*) continue ;;
        esac
        candidate=${{path:+$path }}$word
        if _fraisier_commands "$candidate"; then path=$candidate; place=$index; else break; fi
    done
    local -a bare=()
    for ((index = place + 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        case $word in
            {valued}|-c|--config) ((index++)) ;;
            -*) ;;
            *) bare+=("$word") ;;
        esac
    done
    COMPREPLY=()
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$(_fraisier_options "$path")" -- "$current"))
    elif _fraisier_names "$path" && ((${{#bare[@]}} < 2)); then
        COMPREPLY=($(compgen -W "$(fraisier "${{configuration[@]}}" _names "${{bare[@]}}" 2>/dev/null)" -- "$current"))
    elif ((${{#bare[@]}} == 0)); then
        COMPREPLY=($(compgen -W "$(_fraisier_words "$path")" -- "$current"))
    fi
}}
_fraisier_commands() {{
    case $1 in
        {paths}) return 0 ;;
    esac
    return 1
}}
_fraisier_options() {{
    case $1 in
{options}
    esac
}}
_fraisier_words() {{
    case $1 in
{words}
    esac
}}
_fraisier_names() {{
    case $1 in
        {names}) return 0 ;;
    esac
    return 1
}}
complete -o default -F _fraisier fraisier"""


def bash(commands: list[Known], shell: str = "bash") -> str:
    """Return the script for bash."""
    return _BASH.format(
        shell=shell,
        valued="|".join(_valued()),
        paths="|".join(f"'{known.path}'" for known in commands if known.path),
        options="\n".join(
            f"        '{known.path}') echo '{' '.join(known.options)}' ;;" for known in commands
        ),
        words="\n".join(
            f"        '{known.path}') echo '{' '.join(known.words)}' ;;" for known in commands if known.words
        ),
        names="|".join(f"'{known.path}'" for known in commands if known.names),
    )


def zsh(commands: list[Known]) -> str:
    """Return the script for zsh, which understands that of bash once it is told to."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash(commands, 'zsh')}"


def _valued() -> list[str]:
    """Return the options that take a value, but -c, so that the value is not taken for a word of the command."""
    root = make_tree()
    ctx = click.Context(root, info_name="fraisier")
    found: dict[str, None] = {}
    for known in _leaves(root, ctx):
        for param in known.params:
            if isinstance(param, click.Option) and not param.is_flag and not param.count:
                found.update(dict.fromkeys(opt for opt in param.opts if opt not in ("-c", "--config")))
    # The root's --version takes no value; where it follows a command it does.
    return sorted(found)


def _leaves(command: click.Command, ctx: click.Context) -> Iterator[click.Command]:
    if not isinstance(command, Tree):
        yield command
        return
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from _leaves(found, ctx)


# fish -------------------------------------------------------------------------------------------------------------------

_FISH = """# Completion of fraisier for fish.
function __fraisier_bare
    # The words of the command line that are no options, without the program's name.
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or echo $word
    end
end
function __fraisier_at
    # Whether the bare words are exactly these.
    set -l bare (__fraisier_bare)
    test "$bare" = "$argv"
end
function __fraisier_in
    # Whether the bare words begin with these.
    set -l bare (__fraisier_bare)
    test "$bare[1..(count $argv)]" = "$argv"
end
function __fraisier_names
    set -l bare (__fraisier_bare)
    fraisier _names $bare[2..-1] 2>/dev/null
end
function __fraisier_wants_name
    set -l bare (__fraisier_bare)
    contains -- "$bare[1]" {names}; and test (count $bare) -lt 3
end
complete -c fraisier -f
complete -c fraisier -n __fraisier_wants_name -a '(__fraisier_names)'
{lines}"""


def fish(commands: list[Known]) -> str:
    """Return the script for fish."""
    lines = []
    for known in commands:
        for word, summary in zip(known.words, known.summaries, strict=True):
            told = summary.replace("'", "\\'")
            lines.append(f"complete -c fraisier -n '__fraisier_at {known.path}' -a {word} -d '{told}'")
        for opt in known.options:
            form = f"-l {opt[2:]}" if opt.startswith("--") else f"-s {opt[1:]}"
            where = f"__fraisier_in {known.path}" if known.path else "__fraisier_at"
            lines.append(f"complete -c fraisier -n '{where}' {form}")
    names = " ".join(known.path for known in commands if known.names)
    return _FISH.format(names=names, lines="\n".join(lines))
