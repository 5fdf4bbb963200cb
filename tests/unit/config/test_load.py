"""From files and environment to a ServerConfig."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from baoha.config import ServerConfig, build, check_addresses, load, parse_document
from baoha.errors import ConfigError
from baoha.storage.registry import is_ha
from baoha.timing import HATiming

ROOT = Path(__file__).resolve().parents[3]
KEY = base64.b64encode(b"K" * 32).decode()

BASE = """
api_addr = "http://127.0.0.1:8200"
[storage.sqlite]
path = "x.db"
[[listener.tcp]]
tls_disable = true
"""
HCL_BASE = """
api_addr = "http://127.0.0.1:8200"
storage "sqlite" { path = "x.db" }
listener "tcp" { tls_disable = 1 }
"""


def config_of(
    text: str, name: str = "x.toml", environ: Mapping[str, str] | None = None
) -> ServerConfig:
    return build([parse_document(text, name)], environ or {}, variables_of=variables_of)


def variables_of(store: str) -> Mapping[str, str]:
    """Return the variables of stores that are not installed, as their rows would name them."""
    known = {
        "postgresql": {"connection_url": "PG_CONNECTION_URL"},
        "raft": {"path": "RAFT_PATH", "node_id": "RAFT_NODE_ID"},
    }
    return known.get(store, {})


def refusal_of(text: str, name: str = "x.toml", environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(text, name, environ)
    return str(caught.value)


def without_sources(config: ServerConfig) -> ServerConfig:
    return replace(config, sources={})


@pytest.mark.parametrize(
    ("size", "used", "warns"),
    [
        ("67108863", 67_108_863, False),
        ("64MiB", 67_108_864, False),
        ("67108865", 67_108_864, True),
        ("1GiB", 67_108_864, True),
    ],
)
def test_request_size_above_what_can_be_forwarded_is_cut_with_a_warning(
    size: str, used: int, warns: bool
) -> None:
    config = config_of(BASE + f'max_request_size = "{size}"\n')
    assert config.listeners[0].max_request_size == used
    assert any("max_request_size" in warning for warning in config.warnings) is warns


def test_connections_of_a_listener_are_a_key() -> None:
    assert config_of(BASE).listeners[0].connections_max == 4096
    assert config_of(BASE + "connections_max = 7\n").listeners[0].connections_max == 7
    assert "connections_max" in refusal_of(BASE + "connections_max = 0\n")


# --- the three languages ------------------------------------------------------------------------


def test_three_languages_that_say_the_same_give_the_same() -> None:
    toml = """
    api_addr = "https://a.example:8200"
    log_level = "debug"
    [storage.postgresql]
    connection_url = "postgres://x"
    ha_enabled = "true"
    [[listener.tcp]]
    address = "10.0.0.1:8200"
    tls_cert_file = "c"
    tls_key_file = "k"
    custom_response_headers.default = { X-A = ["b"] }
    [[listener.tcp]]
    address = "127.0.0.1:8300"
    tls_disable = true
    x_forwarded_for_authorized_addrs = ["10.0.0.0/8"]
    [ha]
    lock_ttl = "8s"
    """
    hcl = """
    api_addr = "https://a.example:8200"
    log_level = "DEBUG"
    backend "postgresql" { connection_url = "postgres://x" ha_enabled = "true" }
    listener "tcp" {
      address = "10.0.0.1:8200"
      tls_cert_file = "c"
      tls_key_file = "k"
      custom_response_headers { "default" = { "X-A" = ["b"] } }
    }
    listener "tcp" {
      address = "127.0.0.1:8300"
      tls_disable = "true"
      x_forwarded_for_authorized_addrs = "10.0.0.0/8"
    }
    ha { lock_ttl = 8 }
    """
    text = """{"api_addr": "https://a.example:8200", "log_level": "debug",
    "storage": {"postgresql": {"connection_url": "postgres://x", "ha_enabled": "true"}},
    "listener": [
      {"tcp": {"address": "10.0.0.1:8200", "tls_cert_file": "c", "tls_key_file": "k",
               "custom_response_headers": {"default": {"X-A": ["b"]}}}},
      {"tcp": {"address": "127.0.0.1:8300", "tls_disable": 1,
               "x_forwarded_for_authorized_addrs": ["10.0.0.0/8"]}}],
    "ha": {"lock_ttl": "8s"}}"""
    configs = [
        without_sources(config_of(source, name))
        for source, name in ((toml, "a.toml"), (hcl, "a.hcl"), (text, "a.json"))
    ]
    assert configs[0] == configs[1] == configs[2]
    assert configs[0].ha.lock_ttl_s == 8.0
    assert configs[0].log_level == "debug"
    first, second = configs[0].listeners
    assert first.tls is not None
    assert (first.tls.cert_file, first.cluster_address) == ("c", "10.0.0.1:8201")
    assert second.tls is None
    assert second.forwarded_for.is_on
    assert second.forwarded_for.authorized_addrs == ("10.0.0.0/8",)
    assert second.forwarded_for.reject_not_present


def test_sample_configurations_of_openbao_load_unchanged() -> None:
    hcl = """
    ui            = true
    cluster_addr  = "https://127.0.0.1:8201"
    api_addr      = "https://127.0.0.1:8200"

    storage "raft" {
      path = "data"
      node_id = "raft_node_1"
    }

    listener "tcp" {
      address       = "127.0.0.1:8200"
      tls_cert_file = "full-chain.pem"
      tls_key_file  = "private-key.pem"
    }

    telemetry {
      statsite_address = "127.0.0.1:8125"
      disable_hostname = true
    }
    """
    text = """{"ui": true, "cluster_addr": "https://127.0.0.1:8201",
    "api_addr": "https://127.0.0.1:8200",
    "storage": {"raft": {"path": "data", "node_id": "raft_node_1"}},
    "listener": [{"tcp": {"address": "127.0.0.1:8200", "tls_cert_file": "full-chain.pem",
                          "tls_key_file": "private-key.pem"}}],
    "telemetry": {"statsite_address": "127.0.0.1:8125", "disable_hostname": true}}"""
    read = [config_of(hcl, "bao.hcl"), config_of(text, "bao.json")]
    assert replace(without_sources(read[0]), warnings=()) == replace(
        without_sources(read[1]), warnings=()
    )
    config = read[0]
    assert config.storage.type == "raft"
    assert dict(config.storage.settings) == {"path": "data", "node_id": "raft_node_1"}
    assert [warning.split(": ", 1)[1] for warning in config.warnings] == [
        "ui has no effect: there is no web interface",
        "telemetry has no effect: telemetry is not exported",
    ]
    assert not [one for one in check_addresses(config, is_ha) if one.severity != "info"]


def test_unix_listener_of_openbao_loads() -> None:
    text = (
        HCL_BASE
        + """
    listener "unix" {
      address = "/var/run/bao.sock"
      socket_mode = "644"
      socket_user = "1000"
      socket_group = "1000"
      tls_disable = true
    }
    """
    )
    config = config_of(text, "x.hcl")
    unix = config.listeners[1]
    assert (unix.type, unix.address, unix.socket_mode) == ("unix", "/var/run/bao.sock", 0o644)
    assert (unix.socket_user, unix.socket_group, unix.cluster_address) == ("1000", "1000", "")
    assert config.warnings[0].startswith("x.hcl:11: listener.2.tls_disable has no effect: ")


@pytest.mark.parametrize("name", ["single.toml", "node1.toml", "node2.toml", "node3.toml"])
def test_example_loads_without_a_complaint(name: str) -> None:
    config = load([ROOT / "examples" / name], {})
    assert config.warnings == ()
    assert check_addresses(config, is_ha) == []


def test_defaults_are_those_of_the_specification() -> None:
    config = config_of(BASE)
    (listener,) = config.listeners
    assert config.ha == HATiming()
    assert (config.parking.park_requests, config.parking.park_bytes) == (1024, 64 * 1024**2)
    assert (config.disable_request_forwarding, config.disable_clustering) == (False, False)
    assert (config.log_level, config.log_format, config.log_file) == ("info", "standard", "")
    assert (config.default_lease_ttl_s, config.max_lease_ttl_s) == (768 * 3600, 768 * 3600)
    assert (listener.address, listener.host, listener.port) == ("127.0.0.1:8200", "127.0.0.1", 8200)
    assert (listener.cluster_host, listener.cluster_port) == ("127.0.0.1", 8201)
    assert (listener.max_request_size, listener.max_request_duration_s) == (33_554_432, 90.0)
    assert (listener.http_read_timeout_s, listener.http_read_header_timeout_s) == (30.0, 10.0)
    assert (listener.http_write_timeout_s, listener.http_idle_timeout_s) == (0.0, 300.0)
    assert config.seal.type == "shamir"


# --- several files ------------------------------------------------------------------------------


def test_directory_is_read_in_order_of_names_and_later_values_win(tmp_path: Path) -> None:
    (tmp_path / "10.toml").write_text('log_level = "warn"\ncluster_name = "one"' + BASE)
    (tmp_path / "20.hcl").write_text('log_level = "error"\nlistener "unix" { address = "/s" }')
    (tmp_path / "30.json").write_text('{"ha": {"park": "9s"}, "storage": {"inmem": {}}}')
    (tmp_path / "notes.txt").write_text("not read")
    (tmp_path / ".hidden.toml").write_text("not read")
    config = load([tmp_path], {})
    assert (config.log_level, config.cluster_name) == ("error", "one")
    assert [one.type for one in config.listeners] == ["tcp", "unix"]
    assert (config.storage.type, config.ha.park_s) == ("inmem", 9.0)
    assert config.sources["log_level"].text == f"file {tmp_path}/20.hcl:1"


def test_missing_or_empty_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read configuration .*No such file"):
        load([tmp_path / "none.toml"], {})
    with pytest.raises(ConfigError, match="no configuration file"):
        load([tmp_path], {})


def test_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than"):
        load([tmp_path / "x.toml"], {})


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('api_adr = "x"' + BASE, 'x.toml:1: unknown key "api_adr"; did you mean "api_addr"?'),
        (
            BASE + 'adress = "x"',
            'x.toml:7: unknown key "listener.1.adress"; did you mean "address"?',
        ),
        (
            BASE + "[ha]\nlock_tll = 1",
            'x.toml:8: unknown key "ha.lock_tll"; did you mean "lock_ttl"?',
        ),
        ("qqqq = 1" + BASE, 'x.toml:1: unknown key "qqqq"'),
        (BASE + '[seal.static]\ncurrent_kay = "a"', "x.toml:8: unknown key "),
        (BASE + '[seal.awskms]\nx = "a"', 'x.toml:7: unknown seal type "awskms"; supported are: '),
        (BASE + "[listener.udp]\nx = 1", 'x.toml:7: unsupported listener type "udp"; '),
        (BASE + "[storage.inmem]", 'x.toml:7: only one "storage" block is permitted'),
        (BASE + "[seal.shamir]\n[seal.static]", "x.toml:8: only one seal block is permitted"),
        ('log_level = "nope"' + BASE, "x.toml:1: log_level must be one of trace, debug, "),
        ("ha = 1" + BASE, "x.toml:1: 'ha' must be a block with 0 labels"),
        ('listener = "tcp"', "x.toml:1: 'listener' must be a block with 1 label"),
        ("storage = {}\n[listener.tcp]", "a storage backend must be specified"),
        ("", "a storage backend must be specified"),
        ("[storage.inmem]", "at least one listener must be specified"),
        (BASE + "[ha]\nlock_ttl = '3s'", "ha: renew_interval + renew_timeout + expiry_margin "),
        (BASE + "[ha]\npark = 0", "ha.park must be between 1ms and 24h, got 0.0"),
        (BASE + "[ha]\npark_bytes = 0", "x.toml:8: ha.park_bytes must be above zero"),
        (
            BASE.replace("tls_disable = true", ""),
            "listener.1.tls_cert_file and listener.1.tls_key_",
        ),
        ('default_lease_ttl = "1000h"' + BASE, "default_lease_ttl must not be above max_lease_ttl"),
        (
            'max_lease_ttl = "500ms"' + BASE,
            "default_lease_ttl and max_lease_ttl must be 1s or more",
        ),
    ],
)
def test_configuration_that_is_wrong_is_refused(text: str, message: str) -> None:
    assert refusal_of(text).startswith(message)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('tls_min_version = "tls13" tls_max_version = "tls12"', "must not be above"),
        ('tls_min_version = "ssl3"', "tls_min_version must be one of tls10, "),
        ("tls_require_and_verify_client_cert = 1 tls_disable_client_certs = 1", "cannot both be"),
        ("tls_auto_reload_interval = 1", "tls_auto_reload_interval must be at least 5s"),
        ('address = "1.2.3.4"', '"1.2.3.4" is not host:port (BH-104)'),
        ('address = "https://1.2.3.4:1"', "is not host:port (BH-104)"),
        ('address = "a:99999"', "is not host:port (BH-104)"),
        ('address = "::1:8200"', "too many colons in address (BH-112)"),
        ('cluster_address = "${X}:1"', "variable that was not expanded (BH-111)"),
        ('address "x" { }', "address takes no label"),
    ],
)
def test_listener_that_cannot_be_opened_is_refused(keys: str, message: str) -> None:
    text = HCL_BASE + f'listener "tcp" {{ tls_cert_file = "c" tls_key_file = "k" {keys} }}'
    assert message in refusal_of(text, "x.hcl")


def test_keys_that_openbao_knows_and_we_do_not_are_warnings() -> None:
    config = config_of(
        HCL_BASE.replace("tls_disable", 'proxy_protocol_behavior = "use_always" tls_disable')
        + 'disable_mlock = true\nplugin "kms" "x" { command = "x" }\ncluster_cipher_suites = "a"',
        "x.hcl",
    )
    assert [warning.split(" has no effect: ")[0] for warning in config.warnings] == [
        "x.hcl:5: disable_mlock",
        "x.hcl:6: plugin",
        "x.hcl:7: cluster_cipher_suites",
        "x.hcl:4: listener.1.proxy_protocol_behavior",
    ]


def test_zero_duration_asks_for_the_default_as_in_openbao() -> None:
    config = config_of("default_max_request_duration = 0\nmax_lease_ttl = 0" + BASE)
    assert config.default_max_request_duration_s == 90.0
    assert config.max_lease_ttl_s == 768 * 3600
    config = config_of(
        "default_max_request_duration = 5" + BASE + "max_request_duration = '7s'\n"
        "[[listener.tcp]]\naddress = '127.0.0.1:1'\ntls_disable = true"
    )
    assert [one.max_request_duration_s for one in config.listeners] == [7.0, 5.0]


# --- storage ------------------------------------------------------------------------------------


def test_storage_settings_pass_through_and_inner_blocks_are_lists() -> None:
    text = """
    cluster_addr = "https://a:8201"
    storage "raft" {
      path = "p"
      performance_multiplier = 2
      retry_join { leader_api_addr = "http://b" }
      retry_join { leader_api_addr = "http://c" }
    }
    listener "tcp" { tls_disable = 1 }
    """
    assert dict(config_of(text, "x.hcl").storage.settings) == {
        "path": "p",
        "performance_multiplier": 2,
        "retry_join": [{"leader_api_addr": "http://b"}, {"leader_api_addr": "http://c"}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('storage "raft" {} ha_storage "raft" {}', "Raft cannot be set both as 'storage' and "),
        ('storage "raft" {} ha_storage "x" {}', "HA storage cannot be declared when Raft is "),
        (
            'disable_clustering = true storage "raft" {}',
            "disable clustering cannot be set to true ",
        ),
        (
            'disable_clustering = true storage "s3" {} ha_storage "raft" {}',
            "disable clustering cannot be set to true when Raft is the HA storage type",
        ),
        (
            'api_addr = "http://a:1" storage "raft" {} listener "tcp" { tls_disable = 1 }',
            "cluster address must be set when using raft storage",
        ),
    ],
)
def test_stores_that_exclude_each_other_are_refused(text: str, message: str) -> None:
    assert refusal_of(text, "x.hcl").startswith(message)


# --- addresses and environment ------------------------------------------------------------------

PRECEDENCE = [
    ({}, "http://file"),
    ({"VAULT_API_ADDR": "http://vault"}, "http://vault"),
    ({"VAULT_API_ADDR": "http://vault", "BAO_API_ADDR": "http://bao"}, "http://bao"),
    ({"BAO_API_ADDR": "http://bao", "BAOHA_API_ADDR": "http://baoha"}, "http://baoha"),
    ({"VAULT_API_ADDR": "http://vault", "BAO_API_ADDR": ""}, "http://file"),
    ({"BAO_REDIRECT_ADDR": "http://redirect"}, "http://redirect"),
    ({"BAO_REDIRECT_ADDR": "http://r", "VAULT_API_ADDR": "http://vault"}, "http://vault"),
    ({"VAULT_ADVERTISE_ADDR": "http://a", "BAO_REDIRECT_ADDR": "http://r"}, "http://r"),
    ({"VAULT_ADVERTISE_ADDR": "http://a"}, "http://a"),
]


@pytest.mark.parametrize(("environ", "expected"), PRECEDENCE)
def test_api_address_comes_from_the_first_place_that_says_it(
    environ: dict[str, str], expected: str
) -> None:
    text = BASE.replace("http://127.0.0.1:8200", "http://file")
    assert config_of(text, environ=environ).api_addr == expected


def test_api_address_of_a_storage_block_counts_last() -> None:
    text = 'storage "s3" { redirect_addr = "http://data" }\nlistener "tcp" { tls_disable = 1 }\n'
    assert config_of(text, "x.hcl").api_addr == "http://data"
    text += (
        'ha_storage "sqlite" { advertise_addr = "http://lock:1" cluster_addr = "https://l:9" }\n'
    )
    config = config_of(text, "x.hcl")
    assert (config.api_addr, config.cluster_addr) == ("http://lock:1", "https://l:9")
    assert config.ha_storage is not None
    assert dict(config.ha_storage.settings) == {}
    assert config.sources["api_addr"].text == "file x.hcl:3"
    assert config_of('api_addr = "http://top"\n' + text, "x.hcl").api_addr == "http://top"


def test_clustering_disabled_in_a_storage_block_hides_its_cluster_address_only() -> None:
    text = (
        'api_addr = "http://a:1"\nlistener "tcp" { tls_disable = 1 }\n'
        'storage "sqlite" { disable_clustering = "true" cluster_addr = "https://l:9" }'
    )
    config = config_of(text, "x.hcl")
    assert (config.cluster_addr, config.disable_clustering) == ("https://a:2", False)


@pytest.mark.parametrize(
    ("top", "expected", "source"),
    [
        ('api_addr = "http://a:8200"', "https://a:8201", "derived from api_addr"),
        ('api_addr = "http://a"', "https://a:444", "derived from api_addr"),
        ('api_addr = "https://[::1]:5"', "https://[::1]:6", "derived from api_addr"),
        ("", "https://127.0.0.1:8201", "derived from the listener"),
        ('cluster_addr = "http://c:1"', "https://c:1", "file x.toml:1"),
        ('cluster_addr = "c:1"', "c:1", "file x.toml:1"),
        ('api_addr = "http://"', "", None),
        ('api_addr = "http://a:x"', "", None),
        ("disable_clustering = true", "", None),
        ('disable_clustering = true\ncluster_addr = "https://c:1"', "", "file x.toml:2"),
    ],
)
def test_cluster_address_is_given_or_derived(top: str, expected: str, source: str | None) -> None:
    config = config_of(top + "\n" + BASE[BASE.index("[storage") :])
    assert config.cluster_addr == expected
    found = config.sources.get("cluster_addr")
    assert (found.text if found else None) == source


def test_environment_replaces_the_file_and_says_so() -> None:
    config = config_of(
        BASE + '[ha_storage.postgresql]\nconnection_url = "file"',
        environ={
            "VAULT_CLUSTER_ADDR": "https://c:1",
            "BAO_LOG_LEVEL": "trace",
            "VAULT_PG_CONNECTION_URL": "env",
            "BAO_RAFT_PATH": "unused",
        },
    )
    assert (config.cluster_addr, config.log_level) == ("https://c:1", "trace")
    assert config.ha_storage is not None
    assert dict(config.ha_storage.settings) == {"connection_url": "env"}
    source = config.sources["ha_storage.connection_url"]
    assert (source.text, source.overridden) == ("env VAULT_PG_CONNECTION_URL", "file x.toml:8")
    assert config.sources["cluster_addr"].overridden == ""


def test_environment_with_a_bad_value_names_the_variable() -> None:
    message = refusal_of(BASE, environ={"BAO_LOG_LEVEL": "nope"})
    assert message.startswith("env BAO_LOG_LEVEL: must be one of trace")


def test_template_in_an_address_is_rendered() -> None:
    text = BASE.replace("http://127.0.0.1:8200", 'http://{{ GetInterfaceIP \\"lo\\" }}:8200')
    assert config_of(text).api_addr == "http://127.0.0.1:8200"


# --- seal ---------------------------------------------------------------------------------------


def seal(**keys: str) -> str:
    return BASE + "[seal.static]\n" + "\n".join(f'{key} = "{text}"' for key, text in keys.items())


def test_static_seal_has_its_keys_and_hides_them() -> None:
    text = seal(current_key=KEY, current_key_id="2", previous_key="env://OLD", previous_key_id="1")
    config = config_of(text, environ={"OLD": KEY})
    assert (config.seal.type, config.seal.current_key, config.seal.previous_key) == (
        "static",
        b"K" * 32,
        b"K" * 32,
    )
    assert "KKKK" not in repr(config)
    assert KEY not in repr(config)
    by_env = config_of(
        seal(current_key="env://NONE"),
        environ={"BAO_STATIC_SEAL_CURRENT_KEY": KEY, "VAULT_STATIC_SEAL_CURRENT_KEY_ID": "9"},
    )
    assert (by_env.seal.current_key, by_env.seal.current_key_id) == (b"K" * 32, "9")


def test_static_seal_without_reading_secrets_leaves_them_out() -> None:
    document = parse_document(seal(current_key="env://NONE", current_key_id="1"), "x.toml")
    config = build([document], {}, read_secrets=False)
    assert (config.seal.type, config.seal.current_key) == ("static", None)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "seal.current_key and seal.current_key_id must be set"),
        ({"current_key": KEY}, "seal.current_key and seal.current_key_id must be set together"),
        (
            {"current_key": KEY[:-4], "current_key_id": "1"},
            "seal.current_key must be base64 or hex",
        ),
        ({"current_key": "env://X", "current_key_id": "1"}, "seal.current_key points to the env"),
        (
            {
                "current_key": KEY,
                "current_key_id": "1",
                "previous_key": KEY,
                "previous_key_id": "1",
            },
            "seal.previous_key_id must differ",
        ),
    ],
)
def test_static_seal_that_is_incomplete_is_refused(keys: dict[str, str], message: str) -> None:
    refusal = refusal_of(seal(**keys))
    assert refusal.startswith(message)
    assert KEY[:-4] not in refusal
