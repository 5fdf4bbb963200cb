"""`baoha diagnose`: options, output, reports, exit codes, and hostile servers."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine, ScriptedServer, free_port

QUICK = ["--settle", "100ms"]


def broken(world: World) -> str:
    """Open a cluster that redirects instead of forwarding."""
    active, *standbys = world.cluster()
    active.cluster_addr = world.cluster_port("refused")
    for node in standbys:
        node.forwards = False
    return world.addresses()


def test_table_says_what_why_and_how_to_mend_it(world: World, cli: CommandLine) -> None:
    ran = cli("diagnose", "forwarding", "--addr", broken(world), *QUICK)
    active, second, third = world.nodes
    assert ran.code == 1
    assert ran.err == ""
    lines = ran.out.splitlines()
    port = active.cluster_addr
    assert lines[0] in {
        f"FAIL BH-401 {node.label} -> {active.label}  forwarding is off: {node.label} answers 307 "
        "for a request that it should forward"
        for node in (second, third)
    }
    words = f"why BH-601: {active.label} advertises {port}; connection refused from here fix "
    assert words in " ".join(ran.out.split())
    assert re.search(
        rf"(?m)^{third.label} +standby +{active.label} +redirect +refused +2\.7\.2", ran.out
    )
    assert re.match(r"FAIL \d+ checks, 2 failed, \d+ skipped \(.*\), \d+\.\d s$", lines[-2])
    assert lines[-1] == "hint: baoha explain BH-601"


def test_healthy_cluster_is_one_line(world: World, cli: CommandLine) -> None:
    world.cluster()
    ran = cli("diagnose", "all", "--addr", world.addresses())
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(r"ok   \d+ checks, \d+ skipped \(.*\), \d+\.\d s\n", ran.out)


@pytest.mark.parametrize("kind", ["active", "baoha"])
@pytest.mark.parametrize("area", ["all", "addresses", "forwarding", "tls", "clock", "lb"])
def test_healthy_cluster_has_no_finding_in_any_area(
    area: str, kind: str, world: World, cli: CommandLine
) -> None:
    active, *others = world.cluster()
    active.cluster_addr = world.cluster_port(kind)
    via = ["--via", world.balancer(active, *others)]
    given_ = ["--addr", world.addresses(), *via, "--fail-on", "info", "-o", "json"]
    ran = cli("diagnose", area, *given_)
    assert (ran.code, json.loads(ran.out)["findings"]) == (0, [])


def test_healthy_cluster_over_tls_has_no_finding(world: World, cli: CommandLine) -> None:
    world.cluster(context=world.context())
    given_ = ["--addr", world.addresses(), "--ca", world.ca_file(), "--fail-on", "info"]
    ran = cli("diagnose", "all", *given_)
    assert (ran.code, ran.out[:2]) == (0, "ok")


def test_several_reports_are_written_beside_the_table(world: World, cli: CommandLine) -> None:
    kinds = ["json", "ndjson", "junit", "github", "gitlab", "tap", "nagios", "prometheus"]
    paths = {kind: world.folder / f"out.{kind}" for kind in kinds}
    wanted = [part for kind, path in paths.items() for part in ("--report", f"{kind}={path}")]
    ran = cli("diagnose", "forwarding", "--addr", broken(world), *QUICK, *wanted)
    assert ran.code == 1
    assert ran.out.startswith("FAIL BH-401")
    for path in paths.values():
        assert "BH-401" in path.read_text()
    assert list(world.folder.glob(".out*")) == []


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("json", "{"),
        ("ndjson", "{"),
        ("yaml", "area: forwarding"),
        ("tsv", "SEVERITY\tCODE"),
        ("name", "BH-401\n"),
        ("junit", "<?xml"),
        ("github", "::error title=BH-401"),
        ("gitlab", "["),
        ("tap", "TAP version 14"),
        ("prometheus", "# HELP baoha_check_status"),
        ("field=summary.errors", "2\n"),
    ],
)
def test_output_comes_in_each_format(kind: str, start: str, world: World, cli: CommandLine) -> None:
    ran = cli("diagnose", "forwarding", "--addr", broken(world), *QUICK, "-o", kind)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith(start)


def test_nagios_output_has_its_own_exit_codes(world: World, cli: CommandLine) -> None:
    world.cluster()
    given_ = ["diagnose", "forwarding", "--addr", world.addresses(), *QUICK, "-o", "nagios"]
    ran = cli(*given_)
    assert ran.code == 0
    assert ran.out.startswith(f"BAOHA OK - leader {world.nodes[0].label}, 2/2 standbys forward | ")
    world.nodes[2].role = "sealed"
    assert cli(*given_).code == 1
    world.nodes[1].forwards = False
    ran = cli(*given_)
    assert (ran.code, ran.out[:22]) == (2, "BAOHA CRITICAL - BH-40")


def test_baseline_makes_known_findings_not_count(world: World, cli: CommandLine) -> None:
    nodes, baseline = broken(world), str(world.folder / "known.json")
    given_ = ["diagnose", "forwarding", "--addr", nodes, *QUICK]
    assert cli(*given_, "--report", f"baseline={baseline}").code == 1
    ran = cli(*given_, "--baseline", baseline)
    assert ran.code == 0
    assert "known BH-401" in ran.out
    assert "2 known" in ran.out


def test_only_skip_and_exit_zero(world: World, cli: CommandLine) -> None:
    given_ = ["diagnose", "all", "--addr", broken(world), *QUICK]
    assert cli(*given_, "--skip", "BH-4*").code == 0
    assert cli(*given_, "--only", "3*,9*").code == 0
    assert cli(*given_, "--only", "BH-401").code == 1
    assert cli(*given_, "--exit-zero").code == 0
    assert cli(*given_, "-q").out == ""


def test_configuration_files_are_judged_beside_the_cluster(
    world: World, cli: CommandLine, tmp_path: Path
) -> None:
    world.cluster()
    path = tmp_path / "n.toml"
    path.write_text(
        'api_addr = "localhost:8200"\n[storage.inmem]\n[[listener.tcp]]\n'
        'address = "127.0.0.1:8200"\ntls_disable = true\n'
    )
    given_ = ["--addr", world.addresses(), "--config", str(path), "-o", "name"]
    ran = cli("diagnose", "addresses", *given_)
    assert (ran.code, ran.out) == (1, "BH-102\n")


def test_point_of_view_of_the_nodes_leaves_out_what_is_only_from_here(
    world: World, cli: CommandLine
) -> None:
    active, *standbys = world.cluster()
    active.api_addr = f"http://127.0.0.1:{free_port()}"
    given_ = ["diagnose", "all", "--addr", ",".join(node.url for node in standbys), *QUICK]
    assert "BH-210" in cli(*given_).out
    ran = cli(*given_, "--from", "node", "--fail-on", "info")
    assert ran.code == 0
    assert "--from node" in ran.out


@pytest.mark.parametrize(
    "extra",
    [
        ["--from", "nowhere"],
        ["--fail-on", "always"],
        ["--only", "BH-999"],
        ["--skip", "x"],
        ["--report", "nosuch=x"],
        ["--settle", "long"],
        ["--via", "vault.example.com"],
        ["-o", "nosuch"],
    ],
)
def test_wrong_options_are_usage_errors(extra: list[str], world: World, cli: CommandLine) -> None:
    world.cluster(1)
    ran = cli("diagnose", "all", "--addr", world.addresses(), *extra)
    assert (ran.code, ran.out) == (64, "")
    assert "Traceback" not in ran.err


def test_load_balancer_command_needs_one(world: World, cli: CommandLine) -> None:
    world.cluster(1)
    assert cli("diagnose", "lb", "--addr", world.addresses()).code == 64


def test_nobody_there_is_exit_five_and_tls_failure_six(world: World, cli: CommandLine) -> None:
    assert cli("diagnose", "all", "--addr", f"http://127.0.0.1:{free_port()}", *QUICK).code == 5
    plain = world.fake(lambda _: (404, b"")).replace("http:", "https:")
    assert cli("diagnose", "all", "--addr", plain, *QUICK).code == 6


def test_deadline_ends_the_command(world: World, cli: CommandLine) -> None:
    world.cluster(1)
    world.nodes[0].overrides["*"] = lambda _: world.gate.hang()
    # Longer than the test may take: what ends it in time is the deadline.
    ran = cli(
        *("diagnose", "all", "--addr", world.addresses(), "--deadline", "300ms", "--timeout", "10m")
    )
    assert ran.code == 8


def test_dead_node_does_not_delay_the_others(world: World, cli: CommandLine) -> None:
    world.cluster()

    def took_s(nodes: int) -> float:
        dead = ",".join(f"http://127.0.0.1:{world.black_hole()}" for _ in range(nodes))
        given = f"{world.addresses()},{dead}"
        began = time.monotonic()
        assert cli("diagnose", "all", "--addr", given, "--timeout", "1s", *QUICK).code == 1
        return time.monotonic() - began

    # One after the other they would take six times as long as one.
    assert took_s(6) < 3 * took_s(1)


def test_watching_finds_nothing_in_calm(world: World, cli: CommandLine) -> None:
    world.cluster()
    ran = cli("diagnose", "all", "--addr", world.addresses(), "--watch", "500ms", *QUICK)
    assert ran.code == 0
    asked = [one for one in world.nodes[1].fake.seen if one.path.endswith("seal-status")]
    assert len(asked) > 3


def test_balancer_shares_are_shown(world: World, cli: CommandLine) -> None:
    active, second, _third = world.cluster()
    given_ = ["--addr", world.addresses(), "--via", world.balancer(active, second)]
    ran = cli("diagnose", "lb", *given_)
    assert ran.code == 0
    assert "20 connections: 10 active, 10 standby" in ran.out


def test_list_and_explain_need_no_network(cli: CommandLine) -> None:
    listed = cli("diagnose", "list", "-o", "name").out.split()
    assert len(listed) == 116
    assert cli("diagnose", "list", "--only", "BH-6*", "-o", "name").out.split() == [
        f"BH-{number}" for number in range(601, 611)
    ]
    for command in (["explain"], ["diagnose", "explain"]):
        ran = cli(*command, "BH-401", "-o", "json")
        assert json.loads(ran.out)["code"] == "BH-401"
        assert cli(*command, "BH-999").code == 64


ANSWER = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.integers(100, 599).filter(lambda status: status >= 200),
        st.one_of(
            st.binary(max_size=100),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            [
                                "sealed",
                                "initialized",
                                "is_self",
                                "leader_address",
                                "errors",
                                "nodes",
                                "leader_cluster_address",
                                "ha_enabled",
                                "server_time_utc",
                                "version",
                                "cluster_id",
                                "standby",
                                "data",
                            ]
                        ),
                        inner,
                        max_size=6,
                    )
                ),
                max_leaves=8,
            ),
        ),
    ),
)


@given(answers=st.lists(ANSWER, min_size=1, max_size=5))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_hostile_server_never_makes_a_traceback(
    answers: list[object], cli: CommandLine, tmp_path: Path
) -> None:
    number = iter(range(10_000))

    def script(_: object) -> object:
        return answers[next(number) % len(answers)]

    token = tmp_path / "token"
    token.write_text("s.SomeToken")
    with ScriptedServer(script) as node:  # type: ignore[arg-type]
        given_ = ["--addr", node.url, "--via", node.url, "--token-file", str(token)]
        ran = cli(
            "diagnose", "all", *given_, "--settle", "0s", "--timeout", "500ms", "-o", "prometheus"
        )
    assert ran.code in (0, 1, 2, 4, 5, 6)
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
