"""
What the environment says: variables in order of precedence, durations, flags, the token.

Rules of this file: BAOHA_X beats BAO_X beats VAULT_X, an empty variable counts as not set, and a
value that cannot be read is a usage error that names the variable, never a silent default.

Source: docs/spec/cluster-cli.md section 2.3; names as in `bao status -h`; the token file as
`bao login` of 2.7.2 writes it (~/.vault-token, mode 600).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from baoha_cli.client.token import Token
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed

PREFIXES: Final = ("BAOHA_", "BAO_", "VAULT_")
TOKEN_FILE: Final = ".vault-token"  # noqa: S105 - a file name
_TOKEN_BYTES_MAX: Final = 64 * 1024
_UNITS_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_DURATION_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h|d)")
_TRUE: Final = frozenset({"1", "t", "true", "yes"})
_FALSE: Final = frozenset({"0", "f", "false", "no"})


class EnvironmentSetting(NamedTuple):
    """A value and the variable it came from."""

    value: str
    name: str


def lookup(environ: Mapping[str, str], *suffixes: str) -> EnvironmentSetting | None:
    """Return the winning variable among the prefixes (and alternative suffixes), or None."""
    for prefix in PREFIXES:
        for suffix in suffixes:
            value = environ.get(prefix + suffix, "")
            if value:
                return EnvironmentSetting(value, prefix + suffix)
    return None


def duration_s(text: str, *, what: str) -> float:
    """
    Read "250ms", "3s", "1m30s" or a bare number of seconds.

    Raises:
        UsageFailed: not a duration; ``what`` names the flag or variable.
    """
    text = text.strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        shown = text[:80]
        raise UsageFailed(f"{what}: {shown!a} is not a duration such as 250ms, 3s or 1m30s")
    return float(sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def truth(setting: EnvironmentSetting) -> bool:
    """
    Read a yes/no variable.

    Raises:
        UsageFailed: neither.
    """
    lowered = setting.value.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise UsageFailed(f"could not parse {setting.name}: give true or false")


def find_token(
    environ: Mapping[str, str], *, stdin: TextIO | None = None, flag: str | None = None
) -> Token | None:
    """
    Find the client token: ``--token-file`` ("-" is stdin), then the environment, then the file.

    Raises:
        CommandFailed: a token file exists but cannot be read, or holds no token.
    """
    if flag == "-":
        return checked_token(_first_line(stdin), "standard input")
    if flag is not None:
        return checked_token(_read(Path(flag).expanduser()), flag)
    setting = lookup(environ, "TOKEN")
    if setting is not None:
        if setting.value == "-":
            return checked_token(_first_line(stdin), "standard input")
        return checked_token(setting.value, setting.name)
    path = token_path(environ)
    if path is None or not path.exists():
        return None
    text = _read(path).strip()
    return checked_token(text, str(path)) if text else None


def token_path(environ: Mapping[str, str]) -> Path | None:
    """Return where `login` keeps the token, or None when there is no home directory."""
    setting = lookup(environ, "TOKEN_PATH")
    if setting is not None:
        return Path(setting.value)
    home = environ.get("HOME", "")
    return Path(home) / TOKEN_FILE if home else None


def token_file_is_open(path: Path) -> bool:
    """Return whether others on this machine can read the token file."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def store_token(path: Path, value: str) -> None:
    """
    Write the token file with mode 600, in one step.

    Raises:
        CommandFailed: not written; an older file is untouched.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, value.encode("ascii"))
        finally:
            os.close(descriptor)
        os.replace(scratch, path)
    except OSError as exc:
        scratch.unlink(missing_ok=True)
        raise CommandFailed(
            f"cannot store the token in {path}: {exc.strerror}", verdict=Verdict.LOCAL
        ) from exc


def _first_line(stdin: TextIO | None) -> str:
    try:
        return stdin.readline(_TOKEN_BYTES_MAX) if stdin else ""
    except ValueError:  # closed, or no text; the library's words would quote it
        raise CommandFailed("standard input holds no token", verdict=Verdict.LOCAL) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_TOKEN_BYTES_MAX + 1).decode("utf-8", "replace")
    except OSError as exc:
        raise CommandFailed(
            f"cannot read the token file {str(path)!a}: {exc.strerror}", verdict=Verdict.LOCAL
        ) from exc
    except ValueError as exc:  # a NUL in the path
        raise UsageFailed(f"cannot read the token file {str(path)!a}: {exc}") from exc


def checked_token(text: str, source: str) -> Token:
    """
    Return a token that a header can carry.

    Raises:
        CommandFailed: it is empty, too long, or holds other characters.
    """
    value = text.strip()
    if not value:
        raise CommandFailed(f"{source} holds no token", verdict=Verdict.LOCAL)
    # A header cannot carry anything else; refusing here keeps the value out of library errors.
    if len(value) > _TOKEN_BYTES_MAX or any(not 33 <= ord(char) <= 126 for char in value):
        raise CommandFailed(
            f"the token from {source} holds characters that a token cannot have",
            verdict=Verdict.LOCAL,
        )
    return Token(value, source)
