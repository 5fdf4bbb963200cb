"""
``python -m baoha.server --config FILE [--config FILE ...] [--exit-with-parent FD]``.

Rule of this file: the bare minimum for tests and for the children of ``--dev-ha``; the command
line for people is ``baoha server``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from baoha.config.load import load
from baoha.config.model import ServerConfig
from baoha.errors import ConfigError
from baoha.server.process import complain, run
from baoha.storage.registry import variables_of

EXIT_USAGE = 64  # Source: sysexits.h EX_USAGE; 2 means "sealed" to those who ask a status
USAGE = "usage: python -m baoha.server --config FILE [--exit-with-parent FD]"


def main(arguments: Sequence[str]) -> int:
    """Run a server; return its exit code, 64 for wrong usage."""
    paths: list[Path] = []
    parent: int | None = None
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if option == "--config" and rest:
            paths.append(Path(rest.pop(0)))
        elif option == "--exit-with-parent" and rest and rest[0].isdigit():
            parent = int(rest.pop(0))
        else:
            complain(USAGE)
            return EXIT_USAGE
    if not paths:
        complain(USAGE)
        return EXIT_USAGE

    def read() -> ServerConfig:
        return load(paths, os.environ, variables_of=variables_of)

    try:
        config = read()
    except ConfigError as error:
        complain(str(error))
        return 1
    return run(config, load_again=read, exit_with_parent=parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
