"""
Fuzz one parser with atheris, by hand: ``python -m tests.fuzz.run TARGET [libFuzzer options]``.

``--list`` shows the targets. A crash is an input that lets an error out which is not the parser's
own; a time-out (``-timeout=1``) is an input that is slow.
"""

from __future__ import annotations

import importlib
import sys

from tests.fuzz.targets import TARGETS, run


def main(arguments: list[str]) -> int:
    """Run until the fuzzer ends; it exits by itself."""
    if not arguments or arguments[0] not in TARGETS:
        print("\n".join(TARGETS))
        return 0 if arguments == ["--list"] else 2
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install atheris", file=sys.stderr)
        return 1
    name, options = arguments[0], arguments[1:]
    atheris.instrument_all()

    def test_one_input(data: bytes) -> None:
        run(name, data)

    atheris.Setup([sys.argv[0], *options], test_one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
