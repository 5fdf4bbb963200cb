"""
The completion scripts, written from the command tree.

Rule of this file: it is pure. Words of the tree are letters, digits, "-" and "="; every other text
(descriptions) is quoted for the shell.

Theory of operation. Each script walks the words before the cursor to find the command (skipping the
values of shared options, which may stand in front of it), then looks up what that command takes.
Go's one-dash forms are completed where the user typed one dash.

Source: bash(1) "Programmable Completion", zshcompwid(1), complete(1) of fish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from baoha_cli.manual.tree import DIRECTORIES, FILES, SHARED_SECTIONS, CommandNode, Parameter

_BASH = """\
# Completion of baoha for bash, made by: baoha completion bash
_baoha_reply() {{
    local word
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen "$@" -- "$cur")
}}
_baoha() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev="" path="" word last i
    local commands="" options="" values="" kind=""
    local shared="{shared}"
    ((COMP_CWORD > 0)) && prev=${{COMP_WORDS[COMP_CWORD-1]}}
    # "=" is a word of its own: --output=js is three words.
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        [[ $word == -[!-]?* ]] && word=-$word
        case $word in
        {shared_valued})
            [[ ${{COMP_WORDS[i+1]}} == "=" ]] && ((i++))
            ((i++)) ;;
        *)
            case "$path/$word" in
            {paths}) path="$path/$word" ;;
            esac ;;
        esac
    done
    case $path in
{cases}
    esac
    last=$prev
    [[ $last == -[!-]?* ]] && last=-$last
    case $last in
    {shared_valued}) kind=none ;;
    esac
    case $last in
{shared_values}
    esac
    case "$path $last" in
{values}
    esac
    COMPREPLY=()
    if [[ -n $kind ]]; then
        case $kind in
        words) _baoha_reply -W "$values" ;;
        esac
    elif [[ $cur == -[!-]* ]]; then
        _baoha_reply -W "${{options//--/-}}"
    elif [[ $cur == -* ]]; then
        _baoha_reply -W "$options"
    else
        case "$path" in
{arguments}
        *) _baoha_reply -W "$commands" ;;
        esac
        [[ -n $values ]] && _baoha_reply -W "$values"
    fi
    case $kind in
    files) _baoha_reply -f; compopt -o filenames 2>/dev/null ;;
    directories) _baoha_reply -d; compopt -o filenames 2>/dev/null ;;
    esac
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}}
complete -F _baoha baoha
"""

_ZSH = """\
#compdef baoha
# Completion of baoha for zsh, made by: baoha completion zsh
_baoha() {{
    local cur=${{words[CURRENT]}} prev=${{words[CURRENT-1]}} at="" word last kind=""
    local -a subcommands options values
    local -i i
    local -a shared=({shared})
    for ((i = 2; i < CURRENT; i++)); do
        word=${{words[i]}}
        [[ $word == -[^-]?* ]] && word=-$word
        case $word in
        ({shared_valued}) ((i++)) ;;
        (*)
            case "$at/$word" in
            ({paths}) at="$at/$word" ;;
            esac ;;
        esac
    done
    case $at in
{cases}
    esac
    last=$prev
    if [[ $cur == -*=* ]]; then
        last=${{cur%%=*}}
        compset -P '*='
    fi
    [[ $last == -[^-]?* ]] && last=-$last
    case $last in
    ({shared_valued}) kind=none ;;
    esac
    case $last in
{shared_values}
    esac
    case "$at $last" in
{values}
    esac
    if [[ -z $kind && $cur == -[^-]* ]]; then
        options=("${{options[@]/#--/-}}")
    fi
    if [[ -z $kind && $cur == -* ]]; then
        _describe -o option options
        return
    fi
    if [[ -z $kind ]]; then
        case $at in
{arguments}
        esac
    fi
    case $kind in
    (words) compadd -- $values ;;
    (files) _files ;;
    (directories) _files -/ ;;
    (none) ;;
    (*) (( $#subcommands )) && _describe command subcommands ;;
    esac
}}
if [[ $funcstack[1] == _baoha ]]; then
    _baoha "$@"
else
    compdef _baoha baoha
fi
"""

_FISH = """\
# Completion of baoha for fish, made by: baoha completion fish
function __baoha_path
    set -l path ""
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch (string replace -r '^-([^-].+)' -- '--$1' $word)
            case {shared_valued}
                set skip 1
            case '*'
                switch "$path/$word"
                    case {paths}
                        set path "$path/$word"
                end
        end
    end
    echo $path
end
function __baoha_at
    test (__baoha_path) = "$argv[1]"
end
complete -c baoha -f
{lines}
"""


def bash_script(tree: CommandNode) -> str:
    """Return the script for bash."""
    nodes = list(tree.walk())
    cases = [
        f"    {_pattern(node)}) commands='{_words(child.path[-1] for child in node.children)}'\n"
        f'        options="{_words(_names(_own(node)))}{"" if node.children else " $shared"}" ;;'
        for node in nodes
    ]
    return _BASH.format(
        shared=_words(_names(_shared(nodes))),
        shared_valued="|".join(_shared_valued(tree)),
        paths="|".join(_key(node) for node in nodes[1:]),
        cases="\n".join(cases),
        shared_values="\n".join(_value_cases(_shared(nodes), "", "    {}) {} ;;")),
        values="\n".join(
            line for node in nodes for line in _value_cases(_own(node), _quoted_key(node), _PLAIN)
        ),
        arguments="\n".join(_argument_cases(nodes, "        {}) {} ;;")),
    )


def zsh_script(tree: CommandNode) -> str:
    """Return the script for zsh."""
    nodes = list(tree.walk())
    cases = []
    for node in nodes:
        commands = " ".join(_described(child.path[-1], child.summary) for child in node.children)
        options = _described_options(_own(node)) + ("" if node.children else ' "${shared[@]}"')
        cases.append(f"    ({_pattern(node)}) subcommands=({commands})")
        cases.append(f"        options=({options}) ;;")
    return _ZSH.format(
        shared=_described_options(_shared(nodes)),
        shared_valued="|".join(_shared_valued(tree)),
        paths="|".join(_key(node) for node in nodes[1:]),
        cases="\n".join(cases),
        shared_values="\n".join(_value_cases(_shared(nodes), "", "    ({}) {} ;;", array=True)),
        values="\n".join(
            line
            for node in nodes
            for line in _value_cases(_own(node), _quoted_key(node), "    ({}) {} ;;", array=True)
        ),
        arguments="\n".join(_argument_cases(nodes, "        ({}) {} ;;", array=True)),
    )


def fish_script(tree: CommandNode) -> str:
    """Return the script for fish."""
    nodes = list(tree.walk())
    lines = []
    for node in nodes:
        condition = f"-n '__baoha_at \"{_key(node)}\"'"
        for child in node.children:
            text = _fish_quoted(child.summary)
            lines.append(f"complete -c baoha {condition} -a {child.path[-1]} -d {text}")
        for param in _own(node):
            lines.append(_fish_line(param, condition))
    lines += [_fish_line(param, "") for param in _shared(nodes)]
    return _FISH.format(
        shared_valued=" ".join(_shared_valued(tree)),
        paths=" ".join(_key(node) for node in nodes[1:]),
        lines="\n".join(lines),
    )


SCRIPTS: Final[dict[str, Callable[[CommandNode], str]]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
_PLAIN: Final = "    {}) {} ;;"
_KINDS: Final = {FILES: "files", DIRECTORIES: "directories"}


def _key(node: CommandNode) -> str:
    return "".join(f"/{word}" for word in node.path)


def _pattern(node: CommandNode) -> str:
    return _key(node) or '""'


def _quoted_key(node: CommandNode) -> str:
    return f'"{_key(node)} "'


def _words(words: Iterable[str]) -> str:
    return " ".join(words)


def _names(parameters: Iterable[Parameter]) -> Iterable[str]:
    return (name for param in parameters for name in param.names)


def _own(node: CommandNode) -> list[Parameter]:
    return [param for param in node.parameters if param.section not in SHARED_SECTIONS]


def _shared(nodes: list[CommandNode]) -> list[Parameter]:
    """Return the shared options, as the first command that has them declares them."""
    for node in nodes:
        shared = [param for param in node.parameters if param.section in SHARED_SECTIONS]
        if shared:
            return shared
    return []


def _shared_valued(tree: CommandNode) -> list[str]:
    shared = _shared(list(tree.walk()))
    return [name for param in shared if param.takes_value for name in param.names]


def _value_cases(
    parameters: Iterable[Parameter], key: str, form: str, *, array: bool = False
) -> Iterable[str]:
    for param in parameters:
        if param.names and param.takes_value:
            pattern = "|".join(f"{key}{name}" for name in param.names)
            yield form.format(pattern, _action(param, array=array))


def _argument_cases(nodes: list[CommandNode], form: str, *, array: bool = False) -> Iterable[str]:
    for node in nodes:
        for param in node.parameters:
            if not param.names and (param.values or param.files):
                yield form.format(_pattern(node), _action(param, array=array))
                break


def _action(param: Parameter, *, array: bool) -> str:
    if param.values:
        words = _words(param.values)
        return f"kind=words; values=({words})" if array else f"kind=words; values='{words}'"
    return f"kind={_KINDS.get(param.files, 'none')}"


def _described(word: str, text: str) -> str:
    quoted = f"{word}:{text}".replace("'", "'\\''")
    return f"'{quoted}'"


def _described_options(parameters: Iterable[Parameter]) -> str:
    return " ".join(_described(name, param.help) for param in parameters for name in param.names)


def _fish_quoted(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def _fish_line(param: Parameter, condition: str) -> str:
    parts = ["complete -c baoha", condition] if condition else ["complete -c baoha"]
    for name in param.names:
        parts.append(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}")
    if param.names and param.takes_value:
        parts.append("-r")
    if param.values:
        parts.append(f"-a '{_words(param.values)}'")
    elif param.files == FILES:
        parts.append("-F")
    elif param.files == DIRECTORIES:
        parts.append("-a '(__fish_complete_directories)'")
    if param.names:
        parts.append(f"-d {_fish_quoted(param.help)}")
    return " ".join(parts)
