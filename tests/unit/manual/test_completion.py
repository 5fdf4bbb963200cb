"""Completion: the printed script, sourced by a real bash, knows the commands and their options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from baoha_cli.manual.completion_scripts import SCRIPTS
from baoha_cli.manual.tree import command_tree
from baoha_cli.output.documents import Format
from baoha_cli.registry import COMMANDS
from baoha_cli.survey.conditions import MEANINGS

from tests.support.cli_lab import CommandLine

TREE = command_tree()

# What bash does on Tab: the words of the line, split at "=" too, and the place of the cursor.
DRIVER = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_baoha
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script as a user gets it."""
    path = tmp_path_factory.mktemp("completion") / "baoha.bash"
    with path.open("wb") as file:
        argv = [sys.executable, "-m", "baoha_cli", "completion", "bash"]
        subprocess.run(argv, stdout=file, check=True)
    return path


def complete(script: Path, *words: str, cwd: Path | None = None) -> list[str]:
    """Press Tab at the end of ``baoha WORDS``."""
    argv = ["bash", "--norc", "-uc", DRIVER, "bash", str(script), "baoha", *words]
    # An empty PATH: the script must not start any program.
    ran = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={"PATH": "/nonexistent"},
        executable=shutil.which("bash"),
    )
    assert ran.stderr == ""
    return [line for line in ran.stdout.splitlines() if line]


def test_first_word_is_any_command(script: Path) -> None:
    assert complete(script, "") == list(COMMANDS)
    assert complete(script, "st") == ["status", "step-down", "storage"]


@pytest.mark.parametrize("path", [node.path for node in TREE.walk()], ids=" ".join)
def test_every_command_offers_what_it_declares(script: Path, path: tuple[str, ...]) -> None:
    node = TREE.find(path)
    assert node is not None
    declared = {name for param in node.parameters for name in param.names}
    assert set(complete(script, *path, "-")) == declared
    if node.children:
        assert complete(script, *path, "") == [child.path[-1] for child in node.children]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("kv", "g"), ["get"]),
        (("-o", "json", "kv", "metadata", ""), ["get", "put", "delete"]),
        (("-address", "=", "http://kv", "operator", "raft", ""), ["list-peers"]),
        (("--output=json", "auth", ""), ["list"]),
        (("status", "-o", "j"), ["json"]),
        (("status", "--output", "=", "j"), ["json"]),
        (("status", "-format", "=", ""), [*Format, "field="]),
        (("status", "--color", "=", "n"), ["never"]),
        (("status", "--addr"), ["--address", "--addr"]),
        (("status", "-addr"), ["-address", "-addr"]),
        (("status", "-field", "=", ""), []),
        (("status", "-tls-s"), ["-tls-server-name", "-tls-skip-verify"]),
        (("wait", "--for", "one"), ["one-leader"]),
        (("wait", "--for", "=", "lead"), ["leader", "leader-changed"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("explain", "exit"), ["exit-codes"]),
        (("explain", "BH-304"), ["BH-304"]),
        (("step-down", "--to", ""), []),
    ],
    ids=str,
)
def test_words_are_completed(script: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert complete(script, *words) == expected


def test_conditions_are_offered_with_the_sign_that_they_need(script: Path) -> None:
    offered = complete(script, "status", "--expect", "")
    assert [word.rstrip("=") for word in offered] == list(MEANINGS)
    assert {word for word in offered if word.endswith("=")} == {"version=", "nodes="}


def test_files_and_directories_are_completed_where_they_are_wanted(
    script: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.hcl").touch()
    (tmp_path / "rules.d").mkdir()
    both = ["rules.d", "rules.hcl"]
    assert sorted(complete(script, "policy", "write", "ru", cwd=tmp_path)) == both
    assert sorted(complete(script, "status", "--ca-cert", "ru", cwd=tmp_path)) == both
    assert complete(script, "status", "--ca-path", "ru", cwd=tmp_path) == ["rules.d"]
    assert complete(script, "man", "--dir", "=", "ru", cwd=tmp_path) == ["rules.d"]


def test_shell_that_is_not_known_is_a_usage_error(cli: CommandLine) -> None:
    ran = cli("completion", "tcsh")
    assert (ran.code, ran.out) == (64, "")
    assert "one of bash, zsh, fish" in ran.err


@pytest.mark.parametrize("shell", SCRIPTS)
def test_script_names_every_command_and_every_own_option(cli: CommandLine, shell: str) -> None:
    ran = cli("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    for node in TREE.walk():
        assert "/".join(("", *node.path)).rstrip("/") in ran.out
        for param in node.parameters:
            for name in param.names:
                assert name.lstrip("-") in ran.out


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))
