"""
The table of configuration keys beside ``bao operator validate-config``.

``bao`` exits with 0 if it knows every key, 2 if it warns of one, 1 if it refuses the file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from baoha.config import build, parse_document, schema
from baoha.config.schema import Option
from baoha.errors import ConfigError

BAO = Path(sys.executable).parent / "bao"

OURS = {"connections_max", "disable_request_forwarding", "nice"}
# Vault's, or found in old files; OpenBao no longer knows them.
NOT_OPENBAO = {"disable_mlock", "tls_prefer_server_cipher_suites"}

VALUES = {
    "string": '"x"',
    "bool": '"true"',
    "int": "1",
    "duration": '"1m30s"',
    "size > 0": "1048576",
    "list of strings": '"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"',
    "list of CIDRs": '"10.0.0.0/8"',
    "octal mode": '"0600"',
    "headers": '{ "default" = { "X-A" = ["b"] } }',
    "tls10 / tls11 / tls12 / tls13": '"tls12"',
    "trace / debug / info / warn / error": '"warn"',
    "standard / json": '"json"',
}
# Keys without effect that are blocks, or that take only certain words.
SHAPES = {
    "telemetry": "telemetry { }",
    "profiling": "profiling { }",
    "inflight_requests_logging": "inflight_requests_logging { }",
    "agent_api": "agent_api { }",
    "proxy_api": "proxy_api { }",
    "plugin": f'plugin "kms" "x" {{ command = "x" sha256sum = "{"ab" * 32}" }}',
    "audit": 'audit "file" "x" { options { file_path = "/x" } }',
    "initialize": 'initialize "x" { request "a" { operation = "update" path = "x" } }',
    "service_registration": 'service_registration "kubernetes" { }',
    "user_lockout": 'user_lockout "all" { lockout_threshold = 5 }',
    "plugin_download_behavior": 'plugin_download_behavior = "fail"',
    "hsm": 'hsm "x" { }',
    "plugin_file_uid": "plugin_file_uid = 1",
    "proxy_protocol_behavior": 'proxy_protocol_behavior = "use_always"',
    "proxy_protocol_authorized_addrs": 'proxy_protocol_authorized_addrs = "10.0.0.1"',
    "cors_allowed_origins": 'cors_allowed_origins = ["*"]',
    "cors_allowed_headers": 'cors_allowed_headers = ["a"]',
    "tls_acme_domains": 'tls_acme_domains = ["a"]',
    "tls_key_exchange_preferences": 'tls_key_exchange_preferences = ["X25519"]',
    "x_forwarded_for_client_cert_decoders": 'x_forwarded_for_client_cert_decoders = ["URL"]',
    "purpose": 'purpose = ["api"]',
    "role": 'role = "default"',
    "type": 'type = "tcp"',
}
# Here OpenBao wants a boolean without quotes.
REAL_BOOLS = {
    "imprecise_lease_role_tracking",
    "disable_standby_reads",
    "allow_audit_log_prefixing",
    "unsafe_allow_api_audit_creation",
    "unsafe_cross_namespace_identity",
}


def _validate(text: str, directory: Path) -> tuple[int, str]:
    file = directory / "bao.hcl"
    file.write_text(text)
    done = subprocess.run(
        [BAO, "operator", "validate-config", f"-config={file}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _line(option: Option) -> str:
    return f"{option.key} = {VALUES[option.kind.name]}"


def _ignored(key: str) -> str:
    if key in REAL_BOOLS:
        return f"{key} = true"
    return SHAPES.get(key, f'{key} = "1"')


def test_keys_that_we_use_are_known_to_openbao(tmp_path: Path) -> None:
    top = "\n".join(_line(option) for key, option in schema.TOP.items() if key not in OURS)
    tcp = "\n".join(_line(option) for key, option in schema.LISTENER_TCP.items() if key not in OURS)
    unix = "\n".join(
        _line(option) for key, option in schema.LISTENER_UNIX.items() if key not in OURS
    )
    text = f'storage "inmem" {{}}\n{top}\nlistener "tcp" {{ {tcp} }}\nlistener "unix" {{ {unix} }}'
    assert _validate(text, tmp_path) == (0, _validate("", tmp_path)[1])


def test_keys_without_effect_are_known_to_openbao(tmp_path: Path) -> None:
    top = "\n".join(_ignored(key) for key in schema.NO_EFFECT["top"] if key not in NOT_OPENBAO)
    inner = "\n".join(
        _ignored(key) for key in schema.NO_EFFECT["listener"] if key not in NOT_OPENBAO
    )
    text = f'storage "inmem" {{}}\n{top}\nlistener "tcp" {{ tls_disable = 1\n{inner} }}'
    assert _validate(text, tmp_path) == (0, _validate("", tmp_path)[1])
    config = build([parse_document(text, "x.hcl")], {})
    count = sum(len(set(group) - NOT_OPENBAO) for group in schema.NO_EFFECT.values())
    assert len(config.warnings) == count


@pytest.mark.parametrize(
    "text",
    [
        'storage "inmem" {}\nstorage "file" { path = "/x" }',
        'storage "inmem" {}\nui = 1\ndefault_lease_ttl = "5x"',
        'storage "inmem" {}\nlistener "udp" {}',
        'storage "inmem" {}\ndisable_clustering = "yes"',
        'storage "inmem" {}\nlistener = { tcp = { tls_disable = 1 } }',
        'storage "inmem" {}\nlistener "tcp" { custom_response_headers { "default" = '
        '{ "X-A" = "b" } } tls_disable = 1 }',
    ],
)
def test_file_that_openbao_refuses_is_refused(text: str, tmp_path: Path) -> None:
    assert _validate(text, tmp_path)[0] == 1
    with pytest.raises(ConfigError):
        build([parse_document(text, "x.hcl")], {})
