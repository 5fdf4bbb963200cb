"""
The seal of one node: what it takes to open the barrier, and what came in so far.

Rules of this file:

1. The state shown (``status``) comes from memory; a decision reads the store anew, because another
   node may have initialised it or changed its shares.
2. Shares that came in are kept in buffers that are overwritten as soon as they are used, used in
   vain, reset, or the barrier opens.

Theory of operation. Shares join to the *seal key*; that opens only the stored root key; the root
key opens the keyring; the keyring opens everything else. With a static seal the seal key stands in
the configuration, the node opens by itself, and the shares given out are *recovery* shares: they
prove authority, they open nothing.

Source: docs/spec/openbao-ha.md sections 2.5, 2.7 and 5.4;
tests/conformance/recordings/04-unseal.json; the static seal as measured.
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from baoha import names
from baoha.core.keys import initialization, rotation
from baoha.core.keys.barrier import Barrier, Now, RandomBytes
from baoha.core.view import InitParameters, InitResult, SealStatus
from baoha.errors import (
    BarrierError,
    ConfigError,
    InvalidKeyShare,
    InvalidRequest,
    NotInitialized,
    SealError,
    StorageCorrupt,
)
from baoha.sansio.crypto.keyring import Keyring, decrypt_keyring
from baoha.sansio.crypto.seal_format import (
    SHAMIR,
    SHARE_BYTES_MAX,
    SHARE_BYTES_MIN,
    STATIC,
    SealConfig,
    SealWrapper,
    ShamirWrapper,
    StaticSealKey,
    decode_stored_keys,
)
from baoha.sansio.crypto.shamir import combine
from baoha.storage.base import Backend, Fence

_UNWRAP_FAILED: Final = (
    "unable to retrieve stored keys: invalid key: failed to decrypt keys from storage: "
    "cipher: message authentication failed"
)


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """Name and id of the cluster, made at initialisation."""

    name: str
    id: str


class Seal:
    """
    Initialise, unseal, and follow the keys. One per node.

    Args:
        static_key: the configured key of a static seal; None: key shares open the barrier.
    """

    def __init__(
        self,
        backend: Backend,
        barrier: Barrier,
        *,
        static_key: StaticSealKey | None,
        random_bytes: RandomBytes,
        now: Now,
    ) -> None:
        self._backend = backend
        self.barrier = barrier
        self.static_key = static_key
        self._random_bytes = random_bytes
        self._now = now
        self._config: SealConfig | None = None  # None: not initialised
        self._recovery: SealConfig | None = None
        self._progress: list[bytearray] = []
        self._nonce = ""
        barrier.refresh_keyring = self.reload_keyring

    def __repr__(self) -> str:
        return f"Seal(type={self.type}, progress={len(self._progress)})"

    # --- state ----------------------------------------------------------------------------------

    @property
    def type(self) -> str:
        """The type of the seal as configured: "shamir" or "static"."""
        return SHAMIR if self.static_key is None else STATIC

    @property
    def initialized(self) -> bool:
        """Whether the store had a keyring when it was last looked at."""
        return self._config is not None

    async def load_config(self) -> None:
        """
        Look at the store: is it initialised, and how many shares does it take?

        Raises:
            ConfigError: the store was initialised with another type of seal than configured.
            StorageCorrupt, StorageUnavailable: the former state is kept.
        """
        # The keyring first: what is read after it is there, if it is.
        if await self._backend.get(names.KEYRING) is None:
            self._config = self._recovery = None
            return
        blob = await self._backend.get(names.SEAL_CONFIG)
        if blob is None:
            raise StorageCorrupt("the seal configuration is missing")
        config, recovery = SealConfig.decode(blob), None
        if config.type != self.type:
            raise ConfigError(
                f"the store was initialised with the seal type {config.type!r}, "
                f"but {self.type!r} is configured: "
                + (
                    "remove the seal from the configuration"
                    if config.type == SHAMIR
                    else f"configure [seal.{config.type}] with the key that it was initialised with"
                )
            )
        if self.static_key is not None:
            blob = await self._backend.get(names.RECOVERY_CONFIG)
            recovery = None if blob is None else SealConfig.decode(blob)
        self._config, self._recovery = config, recovery

    @property
    def shares_config(self) -> SealConfig | None:
        """How many shares there are: key shares, or with a static seal recovery shares."""
        return self._config if self.static_key is None else self._recovery

    def take_shares_config(self, config: SealConfig) -> None:
        """Take note of how many shares there are now: it was just stored."""
        if self.static_key is None:
            self._config = config
        else:
            self._recovery = config

    def status(self) -> SealStatus:
        """Return the state of the seal, from memory."""
        shown = self.shares_config
        return SealStatus(
            type=self.type,
            initialized=self.initialized,
            sealed=self.barrier.sealed,
            threshold=shown.threshold if shown else 0,
            shares=shown.shares if shown else 0,
            progress=len(self._progress),
            nonce=self._nonce,
            recovery_seal=self.static_key is not None,
            recovery_seal_type="" if self.static_key is None else SHAMIR,
        )

    async def cluster_info(self) -> ClusterInfo:
        """
        Return name and id of the cluster.

        Raises:
            Sealed, BarrierError, StorageCorrupt, StorageUnavailable: as ``Barrier.get``.
        """
        blob = await self.barrier.get(names.CLUSTER_INFO)
        if blob is None:
            raise StorageCorrupt("the cluster info is missing")
        try:
            fields = json.loads(blob)
            return ClusterInfo(str(fields["name"]), str(fields["id"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise StorageCorrupt("the cluster info is malformed") from exc

    # --- initialise, unseal, seal ---------------------------------------------------------------

    async def initialize(
        self,
        parameters: InitParameters,
        *,
        populate: initialization.Populate,
        fence: Fence | None,
        cluster_name: str = "",
    ) -> InitResult:
        """
        Initialise the store in one transaction. The barrier stays sealed.

        Args:
            populate: buffers what else a new store needs (mounts, root token) and returns the root
                token. May run more than once.
            fence: of the lock held meanwhile; None without one (the transaction is safe alone).
            cluster_name: "" for a generated one.

        Raises:
            InvalidRequest, AlreadyInitialized, FencedWrite: nothing was written.
            StorageUnavailable: see its ``outcome``.
        """
        result = await initialization.initialize(
            self._backend,
            parameters,
            static_key=self.static_key,
            populate=populate,
            fence=fence,
            cluster_name=cluster_name,
            random_bytes=self._random_bytes,
            now=self._now,
        )
        # From what was just written, without another read: the result must not be lost to a store
        # that fails now.
        if self.static_key is None:
            self._config = SealConfig(SHAMIR, parameters.secret_shares, parameters.secret_threshold)
        else:
            self._config = SealConfig(STATIC, 1, 1)
            shares, threshold = parameters.recovery_shares, parameters.recovery_threshold
            self._recovery = SealConfig(SHAMIR, shares, threshold) if shares else None
        return result

    async def unseal(self, share: bytes | None, reset: bool = False) -> bool:
        """
        Take one key share, or forget those given so far.

        A repeated share is ignored. When there are enough, they are forgotten, whether they open
        the barrier or not. An unsealed barrier ignores shares.

        Returns:
            Whether this share has just opened the barrier.

        Raises:
            InvalidRequest, NotInitialized: the share was not taken.
            InvalidKeyShare: the shares do not open it.
            StorageCorrupt, StorageUnavailable: the store could not be read.
        """
        if reset:
            if not self.barrier.sealed:
                raise InvalidRequest("vault is unsealed")
            self._forget_progress()
            return False
        if share is None:
            raise InvalidRequest(
                "'key' must be specified in request body as JSON, or 'reset' set to true"
            )
        if self.barrier.sealed:
            await self.load_config()
        if not self.barrier.sealed:
            return False
        if self._config is None:
            raise NotInitialized
        _check_length(share)
        key = self._take_share(share)
        if key is None:
            return False
        keyring = await self._read_keyring(await self.wrapper_of(key))
        return self._open(keyring)

    async def auto_unseal(self) -> bool:
        """
        Open the barrier with the static key, if one is configured and the store is initialised.

        Returns:
            Whether it has just been opened.

        Raises:
            SealError: the configured key does not open this store.
            ConfigError, StorageCorrupt, StorageUnavailable: as ``load_config``.
        """
        await self.load_config()
        if self.static_key is None or self._config is None or not self.barrier.sealed:
            return False
        return self._open(await self._read_keyring(self.static_key))

    # --- the keyring ----------------------------------------------------------------------------

    async def reload_keyring(self) -> None:
        """
        Read the keyring anew: another node may have changed data key, root key or shares.

        For a node that becomes active, and for a standby now and then.

        Raises:
            Sealed: there is nothing to reload with.
            BarrierError: the stored keyring cannot be reached from the keys that are known; to
                unseal again helps.
            StorageUnavailable: no answer; the former keyring is kept.
        """
        try:
            keyring = await rotation.read_keyring(self._backend.get, self.barrier.keyring)
        except BarrierError:
            if self.static_key is None:
                raise
            keyring = await self._read_keyring(self.static_key)
        self.barrier.follow(keyring)
        await self.load_config()

    async def rotate_encryption_key(self) -> None:
        """
        Install a new data key, for everything that is written from now on.

        Raises:
            Sealed, ReadOnly, FencedWrite: nothing was changed.
            StorageUnavailable: see its ``outcome``; either way the store opens.
        """
        await rotation.rotate_encryption_key(self.barrier)

    async def upgrade_stored_keys(self) -> bool:
        """
        Encrypt the stored keys with the current static key, where the previous one still does.

        For a node that becomes active. Returns whether anything was written. Raises as
        ``rotate_encryption_key``.
        """
        if self.static_key is None:
            return False
        return await rotation.upgrade_stored_keys(self.barrier, self.static_key)

    # --- inside ---------------------------------------------------------------------------------

    def _take_share(self, share: bytes) -> bytes | None:
        """Add a share; at the threshold forget all and return the joined key."""
        config = self.shares_config
        if config is None:
            raise InvalidKeyShare(
                "invalid key: failed to verify recovery key: no recovery key found"
            )
        if any(hmac.compare_digest(share, known) for known in self._progress):
            return None
        if not self._progress:
            self._nonce = str(uuid.UUID(bytes=self._random_bytes(16), version=4))
        self._progress.append(bytearray(share))
        if len(self._progress) < config.threshold:
            return None
        try:
            return join_shares([bytes(known) for known in self._progress], config.threshold)
        finally:
            self._forget_progress()

    def _forget_progress(self) -> None:
        for share in self._progress:
            share[:] = bytes(len(share))
        self._progress = []
        self._nonce = ""

    def _open(self, keyring: Keyring) -> bool:
        if not self.barrier.sealed:
            return False
        self._forget_progress()
        self.barrier.open(keyring)
        return True

    async def wrapper_of(self, key: bytes) -> SealWrapper:
        """
        Return what opens the stored keys, given the key that shares have joined to.

        Raises:
            InvalidKeyShare: it is no key, or not the recovery key.
            StorageCorrupt, StorageUnavailable: the store could not be read.
        """
        if self.static_key is None:
            try:
                return ShamirWrapper(key)
            except BarrierError as exc:  # of a length that is no key's
                raise InvalidKeyShare(_UNWRAP_FAILED) from exc
        blob = await self._backend.get(names.RECOVERY_KEY)
        if blob is None:
            raise StorageCorrupt("the recovery key is missing")
        if not hmac.compare_digest(_decrypt_static(self.static_key, blob), key):
            raise InvalidKeyShare(
                "invalid key: failed to verify recovery key: "
                "recovery key does not match submitted values"
            )
        return self.static_key

    async def _read_keyring(self, wrapper: SealWrapper) -> Keyring:
        failure = BarrierError()
        # Stored keys and keyring are written together but read one after the other: a change of the
        # root key may fall between the two reads.
        for _ in range(rotation.READS_MAX):
            root_key = await self.stored_root_key(wrapper)
            blob = await self._backend.get(names.KEYRING)
            if blob is None:
                raise StorageCorrupt("the keyring is missing")
            try:
                return decrypt_keyring(root_key, blob)
            except BarrierError as exc:
                failure = exc
        raise failure

    async def stored_root_key(self, wrapper: SealWrapper) -> bytes:
        """Return the root key as stored. Raises as ``wrapper_of``."""
        blob = await self._backend.get(names.STORED_KEYS)
        if blob is None:
            raise StorageCorrupt("the stored keys are missing")
        if self.static_key is not None:
            return decode_stored_keys(_decrypt_static(self.static_key, blob))
        try:
            return decode_stored_keys(wrapper.decrypt(blob))
        except BarrierError as exc:
            raise InvalidKeyShare(_UNWRAP_FAILED) from exc


def _check_length(share: bytes) -> None:
    if len(share) < SHARE_BYTES_MIN:
        raise InvalidKeyShare(f"invalid key: key is shorter than minimum {SHARE_BYTES_MIN} bytes")
    if len(share) > SHARE_BYTES_MAX:
        raise InvalidKeyShare(f"invalid key: key is longer than maximum {SHARE_BYTES_MAX} bytes")


def join_shares(shares: Sequence[bytes], threshold: int) -> bytes:
    """Return the key that shares join to. Raises InvalidKeyShare: they join to none."""
    if threshold == 1:
        return shares[0]
    try:
        return combine(shares)
    except InvalidKeyShare as exc:
        raise InvalidKeyShare(f"invalid key: failed to compute combined key: {exc}") from exc


def _decrypt_static(static_key: StaticSealKey, blob: bytes) -> bytes:
    try:
        return static_key.decrypt(blob)
    except BarrierError as exc:
        raise SealError(
            f"unable to retrieve stored keys: the static seal key {static_key.key_id!r} "
            f"does not open this store: {exc}"
        ) from exc
