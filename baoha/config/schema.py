"""
Every key of the configuration in one table: its kind, its default and what it is for.

Rule of this file: the loader knows no key that is not here, and ``docs/configuration.md`` is
written from here (``baoha.config.reference``; a test compares). A key that OpenBao knows and baoha
does not is listed with the reason in ``NO_EFFECT``: it is accepted with a warning, never silently.

Source: keys and defaults of OpenBao 2.7.2 (``bao operator validate-config`` tells which keys it
knows); ``ha`` and ``disable_request_forwarding`` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from baoha.config.values import (
    BOOL,
    COUNT,
    DURATION,
    FILE_MODE,
    LIMIT,
    NETWORKS,
    NICE,
    POSITIVE,
    RESPONSE_HEADERS,
    TEXT,
    TEXTS,
    Kind,
    choice,
)
from baoha.timing import HATiming

TLS_VERSIONS: Final = choice("tls10", "tls11", "tls12", "tls13")
LOG_LEVELS: Final = choice("trace", "debug", "info", "warn", "error")
LOG_FORMATS: Final = choice("standard", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One key of one section.

    Attributes:
        default: what the loader uses where the key is not set.
        shown: the default as the documentation shows it.
        env: the part of the environment variables' names behind BAOHA_, BAO_ and VAULT_.
    """

    key: str
    kind: Kind
    default: object
    shown: str
    doc: str
    env: str = ""
    secret: bool = False


def _section(*options: Option) -> Mapping[str, Option]:
    return MappingProxyType({option.key: option for option in options})


def _option(
    key: str,
    kind: Kind,
    default: object,
    doc: str,
    *,
    shown: str = "",
    env: str = "",
    secret: bool = False,
) -> Option:
    return Option(
        key=key,
        kind=kind,
        default=default,
        shown=shown or _shown(default),
        doc=doc,
        env=env,
        secret=secret,
    )


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[]"
    return "" if default is None else str(default)


TOP: Final = _section(
    _option(
        "api_addr",
        TEXT,
        "",
        "URL that clients and other nodes reach this node's API by; must be set",
        env="API_ADDR",
    ),
    _option(
        "cluster_addr",
        TEXT,
        "",
        "URL that other nodes reach this node's cluster listener by",
        shown="api_addr, port + 1",
        env="CLUSTER_ADDR",
    ),
    _option("cluster_name", TEXT, "", "name of the cluster", shown="vault-cluster- + 8 hex digits"),
    _option("disable_clustering", BOOL, False, "no cluster listener; standbys redirect"),
    _option(
        "disable_request_forwarding", BOOL, False, "standbys redirect clients, they do not forward"
    ),
    _option("default_max_request_duration", DURATION, 90.0, "longest request", shown="90s"),
    _option("default_lease_ttl", DURATION, 2_764_800.0, "ttl of a lease", shown="768h"),
    _option("max_lease_ttl", DURATION, 2_764_800.0, "longest ttl of a lease", shown="768h"),
    _option("log_level", LOG_LEVELS, "info", "least severe level that is logged", env="LOG_LEVEL"),
    _option("log_format", LOG_FORMATS, "standard", "lines of text or of JSON", env="LOG_FORMAT"),
    _option("log_file", TEXT, "", "file to log to", shown="standard error"),
    _option("pid_file", TEXT, "", "file that holds the process id while the server runs"),
    _option("nice", NICE, -10, "CPU priority to ask for, if the process has none; 0: do not ask"),
)

_LISTENER: Final = (
    _option(
        "max_request_size", LIMIT, 33_554_432, "largest request body; 64MiB at most", shown="32MiB"
    ),
    _option(
        "max_request_duration",
        DURATION,
        None,
        "longest request on this listener",
        shown="default_max_request_duration",
    ),
    _option("http_read_timeout", DURATION, 30.0, "for a whole request to arrive", shown="30s"),
    _option("http_read_header_timeout", DURATION, 10.0, "for its headers to arrive", shown="10s"),
    _option("http_write_timeout", DURATION, 0.0, "for a response; 0 is no limit", shown="0"),
    _option("http_idle_timeout", DURATION, 300.0, "between two requests", shown="5m"),
    _option(
        "connections_max", POSITIVE, 4096, "connections at one time; one that waits makes room"
    ),
    _option(
        "custom_response_headers",
        RESPONSE_HEADERS,
        MappingProxyType({}),
        "headers to add, by status",
        shown="{}",
    ),
    _option(
        "disable_unauthed_rekey_endpoints", BOOL, True, "refuse sys/rekey without a sudo token"
    ),
    _option(
        "disable_unauthed_generate_root_endpoints",
        BOOL,
        True,
        "refuse sys/generate-root without a sudo token",
    ),
)

LISTENER_TCP: Final = _section(
    _option("address", TEXT, "127.0.0.1:8200", "host and port to bind"),
    _option(
        "cluster_address",
        TEXT,
        "",
        "host and port of the cluster listener",
        shown="address, port + 1",
    ),
    _option("tls_disable", BOOL, False, "speak plain HTTP"),
    _option("tls_cert_file", TEXT, "", "certificate chain, PEM; required with TLS"),
    _option("tls_key_file", TEXT, "", "private key, PEM; required with TLS"),
    _option("tls_min_version", TLS_VERSIONS, "tls12", "oldest TLS version"),
    _option("tls_max_version", TLS_VERSIONS, "tls13", "newest TLS version"),
    _option("tls_cipher_suites", TEXTS, (), "cipher suites of TLS 1.2, by IANA name"),
    _option(
        "tls_require_and_verify_client_cert", BOOL, False, "refuse clients without a certificate"
    ),
    _option("tls_client_ca_file", TEXT, "", "CA of client certificates, PEM"),
    _option("tls_disable_client_certs", BOOL, False, "do not ask for client certificates"),
    _option("tls_auto_reload", BOOL, True, "look for a new certificate; OpenBao's default is off"),
    _option("tls_auto_reload_interval", DURATION, 30.0, "how often; at least 5s", shown="30s"),
    _option(
        "x_forwarded_for_authorized_addrs",
        NETWORKS,
        (),
        "proxies whose X-Forwarded-For counts; turns the feature on",
    ),
    _option("x_forwarded_for_hop_skips", COUNT, 0, "entries to skip from the end"),
    _option("x_forwarded_for_reject_not_present", BOOL, True, "refuse requests without it"),
    _option(
        "x_forwarded_for_reject_not_authorized", BOOL, True, "refuse it from anyone but a proxy"
    ),
    *_LISTENER,
)

LISTENER_UNIX: Final = _section(
    _option("address", TEXT, "/run/openbao.sock", "path of the socket"),
    _option("socket_mode", FILE_MODE, None, "permission bits of the socket", shown="by umask"),
    _option("socket_user", TEXT, "", "owner of the socket, name or number"),
    _option("socket_group", TEXT, "", "group of the socket, name or number"),
    *_LISTENER,
)

SEAL_STATIC: Final = _section(
    _option("current_key_id", TEXT, "", "name of current_key", env="STATIC_SEAL_CURRENT_KEY_ID"),
    _option(
        "current_key",
        TEXT,
        "",
        "32 bytes as base64 or hex, or env://NAME, or file:///path",
        env="STATIC_SEAL_CURRENT_KEY",
        secret=True,
    ),
    _option("previous_key_id", TEXT, "", "name of previous_key", env="STATIC_SEAL_PREVIOUS_KEY_ID"),
    _option(
        "previous_key",
        TEXT,
        "",
        "the key before, while entries are still sealed with it",
        env="STATIC_SEAL_PREVIOUS_KEY",
        secret=True,
    ),
)

SEAL_SHAMIR: Final = _section()

TIMING_DOCS: Final = MappingProxyType(
    {
        "lock_ttl": "how long the HA lock outlives its last renewal, by the store's clock",
        "renew_interval": "between two renewals",
        "renew_timeout": "one renewal attempt",
        "renew_retry": "pause after a failed renewal",
        "expiry_margin": "the node stops this long before the store lets go",
        "drain": "requests in flight may finish for so long at a planned change",
        "park": "a request waits so long for a new active node",
        "handover_wait": "a step-down waits so long for a standby to become ready",
        "handover_ttl": "a lock that was passed on waits so long for its successor to take it up",
        "step_down_pause": "the node that left does not compete for so long, if others can",
        "heartbeat": "standby to active node, over the cluster channel",
        "heartbeat_timeout": "silence after which a channel counts as suspect",
        "handshake": "connect, TLS and greeting on the cluster channel",
        "reconnect": "first pause before the active node is dialled again",
        "reconnect_max": "longest such pause",
        "store_retry": "first pause after a storage error on a standby",
        "store_retry_max": "longest such pause",
        "watch_poll": "re-read of the lock where the store cannot announce changes",
        "cleanup": "bound of every clean-up",
    }
)

HA: Final = _section(
    *(
        _option(
            name,
            DURATION,
            field.default,
            TIMING_DOCS.get(name, ""),
            shown=f"{field.default:g}s",
        )
        for field, name in ((field, field.name.removesuffix("_s")) for field in fields(HATiming))
    ),
    _option("park_requests", POSITIVE, 1024, "requests that a standby parks at most"),
    _option("park_bytes", LIMIT, 64 * 1024**2, "their bodies together, at most", shown="64MiB"),
)

# Keys of a storage block that say something about the node; the store never sees them.
STORAGE_ADDRESSES: Final = _section(
    _option("redirect_addr", TEXT, "", "old place of api_addr"),
    _option("advertise_addr", TEXT, "", "still older place of api_addr"),
    _option("cluster_addr", TEXT, "", "old place of cluster_addr"),
    _option("disable_clustering", BOOL, False, "cluster_addr of this block does not count"),
)

# (storage type, key) to the environment variable that replaces it.
STORAGE_ENV: Final = MappingProxyType(
    {
        ("raft", "path"): "RAFT_PATH",
        ("raft", "node_id"): "RAFT_NODE_ID",
        ("postgresql", "connection_url"): "PG_CONNECTION_URL",
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
            "inflight_requests_logging": "there is no such endpoint",
            "purpose": "every listener serves the whole API",
            "role": "every listener serves the whole API",
            "agent_api": "for the agent, not for a server",
            "proxy_api": "for the proxy, not for a server",
            "type": "the block's label says it",
        },
    }
)
