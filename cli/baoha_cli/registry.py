"""
The top-level commands: name, module, one line of help.

Rule of this file: it imports nothing. A module is loaded when its command is used, so that
`baoha --help` stays fast; a test loads them all and compares these lines with the commands' own.

To add a command: write a module with `app = new_group(...)` (or `new_command_app()` for a single
command) and add its line here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """One top-level command."""

    module: str
    summary: str
    section: str


CLUSTER: Final = "Cluster"
SECRETS: Final = "Secrets and access"
OTHER: Final = "Other"

COMMANDS: Final[dict[str, Entry]] = {
    "server": Entry("server_command", "Run a node.", CLUSTER),
    "status": Entry("status", "Print the state of one node, or of all.", CLUSTER),
    "version": Entry("version", "Print the version of baoha, and of servers.", OTHER),
}
