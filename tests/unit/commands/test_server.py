"""`baoha server`: options, and checking a configuration without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli_lab import CommandLine

GOOD = """\
api_addr = "http://127.0.0.1:8200"
cluster_addr = "https://127.0.0.1:8201"

[storage.inmem]

[[listener.tcp]]
address = "127.0.0.1:8200"
tls_disable = true
"""


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "baoha.toml"
    path.write_text(text)
    return str(path)


def test_check_config_of_good_file_is_zero(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("server", f"-config={config(tmp_path, GOOD)}", "--check-config")
    assert (ran.code, ran.out) == (0, "the configuration can be used\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("api_addr", "api_adr", "api_addr"),
        ('"http://127.0.0.1:8200"', '"localhost:8200"', "BH-102"),
        ('"http://127.0.0.1:8200"', '"http://"', "BH-103"),
        ("[storage.inmem]", "[storage.nosuch]", "nosuch"),
        ("tls_disable = true", "tls_disable = ", "baoha.toml:8"),
        (
            "[storage.inmem]",
            '[storage.sqlite]\npath = "/nowhere/db"\nop_timeout = "10m"',
            "op_timeout of the store (600s) must not be above renew_timeout and cleanup",
        ),
        (
            "[storage.inmem]",
            '[storage.sqlite]\npath = "/nowhere/db"\nop_timout = "1s"',
            'did you mean "op_timeout"?',
        ),
    ],
    ids=["key", "scheme", "host", "storage", "syntax", "store's time", "store's key"],
)
def test_check_config_of_bad_file_is_one_and_names_it(
    cli: CommandLine, tmp_path: Path, old: str, new: str, words: str
) -> None:
    ran = cli("server", "--config", config(tmp_path, GOOD.replace(old, new, 1)), "--check-config")
    assert ran.code == 1
    assert ran.out == ""
    assert words in ran.err


def test_effective_config_says_where_each_value_came_from(cli: CommandLine, tmp_path: Path) -> None:
    cli.setenv("BAO_API_ADDR", "http://127.0.0.2:8200")
    given = ["server", f"-config={config(tmp_path, GOOD)}", "--print-effective-config"]
    data = json.loads(cli(*given, "-o", "json").out)
    settings = {item["key"]: item for item in data["settings"]}
    assert data["schema"] == "baoha.config/v1"
    assert settings["api_addr"]["value"] == "http://127.0.0.2:8200"
    assert "BAO_API_ADDR" in settings["api_addr"]["source"]
    assert "KEY" in cli(*given).out


def test_config_path_can_come_from_the_environment(cli: CommandLine, tmp_path: Path) -> None:
    cli.setenv("BAO_CONFIG_PATH", config(tmp_path, GOOD))
    assert cli("server", "--check-config").code == 0


def test_strict_addresses_refuse_what_is_only_warned_about(
    cli: CommandLine, tmp_path: Path
) -> None:
    odd = GOOD.replace('"http://127.0.0.1:8200"', '"http://127.0.0.1:8200/path"', 1)
    given = ["server", f"-config={config(tmp_path, odd)}", "--check-config"]
    warned = cli(*given)
    assert warned.code == 0
    assert "BH-105" in warned.err
    assert cli(*given, "--strict-addresses").code == 1


def test_missing_file_is_a_local_error(cli: CommandLine) -> None:
    ran = cli("server", "-config=/nonexistent.hcl")
    assert ran.code == 1
    assert "/nonexistent.hcl" in ran.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--dev-ha", "0"), "1 to 9 nodes"),
        (("--dev-ha", "99"), "1 to 9 nodes"),
        (("--dev", "--log-level", "loud"), "unknown log level: loud"),
    ],
)
def test_option_with_a_value_that_cannot_be_is_a_usage_error(
    cli: CommandLine, argv: tuple[str, ...], words: str
) -> None:
    ran = cli("server", *argv)
    assert (ran.code, ran.out) == (64, "")
    assert words in ran.err
