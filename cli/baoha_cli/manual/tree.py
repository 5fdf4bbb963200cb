"""
The whole command tree as plain values: for completion, manual pages and the reference.

Rule of this file: everything comes from the commands as they are declared; there is no second list
of options, texts or exit codes. It loads every command's module, so nothing on the way to an
ordinary command imports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from baoha.diagnostics.catalogue import CODES
from baoha_cli.exits import Profile
from baoha_cli.output.documents import Format
from baoha_cli.registry import COMMANDS
from baoha_cli.shell.command import section_of
from baoha_cli.survey.conditions import MEANINGS

PROGRAM: Final = "baoha"
SECTIONS: Final = ("Arguments", "Options", "HTTP options", "Output options")
SHARED_SECTIONS: Final = frozenset({"HTTP options", "Output options"})
FILES: Final = "FILE"
DIRECTORIES: Final = "DIR"

# Values known without asking anybody, by the parameter's name.
_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "output": (*Format, "field="),
    "color": ("auto", "always", "never"),
    "exit_codes": (Profile.BAO.value, Profile.DETAILED.value, Profile.NAGIOS.value),
    "discover": ("none", "dns", "ha-status"),
    "shell": ("bash", "zsh", "fish"),
}


@dataclass(frozen=True)
class Parameter:
    """
    One option or argument.

    Args:
        names: spellings of an option, longest form first; empty for an argument.
        metavar: what stands for its value; "" for a flag.
        help: one line.
        section: see SECTIONS.
        values: what it can be, as far as that is known without a network.
        files: FILES, DIRECTORIES or "".
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    section: str
    values: tuple[str, ...] = ()
    files: str = ""

    @property
    def takes_value(self) -> bool:
        """Whether a value follows it."""
        return bool(self.metavar)


@dataclass(frozen=True)
class CommandNode:
    """
    One command or group of commands.

    Args:
        path: as typed, without the program's name; () is the program.
        summary: one line.
        help: the whole text.
        epilog: exit codes, conditions; "" without.
        parameters: own and shared ones, in the order of the help.
        children: of a group.
        usage: the line after "Usage:".
    """

    path: tuple[str, ...]
    summary: str
    help: str
    epilog: str
    parameters: tuple[Parameter, ...]
    children: tuple[CommandNode, ...]
    usage: str

    @property
    def words(self) -> str:
        """The command as typed."""
        return " ".join((PROGRAM, *self.path))

    def walk(self) -> Iterator[CommandNode]:
        """Yield this node and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, path: tuple[str, ...]) -> CommandNode | None:
        """Return the node at a path, or None."""
        return next((node for node in self.walk() if node.path == path), None)


def command_tree() -> CommandNode:
    """Return the program with all its commands."""
    from baoha_cli.main import build

    return _node(build(), (), None)


def _node(loaded: Any, path: tuple[str, ...], parent: Any) -> CommandNode:
    name = path[-1] if path else PROGRAM
    context = loaded.make_context(name, [], parent=parent, resilient_parsing=True)
    names = loaded.list_commands(context) if hasattr(loaded, "list_commands") else []
    children = tuple(
        _node(child, (*path, word), context)
        for word in names
        if (child := loaded.get_command(context, word)) is not None and not child.hidden
    )
    text = inspect.cleandoc(loaded.help or "")
    summary = COMMANDS[name].summary if len(path) == 1 else text.partition("\n")[0]
    return CommandNode(
        path,
        summary,
        text,
        inspect.cleandoc(loaded.epilog or ""),
        tuple(_parameters(loaded, context)),
        children,
        " ".join([PROGRAM, *path, *loaded.collect_usage_pieces(context)]).strip(),
    )


def _parameters(loaded: Any, context: Any) -> Iterator[Parameter]:
    found = [
        _parameter(param, context)
        for param in loaded.get_params(context)
        if not getattr(param, "hidden", False)
    ]
    for section in SECTIONS:
        yield from (param for param in found if param.section == section)


def _parameter(param: Any, context: Any) -> Parameter:
    is_argument = param.param_type_name == "argument"
    takes_value = is_argument or not param.is_flag
    metavar = (param.metavar or str(param.name).upper()) if takes_value else ""
    record = param.get_help_record(context)
    spellings = () if is_argument else (*param.opts, *param.secondary_opts)
    return Parameter(
        tuple(sorted(spellings, key=lambda name: not name.startswith("--"))),
        metavar,
        " ".join((record[1] if record else "").split()),
        section_of(param),
        _values(param.name),
        _files(param.name, metavar),
    )


def _values(name: str) -> tuple[str, ...]:
    if name in ("topic", "code"):
        return tuple(CODES) + (("exit-codes", "conditions") if name == "topic" else ())
    if name in ("for_", "expect"):
        return tuple(
            f"{word}=" if value == "must" else word for word, (value, _) in MEANINGS.items()
        )
    return _VALUES.get(name, ())


def _files(name: str, metavar: str) -> str:
    if metavar == "DIR":
        return DIRECTORIES
    return FILES if name == "config" or metavar.strip("[].") == "FILE" else ""
