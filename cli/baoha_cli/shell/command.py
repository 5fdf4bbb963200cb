"""
How a command is declared: `@command(app, ...)` on an async function that takes a Cli.

Rules of this file. Typer is used for declaring and parsing only: exit codes, error texts, async and
signals are ours, because Typer exits 2 on a usage error (that reads as "sealed") and prints
tracebacks. A command returns a Verdict (None is OK) and never a number.

Theory of operation. `command` builds, from the function's own parameters plus the shared ones, a
plain function that Typer can read. `GoCommand` accepts Go's flag forms: one dash, `-reset=true`,
flags before or after arguments. `run` gives an async command its trio loop, its deadline and
SIGTERM, and `conclude` turns whatever came out into an exit code and one line on stderr.

Source: docs/spec/libraries.md section 8.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from baoha_cli.exits import Profile, Verdict, exit_code
from baoha_cli.failures import CommandFailed, CurlPrinted, UsageFailed
from baoha_cli.interrupts import begin
from baoha_cli.shell.options import HTTP_SECTION, OUTPUT_SECTION, PARAMETERS, Shared
from baoha_cli.shell.plain_values import use_plain_values

if TYPE_CHECKING:
    from baoha_cli.shell.context import Cli

CommandFunction = Callable[..., Awaitable[Verdict | None] | Verdict | None]

CONTEXT_SETTINGS: Final[dict[str, Any]] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}
_BUG_REPORT: Final = "This is a bug in baoha. Run it again with --debug and report what it prints."
_RETRIES: Final = 2
_TRUE: Final = frozenset({"true", "t", "1"})
_FALSE: Final = frozenset({"false", "f", "0"})


class Terminated(Exception):
    """SIGTERM arrived."""


class ExitNow(Exception):
    """
    End with a number that somebody else decided (a server that ran in this process).

    Args:
        code: the exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class DeadlinePassed(CommandFailed):
    """`--deadline` passed before the command was done."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"not done within {deadline_s:g}s (--deadline)", verdict=Verdict.TIMEOUT)


class GoCommand(TyperCommand):
    """A command that also takes flags the way Go programs do."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        use_plain_values(self.params)

    def get_help_option_names(self, ctx: Any) -> list[str]:
        """Return the names in a fixed order (click's own goes through a set)."""
        return help_names()

    def get_help_option(self, ctx: Any) -> Any:
        """Return the help option, without Typer's coercion."""
        return plain_help(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring Go's flag forms into click's, then parse."""
        parsed: list[str] = super().parse_args(ctx, go_flags(args, self.params))
        return parsed

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name in the usage line: our metavars say what is optional."""
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(param.metavar or str(param.name).upper() for param in arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in three sections: the command's own, HTTP, output."""
        sections: dict[str, list[Any]] = {"Arguments": [], "Options": [], "HTTP options": []}
        sections["Output options"] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            sections[section_of(param)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def section_of(param: Any) -> str:
    """Return the heading under which a parameter stands in help and manual."""
    if param.param_type_name == "argument":
        return "Arguments"
    if param.name in HTTP_SECTION:
        return "HTTP options"
    return "Output options" if param.name in OUTPUT_SECTION else "Options"


class GoGroup(TyperGroup):
    """A group of commands; `-help` works here too."""

    def get_help_option_names(self, ctx: Any) -> list[str]:
        """Return the names in a fixed order (click's own goes through a set)."""
        return help_names()

    def get_help_option(self, ctx: Any) -> Any:
        """Return the help option, without Typer's coercion."""
        return plain_help(super().get_help_option(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the group's own flags."""
        plain = ["--help" if arg == "-help" else arg for arg in args[:1]] + args[1:]
        parsed: list[str] = super().parse_args(ctx, plain)
        return parsed


def plain_help(option: Any) -> Any:
    """Return a help option (or None) that does not load pydantic."""
    use_plain_values([option] if option is not None else [])
    return option


def help_names() -> list[str]:
    """Return the spellings of the help option; `-help` is understood as well."""
    return ["-h", "--help"]


def new_group(name: str, summary: str) -> typer.Typer:
    """
    Return an empty group of commands.

    Args:
        name: as typed.
        summary: first line of its help; equals its line in the registry.
    """
    return typer.Typer(
        name=name,
        help=summary,
        cls=GoGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )


def command(
    app: typer.Typer,
    name: str,
    *,
    profile: Profile = Profile.BAO,
    timeout_s: float = 60.0,
    retries: int | None = None,
    own_deadline: bool = False,
    epilog: str | None = None,
    hidden: bool = False,
    reports: Collection[str] = (),
) -> Callable[[CommandFunction], CommandFunction]:
    """
    Declare a command.

    The function takes a Cli first and then its own options as keyword parameters with
    ``Annotated[..., typer.Option/Argument]``; it may be async. Its docstring is its help.

    Args:
        app: the group it belongs to.
        name: as typed.
        profile: exit codes when ``--exit-codes`` is not given.
        timeout_s: limit of a request when neither flag nor environment say.
        retries: the same for trying again; None is 2 for commands that `bao` has, and 0 for status
            and for commands that are ours, which look at nodes and must see their faults.
        own_deadline: the command reads ``cli.deadline_s`` itself, to say what was missing.
        epilog: text under the help, for exit codes and examples.
        hidden: leave it out of the group's help.
        reports: further values of ``--output``; the command finds the chosen one in ``cli.report``.
    """

    def declare(function: CommandFunction) -> CommandFunction:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        usual = retries if retries is not None else _RETRIES if profile is Profile.BAO else 0

        def runner(**values: Any) -> int:
            shared = Shared.take(values)
            return run(
                function,
                shared,
                values,
                profile=profile,
                timeout_s=timeout_s,
                retries=usual,
                own_deadline=own_deadline,
                reports=reports,
            )

        parameters = [
            *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own),
            *PARAMETERS,
        ]
        runner.__name__ = name.replace("-", "_")
        runner.__doc__ = inspect.getdoc(function)
        runner.__annotations__ = {item.name: item.annotation for item in parameters}
        runner.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(
            name, cls=GoCommand, epilog=epilog, hidden=hidden, context_settings=CONTEXT_SETTINGS
        )(runner)
        return function

    return declare


def run(
    function: CommandFunction,
    shared: Shared,
    values: dict[str, Any],
    *,
    profile: Profile,
    timeout_s: float,
    retries: int = 0,
    own_deadline: bool = False,
    reports: Collection[str] = (),
) -> int:
    """Run one command and return its exit code; nothing escapes but SystemExit."""
    from baoha_cli.shell.context import Cli

    cli: Cli | None = None
    try:
        cli = Cli(
            shared,
            os.environ,
            profile=profile,
            timeout_s=timeout_s,
            retries=retries,
            reports=reports,
        )
        outcome = function(cli, **values)
        if inspect.isawaitable(outcome):
            verdict = run_async(outcome, None if own_deadline else cli.deadline_s)
        else:
            verdict = outcome
    # A group that holds an interrupt is no Exception; whatever it is, it ends here.
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as exc:
        return conclude(exc, cli, debug=shared.debug)
    found = Verdict.OK if verdict is None else verdict
    return exit_code(found, cli.profile, exit_zero=shared.exit_zero)


def run_async(outcome: Awaitable[Verdict | None], deadline_s: float | None) -> Verdict | None:
    """
    Run an async command under trio, with a deadline and SIGTERM.

    Args:
        outcome: the command's coroutine.
        deadline_s: from now; None is without limit.

    Raises:
        DeadlinePassed: the time is over.
        Terminated: SIGTERM came; everything was cancelled and cleaned up first.
    """
    import trio

    # What has begun is cleaned up from now on; a command without a loop has nothing to clean up.
    begin()

    async def main() -> Verdict | None:
        verdict: Verdict | None = None
        terminated = False

        async def watch_sigterm() -> None:
            nonlocal terminated
            with trio.open_signal_receiver(signal.SIGTERM) as received:
                async for _ in received:
                    terminated = True
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            if threading.current_thread() is threading.main_thread():
                nursery.start_soon(watch_sigterm)
            limit_s = float("inf") if deadline_s is None else deadline_s
            with trio.move_on_after(limit_s) as scope:
                verdict = await outcome
            nursery.cancel_scope.cancel()
        if terminated:
            raise Terminated
        if scope.cancelled_caught and deadline_s is not None:
            raise DeadlinePassed(deadline_s)
        return verdict

    try:
        return trio.run(main)
    finally:
        if inspect.iscoroutine(outcome):
            outcome.close()  # not started when trio.run itself failed


def conclude(exc: BaseException, cli: Cli | None, *, debug: bool) -> int:
    """Print what an exception means, in one line where possible, and return the exit code."""
    cause = leaf(exc)
    profile = cli.profile if cli is not None else Profile.BAO
    exit_zero = cli is not None and cli.shared.exit_zero
    if isinstance(cause, CommandFailed):
        hint = f"\nhint: {cause.hint}" if cause.hint else ""
        _complain(cli, f"{cause.message}{hint}")
        return exit_code(cause.verdict, profile, exit_zero=exit_zero)
    if isinstance(cause, CurlPrinted):
        return 0
    if isinstance(cause, ExitNow):
        return cause.code
    if isinstance(cause, KeyboardInterrupt):
        return exit_code(Verdict.INTERRUPTED, profile)
    if isinstance(cause, Terminated):
        return exit_code(Verdict.TERMINATED, profile)
    if isinstance(cause, BrokenPipeError):
        return exit_code(Verdict.BROKEN_PIPE, profile)
    if isinstance(cause, OSError):
        words = (cause.strerror or type(cause).__name__).lower()
        place = "" if cause.filename is None else f" ({cause.filename!a})"
        _complain(cli, f"Error: {words}{place}")
        if debug:
            _complain(cli, "".join(traceback.format_exception(exc)).rstrip())
        return exit_code(Verdict.LOCAL, profile)
    if debug or os.environ.get("BAOHA_DEBUG"):
        _complain(cli, "".join(traceback.format_exception(exc)).rstrip())
    # Not the exception's text: it may quote what the user gave or a server sent.
    _complain(cli, f"baoha: internal error: {type(cause).__name__} {_place(cause)}. {_BUG_REPORT}")
    return exit_code(Verdict.BUG, profile)


def leaf(exc: BaseException) -> BaseException:
    """Return the one exception in a group that decides how the command ended."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    leaves = [leaf(member) for member in exc.exceptions]
    for kind in (KeyboardInterrupt, Terminated, BrokenPipeError, CommandFailed):
        for member in leaves:
            if isinstance(member, kind):
                return member
    return leaves[0]


def go_flags(args: Sequence[str], params: Sequence[Any]) -> list[str]:
    """
    Bring Go's flag forms into click's: ``-name`` to ``--name``, ``-flag=true`` to ``--flag``.

    Args:
        args: the command's arguments.
        params: its click parameters.

    Raises:
        UsageFailed: a flag with a value that is neither true nor false.
    """
    spellings = {name: param for param in params for name in getattr(param, "opts", ())}
    result: list[str] = []
    pending = iter(args)
    for arg in pending:
        if arg == "--":
            return [*result, arg, *pending]
        name, sign, value = arg.partition("=")
        one_dash = name.startswith("-") and not name.startswith("--") and len(name) > 2
        if one_dash and (f"-{name}" in spellings or name[:2] not in spellings):
            name, arg = f"-{name}", f"-{arg}"
        param = spellings.get(name)
        if param is None:
            result.append("--help" if arg == "-help" else arg)
        elif getattr(param, "is_flag", False):
            if not sign or value.lower() in _TRUE:
                result.append(name)
            elif value.lower() not in _FALSE:
                raise UsageFailed(f"invalid boolean value {value[:40]!a} for {name}")
        elif sign:
            result += [name, value]
        else:
            result.append(name)
            result += [following for following in (next(pending, None),) if following is not None]
    return result


def _complain(cli: Cli | None, text: str) -> None:
    if cli is not None:
        cli.out.error(text)
        return
    from baoha_cli.output.documents import Output

    Output(stdout=None, stderr=sys.stderr).error(text)


def _place(exc: BaseException) -> str:
    frames = traceback.extract_tb(exc.__traceback__)
    if not frames:
        return "(no place)"
    last = frames[-1]
    return f"in {last.name} ({os.path.basename(last.filename)}:{last.lineno})"
