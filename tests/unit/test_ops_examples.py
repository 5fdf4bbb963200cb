"""The recipes in examples/ops: every command line in them is one that exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from baoha_cli.main import main

OPS = Path(__file__).resolve().parents[2] / "examples" / "ops"
NAMES = "diagnose|wait|step-down|drill|probe"
LINE = re.compile(rf"(?:^|[\s:=-])(?:/usr/local/bin/)?baoha ((?:{NAMES})[^\n#]*)")
LIST = re.compile(r"\[baoha, ([^\]]*)\]")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command line, with the file it is in."""
    for path in sorted(OPS.iterdir()):
        text = path.read_text()
        if path.suffix == ".md":
            continue
        for match in LINE.finditer(text):
            yield path.name, shlex.split(match[1])
        for match in LIST.finditer(text):
            yield path.name, [part.strip() for part in match[1].split(",")]


COMMANDS = list(commands())


def test_recipes_hold_commands_for_every_system() -> None:
    assert {name for name, _ in COMMANDS} == {
        "baoha-diagnose.service",
        "github-actions.yml",
        "gitlab-ci.yml",
        "kubernetes-probes.yaml",
        "nagios.cfg",
    }
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize(("name", "argv"), COMMANDS, ids=lambda value: str(value)[:60])
def test_command_of_recipe_is_understood(
    name: str, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # With --help the options are parsed, unknown ones refused, and nothing is asked.
    assert main([*argv, "--help"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("Usage: baoha ")


@pytest.mark.parametrize("path", sorted(OPS.glob("*.y*ml")), ids=lambda path: path.name)
def test_yaml_recipe_can_be_parsed(path: Path) -> None:
    assert [one for one in yaml.safe_load_all(path.read_text()) if isinstance(one, dict)]


def test_readme_names_every_recipe() -> None:
    text = (OPS / "README.md").read_text()
    for path in OPS.iterdir():
        assert path.name == "README.md" or f"({path.name})" in text
