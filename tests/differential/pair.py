"""
The same request to a real OpenBao and to baoha, and what differs between the answers.

Rules of this file: what changes from run to run is normalised by kind (``tests.support.recorded``),
addresses by the node they belong to; nothing else is forgiven. A difference that is deliberate is
named by whoever asks, with its reason.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.clusters import Cluster, RunningNode, run_cluster
from testbed.descriptions import load_description
from testbed.http import RequestFailed, Response
from tests.support.recorded import COMPARED_HEADERS, normalised

Body = Mapping[str, object] | bytes | None
# The answer to a request that was never answered.
NO_ANSWER = Response(0, {}, b"")


@dataclass(slots=True)
class Side:
    """One of the two: its cluster, and the secrets that its init gave."""

    cluster: Cluster
    keys: list[str] = field(default_factory=list)
    keys_base64: list[str] = field(default_factory=list)

    async def ask(
        self, node: int, method: str, path: str, body: Body, token: str, headers: Mapping[str, str]
    ) -> Response:
        """Send one request; ``{root}`` and ``{keyN}`` in a body or a token are this side's."""
        given: Body = body
        if isinstance(body, Mapping):
            given = self._filled(json.dumps(body)).encode()
        try:
            return await self.cluster.nodes[node].call(
                method, path, given, token=self._filled(token), headers=headers
            )
        except RequestFailed:
            return NO_ANSWER

    def described(self, response: Response, method: str) -> dict[str, Any]:
        """Return what is compared of an answer."""
        found: dict[str, Any] = {"status": response.status}
        if method == "HEAD":
            found["content-length"] = response.headers.get("content-length")
        for name in COMPARED_HEADERS:
            if name in response.headers:
                found[name] = self._named(response.headers[name])
        text = self._named(response.body.decode(errors="replace"))
        try:
            found["body"] = normalised(json.loads(text)) if text else None
        except ValueError:
            found["body"] = text
        return found

    def _filled(self, text: str) -> str:
        text = text.replace("{root}", self.cluster.root_token)
        for number, (key, key_base64) in enumerate(
            zip(self.keys, self.keys_base64, strict=True), 1
        ):
            text = text.replace(f"{{key{number}}}", key).replace(f"{{KEY{number}}}", key_base64)
        return text

    def _named(self, text: str) -> str:
        for node in self.cluster.nodes:
            text = text.replace(f"{node.host}:{node.port}", f"{node.name}:api")
            text = text.replace(f"{node.host}:{node.cluster_port}", f"{node.name}:cluster")
        return text


@dataclass(slots=True)
class Pair:
    """A real OpenBao and baoha in the same state."""

    openbao: Side
    baoha: Side
    differences: list[str] = field(default_factory=list)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both."""
        return self.openbao, self.baoha

    async def ask(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        node: int = 0,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        forgive: Callable[[dict[str, Any]], object] | None = None,
    ) -> tuple[Response, Response]:
        """
        Ask both and compare.

        Args:
            body: a mapping is sent as JSON with its secrets filled in, bytes as they are.
            forgive: takes out of a described answer what differs on purpose.
        """
        answers = [
            await side.ask(node, method, f"/v1/{path}", body, token, headers or {})
            for side in self.sides
        ]
        theirs, ours = (
            side.described(answer, method) for side, answer in zip(self.sides, answers, strict=True)
        )
        if forgive is not None:
            forgive(theirs)
            forgive(ours)
        # OpenBao breaks the connection on a status that HTTP does not have.
        is_broken = answers[0] is NO_ANSWER and ours["status"] == 400
        if theirs != ours and not is_broken:
            what = f"{method} {path} node {node} token {token!r} body {str(body)[:200]}"
            self.differences.append(f"{what}\n  bao:   {theirs}\n  baoha: {ours}")
        return answers[0], answers[1]

    def check(self) -> None:
        """Fail with everything that differed so far."""
        found, self.differences = self.differences, []
        assert not found, f"{len(found)} differences\n" + "\n".join(found)


@asynccontextmanager
async def run_pair(
    folder: Path,
    *,
    nodes: int,
    descriptions: tuple[str | Path, str | Path] = ("openbao-postgresql", "baoha-sqlite"),
) -> AsyncIterator[Pair]:
    """
    Run both, started and not initialised; standbys of both forward every request.

    Args:
        descriptions: of OpenBao's cluster and of baoha's, as ``load_description`` takes them.
    """

    def no_standby_reads(node: RunningNode, config: str) -> str:
        return f"disable_standby_reads = true\n{config}"

    openbao, baoha = folder / "openbao", folder / "baoha"
    openbao.mkdir()
    baoha.mkdir()
    async with (
        run_cluster(
            load_description(descriptions[0]),
            folder=openbao,
            edit=no_standby_reads,
            nodes=nodes,
            set_up=False,
        ) as real,
        run_cluster(
            load_description(descriptions[1]), folder=baoha, nodes=nodes, set_up=False
        ) as ours,
    ):
        yield Pair(Side(real), Side(ours))
