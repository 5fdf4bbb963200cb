"""
Names that others depend on: storage paths, header names, protocol ids.

Source: OpenBao 2.7.2 as recorded and measured, unless a line says "ours".
"""

from __future__ import annotations

from typing import Final

# --- storage paths (plain = not encrypted by the barrier) ---------------------------------------
HA_LOCK: Final = "core/lock"  # plain; value = leader UUID
LEADER_PREFIX: Final = "core/leader/"  # + leader UUID: the advertisement
CLUSTER_INFO: Final = "core/cluster/local/info"
SEAL_CONFIG: Final = "core/seal-config"  # plain JSON
STORED_KEYS: Final = "core/hsm/barrier-unseal-keys"  # root key, encrypted by the seal
RECOVERY_CONFIG: Final = "core/recovery-config"  # plain JSON; static seal only
RECOVERY_KEY: Final = "core/recovery-key"  # encrypted by the seal
VERSIONS_PREFIX: Final = "core/versions/"
KEYRING: Final = "core/keyring"  # encrypted by the root key
ROOT_KEY: Final = "core/root-key"  # encrypted by the newest keyring key
LEGACY_ROOT_KEY: Final = "core/master"
SHAMIR_KEK: Final = "core/shamir-kek"
KEY_UPGRADE_PREFIX: Final = "core/upgrade/"  # + term N: the key of term N+1
MOUNTS_PREFIX: Final = "core/mounts/"
AUTH_PREFIX: Final = "core/auth/"
POLICY_PREFIX: Final = "sys/policy/"
TOKEN_ID_PREFIX: Final = "sys/token/id/"
TOKEN_PARENT_PREFIX: Final = "sys/token/parent/"
TOKEN_SALT: Final = "sys/token/salt"
LOGICAL_PREFIX: Final = "logical/"  # + mount UUID + "/"

# --- HTTP headers ------------------------------------------------------------------------------
TOKEN_HEADER: Final = "x-vault-token"
NAMESPACE_HEADER: Final = "x-vault-namespace"
NO_FORWARDING_HEADER: Final = "x-vault-no-request-forwarding"
# Ours, between nodes: who was active when a node took the request.
ASKED_OF_HEADER: Final = "x-baoha-internal-asked-of"
INDEX_HEADER: Final = "x-vault-index"
INCONSISTENT_HEADER: Final = "x-vault-inconsistent"

# --- protocol ids ------------------------------------------------------------------------------
CLUSTER_ALPN: Final = "baoha-cluster/1"  # ours
OPENBAO_FORWARDING_ALPN: Final = "req_fw_sb-act_v1"
OPENBAO_RAFT_ALPN: Final = "raft_storage_v1"

# The version that sys/health and sys/seal-status report: clients switch features by it, so it names
# the OpenBao release whose API we speak. Our own version is in "baoha version" and sys/ha-status.
API_VERSION: Final = "2.7.2"
API_COMMIT_DATE: Final = "2026-10-26T20:32:27Z"  # of that release; seal-status and version-history
