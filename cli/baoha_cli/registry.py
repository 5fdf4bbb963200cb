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
    "server": Entry("server_command", "Run a node.", CLUSTER),
    "status": Entry("status", "Print the state of one node, or of all.", CLUSTER),
    "leader": Entry("leader", "Print the address of the active node.", CLUSTER),
    "wait": Entry("wait", "Wait until the cluster is as it should be.", CLUSTER),
    "step-down": Entry("step_down", "Hand active duty over to another node.", CLUSTER),
    "cluster": Entry("cluster", "Look at the cluster from every node's point of view.", CLUSTER),
    "diagnose": Entry(
        "diagnose.commands", "Find what is wrong, say why and how to mend it.", CLUSTER
    ),
    "probe": Entry("probe", "One raw test of a node, for scripts.", CLUSTER),
    "drill": Entry(
        "drill", "Break the leader on purpose, and measure what clients notice.", CLUSTER
    ),
    "operator": Entry(
        "operator_command", "Look after servers: init, unseal, seal, rotate, members.", CLUSTER
    ),
    "kv": Entry("kv", "Interact with the key/value store.", SECRETS),
    "read": Entry("logical", "Read data and secrets.", SECRETS, "read_app"),
    "write": Entry("logical", "Write data, configuration and secrets.", SECRETS, "write_app"),
    "list": Entry("logical", "List the keys under a path.", SECRETS, "list_app"),
    "delete": Entry("logical", "Delete secrets and configuration.", SECRETS, "delete_app"),
    "secrets": Entry("mounts", "List, enable and disable secrets engines.", SECRETS, "secrets_app"),
    "auth": Entry("mounts", "List the auth methods.", SECRETS, "auth_app"),
    "token": Entry("token_command", "Create, look up, renew and revoke tokens.", SECRETS),
    "login": Entry("login", "Log in, and keep the token for later commands.", SECRETS),
    "policy": Entry("policy", "Write, read, list and delete policies.", SECRETS),
    "explain": Entry(
        "explain", "Explain a diagnostic code, the exit codes or the conditions.", OTHER
    ),
    "completion": Entry("completion", "Print a script that completes commands in a shell.", OTHER),
    "man": Entry("man", "Print a manual page, or write all of them.", OTHER),
    "version": Entry("version", "Print the version of baoha, and of servers.", OTHER),
}
