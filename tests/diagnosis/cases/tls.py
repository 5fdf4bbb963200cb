"""BH-7xx. Certificates."""

from __future__ import annotations

import ssl
from datetime import timedelta

import trustme

from tests.diagnosis.cases.case import Build, Case, now
from tests.diagnosis.world import DENIED, World

DAY = timedelta(days=1)


def _dated(before: timedelta, after: timedelta) -> Build:
    def build(world: World) -> list[str]:
        world.cluster(2, context=world.context())
        context = world.context(not_before=now() + before, not_after=now() + after)
        world.node("standby", leader=world.nodes[0], context=context)
        return ["--ca", world.ca_file(), "--fail-on", "warning", "--skip", "BH-707"]

    return build


def name_missing(world: World) -> list[str]:
    world.cluster(2, context=world.context())
    context = world.context("c.example.com", "10.0.0.3")
    world.node("standby", leader=world.nodes[0], context=context)
    return ["--ca", world.ca_file()]


def chain_incomplete(world: World) -> list[str]:
    middle = world.authority.create_child_ca()
    world.cluster(2, context=world.context(authority=middle))
    issued = middle.issue_cert("127.0.0.1")
    pem = world.folder / "leaf.pem"
    pem.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    world.node("standby", leader=world.nodes[0], context=context)
    return ["--ca", world.ca_file(), "--fail-on", "warning"]


def other_issuer(world: World) -> list[str]:
    world.cluster(2, context=world.context())
    other = trustme.CA(organization_name="Other")
    bundle = world.folder / "both.pem"
    bundle.write_bytes(world.authority.cert_pem.bytes() + other.cert_pem.bytes())
    world.node("standby", leader=world.nodes[0], context=world.context(authority=other))
    return ["--ca", str(bundle), "--fail-on", "warning"]


def older_certificate(world: World) -> list[str]:
    after = now() + timedelta(days=400)
    new = world.context(not_before=now() - timedelta(days=1), not_after=after)
    old = world.context(not_before=now() - timedelta(days=90), not_after=after)
    world.cluster(2, context=new)
    world.node("standby", leader=world.nodes[0], context=old)
    return ["--ca", world.ca_file(), "--fail-on", "warning"]


def client_certificate_wanted(world: World) -> list[str]:
    world.cluster(2)
    context = world.context()
    context.verify_mode = ssl.CERT_REQUIRED
    world.authority.configure_trust(context)
    extra = world.fake(lambda _: DENIED, context)
    return ["--addr", f"{world.addresses()},{extra}", "--ca", world.ca_file(), "--fail-on", "info"]


CASES = {
    "certificate expired": Case(_dated(-9 * DAY, -1 * DAY), ("BH-701",)),
    "certificate expires soon": Case(_dated(-9 * DAY, 20 * DAY), ("BH-702",)),
    "certificate not yet valid": Case(_dated(1 * DAY, 90 * DAY), ("BH-703",)),
    "name missing in certificate": Case(name_missing, ("BH-704",)),
    "chain incomplete": Case(chain_incomplete, ("BH-705",)),
    "certificate of another issuer": Case(other_issuer, ("BH-707",)),
    "certificate older than a peer's": Case(older_certificate, ("BH-707",)),
    "client certificate wanted": Case(client_certificate_wanted, ("BH-709",)),
}
