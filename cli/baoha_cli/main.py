"""
The process entry: arguments in, exit code out, no traceback.

Rules of this file. Nothing heavy is imported here (trio, h11, ssl, yaml): `baoha --help` must
answer in less than 150 ms of CPU time. Every exception ends as an exit code of `exits.TABLE`.

Theory of operation. `LazyGroup` knows the commands' names and summaries from the registry and loads
a command's module when it is used. Shared options may also stand before the command; they are moved
behind it, where every command declares them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer

from baoha_cli.exits import Profile, Verdict, exit_code
from baoha_cli.failures import UsageFailed
from baoha_cli.registry import COMMANDS
from baoha_cli.shell.command import CONTEXT_SETTINGS, GoGroup, conclude
from baoha_cli.shell.options import shared_names

_HELP = """Run and look after clusters of baoha, OpenBao and Vault.

Every command takes the flags of `bao` (-address=URL or --address URL) and its variables
(BAO_ADDR, BAO_TOKEN, ...; BAOHA_ and VAULT_ work too).
"""


class LazyGroup(GoGroup):
    """The top level: commands are modules that are loaded on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all names, in the registry's order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command, or return None."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if cmd_name not in self.commands:
            module = import_module(f"baoha_cli.{entry.module}")
            loaded = typer.main.get_command(getattr(module, entry.app))
            loaded.name = cmd_name
            self.commands[cmd_name] = loaded
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from the registry, loading nothing."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in COMMANDS.items():
            sections.setdefault(entry.section, []).append((name, entry.summary))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move shared options behind the command, then parse."""
        parsed: list[str] = super().parse_args(ctx, shared_options_last(args))
        return parsed

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; a near miss is named."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], list(COMMANDS), n=1)
            hint = f"did you mean '{near[0]}'?" if near else "'baoha --help' lists the commands"
            raise UsageFailed(f"No such command: {args[0][:80]!a}", hint=hint)
        return super().resolve_command(ctx, args)


def shared_options_last(args: Sequence[str]) -> list[str]:
    """
    Return the arguments with shared options in front of the command moved to the end.

    ``baoha -address=URL kv get x`` then parses like ``baoha kv get x -address=URL``.
    """
    valued, flags = shared_names()
    rest = list(args)
    moved: list[str] = []
    while rest and rest[0].startswith("-") and rest[0] != "--":
        name, sign, _ = rest[0].partition("=")
        long = name if name.startswith("--") or len(name) == 2 else f"-{name}"
        if long not in valued and long not in flags:
            break
        moved.append(rest.pop(0))
        if long in valued and not sign and rest:
            moved.append(rest.pop(0))
    if rest and rest[0] in ("--version", "-version"):
        rest[0] = "version"
    cut = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:cut], *moved, *rest[cut:]]


def build() -> LazyGroup:
    """Return the whole program as one group."""
    return LazyGroup(
        name="baoha",
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
        options_metavar="",
        subcommand_metavar="COMMAND [OPTIONS] [ARGUMENTS]",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line and return its exit code.

    Args:
        argv: arguments without the program's name; the process's own when None.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args or "-debug" in args
    try:
        code = _run(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except typer.TyperException as exc:
        return _usage(exc)
    except (typer.Abort, KeyboardInterrupt):
        return exit_code(Verdict.INTERRUPTED, Profile.BAO)
    except Exception as exc:
        code = conclude(exc, None, debug=debug)
        if isinstance(exc, OSError):
            _abandon_stdout()
    return code


def _run(args: list[str]) -> int:
    code = build().main(args=args, prog_name="baoha", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _usage(exc: typer.TyperException) -> int:
    """Print a usage error; `--help` was not asked for, so it goes to stderr."""
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "baoha"
    message = exc.format_message()
    is_help = type(exc).__name__ == "NoArgsIsHelpError"
    text = message if is_help else f"Error: {message}\nhint: '{path} --help' shows the usage"
    conclude(UsageFailed(text), None, debug=False)
    return exit_code(Verdict.USAGE, Profile.BAO)


def _abandon_stdout() -> None:
    """Point stdout at /dev/null, so that the interpreter's last flush does not complain."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
