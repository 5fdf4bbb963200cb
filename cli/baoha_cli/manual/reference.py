"""
`python -m baoha_cli.manual.reference docs/cli`: the reference pages, written from the commands
themselves.

Rule of this file: pages are a pure function of the command tree. Only files that carry the mark of
this generator are written over or removed; others in the directory belong to somebody else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from baoha_cli.exits import TABLE, Profile, exit_code
from baoha_cli.manual.tree import SECTIONS, SHARED_SECTIONS, CommandNode, Parameter, command_tree
from baoha_cli.registry import COMMANDS

MARK: Final = "<!-- Written by `python -m baoha_cli.manual.reference docs/cli`: do not edit. -->"
_HELP_NAMES: Final = frozenset({"-h", "--help"})


def pages() -> dict[str, str]:
    """Return name and text of every page."""
    tree = command_tree()
    found = {"README.md": "\n".join(_index(tree)) + "\n"}
    for child in tree.children:
        found[f"{child.path[0]}.md"] = "\n".join(_command_page(child)) + "\n"
    return found


def stale(directory: Path) -> list[str]:
    """Return the names of files that are not what `write` would make them, sorted."""
    wanted = pages()
    names = {path.name for path in directory.glob("*.md") if _is_ours(path)} | set(wanted)
    return sorted(name for name in names if _content(directory / name) != wanted.get(name))


def write(directory: Path) -> list[str]:
    """Write what is stale, remove generated files of commands that are gone; return the names."""
    wanted = pages()
    names = stale(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in wanted:
            (directory / name).write_text(wanted[name], encoding="utf-8")
        else:
            (directory / name).unlink()
    return names


def main(argv: Sequence[str]) -> int:
    """Write the pages into the directory named; 64 when none is."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m baoha_cli.manual.reference DIRECTORY\n")
        return 64
    for name in write(Path(argv[0])):
        sys.stdout.write(f"{name}\n")
    return 0


def _is_ours(path: Path) -> bool:
    return (_content(path) or "").startswith(MARK)


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


# --- pages --------------------------------------------------------------------------------------


def _index(tree: CommandNode) -> Iterator[str]:
    yield from (MARK, "", "# The command line", "", tree.help, "")
    sections = dict.fromkeys(entry.section for entry in COMMANDS.values())
    for section in sections:
        yield from (f"## {section}", "", "| Command | |", "| --- | --- |")
        for child in tree.children:
            name = child.path[0]
            if COMMANDS[name].section == section:
                yield f"| [`baoha {name}`]({name}.md) | {_cell(child.summary)} |"
        yield ""
    yield from ("## Options of every command", "")
    yield "They may also stand in front of the command, and with one dash: `-address=URL`."
    yield ""
    leaf = next(node for node in tree.walk() if node.path and not node.children)
    for title in SECTIONS:
        if title in SHARED_SECTIONS:
            shared = [param for param in leaf.parameters if param.section == title]
            yield from (f"### {title}", "", *_table(shared), "")
    yield from _exit_codes()


def _exit_codes() -> Iterator[str]:
    yield from ("## Exit codes", "")
    yield "Commands of `bao` use its codes, new ones the detailed set; `--exit-codes` chooses."
    yield ""
    yield "| Meaning | " + " | ".join(profile.value for profile in Profile) + " |"
    yield "| --- |" + " --- |" * len(Profile)
    for verdict in TABLE:
        codes = " | ".join(str(exit_code(verdict, profile)) for profile in Profile)
        yield f"| {_cell(verdict.value)} | {codes} |"


def _command_page(top: CommandNode) -> Iterator[str]:
    yield from (MARK, "", f"# `{top.words}`", "")
    for node in top.walk():
        if node is not top:
            yield from ("", f"## `{node.words}`", "")
        yield from ("```", node.usage, "```", "", node.help, "")
        if node.children:
            yield from ("| Command | |", "| --- | --- |")
            for child in node.children:
                anchor = "-".join(("baoha", *child.path))
                yield f"| [`{child.words}`](#{anchor}) | {_cell(child.summary)} |"
        own = [
            param
            for param in node.parameters
            if param.section not in SHARED_SECTIONS and not _HELP_NAMES & set(param.names)
        ]
        if own:
            yield from _table(own)
        if node.epilog:
            yield from ("", node.epilog)
    yield from ("", "Every command also takes the [shared options](README.md).")


def _table(parameters: Sequence[Parameter]) -> Iterator[str]:
    yield from ("| Option | |", "| --- | --- |")
    for param in parameters:
        names = ", ".join(f"`{name}`" for name in param.names)
        value = f"`{param.metavar}`" if param.takes_value else ""
        yield f"| {_cell(f'{names} {value}'.strip())} | {_cell(param.help)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
