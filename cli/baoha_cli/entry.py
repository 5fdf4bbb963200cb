"""
The first module of the process: Ctrl-C while the others are being loaded is quiet too.

Rule of this file. It imports next to nothing: until `main` runs, an interrupt is a traceback.

Theory of operation. Loading takes tenths of a second, and an interrupt inside an import may come
out of anything, or be swallowed. So as long as nothing has begun, SIGINT ends the process at once;
`begin` gives it its usual meaning back where something that needs a clean-up begins.
"""

from __future__ import annotations

import signal

from baoha_cli.interrupts import leave


def main() -> int:
    """Run the command line as a process of its own and return its exit code."""
    # A shell that starts a job in the background has it ignored; that stays.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from baoha_cli.main import main as run_command_line

    return run_command_line()
