"""`baoha probe`: one raw test, its word and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine, free_port

Change = Callable[[World], str]


def third(world: World) -> str:
    return world.nodes[2].url


def set_role(role: str) -> Change:
    def change(world: World) -> str:
        world.nodes[2].role = role
        return third(world)

    return change


def blind(world: World) -> str:
    world.nodes[2].leader = None
    return third(world)


def redirecting(world: World) -> str:
    world.nodes[2].forwards = False
    return third(world)


def closed(_: World) -> str:
    return f"http://127.0.0.1:{free_port()}"


def page(world: World) -> str:
    return world.fake(lambda _: (200, b"<html>"))


def silent(world: World) -> str:
    return f"http://127.0.0.1:{world.black_hole()}"


def skewed(world: World) -> str:
    world.nodes[2].skew_s = 60
    return third(world)


def looping(world: World) -> str:
    node = world.nodes[2]
    node.overrides["ha-status"] = (307, b"", {"Location": f"{node.url}/v1/sys/ha-status"})
    return node.url


CASES: dict[str, tuple[list[str], Change, str, int]] = {
    "health of a standby": (["health"], third, "standby", 0),
    "health of the active node": (["health"], lambda world: world.nodes[0].url, "active", 0),
    "health of a sealed node": (["health"], set_role("sealed"), "sealed", 2),
    "health, not initialised": (["health"], set_role("uninitialized"), "not initialised", 4),
    "health, nobody there": (["health"], closed, "refused", 5),
    "health, packets dropped": (["health"], silent, "timeout", 8),
    "health of a web page": (["health"], page, "status 200, not a health answer", 1),
    "readiness of a standby": (["health", "--ready"], third, "ready", 0),
    "readiness of a blind standby": (["health", "--ready"], blind, "none", 3),
    "readiness without forwarding": (["health", "--ready"], redirecting, "redirect", 3),
    "leader of a blind standby": (["leader"], blind, "none", 3),
    "leader of a sealed node": (["leader"], set_role("sealed"), "sealed", 2),
    "forwarding": (["forward"], third, "forward", 0),
    "forwarding that redirects": (["forward"], redirecting, "redirect", 3),
    "forwarding of a blind standby": (["forward"], blind, "none", 3),
    "forwarding of the active node": (["forward"], lambda world: world.nodes[0].url, "active", 0),
    "redirect": (["redirect"], third, "answer", 0),
    "redirect to itself": (["redirect"], looping, "loop", 1),
    "redirect of the active node": (["redirect"], lambda world: world.nodes[0].url, "none", 0),
    "cluster port": (["cluster-port"], third, "active", 0),
    "certificate of plain HTTP": (["tls"], third, "plain HTTP", 6),
    "clock a minute off": (["clock", "--samples", "1"], skewed, "", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_probe_says_one_word_and_exits_with_its_code(
    name: str, world: World, cli: CommandLine
) -> None:
    argv, change, word, code = CASES[name]
    world.cluster()
    ran = cli("probe", *argv, "--addr", change(world), "-o", "json")
    assert (ran.code, ran.err) == (code, "")
    data = json.loads(ran.out)
    assert data["schema"] == f"baoha.probe.{argv[0]}/v1"
    assert word in data["result"]
    assert data["ok"] is (code == 0)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("active", 0),
        ("baoha", 0),
        ("listener", 1),
        ("https", 1),
        ("plain", 1),
        ("closed", 1),
        ("refused", 5),
        ("silent", 8),
    ],
)
def test_probe_of_cluster_port_names_what_is_there(
    kind: str, code: int, world: World, cli: CommandLine
) -> None:
    address = world.cluster_port(kind)
    node = world.node("active")
    ran = cli("probe", "cluster-port", "--addr", node.url, "--cluster-addr", address, "-o", "name")
    words = {"baoha": "active", "silent": "timeout"}
    assert (ran.code, ran.out) == (code, f"{words.get(kind, kind)}\n")


def test_probe_of_certificate_that_verifies_is_zero(world: World, cli: CommandLine) -> None:
    node = world.node("active", context=world.context())
    good = cli("probe", "tls", "--addr", node.url, "--ca", world.ca_file(), "-o", "json")
    assert (good.code, json.loads(good.out)["names"]) == (0, ["127.0.0.1"])
    bad = cli("probe", "tls", "--addr", node.url)
    assert bad.code == 6
    assert "unknown authority" in bad.out


def test_probe_of_clock_narrows_the_interval(world: World, cli: CommandLine) -> None:
    node = world.node("active")
    data = json.loads(cli("probe", "clock", "--addr", node.url, "-o", "json").out)
    assert abs(data["skew_ms"]) <= data["uncertainty_ms"] + 1
    assert data["uncertainty_ms"] < 400


def test_probe_of_several_nodes_reports_each(world: World, cli: CommandLine) -> None:
    world.cluster()
    world.nodes[1].role = "sealed"
    ran = cli("probe", "health", "--addr", world.addresses(), "-o", "name")
    assert (ran.code, ran.out) == (2, "active\nsealed\nstandby\n")


def test_quiet_probe_prints_nothing(world: World, cli: CommandLine) -> None:
    world.cluster()
    ran = cli("probe", "health", "--ready", "-q", "--addr", world.nodes[1].url)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
