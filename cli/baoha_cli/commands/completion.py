"""
`baoha completion`: a script for bash, zsh or fish that completes commands, options and values.

Rule of this file: the script carries the whole command tree, so that pressing Tab starts no
process and asks no server.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli

app = new_group("completion", "Print a script that completes commands in a shell.")

_EPILOG = (
    "To use it: bash: source <(baoha completion bash); zsh: source <(baoha completion zsh) after "
    "compinit; fish: baoha completion fish | source. Put that line into ~/.bashrc, ~/.zshrc or "
    "~/.config/fish/config.fish; print the script again after an upgrade if you keep it in a file."
)


@command(app, "completion", epilog=_EPILOG)
def completion(
    cli: Cli,
    *,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> Verdict:
    """Print a script that completes commands in a shell."""
    from baoha_cli.manual.completion_scripts import SCRIPTS
    from baoha_cli.manual.tree import command_tree

    script = SCRIPTS.get(shell)
    if script is None:
        raise UsageFailed(f"no completion for {shell[:40]!a}", hint="one of " + ", ".join(SCRIPTS))
    cli.out.write(script(command_tree()))
    return Verdict.OK
