"""
The catalogue, second part: who leads, forwarding, redirects.

Rule of this file: words only; what finds a code stands in the checks of `baoha diagnose`.
Rows of codes that
`baoha.diagnostics.code` has take title, why and fix from there.

Source: docs/spec/cluster-cli.md section 6.2 C, D and E.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import CATALOGUE
from baoha.diagnostics.codes.addresses import E, I, Row, W


def _known(code: str, symptom: str) -> Row:
    """Return the row of a code whose words stand elsewhere."""
    known = CATALOGUE[code]
    return Row(code, known.severity, known.title, symptom, known.why, known.fix)


ROWS: Final = (
    _known("BH-301", "Every write fails."),
    _known("BH-302", "Lost updates; two nodes labelled active."),
    Row(
        "BH-303",
        W,
        "an election took place during the look",
        "500 for seconds.",
        "Nobody led for a moment. An error (BH-301) if it stays.",
        "Ask again; if it happens often, look for BH-310.",
    ),
    _known("BH-304", "Some requests fail with 500, depending on the node."),
    _known("BH-305", "Different answers per node."),
    _known("BH-306", "307 to nowhere."),
    Row(
        "BH-307",
        E,
        "the leader that is named says it is standby",
        "Redirect loop.",
        "Requests are sent in a circle.",
        "Wait one round; if it stays, look at audit devices and storage of that node.",
    ),
    Row(
        "BH-308",
        E,
        "the leader that is named is sealed",
        "503",
        "The node still stands in the lock, and can do nothing.",
        "Unseal it, or let the lock go.",
    ),
    Row(
        "BH-309",
        I,
        "a node contradicts itself",
        "sys/leader says active and sys/health says standby.",
        "It is changing its role right now.",
        "Ask again.",
    ),
    Row(
        "BH-310",
        W,
        "the leader changes again and again",
        "Short outages again and again.",
        "Each change costs requests.",
        "Look at time-outs of the store, slow disks, slow plug-ins, the network.",
    ),
    _known("BH-311", "Data differs per node."),
    Row(
        "BH-312",
        W,
        "high availability is off",
        "No failover.",
        "Several nodes, and none of them takes over from another.",
        "Use a store with HA, and ha_enabled.",
    ),
    Row(
        "BH-313",
        E,
        "a node was removed from the cluster",
        "200, but out of the cluster; 530",
        "It answers with what it knew when it was removed.",
        "Let it join again.",
    ),
    Row(
        "BH-314",
        W,
        "lists of members name another leader than sys/leader",
        "Tools disagree.",
        "One of the two is stale.",
        "Trust sys/leader of the leader; known bug of some versions.",
    ),
    _known("BH-315", "The next failure is an outage."),
    _known("BH-316", ""),
    Row(
        "BH-317",
        W,
        "quorum without reserve",
        "",
        "An even number of voters, or too few, tolerates no failure more than one voter less.",
        "Add or remove a voter, so that the number is odd and at least 3.",
    ),
    Row(
        "BH-318",
        W,
        "a node is missing from the members",
        "A node is missing from `operator members`.",
        "It sends no heartbeat to the active node.",
        "Look at the node, and at its path to the cluster port.",
    ),
    _known("BH-401", '"It works", but clients outside fail; errors in the log of the standby.'),
    _known("BH-402", "Requests hang."),
    Row(
        "BH-403",
        W,
        "forwarding is slow",
        "Slow through standbys.",
        "The way over the standby costs more than 200 ms.",
        "Look at the network; send clients to the active node.",
    ),
    Row(
        "BH-404",
        W,
        "the forwarded answer differs from the direct one",
        "Odd errors through standbys.",
        "The standby cannot do what the leader can.",
        "Compare versions; read the standby's log.",
    ),
    Row(
        "BH-405",
        W,
        "the leader advertises no cluster address",
        "Always 307.",
        "Without one nothing can be forwarded.",
        "Remove disable_clustering; set cluster_addr.",
    ),
    Row(
        "BH-406",
        I,
        "some paths are never forwarded",
        "Backups and metrics fail on standbys.",
        "sys/storage/raft/snapshot is redirected, sys/metrics and sys/host-info are local.",
        "Send these requests to the active node (or to the node they are about).",
    ),
    Row(
        "BH-407",
        I,
        "standbys serve reads themselves",
        "A read right after a write is old.",
        "The standby may not have seen the write yet.",
        "Set disable_standby_reads, or read from the active node.",
    ),
    Row(
        "BH-408",
        W,
        "forwarding works one way only",
        "It fails after the next failover.",
        "The cluster port of a standby is not what it advertises, which nobody notices now.",
        "Correct it before it counts; `baoha drill step-down` shows it.",
    ),
    Row(
        "BH-501",
        E,
        "redirects lead in a circle",
        "Too many redirects; a loop at login.",
        "The client gives up after some hops.",
        "Use a per-node api_addr; let the load balancer lead to the active node only.",
    ),
    Row(
        "BH-502",
        E,
        "a node redirects to itself",
        "A loop on one node.",
        "It is sent to a node that sends it back to itself.",
        "A stale advertisement: wait, then step down.",
    ),
    Row(
        "BH-503",
        E,
        "redirects lead to the load balancer",
        'Works "sometimes".',
        "The load balancer may choose a standby again.",
        "Use a per-node api_addr; let the load balancer lead to the active node only.",
    ),
    Row(
        "BH-504",
        E,
        "redirect from https to http",
        "redirect would cause protocol downgrade",
        "Clients refuse it, since it would show the token to everybody on the way.",
        "Correct the scheme of api_addr.",
    ),
    Row(
        "BH-505",
        E,
        "the redirect target cannot be reached from here",
        "Time-out after a redirect.",
        "A client that follows the redirect gets nowhere.",
        "Publish the address, or correct api_addr.",
    ),
    Row(
        "BH-506",
        E,
        "Location is not a usable address",
        "An error of the client library.",
        "No host, or a strange scheme (localhost:///...).",
        "Set api_addr as a full URL.",
    ),
    Row(
        "BH-507",
        W,
        "the path prefix is lost in the redirect",
        "404 behind a proxy that adds a prefix.",
        "A redirect keeps only scheme and host of api_addr.",
        "Route by host name instead.",
    ),
    Row(
        "BH-508",
        W,
        "the redirect crosses to another host",
        "403 only through standbys.",
        "curl, requests and httpx drop `Authorization: Bearer` on the way to another host.",
        "Send X-Vault-Token, or make forwarding work.",
    ),
    Row(
        "BH-509",
        I,
        "more than one hop",
        "The Go client fails and curl works.",
        "The Go client follows exactly one redirect.",
        "Fewer hops.",
    ),
    Row(
        "BH-510",
        W,
        "the redirect leads from a public name to a private address",
        "The UI or a login by browser fails.",
        "The browser does not know the host, or is not allowed to go there.",
        "Advertise a public api_addr.",
    ),
)
