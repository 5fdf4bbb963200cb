"""step-down, wait and unseal --all against a scripted cluster that changes its mind."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli_lab import (
    HEALTH,
    NO_FORWARDING,
    SEALED,
    UNSEALED,
    CommandLine,
    Reply,
    Script,
    ScriptedServer,
    Seen,
    free_port,
    nodes,
)

TOKEN = "s.VerySecretClientToken01"


class ScriptedCluster:
    """Nodes that agree on one leader, which a step-down changes after ``gap_s``."""

    def __init__(self, *, gap_s: float = 0.15, successor: int | None = 1, blind: int = -1) -> None:
        self.leader: int | None = 0
        self.tenure = 1
        self.gap_s = gap_s
        self.successor = successor
        self.blind = blind
        self.is_baoha = False
        self.sealed: dict[int, int] = {}
        self.step_downs: list[tuple[int, Seen]] = []
        self.urls: list[str] = []

    @contextmanager
    def running(self, count: int = 3) -> Iterator[list[ScriptedServer]]:
        """Open the nodes."""
        with nodes(*(self._script(number) for number in range(count))) as opened:
            self.urls = [node.url for node in opened]
            yield opened

    @property
    def address(self) -> str:
        """The flag that names all nodes."""
        return "-address=" + ",".join(self.urls)

    def _script(self, number: int) -> Script:
        return lambda request: self._answer(number, request)

    def _leader_body(self, number: int) -> dict[str, object]:
        leader = self.leader
        body: dict[str, object] = {"ha_enabled": True, "is_self": leader == number}
        stale = number == self.blind and self.tenure > 1
        if leader is not None and not stale:
            body["leader_address"] = self.urls[leader]
            body["leader_cluster_address"] = f"https://127.0.0.1:{leader + 1}"
        if leader == number:
            body["active_time"] = f"2026-01-01T00:00:0{self.tenure}Z"
        return body

    def _answer(self, number: int, request: Seen) -> Reply:
        path = request.path.partition("?")[0].removeprefix("/v1/sys/")
        if path == "seal-status":
            return 200, self._seal_status(number)
        if path == "unseal":
            return self._unseal(number, request)
        if number in self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if path == "leader":
            return 200, self._leader_body(number)
        if path == "health":
            return 200, HEALTH
        if path == "ha/live":
            return (
                (200, {"live": True, "software": "baoha"})
                if self.is_baoha
                else (404, {"errors": []})
            )
        if path == "ha-status":
            return self._ha_status(number, request)
        if path == "step-down":
            return self.step_down(number, request)
        return 404, {"errors": []}

    def _ha_status(self, number: int, request: Seen) -> Reply:
        if request.headers.get("x-vault-token"):
            listed = [{"api_address": url, "active_node": False} for url in self.urls]
            return 200, {"nodes": listed}
        if self.leader is None:
            return 500, {"errors": ["local node not active but active cluster node not found"]}
        if number != self.leader and NO_FORWARDING in request.headers:
            return 307, b"", {"Location": f"{self.urls[self.leader]}/v1/sys/ha-status"}
        return 403, {"errors": ["permission denied"]}

    def step_down(self, number: int, request: Seen) -> Reply:
        self.step_downs.append((number, request))
        self.leader = None

        def take_over() -> None:
            time.sleep(self.gap_s)
            self.tenure += 1
            self.leader = self.successor

        threading.Thread(target=take_over, daemon=True).start()
        return 204, b""

    def _seal_status(self, number: int) -> dict[str, object]:
        if number not in self.sealed:
            return UNSEALED
        return {**SEALED, "progress": self.sealed[number]}

    def _unseal(self, number: int, request: Seen) -> Reply:
        body = json.loads(request.body)
        if body.get("reset"):
            self.sealed[number] = 0
        elif body["key"] == "wrong":
            return 400, {"errors": ["'key' must be a valid hex or base64 string"]}
        elif number in self.sealed:
            self.sealed[number] += 1
            if self.sealed[number] >= 3:
                del self.sealed[number]
        return 200, self._seal_status(number)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    line = CommandLine(monkeypatch, capfdbinary, str(tmp_path))
    line.setenv("BAO_TOKEN", TOKEN)
    return line


def test_step_down_with_wait_reports_who_follows_and_the_gap(cli: CommandLine) -> None:
    cluster = ScriptedCluster(gap_s=0.3)
    with cluster.running():
        ran = cli("step-down", cluster.address, "--wait", "--yes", "-o", "json")
    data = json.loads(ran.out)
    assert ran.code == 0, ran.err
    assert data["schema"] == "baoha.step-down/v1"
    old, new = (url.removeprefix("http://") for url in cluster.urls[:2])
    assert (data["old_leader"], data["new_leader"]) == (old, new)
    assert 250 < data["gap_ms"] < 1500
    assert data["not_following"] == []
    assert len(data["follows_after_ms"]) == 2
    assert data["probes_failed"] > 0
    assert "500" in data["probe_errors"]
    assert [number for number, _ in cluster.step_downs] == [0]


def test_step_down_gives_the_token_to_the_active_node_only(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running() as opened:
        cli("step-down", cluster.address, "--wait", "--yes")
        for node in opened:
            for seen in node.seen:
                is_step_down = seen.path == "/v1/sys/step-down"
                assert ("x-vault-token" in seen.headers) is is_step_down


@pytest.mark.parametrize(
    ("successor", "blind", "flags", "code", "words"),
    [
        (0, -1, [], 1, "is active again"),
        (0, -1, ["--any"], 0, ""),
        (1, 2, [], 1, "did not follow"),
        (None, -1, ["--deadline=500ms"], 1, "no node became active"),
        (1, -1, ["--max-gap=10ms"], 1, "is longer than"),
        (1, -1, ["--max-gap=30s"], 0, ""),
    ],
    ids=["same node", "same node is fine", "blind node", "nobody", "too slow", "fast enough"],
)
def test_step_down_is_honest_about_the_outcome(
    cli: CommandLine, successor: int | None, blind: int, flags: list[str], code: int, words: str
) -> None:
    cluster = ScriptedCluster(successor=successor, blind=blind)
    with cluster.running():
        ran = cli("step-down", cluster.address, "--wait", "--yes", *flags)
    assert ran.code == code, ran.err
    assert words in ran.err
    assert ("FAIL" in ran.err) == bool(code)


def test_step_down_without_usable_standby_is_refused_and_sends_nothing(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    cluster.sealed = {1: 0, 2: 0}
    with cluster.running():
        refused = cli("step-down", cluster.address, "--yes")
        assert cluster.step_downs == []
        forced = cli("step-down", cluster.address, "--yes", "--force")
        assert len(cluster.step_downs) == 1
    assert refused.code == 1
    assert "without an active node" in refused.err
    assert "sealed" in refused.err
    assert forced.code == 0


def test_step_down_dry_run_shows_the_plan_and_sends_nothing(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        ran = cli("step-down", cluster.address, "--dry-run", "-o", "json")
        assert cluster.step_downs == []
    plan = json.loads(ran.out)
    assert ran.code == 0
    assert len(plan["usable"]) == 2
    assert plan["direct"] is True
    assert "pre-check  3 nodes" in ran.err


def test_step_down_without_terminal_needs_yes(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        ran = cli("step-down", cluster.address)
        assert cluster.step_downs == []
    assert ran.code == 64
    assert "--yes" in ran.err


def test_step_down_to_a_node_needs_a_baoha_server(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        to = cluster.urls[1]
        other = cli("step-down", cluster.address, "--yes", f"--to={to}")
        assert cluster.step_downs == []
        cluster.is_baoha = True
        ours = cli("step-down", cluster.address, "--yes", f"--to={to}")
        [(number, seen)] = cluster.step_downs
    assert (other.code, ours.code) == (64, 0)
    assert "baoha server" in other.err
    assert number == 0
    assert json.loads(seen.body) == {"force": False, "to": to}


def test_step_down_with_only_a_standby_given_goes_through_it_and_says_so(
    cli: CommandLine,
) -> None:
    cluster = ScriptedCluster()
    with cluster.running() as opened:
        ran = cli("step-down", f"-address={cluster.urls[1]}", "--wait", "--yes")
        assert [number for number, _ in cluster.step_downs] == [1]
        assert "(a standby)" in ran.err
        # The others were found by ha-status; no token may go there.
        for node in (opened[0], opened[2]):
            assert not any("x-vault-token" in seen.headers for seen in node.seen)


def test_step_down_refused_by_the_server_is_no_and_shows_why(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    cluster.step_down = lambda *_: (409, {"errors": ["no standby is ready"]})  # type: ignore[method-assign]
    with cluster.running():
        ran = cli("step-down", cluster.address, "--yes")
    assert ran.code == 1
    assert "no standby is ready" in ran.err


def test_operator_step_down_is_baos_own_and_asks_nothing_first(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running() as opened:
        ran = cli("operator", "step-down", f"-address={cluster.urls[0]}")
        assert [seen.path for seen in opened[0].seen] == ["/v1/sys/step-down"]
    assert (ran.code, ran.out) == (0, f"Success! Stepped down: {cluster.urls[0]}\n")


def test_step_down_to_the_node_that_is_active_is_refused(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        cluster.is_baoha = True
        for to in (cluster.urls[0], cluster.urls[0].removeprefix("http://")):
            ran = cli("step-down", cluster.address, "--yes", f"--to={to}")
            assert ran.code == 1
            assert "is the active node already" in ran.err
    assert cluster.step_downs == []


# --- wait ---------------------------------------------------------------------------------------


def test_wait_ends_when_the_condition_comes_true(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        cluster.leader = None

        def elect() -> None:
            time.sleep(0.3)
            cluster.leader = 2

        threading.Thread(target=elect, daemon=True).start()
        ran = cli("wait", "--for=one-leader", cluster.address, "--interval=20ms", "--deadline=10s")
    assert ran.code == 0, ran.err
    assert "one-leader: met after" in ran.out


def test_wait_that_times_out_says_what_is_missing(cli: CommandLine) -> None:
    cluster = ScriptedCluster(successor=None)
    with cluster.running():
        cluster.leader = None
        ran = cli("wait", "--for=leader", cluster.address, "--deadline=200ms", "-o", "json")
    data = json.loads(ran.out)
    assert ran.code == 8
    assert data["met"] is False
    assert data["missing"] == "leader: no active node"


@pytest.mark.parametrize(("leader", "code"), [(0, 0), (None, 8)])
def test_wait_without_time_looks_once(cli: CommandLine, leader: int | None, code: int) -> None:
    cluster = ScriptedCluster()
    cluster.leader = leader
    with cluster.running():
        ran = cli("wait", "--for=leader", cluster.address, "--deadline=0")
    assert ran.code == code
    assert "nothing is known" not in ran.err


def test_wait_that_could_never_be_stable_is_a_usage_error(cli: CommandLine) -> None:
    ran = cli("wait", "--for=leader", "--deadline=5s", "--stable-for=5s")
    assert ran.code == 64
    assert "--stable-for" in ran.err


@pytest.mark.parametrize(
    "argv", [["--for=nodes=9"], ["--for=leader=elsewhere"]], ids=["nodes", "name"]
)
def test_wait_ends_early_when_it_can_never_be(cli: CommandLine, argv: list[str]) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        ran = cli("wait", *argv, cluster.address, "--deadline=30s")
    assert ran.code == 9
    assert "cannot become true" in ran.err


def test_wait_with_fail_fast_gives_up_on_a_wrong_name(cli: CommandLine) -> None:
    ran = cli("wait", "--for=ready", "-address=http://name.invalid:1", "--fail-fast")
    assert ran.code == 9


def test_wait_for_stability_starts_again_when_it_breaks(cli: CommandLine) -> None:
    cluster = ScriptedCluster(successor=None)
    with cluster.running():

        def flap() -> None:
            for leader in (None, 0, None, 0):
                time.sleep(0.15)
                cluster.leader = leader

        threading.Thread(target=flap, daemon=True).start()
        began = time.monotonic()
        ran = cli(
            *("wait", "--for=leader", cluster.address, "--stable-for=300ms", "--interval=10ms")
        )
        took_s = time.monotonic() - began
    assert ran.code == 0
    assert took_s > 0.8


# --- unseal --all -------------------------------------------------------------------------------


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_unseal_all_gives_each_share_once_to_every_sealed_node(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ScriptedCluster()
    cluster.sealed = {1: 2, 2: 0}
    feed(monkeypatch, "share-one\nshare-two\n\nshare-three\nshare-four\n")
    with cluster.running() as opened:
        ran = cli("operator", "unseal", "-all", "-", cluster.address)
        given = [
            [json.loads(seen.body) for seen in node.seen if seen.path.endswith("unseal")]
            for node in opened
        ]
    assert ran.code == 0, ran.err
    assert given[0] == []
    assert given[1][0] == {"reset": True}  # of an attempt that somebody else began
    assert [body["key"] for body in given[1][1:]] == ["share-one", "share-two", "share-three"]
    assert [body["key"] for body in given[2]] == ["share-one", "share-two", "share-three"]
    assert "share-" not in ran.out + ran.err
    assert "OK" in ran.out


def test_unseal_all_with_too_few_shares_says_so(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ScriptedCluster()
    cluster.sealed = {1: 0}
    feed(monkeypatch, "share-one\n")
    with cluster.running():
        ran = cli("cluster", "unseal", "-", cluster.address)
    assert ran.code == 2
    assert "only 1 shares" in ran.err


def test_unseal_all_without_terminal_does_not_hang(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    cluster.sealed = {1: 0}
    with cluster.running():
        ran = cli("operator", "unseal", "--all", cluster.address)
    assert ran.code == 64


def test_unseal_share_that_a_server_echoes_is_not_printed(cli: CommandLine) -> None:
    with ScriptedServer(lambda request: (400, {"errors": [request.body.decode()]})) as node:
        ran = cli("operator", "unseal", "my-secret-share", f"-address={node.url}")
    assert ran.code == 2
    assert "my-secret-share" not in ran.out + ran.err


def test_init_beside_an_initialised_node_is_refused(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running() as opened:
        ran = cli("operator", "init", cluster.address)
        assert not any(seen.method == "PUT" for node in opened for seen in node.seen)
    assert ran.code == 2
    assert "second cluster" in ran.err


def test_leader_that_is_dead_is_not_printed(cli: CommandLine) -> None:
    cluster = ScriptedCluster()
    with cluster.running():
        cluster.leader = None
        ran = cli("leader", cluster.address)
        assert (ran.code, ran.out) == (3, "")
        assert "no active node" in ran.err
    assert cli("leader", f"-address=http://127.0.0.1:{free_port()}").code == 5
