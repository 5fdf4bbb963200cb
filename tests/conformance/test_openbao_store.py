"""
Stores that a real OpenBao wrote open here, and what we write opens with a second, small decoder.

The vectors hold every row of two throw-away stores of OpenBao 2.7.2 on PostgreSQL: see "about".
"""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from baoha.core.keys import rotation
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.core.keys.rekey import rekey, rotate_root_key, verify_shares
from baoha.core.keys.seal import Seal
from baoha.core.view import InitParameters
from baoha.errors import InvalidKeyShare, SealError
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.sansio.crypto.shamir import combine
from baoha.storage.inmem import World

VECTORS = json.loads((Path(__file__).parent / "vectors" / "openbao-2.7.2.json").read_text())
ENTRIES_OUTSIDE = {  # not encrypted by the barrier
    "core/keyring",
    "core/hsm/barrier-unseal-keys",
    "core/seal-config",
    "core/recovery-config",
    "core/recovery-key",
}


def now() -> datetime:
    return datetime(2026, 11, 23, 13, tzinfo=UTC)


def decoded(texts: list[str]) -> list[bytes]:
    return [base64.b64decode(text) for text in texts]


async def load(rows: dict[str, str]) -> World:
    world = World()
    backend = world.open()
    for key, text in rows.items():
        await backend.put(key, base64.b64decode(text))
    return world


def open_node(world: World, static_key: StaticSealKey | None = None) -> tuple[Seal, Barrier]:
    barrier = Barrier(world.open(), now=now)
    seal = Seal(
        barrier.backend,
        barrier,
        static_key=static_key,
        random_bytes=barrier.random_bytes,
        now=now,
    )
    return seal, barrier


def vector_static_key() -> StaticSealKey:
    vector = VECTORS["static"]
    return StaticSealKey(vector["key_id"], base64.b64decode(vector["key"]))


async def readable_rows(barrier: Barrier, rows: dict[str, str]) -> dict[str, bytes]:
    values = {}
    for key in rows.keys() - ENTRIES_OUTSIDE:
        value = await barrier.get(key)
        assert value is not None
        values[key] = value
    return values


# --- what OpenBao wrote -------------------------------------------------------------------------


def test_openbao_shares_any_two_join_to_one_key() -> None:
    shares = decoded(VECTORS["shamir"]["shares"])
    assert len({combine(pair) for pair in combinations(shares, 2)}) == 1
    assert combine(shares) == combine(shares[:2])


async def test_openbao_store_with_shares_unseals_and_every_entry_decrypts() -> None:
    vector = VECTORS["shamir"]
    seal, barrier = open_node(await load(vector["rows"]))
    first, _, third = decoded(vector["shares"])
    assert not await seal.unseal(first)
    status = seal.status()
    assert (status.type, status.threshold, status.shares, status.progress) == ("shamir", 2, 3, 1)
    assert await seal.unseal(third)

    values = await readable_rows(barrier, vector["rows"])
    golden = {key.rpartition("/")[2]: value for key, value in values.items() if "golden" in key}
    assert {name: json.loads(value)["value"] for name, value in golden.items()} == {
        "golden": "before rotation",
        "golden2": "after rotation",
    }
    (leader,) = (json.loads(value) for key, value in values.items() if "core/leader/" in key)
    assert leader["redirect_addr"] == "http://127.0.0.1:25441"
    assert leader["cluster_key_params"]["type"] == "p521"
    assert (await seal.cluster_info()).name == "vault-cluster-a4df8d3c"
    assert values["core/shamir-kek"] == combine([first, third])


async def test_openbao_store_rotated_both_terms_decrypt_and_the_upgrade_leads_on() -> None:
    vector = VECTORS["shamir"]
    rows = vector["rows"]
    terms = {base64.b64decode(rows[key])[3] for key in rows if "golden" in key}
    assert terms == {1, 2}
    seal, barrier = open_node(await load(rows))
    for share in decoded(vector["shares"])[:2]:
        await seal.unseal(share)
    assert rotation.key_status(seal.barrier).term == 2
    assert rotation.key_status(seal.barrier).install_time == "2026-11-23T12:35:02.447599856Z"
    upgrade = json.loads(await barrier.get("core/upgrade/1") or b"")
    assert base64.b64decode(upgrade["Value"]) == barrier.keyring.active.value


async def test_openbao_store_with_static_seal_unseals_by_itself() -> None:
    vector = VECTORS["static"]
    seal, barrier = open_node(await load(vector["rows"]), vector_static_key())
    assert await seal.auto_unseal()
    assert (await readable_rows(barrier, vector["rows"]))["core/cluster/local/info"]
    status = seal.status()
    assert (status.type, status.threshold, status.shares) == ("static", 2, 3)
    assert (status.recovery_seal, status.recovery_seal_type) == (True, "shamir")
    await verify_shares(seal, decoded(vector["recovery_shares"])[1:])


async def test_openbao_store_with_static_seal_opens_again_with_recovery_shares() -> None:
    vector = VECTORS["static"]
    seal, barrier = open_node(await load(vector["rows"]), vector_static_key())
    first, second, _ = decoded(vector["recovery_shares"])
    assert not await seal.unseal(first)
    assert await seal.unseal(second)
    assert not barrier.sealed


async def test_openbao_store_with_other_keys_stays_sealed() -> None:
    seal, barrier = open_node(await load(VECTORS["static"]["rows"]), StaticSealKey("k1", b"x" * 32))
    with pytest.raises(SealError):
        await seal.auto_unseal()
    assert barrier.sealed
    seal, barrier = open_node(await load(VECTORS["shamir"]["rows"]))
    await seal.unseal(b"\x01" * 33)
    with pytest.raises(InvalidKeyShare):
        await seal.unseal(b"\x02" * 33)
    assert barrier.sealed


async def test_openbao_store_is_rotated_and_rekeyed_here() -> None:
    vector = VECTORS["shamir"]
    world = await load(vector["rows"])
    seal, barrier = open_node(world)
    for share in decoded(vector["shares"])[:2]:
        await seal.unseal(share)
    barrier.begin_writes(None)
    await seal.rotate_encryption_key()
    await rotate_root_key(seal)
    shares = await rekey(seal, 3, 3)

    seal, barrier = open_node(world)
    for share in shares:
        await seal.unseal(share)
    assert rotation.key_status(seal.barrier).term == 3
    assert len(await readable_rows(barrier, vector["rows"])) == len(vector["rows"]) - 3


# --- what we write, read by another decoder -----------------------------------------------------


def second_decoder(rows: dict[str, bytes], seal_key: bytes) -> dict[str, bytes]:
    """Decode a whole store by docs/spec/openbao-ha.md section 2.3, with nothing of ours."""
    assert rows["core/hsm/barrier-unseal-keys"][0] == 0x0A
    size = rows["core/hsm/barrier-unseal-keys"][1]
    wrapped = rows["core/hsm/barrier-unseal-keys"][2 : 2 + size]
    (text,) = json.loads(AESGCM(seal_key).decrypt(wrapped[:12], wrapped[12:], None))
    root_key = base64.b64decode(text)

    def entry(path: str, keys: dict[int, bytes]) -> bytes:
        term, version = struct.unpack(">IB", rows[path][:5])
        assert version == 2
        return AESGCM(keys[term]).decrypt(rows[path][5:17], rows[path][17:], path.encode())

    keyring: dict[str, Any] = json.loads(entry("core/keyring", {1: root_key}))
    assert base64.b64decode(keyring["MasterKey"]) == root_key
    keys = {key["Term"]: base64.b64decode(key["Value"]) for key in keyring["Keys"]}
    values = {path: entry(path, keys) for path in rows.keys() - ENTRIES_OUTSIDE}
    assert json.loads(values["core/root-key"]) == {
        "Term": 1,
        "Version": 1,
        "Value": text,
        "InstallTime": "0001-01-01T00:00:00Z",
    }
    assert values["core/shamir-kek"] == seal_key
    return values


async def test_our_store_opens_with_a_second_decoder() -> None:
    world = World()
    seal, barrier = open_node(world)

    def populate(transaction: BarrierTransaction) -> str:
        transaction.put("core/mounts/x", b"mount")
        return "s.token"

    result = await seal.initialize(
        InitParameters(secret_shares=5, secret_threshold=3),
        populate=populate,
        fence=None,
        cluster_name="prod",
    )
    values = second_decoder(dict(world.data), combine(result.shares[:3]))
    assert values["core/mounts/x"] == b"mount"
    info = json.loads(values["core/cluster/local/info"])
    assert info["name"] == "prod"
    assert json.loads(values["core/versions/2.7.2"])["Version"] == "2.7.2"
    assert json.loads(world.data["core/seal-config"]) == {
        "type": "shamir",
        "secret_shares": 5,
        "secret_threshold": 3,
        "pgp_keys": None,
        "nonce": "",
        "backup": False,
    }

    for share in result.shares[2:]:
        await seal.unseal(share)
    barrier.begin_writes(None)
    await barrier.put("logical/before", b"1")
    await seal.rotate_encryption_key()
    await barrier.put("logical/after", b"2")
    (share,) = await rekey(seal, 1, 1)
    values = second_decoder(dict(world.data), share)
    assert (values["logical/before"], values["logical/after"]) == (b"1", b"2")
    assert world.data["logical/after"][3] == 2
