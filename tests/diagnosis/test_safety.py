"""What a diagnosis sends: no token unless one was given, and to whom; GET only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.diagnosis.cases import CASES
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine, Seen

TOKEN = "s.AnotherLaboratoryToken98765"
SECRET_HEADERS = {"x-vault-token", "authorization", "cookie", "x-vault-wrap-ttl"}


def everything_seen(world: World) -> Iterator[Seen]:
    for node in world.nodes:
        yield from node.fake.seen
    for other in world.others:
        yield from other.seen


@pytest.mark.parametrize("name", CASES)
def test_probe_carries_no_token_that_was_not_given(
    name: str, world: World, cli: CommandLine, tmp_path: Path
) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    (tmp_path / ".vault-token").write_text(TOKEN)
    extra = list(CASES[name].build(world))
    if "--token-file" in extra:
        at = extra.index("--token-file")
        del extra[at : at + 2]
    given = [] if "--addr" in extra else ["--addr", world.addresses()]
    ran = cli("diagnose", "all", "--settle", "100ms", *given, *extra)
    assert TOKEN not in ran.out + ran.err
    seen = list(everything_seen(world))
    assert seen
    for request in seen:
        assert request.method == "GET"
        assert request.body == b""
        assert not SECRET_HEADERS & set(request.headers)
        assert TOKEN not in str(request)


def test_token_goes_only_to_addresses_that_were_given(world: World, cli: CommandLine) -> None:
    active, *standbys = world.cluster()
    stranger = world.fake(active.answer)
    active.api_addr = stranger
    token = world.folder / "token"
    token.write_text(TOKEN)
    given = ",".join(node.url for node in standbys)
    ran = cli("diagnose", "all", "--addr", given, "--token-file", str(token), "-o", "json")
    assert TOKEN not in ran.out + ran.err
    with_token = [
        one for node in standbys for one in node.fake.seen if "x-vault-token" in one.headers
    ]
    assert with_token
    assert {one.path for one in with_token} <= {
        "/v1/sys/ha-status",
        "/v1/sys/storage/raft/configuration",
    }
    assert all("x-vault-token" not in one.headers for other in world.others for one in other.seen)
    assert any(other.seen for other in world.others)


def test_redirect_is_followed_without_token_even_when_one_was_given(
    world: World, cli: CommandLine
) -> None:
    _active, second, _ = world.cluster()
    thief = world.fake(lambda _: (403, {"errors": ["permission denied"]}))
    location = f"{thief}/v1/sys/ha-status"
    second.overrides["ha-status"] = (307, b"", {"Location": location})
    token = world.folder / "token"
    token.write_text(TOKEN)
    cli("diagnose", "all", "--addr", second.url, "--token-file", str(token), "--settle", "100ms")
    stolen = [one for other in world.others for one in other.seen]
    assert stolen
    assert all("x-vault-token" not in one.headers for one in stolen)


def test_audit_noise_can_be_left_out(world: World, cli: CommandLine) -> None:
    world.cluster()
    ran = cli("diagnose", "all", "--addr", world.addresses(), "--no-audit-noise")
    assert ran.code == 0
    assert not [one for one in everything_seen(world) if "ha-status" in one.path]


def test_only_three_rounds_are_asked_of_a_broken_cluster(world: World, cli: CommandLine) -> None:
    active, *standbys = world.cluster()
    active.cluster_addr = world.cluster_port("refused")
    for node in standbys:
        node.forwards = False
    ran = cli("diagnose", "forwarding", "--addr", world.addresses(), "--settle", "300ms")
    assert ran.code == 1
    asked = [one for one in standbys[0].fake.seen if one.path == "/v1/sys/seal-status"]
    assert 3 <= len(asked) <= 5


def test_healthy_world_is_asked_once(world: World, cli: CommandLine) -> None:
    world.cluster()
    assert cli("diagnose", "all", "--addr", world.addresses()).code == 0
    for node in world.nodes:
        paths = [one.path for one in node.fake.seen]
        assert paths.count("/v1/sys/seal-status") == 1
        assert paths.count("/v1/sys/health") == 1


def test_headers_of_the_operator_stay_with_the_addresses_given(
    world: World, cli: CommandLine
) -> None:
    active, *standbys = world.cluster()
    active.api_addr = world.fake(active.answer)
    given = ",".join(node.url for node in standbys)
    header = ["--header", "Authorization=Bearer secret", "--namespace", "team"]
    for command in (["diagnose", "all"], ["probe", "redirect"]):
        cli(*command, "--addr", given, *header)
    for node in standbys:
        assert all(one.headers["authorization"] == "Bearer secret" for one in node.fake.seen)
    strangers = [one for other in world.others for one in other.seen]
    assert strangers
    for one in strangers:
        assert not {"authorization", "x-vault-namespace"} & set(one.headers)


def test_headers_of_the_operator_are_not_sent_over_unverified_tls(
    world: World, cli: CommandLine
) -> None:
    world.cluster(2, context=world.context())
    ran = cli("diagnose", "all", "--addr", world.addresses(), "--header", "Authorization=secret")
    assert ran.code == 6
    assert not [one for node in world.nodes for one in node.fake.seen]
