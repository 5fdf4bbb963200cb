"""The reference in docs/cli and the manual pages: made from the commands, and up to date."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from baoha_cli.manual import reference
from baoha_cli.manual.pages import page, page_name
from baoha_cli.manual.tree import CommandNode, Parameter, command_tree
from baoha_cli.registry import COMMANDS

from tests.support.cli_lab import CommandLine

DOCS = Path(__file__).parents[3] / "docs" / "cli"
TREE = command_tree()


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


# --- docs/cli -----------------------------------------------------------------------------------


def test_reference_in_the_tree_is_what_the_commands_say() -> None:
    assert reference.stale(DOCS) == [], "run: python -m baoha_cli.manual.reference docs/cli"


def test_every_command_and_option_stands_in_the_reference() -> None:
    pages = reference.pages()
    for node in TREE.walk():
        if node.path:
            assert f"`{node.words}`" in pages[f"{node.path[0]}.md"]
        for param in node.parameters:
            if param.section == "Options" and "--help" not in param.names:
                text = pages[f"{node.path[0]}.md"]
                assert all(f"`{name}`" in text for name in param.names)


def test_writing_repairs_and_removes_only_its_own_files(tmp_path: Path) -> None:
    assert len(reference.write(tmp_path)) == len(COMMANDS) + 1
    assert reference.write(tmp_path) == []
    (tmp_path / "diagnostics.md").write_text("by hand\n")
    (tmp_path / "gone.md").write_text(f"{reference.MARK}\nof a command that is gone\n")
    (tmp_path / "kv.md").write_text("damaged\n")
    assert reference.stale(tmp_path) == ["gone.md", "kv.md"]
    assert reference.main([str(tmp_path)]) == 0
    assert reference.stale(tmp_path) == []
    assert (tmp_path / "diagnostics.md").read_text() == "by hand\n"
    assert not (tmp_path / "gone.md").exists()


def test_generator_without_a_directory_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main([]) == 64
    assert "usage:" in capsys.readouterr().err


# --- manual pages -------------------------------------------------------------------------------


def test_page_of_a_command_is_printed(cli: CommandLine) -> None:
    ran = cli("man", "kv", "get")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith('.TH "BAOHA\\-KV\\-GET" "1"')
    assert "\\fB\\-\\-mount\\fR \\fIPATH\\fR" in ran.out


def test_page_of_a_command_that_is_not_there_is_a_usage_error(cli: CommandLine) -> None:
    ran = cli("man", "kv", "got")
    assert (ran.code, ran.out) == (64, "")


def test_all_pages_are_written_into_a_directory(cli: CommandLine, tmp_path: Path) -> None:
    target = tmp_path / "share" / "man1"
    assert cli("man", "--dir", str(target)).code == 0
    written = {path.name for path in target.iterdir()}
    assert written == {f"{page_name(node)}.1" for node in TREE.walk()}
    assert (target / "baoha-operator-raft-list-peers.1").read_bytes().isascii()


def test_pages_that_cannot_be_written_are_a_local_error(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = cli("man", "--dir", str(tmp_path / "file"))
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("node", list(TREE.walk()), ids=lambda node: node.words)
def test_page_holds_no_line_that_roff_would_misread(node: CommandNode) -> None:
    macros = {".TH", ".SH", ".TP", ".PP", ".B", ".I", ".BR"}
    for line in page(node).splitlines():
        assert line
        assert line.isascii()
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split(" ")[0] in macros


def test_signs_that_roff_reads_are_escaped() -> None:
    text = ".dot 'quote' back\\slash -dash \"double\" grüße ~^`"
    node = CommandNode(
        ("x",), "s", text, text, (Parameter((), "X", text, "Options"),), (), "baoha x"
    )
    rendered = page(node)
    assert rendered.count("\\&.dot \\(aqquote\\(aq back\\eslash \\-dash \\(dqdouble\\(dq") == 3
    assert "gr\\[u00FC]\\[u00DF]e \\(ti\\(ha\\(ga" in rendered


def test_groff_renders_every_page_without_a_warning(tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:  # the test above holds on such a machine too
        return
    for node in TREE.walk():
        path = tmp_path / f"{page_name(node)}.1"
        path.write_text(page(node))
        argv = [groff, "-man", "-Tutf8", "-wall", str(path)]
        ran = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert ran.stderr == ""
        assert "baoha manual" in ran.stdout
