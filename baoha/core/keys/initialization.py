"""
The first write of a store: everything it needs, in one transaction.

Rules of this file:

1. All input is checked before anything is read, all is read before anything is written.
2. The transaction expects that there is no keyring: of two racing initialisations one wins, and the
   other one says so. A crash leaves an empty store or a whole one.
3. Shares are returned only when it is certain that they open what was stored.

Source: ours; OpenBao's initialisation is a row of writes (docs/spec/openbao-ha.md sections 2.6
and 11.14). The texts of the errors are OpenBao's.
"""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from baoha import names
from baoha.core.keys.barrier import BarrierTransaction, EntryCiphers, Now, RandomBytes
from baoha.core.keys.certain_commit import commit_certainly
from baoha.core.keys.rotation import put_stored_keys, write_keyring
from baoha.core.view import InitParameters, InitResult
from baoha.errors import AlreadyInitialized, InvalidRequest
from baoha.sansio.crypto.barrier_codec import KEY_BYTES, NONCE_BYTES
from baoha.sansio.crypto.keyring import create_keyring, format_time
from baoha.sansio.crypto.seal_format import (
    SHAMIR,
    STATIC,
    SealConfig,
    ShamirWrapper,
    StaticSealKey,
    check_shares,
)
from baoha.sansio.crypto.shamir import split
from baoha.storage.base import Backend, Fence

Populate = Callable[[BarrierTransaction], Awaitable[str] | str]


def check_parameters(parameters: InitParameters, seal_type: str) -> None:
    """
    Check what a client asks of an initialisation.

    Raises:
        InvalidRequest: with OpenBao's texts.
    """
    given = {
        SHAMIR: {
            "recovery_shares": parameters.recovery_shares,
            "recovery_threshold": parameters.recovery_threshold,
        },
        STATIC: {
            "secret_shares": parameters.secret_shares,
            "secret_threshold": parameters.secret_threshold,
        },
    }[seal_type]
    foreign = ",".join(name for name, value in given.items() if value)
    if foreign:
        raise InvalidRequest(f"parameters {foreign} not applicable to seal type {seal_type}")
    if seal_type == SHAMIR:
        check_shares(parameters.secret_shares, parameters.secret_threshold, what="seal")
    else:
        check_shares(
            parameters.recovery_shares,
            parameters.recovery_threshold,
            what="recovery",
            shares_min=0,
        )


def cut_key(
    key: bytes, shares: int, threshold: int, random_bytes: RandomBytes
) -> tuple[bytes, ...]:
    """Return the shares of a key. One share is the key itself; none at all is no share."""
    if shares == 0:
        return ()
    if shares == 1:
        return (key,)
    return split(key, shares, threshold, random_bytes=random_bytes)


@dataclass(frozen=True, slots=True)
class _Material:
    """The keys of the store to be; the same in all attempts to write it."""

    root_key: bytes = field(repr=False)
    data_key: bytes = field(repr=False)
    seal_key: bytes = field(repr=False)  # the recovery key where the seal is static
    shares: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Sources:
    random_bytes: RandomBytes
    now: Now


async def initialize(
    backend: Backend,
    parameters: InitParameters,
    *,
    static_key: StaticSealKey | None,
    populate: Populate,
    fence: Fence | None,
    cluster_name: str,
    random_bytes: RandomBytes,
    now: Now,
) -> InitResult:
    """
    Write a new store. No barrier is opened.

    Args:
        populate: buffers what else a new store needs, and returns the root token. May run more than
            once; what the last attempt returned counts.
        cluster_name: "" for a generated one.

    Raises:
        InvalidRequest, AlreadyInitialized: nothing was written.
        FencedWrite: nothing was written.
        StorageUnavailable: its ``outcome`` is "unknown" when even repeated attempts could not tell.
    """
    check_parameters(parameters, SHAMIR if static_key is None else STATIC)
    sources = _Sources(random_bytes, now)
    material = _draw_material(sources, parameters, is_static=static_key is not None)
    cluster = {"name": cluster_name or _generated_name(sources), "id": _draw_uuid(sources)}

    async def attempt(tried: dict[bytes, str]) -> str:
        async with backend.transaction(fence=fence) as storage:
            stored = await storage.get(names.KEYRING)
            if stored is not None:
                if stored in tried:
                    return tried[stored]  # the attempt whose answer was lost has landed
                raise AlreadyInitialized
            keyring = create_keyring(material.root_key, material.data_key, sources.now())
            ciphers = EntryCiphers(keyring, sources.random_bytes)
            transaction = BarrierTransaction(storage, ciphers, writable=True)
            _put_seal(transaction, parameters, material, static_key, sources)
            transaction.put(names.CLUSTER_INFO, _dump(cluster))
            transaction.put(*_version_entry(sources))
            populated = populate(transaction)
            token = await populated if inspect.isawaitable(populated) else populated
            mark = write_keyring(transaction, ciphers.keyring, sources.random_bytes)
            tried[mark] = token
        return token

    token = await commit_certainly(attempt)
    if static_key is None:
        return InitResult(shares=material.shares, root_token=token)
    return InitResult(shares=(), root_token=token, recovery_shares=material.shares)


def _draw_material(sources: _Sources, parameters: InitParameters, *, is_static: bool) -> _Material:
    seal_key = sources.random_bytes(KEY_BYTES)
    shares, threshold = parameters.secret_shares, parameters.secret_threshold
    if is_static:
        shares, threshold = parameters.recovery_shares, parameters.recovery_threshold
    return _Material(
        root_key=sources.random_bytes(KEY_BYTES),
        data_key=sources.random_bytes(KEY_BYTES),
        seal_key=seal_key,
        shares=cut_key(seal_key, shares, threshold, sources.random_bytes),
    )


def _put_seal(
    transaction: BarrierTransaction,
    parameters: InitParameters,
    material: _Material,
    static_key: StaticSealKey | None,
    sources: _Sources,
) -> None:
    if static_key is None:
        config = SealConfig(SHAMIR, parameters.secret_shares, parameters.secret_threshold)
        transaction.put(names.SHAMIR_KEK, material.seal_key)
        wrapped = ShamirWrapper(material.seal_key)
        put_stored_keys(transaction, material.root_key, wrapped, sources.random_bytes)
    else:
        config = SealConfig(STATIC, 1, 1)
        put_stored_keys(transaction, material.root_key, static_key, sources.random_bytes)
        if material.shares:
            recovery = SealConfig(SHAMIR, parameters.recovery_shares, parameters.recovery_threshold)
            nonce = sources.random_bytes(NONCE_BYTES)
            transaction.put_raw(names.RECOVERY_CONFIG, recovery.encode())
            transaction.put_raw(names.RECOVERY_KEY, static_key.encrypt(material.seal_key, nonce))
    transaction.put_raw(names.SEAL_CONFIG, config.encode())


def _version_entry(sources: _Sources) -> tuple[str, bytes]:
    entry = {
        "TimestampInstalled": format_time(sources.now()),
        "Version": names.API_VERSION,
        "BuildDate": names.API_COMMIT_DATE,
    }
    return names.VERSIONS_PREFIX + names.API_VERSION, _dump(entry)


def _generated_name(sources: _Sources) -> str:
    return f"vault-cluster-{sources.random_bytes(4).hex()}"


def _draw_uuid(sources: _Sources) -> str:
    return str(uuid.UUID(bytes=sources.random_bytes(16), version=4))


def _dump(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
