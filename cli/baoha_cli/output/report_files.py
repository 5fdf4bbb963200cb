"""Reports as files."""

from __future__ import annotations

import os
from pathlib import Path

from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed


def write_text(path: Path, text: str) -> None:
    """
    Write a report in one step.

    Raises:
        CommandFailed: it cannot be written; an older file is untouched.
    """
    try:
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(scratch, path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is not a file name"
        raise CommandFailed(
            f"cannot write the report {ascii(str(path))[1:-1]}: {reason}", verdict=Verdict.LOCAL
        ) from exc
