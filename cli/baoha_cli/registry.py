"""
The top-level commands: name, module, one line of help.

Rule of this file: it imports nothing. A module is loaded when its command is used, so that
`baoha --help` stays fast; a test loads them all and compares these lines with the commands' own.

To add a command: write a module of `commands` with `app = new_group(...)` (or
`new_command_app()` for a single command) and add its line here.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Entry(NamedTuple):
    """
    One top-level command.

    Args:
        module: below baoha_cli.
        summary: its line of help.
        section: heading it stands under.
        app: name of its Typer app in the module.
    """

    module: str
    summary: str
    section: str
    app: str = "app"


CLUSTER: Final = "Cluster"
SECRETS: Final = "Secrets and access"
OTHER: Final = "Other"

COMMANDS: Final[dict[str, Entry]] = {
    "server": Entry("commands.server", "Run a node.", CLUSTER),
    "status": Entry("commands.status", "Print the state of one node, or of all.", CLUSTER),
    "leader": Entry("commands.leader", "Print the address of the active node.", CLUSTER),
    "wait": Entry("commands.wait", "Wait until the cluster is as it should be.", CLUSTER),
    "step-down": Entry("commands.step_down", "Hand active duty over to another node.", CLUSTER),
    "cluster": Entry(
        "commands.cluster", "Look at the cluster from every node's point of view.", CLUSTER
    ),
    "diagnose": Entry(
        "commands.diagnose", "Find what is wrong, say why and how to mend it.", CLUSTER
    ),
    "probe": Entry("commands.probe", "One raw test of a node, for scripts.", CLUSTER),
    "drill": Entry(
        "commands.drill", "Break the leader on purpose, and measure what clients notice.", CLUSTER
    ),
    "operator": Entry(
        "commands.operator", "Look after servers: init, unseal, seal, rotate, members.", CLUSTER
    ),
    "kv": Entry("commands.kv", "Interact with the key/value store.", SECRETS),
    "read": Entry("commands.read_write", "Read data and secrets.", SECRETS, "read_app"),
    "write": Entry(
        "commands.read_write", "Write data, configuration and secrets.", SECRETS, "write_app"
    ),
    "list": Entry("commands.read_write", "List the keys under a path.", SECRETS, "list_app"),
    "delete": Entry(
        "commands.read_write", "Delete secrets and configuration.", SECRETS, "delete_app"
    ),
    "secrets": Entry(
        "commands.secrets_auth", "List, enable and disable secrets engines.", SECRETS, "secrets_app"
    ),
    "auth": Entry("commands.secrets_auth", "List the auth methods.", SECRETS, "auth_app"),
    "token": Entry("commands.token", "Create, look up, renew and revoke tokens.", SECRETS),
    "login": Entry("commands.login", "Log in, and keep the token for later commands.", SECRETS),
    "policy": Entry("commands.policy", "Write, read, list and delete policies.", SECRETS),
    "storage": Entry("commands.storage", "List the stores that a server can use.", OTHER),
    "explain": Entry(
        "commands.explain", "Explain a diagnostic code, the exit codes or the conditions.", OTHER
    ),
    "completion": Entry(
        "commands.completion", "Print a script that completes commands in a shell.", OTHER
    ),
    "man": Entry("commands.man", "Print a manual page, or write all of them.", OTHER),
    "version": Entry("commands.version", "Print the version of baoha, and of servers.", OTHER),
}
