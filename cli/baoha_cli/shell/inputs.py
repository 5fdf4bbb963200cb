"""
What the operator hands in: key=value data, files, standard input, hidden questions.

Rule of this file: a value is never printed, also not in an error about it. Files and standard input
are bounded.

Source: `bao write -h`, `bao kv put -h`; error texts as 2.7.2 prints them.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.shell.context import Cli

INPUT_BYTES_MAX: Final = 32 * 1024 * 1024


def key_values(arguments: Sequence[str]) -> dict[str, object]:
    """
    Read data arguments: ``key=value``, ``key=@file``, ``key=-``, ``@file.json``, ``-`` (JSON).

    A key given twice becomes a list; a value that starts with a backslash and "@" is taken as is.

    Raises:
        UsageFailed: not of that form.
        CommandFailed: a file cannot be read.
    """
    data: dict[str, object] = {}
    for argument in arguments:
        if argument == "-":
            data.update(_json_object(read_stdin(), argument))
        elif argument.startswith("@"):
            data.update(_json_object(read_file(argument[1:]), argument))
        else:
            key, sign, value = argument.partition("=")
            if not sign or not key:
                raise _bad_pair(argument, "format must be key=value")
            _add(data, key, _value(value))
    return data


def pairs(arguments: Sequence[str], *, what: str) -> dict[str, str]:
    """
    Read plain ``key=value`` arguments, without files.

    Raises:
        UsageFailed: not of that form.
    """
    data: dict[str, str] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not key:
            raise UsageFailed(f"{what} needs key=value")
        data[key] = value
    return data


def read_file(name: str) -> bytes:
    """
    Read a file.

    Raises:
        CommandFailed: it cannot be read, or is too large.
    """
    try:
        with Path(name).expanduser().open("rb") as file:
            content = file.read(INPUT_BYTES_MAX + 1)
    except (OSError, ValueError, RuntimeError) as exc:
        words = exc.strerror if isinstance(exc, OSError) else "not a file name"
        raise CommandFailed(f"cannot read {name!a}: {words}", verdict=Verdict.LOCAL) from exc
    if len(content) > INPUT_BYTES_MAX:
        raise CommandFailed(f"{name!a} is too large", verdict=Verdict.LOCAL)
    return content


def read_stdin() -> bytes:
    """
    Read standard input to its end.

    Raises:
        CommandFailed: there is none, or it is too large.
    """
    if sys.stdin is None:
        raise CommandFailed("there is no standard input", verdict=Verdict.LOCAL)
    buffer = getattr(sys.stdin, "buffer", None)
    if buffer is None:  # a StringIO in a test
        return sys.stdin.read().encode("utf-8", "surrogateescape")
    content = bytes(buffer.read(INPUT_BYTES_MAX + 1))
    if len(content) > INPUT_BYTES_MAX:
        raise CommandFailed("standard input is too large", verdict=Verdict.LOCAL)
    return content


def ask_secret(cli: Cli, prompt: str) -> str:
    """
    Ask for a secret on the terminal, without showing it.

    Raises:
        UsageFailed: there is no terminal to ask on.
    """
    if not cli.is_interactive:
        raise UsageFailed(
            f"cannot ask for the {prompt}: not on a terminal",
            hint='give "-" to read it from standard input',
        )
    try:
        return getpass.getpass(f"{prompt} (will be hidden): ").strip()
    except EOFError:
        raise CommandFailed("nothing was given") from None


def secret_argument(cli: Cli, given: str | None, prompt: str) -> str:
    """Return a secret given as an argument, on standard input ("-"), or by asking."""
    if given == "-":
        return read_stdin().decode("utf-8", "replace").strip()
    return ask_secret(cli, prompt) if given is None else given


def _add(data: dict[str, object], key: str, value: str) -> None:
    if key not in data:
        data[key] = value
        return
    before = data[key]
    data[key] = [*before, value] if isinstance(before, list) else [before, value]


def _value(text: str) -> str:
    if text == "-":
        return _trimmed(read_stdin())
    if text.startswith("@"):
        return read_file(text[1:]).decode("utf-8", "surrogateescape")
    return text[1:] if text.startswith("\\@") else text


def _trimmed(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _json_object(content: bytes, argument: str) -> dict[str, object]:
    try:
        decoded = json.loads(content)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise _bad_pair(argument, "not a JSON object")
    return decoded


def _bad_pair(argument: str, why: str) -> UsageFailed:
    # The part before "=" is a name; what follows could be a secret.
    shown = ascii(argument.partition("=")[0][:40])[1:-1]
    return UsageFailed(f'Failed to parse K=V data: invalid key/value pair "{shown}": {why}')
