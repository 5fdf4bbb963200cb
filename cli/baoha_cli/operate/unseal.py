"""
`operator unseal --all`: every sealed node, each share asked for once.

Rules of this file. Shares go to the addresses given and nowhere else, and are held no longer than
the command runs. A half-done attempt on a node is reset first: its shares could be of another try.

Source: docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

import json
from typing import Final

import trio

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_int
from baoha_cli.client.client import Client
from baoha_cli.diagnose.judge import judge_round
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, RequestFailed
from baoha_cli.shell.context import Cli
from baoha_cli.shell.inputs import ask_secret, read_stdin
from baoha_cli.survey.look import NodeLook, report_of
from baoha_cli.survey.nodes import ClusterReport, NodeReport, SeenRole
from baoha_cli.survey.round import look_round, survey
from baoha_cli.survey.table import cluster_document

# An unsealed node takes a moment to find its place; nobody waits longer for the report.
SETTLE_S: Final = 10.0
_POLL_S: Final = 0.25
_SHARES_MAX: Final = 255


async def unseal_all(cli: Cli, *, from_stdin: bool) -> Verdict:
    """
    Unseal every sealed node among the addresses, and report all nodes.

    Args:
        cli: for addresses and output.
        from_stdin: read the shares from standard input, one per line, instead of asking.

    Raises:
        CommandFailed: a node is not initialised, or a share was refused.
    """
    report = await survey(cli)
    raw = [node.label for node in report.nodes if node.role is SeenRole.UNINITIALIZED]
    if raw:
        raise CommandFailed(
            f"{', '.join(raw)}: not initialised, so there is nothing to unseal",
            verdict=Verdict.UNINITIALIZED,
            hint="baoha operator init, on one node",
        )
    sealed = [node for node in report.nodes if node.role is SeenRole.SEALED]
    for node in report.nodes:
        if not node.reachable:
            cli.out.note(f"warning: {node.label} cannot be reached: {node.error}")
    if sealed:
        await _unseal(cli, sealed, _Shares(cli, from_stdin))
        looks = await _settled(cli)
    else:
        cli.out.note("no node is sealed")
        looks = await look_round(cli)
    cli.emit(cluster_document(judge_round(looks), cli.out.paint))
    return Verdict.OK if all(look.report.unsealed for look in looks) else Verdict.NO


class _Shares:
    """The shares, each read when it is first needed."""

    def __init__(self, cli: Cli, from_stdin: bool) -> None:
        self._cli = cli
        self._known: list[str] = []
        self._lines = iter(
            [line.strip() for line in read_stdin().decode("utf-8", "replace").splitlines()]
            if from_stdin
            else ()
        )
        self._from_stdin = from_stdin

    def __getitem__(self, index: int) -> str:
        while len(self._known) <= index:
            share = next((line for line in self._lines if line), "")
            if not share and not self._from_stdin:
                share = ask_secret(self._cli, f"Unseal Key {len(self._known) + 1}")
            if not share:
                raise CommandFailed(
                    f"only {len(self._known)} shares were given; more are needed",
                    verdict=Verdict.SEALED,
                )
            self._cli.out.hide(share)
            self._known.append(share)
        return self._known[index]


async def _unseal(cli: Cli, sealed: list[NodeReport], shares: _Shares) -> None:
    """Give every node its shares, one node after the other; the first asks for them."""
    async with cli.client() as client:
        for node in sealed:
            progress = as_int(node.seal.get("progress")) or 0
            if progress:
                cli.out.note(f"{node.label}: resetting an attempt with {progress} shares")
                await _put(cli, client, node.endpoint, {"reset": True}, node.label)
            for index in range(_SHARES_MAX):
                body = {"key": shares[index], "reset": False, "migrate": False}
                state = await _put(cli, client, node.endpoint, body, node.label)
                if state.get("sealed") is False:
                    cli.out.note(f"{node.label}: unsealed")
                    break
                if not as_int(state.get("progress")):
                    raise CommandFailed(
                        f"{node.label}: the shares do not fit together", verdict=Verdict.SEALED
                    )


async def _put(
    cli: Cli, client: Client, endpoint: Endpoint, body: dict[str, object], label: str
) -> dict[str, object]:
    try:
        answer = await client.request(
            endpoint, "PUT", "/v1/sys/unseal", body=json.dumps(body).encode("ascii", "replace")
        )
    except RequestFailed as failure:
        raise failure.prefixed(f"Error unsealing {label}") from failure
    cli.verbose(f"{label}: share given, status {answer.status}")
    try:
        return answer.checked().mapping()
    except CommandFailed as failure:
        raise failure.prefixed(f"Error unsealing {label}") from failure.__cause__


async def _settled(cli: Cli) -> tuple[NodeLook, ...]:
    """Wait, bounded, until the unsealed nodes have a leader that all of them see."""
    looks = await look_round(cli)
    with trio.move_on_after(SETTLE_S):
        while _should_agree(report_of(looks)):
            await trio.sleep(_POLL_S)
            looks = await look_round(cli)
    return looks


def _should_agree(report: ClusterReport) -> bool:
    """Return whether the nodes do not agree on a leader yet, and could."""
    has_ha = any(node.unsealed and node.ha_enabled for node in report.nodes)
    return has_ha and not report.agrees
