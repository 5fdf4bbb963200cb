"""
The documents are executable: what they show must work.

Rules of this file: it reads the files as a reader would (code blocks, inline commands, links,
tables), and asks the software itself; nothing here knows what a document says.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
import typer
from baoha_cli.main import build

from baoha.config.addresses import check_addresses, enforce
from baoha.config.load import load
from baoha.sansio.durations import SECOND_NS, parse_duration_ns
from baoha.storage.registry import is_ha
from baoha.timing import HATiming
from tests.support.api_cluster import APICluster
from tests.support.cli_lab import words_left
from tests.support.scenario import RECOVERY_S

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(baoha [^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# What a page may leave out of a configuration, because another block has it.
MISSING = {
    "api_addr": 'api_addr = "https://node1.example.com:8200"\n',
    "storage": '[storage.sqlite]\npath = "data/baoha.db"\n',
    "listener": '[[listener.tcp]]\naddress = "127.0.0.1:8200"\ntls_disable = true\n',
}


class Snippet(NamedTuple):
    """Something to try, and where it stands; ``mentioned``: in the middle of a sentence."""

    page: str
    text: str
    mentioned: bool = False


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(*languages: str) -> list[Snippet]:
    return [
        Snippet(_name(page), text)
        for page in PAGES
        for language, text in FENCE.findall(page.read_text())
        if language in languages
    ]


def _shell_commands(script: str) -> Iterator[str]:
    """Yield the ``baoha`` commands of a script: comments, pipes and redirections left out."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for index, word in enumerate(words):
            if word == "baoha" and (index == 0 or words[index - 1] in ("|", "&&", ";", "sudo")):
                rest = words[index:]
                ends = [at for at, one in enumerate(rest) if one in ("|", "&&", ";", ">", "2>&1")]
                yield shlex.join(rest[: ends[0]] if ends else rest)


def _commands() -> list[Snippet]:
    found = [
        Snippet(script.page, command)
        for script in _blocks("sh")
        for command in _shell_commands(script.text)
    ]
    for page in PAGES:
        prose = FENCE.sub("", page.read_text())
        found += [Snippet(_name(page), text, mentioned=True) for text in INLINE.findall(prose)]
    return sorted(set(found))


def _id(snippet: object) -> str:
    return f"{snippet.page}: {snippet.text[:60]!a}" if isinstance(snippet, Snippet) else ""


def _slug(heading: str) -> str:
    """Return the anchor that a heading gets (GitHub's rule)."""
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return text.replace(" ", "-")


# --- configuration --------------------------------------------------------------------------------


def _completed(path: Path, text: str) -> list[Path]:
    """Write a block as a file, and beside it whatever it leaves out."""
    file = path / ("block.toml" if _is_toml(text) else "block.hcl")
    file.write_text(text)
    given = tomllib.loads(text) if _is_toml(text) else text
    rest = path / "rest.toml"
    rest.write_text("".join(part for key, part in MISSING.items() if key not in given))
    return [rest, file]


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


@pytest.mark.parametrize("block", _blocks("toml", "hcl"), ids=_id)
def test_configuration_block_can_be_used(block: Snippet, tmp_path: Path) -> None:
    config = load(_completed(tmp_path, block.text), {}, read_secrets=False)
    enforce(check_addresses(config, is_ha))


@pytest.mark.parametrize(
    "file",
    [
        _name(path)
        for path in sorted((ROOT / "examples").rglob("*.toml"))
        if path.name != "pyproject.toml"
    ],
)
def test_example_configuration_can_be_used(file: str) -> None:
    config = load([ROOT / file], {}, read_secrets=False)
    enforce(check_addresses(config, is_ha))


def test_table_of_durations_has_the_defaults_of_the_code() -> None:
    text = (ROOT / "docs" / "failover.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", text, re.MULTILINE)
    known = {field.name.removesuffix("_s"): field.default for field in fields(HATiming)}
    assert len(rows) > 5
    for key, shown in rows:
        assert parse_duration_ns(shown) / SECOND_NS == known[key], key


def test_time_to_recover_on_the_pages_is_the_one_that_the_simulation_allows() -> None:
    said = {
        page: float(found)
        for page in ("ARCHITECTURE.md", "docs/testing.md")
        for found in re.findall(r"ttl`? \+ (\d+) s\b", (ROOT / page).read_text())
    }
    assert said == {"ARCHITECTURE.md": RECOVERY_S, "docs/testing.md": RECOVERY_S}


# --- commands -------------------------------------------------------------------------------------


def _parse(argv: list[str], *, mentioned: bool = False) -> None:
    """Parse a command line as the program would, and run nothing. A mention may end anywhere."""
    command: Any = build()
    context: Any = None
    while argv or not mentioned:
        context = command.make_context(command.name, argv, parent=context)
        if not hasattr(command, "list_commands"):
            return
        _, command, argv = command.resolve_command(context, words_left(context))


@pytest.mark.parametrize("command", _commands(), ids=_id)
def test_command_line_is_accepted(command: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(("BAO", "VAULT_"))]:
        monkeypatch.delenv(variable)
    with suppress(typer.Exit):  # --help; what is not understood raises something else
        _parse(shlex.split(command.text)[1:], mentioned=command.mentioned)


def test_parser_of_this_test_refuses_what_the_program_refuses() -> None:
    for line in ("status --no-such-option", "no-such-command", "kv", "kv put", "wait --interval"):
        with pytest.raises(Exception, match=r".+"):
            _parse(shlex.split(line))


@pytest.mark.parametrize("block", _blocks("python"), ids=_id)
def test_python_block_compiles_and_imports_what_is_there(block: Snippet) -> None:
    compile(block.text, block.page, "exec")
    for module, names in re.findall(r"^from ([\w.]+) import (.+)$", block.text, re.MULTILINE):
        imported = importlib.import_module(module)
        for name in names.split(","):
            assert hasattr(imported, name.strip()), f"{module} has no {name}"


@pytest.mark.parametrize("script", _blocks("sh"), ids=_id)
def test_shell_block_is_valid_shell(script: Snippet) -> None:
    ran = subprocess.run(
        ["sh", "-n"], input=script.text, text=True, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "module", ["benchmarks.failover", "benchmarks.overload", "benchmarks.throughput"]
)
def test_benchmark_command_line_is_accepted(module: str) -> None:
    shown = " ".join(script.text for script in _blocks("sh"))
    options = set(re.findall(rf"{module} .*?(--[\w-]+)", shown))
    ran = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert options <= set(re.findall(r"--[\w-]+", ran.stdout))


# --- links, codes, words --------------------------------------------------------------------------


@pytest.mark.parametrize("page", [_name(page) for page in PAGES])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in LINK.findall(FENCE.sub("", file.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = file.parent / path if path else file
        assert found.exists(), f"{page} links to {target}"
        if anchor:
            anchors = {_slug(heading) for heading in HEADING.findall(found.read_text())}
            assert anchor in anchors, f"{page} links to {target}"


def test_every_page_can_be_found_from_the_readme() -> None:
    found, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        if page in found or page.suffix != ".md":
            continue
        found.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(page.read_text())]
        left += [page.parent / target for target in targets if target and "://" not in target]
    assert set(PAGES) <= found


# --- endpoints ------------------------------------------------------------------------------------


@pytest.fixture
async def cluster(nursery: trio.Nursery, autojump_clock: object) -> AsyncIterator[APICluster]:
    """A cluster without nodes; its nodes end with the test."""
    yield APICluster(nursery)
    nursery.cancel_scope.cancel()


def _endpoints() -> list[tuple[str, str]]:
    """Return (method, path) of every endpoint that docs/api.md names in a table."""
    found = []
    for cell in re.findall(r"^\| ([A-Z, ]+ `.+?) \|", (ROOT / "docs/api.md").read_text(), re.M):
        methods = re.findall(r"[A-Z]+", cell.partition("`")[0])
        found += [(method, path) for path in re.findall(r"`(.+?)`", cell) for method in methods]
    return found


async def test_endpoints_of_the_api_page_are_there(cluster: APICluster) -> None:
    await cluster.start(1)
    root = cluster.secrets["root"]
    await cluster.write("sys/mounts/kv", type="kv")
    endpoints = _endpoints()
    assert len(endpoints) > 80
    for method, path in endpoints:
        # Without a token where it would succeed and end the test.
        token = "" if path in ("sys/seal", "auth/token/revoke-self") else root
        target = re.sub(":[a-z]+", "x", path)
        answer = await cluster.nodes[0].call(
            method, f"/v1/{target}", b"{}" if method != "GET" else b"", [("X-Vault-Token", token)]
        )
        assert answer.status not in (405, 501), (method, path, answer)
        assert b"unsupported path" not in answer.body, (method, path)
        assert b"no handler for route" not in answer.body, (method, path)
