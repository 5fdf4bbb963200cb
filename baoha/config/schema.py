"""
The sections of the configuration: which keys each has, and which of OpenBao's have no effect.

Rule of this file: the keys come from the records of ``model.py``; the loader knows no other, and
``docs/configuration.md`` is written from here (``baoha.config.reference``; a test compares). A key
that OpenBao knows and baoha does not is listed with the reason in ``NO_EFFECT``: it is accepted
with a warning, never silently.

Source: OpenBao 2.7.2 (``bao operator validate-config`` tells which keys it knows).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from baoha.config.model import (
    ListenerConfig,
    ParkingConfig,
    SealSettings,
    ServerConfig,
    StorageAddresses,
)
from baoha.config.options import Option, options_of
from baoha.timing import HATiming

# Without those of the blocks, which have a dot in their names.
TOP: Final[Mapping[str, Option]] = MappingProxyType(
    {key: option for key, option in options_of(ServerConfig).items() if "." not in key}
)
HA: Final[Mapping[str, Option]] = MappingProxyType(
    {**options_of(HATiming), **options_of(ParkingConfig)}
)
LISTENER_TCP: Final = options_of(ListenerConfig, "tcp")
LISTENER_UNIX: Final = options_of(ListenerConfig, "unix")
SEAL_STATIC: Final = options_of(SealSettings, "static")
SEAL_SHAMIR: Final = options_of(SealSettings, "shamir")
STORAGE_ADDRESSES: Final = options_of(StorageAddresses)

# As the documentation names them.
SECTIONS: Final[Mapping[str, Mapping[str, Option]]] = MappingProxyType(
    {
        "top": TOP,
        "ha": HA,
        "listener.tcp": LISTENER_TCP,
        "listener.unix": LISTENER_UNIX,
        "seal.static": SEAL_STATIC,
        "storage": STORAGE_ADDRESSES,
    }
)

REDIRECT_ENV: Final = ("API_ADDR", "REDIRECT_ADDR", "ADVERTISE_ADDR")

# Blocks that are not plain keys: read by the loader one by one.
BLOCKS: Final = ("storage", "ha_storage", "backend", "ha_backend", "listener", "seal", "ha")

_TODAY_NOTHING: Final = "baoha has nothing that it could change"
_NO_PLUGINS: Final = "engines are Python packages, there are no external plugins"
_NO_ACME: Final = "baoha fetches no certificates; set tls_cert_file and tls_key_file"

NO_EFFECT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "top": {
            "ui": "there is no web interface",
            "disable_mlock": "memory is not locked; keep swap encrypted or off",
            "telemetry": "telemetry is not exported",
            "plugin_directory": _NO_PLUGINS,
            "plugin_file_uid": _NO_PLUGINS,
            "plugin_file_permissions": _NO_PLUGINS,
            "plugin_auto_download": _NO_PLUGINS,
            "plugin_auto_register": _NO_PLUGINS,
            "plugin_download_max_size": _NO_PLUGINS,
            "plugin_download_behavior": _NO_PLUGINS,
            "plugin": _NO_PLUGINS,
            "log_rotate_duration": "rotate log_file from outside",
            "log_rotate_bytes": "rotate log_file from outside",
            "log_rotate_max_files": "rotate log_file from outside",
            "log_requests_level": "completed requests are not logged",
            "audit": "there are no audit devices yet",
            "initialize": "initialise through sys/init",
            "service_registration": "point the load balancer at sys/health",
            "user_lockout": "user lockout is not configurable in the file",
            "cluster_cipher_suites": "the cluster channel picks its own cipher suites",
            "disable_standby_reads": "standbys always forward reads to the active node",
            "disable_cache": _TODAY_NOTHING,
            "cache_size": _TODAY_NOTHING,
            "disable_sealwrap": _TODAY_NOTHING,
            "disable_performance_standby": _TODAY_NOTHING,
            "disable_indexing": _TODAY_NOTHING,
            "disable_printable_check": _TODAY_NOTHING,
            "imprecise_lease_role_tracking": _TODAY_NOTHING,
            "detect_deadlocks": "there are no locks to watch",
            "raw_storage_endpoint": "sys/raw does not exist",
            "introspection_endpoint": "sys/internal/inspect does not exist",
            "enable_response_header_hostname": "the header is not sent",
            "enable_response_header_raft_node_id": "the header is not sent",
            "allow_audit_log_prefixing": "audit devices have no prefix option",
            "unsafe_allow_api_audit_creation": "there are no audit devices yet",
            "unsafe_cross_namespace_identity": "identities do not cross namespaces",
            "hsm": "seals are shamir and static",
        },
        "listener": {
            "tls_key_exchange_preferences": "the TLS library picks the key exchange",
            "tls_acme_ca_directory": _NO_ACME,
            "tls_acme_ca_root": _NO_ACME,
            "tls_acme_cache_path": _NO_ACME,
            "tls_acme_domains": _NO_ACME,
            "tls_acme_email": _NO_ACME,
            "tls_acme_eab_key_id": _NO_ACME,
            "tls_acme_eab_mac_key": _NO_ACME,
            "tls_acme_key_type": _NO_ACME,
            "tls_acme_disable_alpn_challenge": _NO_ACME,
            "tls_acme_disable_http_challenge": _NO_ACME,
            "tls_prefer_server_cipher_suites": "the server's order always counts",
            "max_request_json_memory": "JSON is bounded by max_request_size",
            "max_request_json_strings": "JSON is bounded by max_request_size",
            "require_request_header": "the X-Vault-Request header is not required",
            "proxy_protocol_behavior": "the PROXY protocol is not spoken",
            "proxy_protocol_authorized_addrs": "the PROXY protocol is not spoken",
            "x_forwarded_for_client_cert_header": "certificates are taken from TLS only",
            "x_forwarded_for_client_cert_decoders": "certificates are taken from TLS only",
            "x_forwarded_for_client_cert_keep_not_forwarded": "the header is never trusted",
            "x_forwarded_for_client_cert_keep_unauthorized": "the header is never trusted",
            "cors_enabled": "CORS headers are not sent",
            "cors_allowed_origins": "CORS headers are not sent",
            "cors_allowed_headers": "CORS headers are not sent",
            "telemetry": "telemetry is not exported",
            "profiling": "there are no profiling endpoints",
            "disable_unauthed_rekey_endpoints": "sys/rekey does not exist",
            "disable_unauthed_generate_root_endpoints": "sys/generate-root does not exist",
            "inflight_requests_logging": "there is no such endpoint",
            "purpose": "every listener serves the whole API",
            "role": "every listener serves the whole API",
            "agent_api": "for the agent, not for a server",
            "proxy_api": "for the proxy, not for a server",
            "type": "the block's label says it",
        },
    }
)
