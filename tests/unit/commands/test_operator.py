"""`baoha operator init` with each kind of seal: what is asked of the node, and the words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli_lab import UNINITIALIZED, CommandLine, Ran, ScriptedServer, table

MADE = {"keys": ["ab"], "keys_base64": ["qw=="], "root_token": "s.root"}
RECOVERED = {
    "keys": [],
    "keys_base64": [],
    "recovery_keys": ["cd", "ef"],
    "recovery_keys_base64": ["zQ==", "7w=="],
    "root_token": "s.root",
}


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def init(cli: CommandLine, *argv: str, recovery_seal: bool) -> tuple[Ran, dict[str, int]]:
    """Initialise a node with this kind of seal; returns what was printed and what was sent."""
    seal = {**UNINITIALIZED, "recovery_seal": recovery_seal}
    answers = {
        "/v1/sys/seal-status": (200, seal),
        "/v1/sys/init": (200, RECOVERED if recovery_seal else MADE),
    }
    with ScriptedServer(table(answers)) as node:
        ran = cli("operator", "init", f"-address={node.url}", *argv)
        [sent] = [json.loads(seen.body) for seen in node.seen if seen.method == "PUT"]
    return ran, sent


# As `bao operator init` sends them.
@pytest.mark.parametrize(
    ("recovery_seal", "argv", "numbers"),
    [
        (False, "", (5, 3, 0, 0)),
        (False, "-n 2 -t 1", (2, 1, 0, 0)),
        (False, "-n 2", (2, 3, 0, 0)),
        (True, "", (0, 0, 5, 3)),
        (True, "-recovery-shares 2 -recovery-threshold 1", (0, 0, 2, 1)),
        (True, "-recovery-shares 2", (0, 0, 2, 3)),
        (True, "-n 1 -t 1", (1, 1, 5, 3)),
    ],
)
def test_init_asks_for_the_keys_that_fit_the_seal(
    cli: CommandLine, recovery_seal: bool, argv: str, numbers: tuple[int, ...]
) -> None:
    ran, sent = init(cli, *argv.split(), recovery_seal=recovery_seal)
    assert (ran.code, ran.err) == (0, "")
    assert tuple(sent.values()) == numbers
    assert list(sent) == [
        *("secret_shares", "secret_threshold", "recovery_shares", "recovery_threshold")
    ]


def test_init_with_auto_unseal_prints_recovery_keys_and_their_numbers(cli: CommandLine) -> None:
    argv = ("-recovery-shares=2", "-recovery-threshold=2")
    ran, _ = init(cli, *argv, recovery_seal=True)
    assert "Recovery Key 1: zQ==\nRecovery Key 2: 7w==\n" in ran.out
    assert "with 2 key shares and a key threshold of 2" in ran.out
    assert "Unseal Key" not in ran.out
    ran, _ = init(cli, *argv, "-format=json", recovery_seal=True)
    made = json.loads(ran.out)
    assert (made["recovery_keys_shares"], made["recovery_keys_threshold"]) == (2, 2)
    assert (made["unseal_shares"], made["unseal_keys_b64"]) == (1, [])


def test_init_without_auto_unseal_says_that_recovery_shares_do_nothing(cli: CommandLine) -> None:
    ran, sent = init(cli, "-recovery-shares=2", recovery_seal=False)
    assert ran.code == 0
    assert sent["recovery_shares"] == 0
    assert "do nothing" in ran.err
