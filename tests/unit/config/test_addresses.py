"""The judgement of addresses: one row for each fault, and no fault where there is none."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from baoha.config import ServerConfig, build, check_addresses, enforce, parse_document
from baoha.config.told_address import with_told_address
from baoha.diagnostics.catalogue import CODES
from baoha.errors import ConfigError
from baoha.storage.registry import is_ha

GOOD = {
    "api_addr": "https://n1.example.com:8200",
    "cluster_addr": "https://n1.example.com:8201",
    "storage": '"sqlite" { path = "x" }',
    "listener": '"tcp" { address = "0.0.0.0:8200" tls_cert_file = "c" tls_key_file = "k" }',
}
PLAIN = '"tcp" { address = "0.0.0.0:8200" tls_disable = true }'
LOCAL = '"tcp" { address = "127.0.0.1:8200" tls_disable = true }'


def config_of(environ: dict[str, str] | None = None, **changes: str) -> ServerConfig:
    keys = GOOD | changes
    lines = [f'{key} = "{keys.pop(key)}"' for key in ("api_addr", "cluster_addr") if keys.get(key)]
    lines += [f"{key} {value}" for key, value in keys.items() if value]
    return build([parse_document("\n".join(lines), "x.hcl")], environ or {})


def findings_of(**changes: str) -> list[tuple[str, str]]:
    return [(one.code.id, one.severity) for one in check_addresses(config_of(**changes), is_ha)]


def test_addresses_that_are_right_have_no_finding() -> None:
    assert findings_of() == []
    assert findings_of(listener=LOCAL, api_addr="http://127.0.0.1:8200") == []
    local6 = '"tcp" { address = "[::1]:8200" tls_disable = true }'
    both = {"api_addr": "http://[::1]:8200", "cluster_addr": "https://[::1]:8201"}
    assert findings_of(listener=local6, **both) == []
    # A load balancer's address has the scheme's own port, and says nothing of the listener's.
    assert findings_of(api_addr="https://n1.example.com") == []


CASES = [
    # (changes, code, severity, a part of the message)
    (
        {"api_addr": ""},
        "BH-101",
        "error",
        "missing API address, please set in configuration or via",
    ),
    ({"api_addr": "", "storage": '"s3" {}'}, "BH-101", "warning", "missing API address"),
    (
        {"api_addr": "localhost:8200"},
        "BH-102",
        "error",
        "redirect address must include scheme (ex. ",
    ),
    ({"api_addr": "10.0.0.1:8200"}, "BH-102", "error", "redirect address must include scheme"),
    ({"api_addr": "localhost"}, "BH-102", "error", "redirect address must include scheme"),
    ({"api_addr": "tcp://a.example:1"}, "BH-102", "error", "redirect address must include scheme"),
    (
        {"cluster_addr": "n1.example.com:8201"},
        "BH-102",
        "error",
        "cluster address must include scheme",
    ),
    ({"api_addr": "http://"}, "BH-103", "error", "redirect address is not valid url: api_addr "),
    ({"api_addr": "https://:8200"}, "BH-103", "error", "has no host"),
    ({"cluster_addr": "https://:8201"}, "BH-103", "error", "cluster address is not valid url"),
    ({"api_addr": "https://n1.example.com:0"}, "BH-104", "error", "a port that is 0 or no number"),
    (
        {"api_addr": "https://n1.example.com:82x"},
        "BH-104",
        "error",
        "a port that is 0 or no number",
    ),
    ({"api_addr": "https://n1.example.com:"}, "BH-104", "error", "a port that is 0 or no number"),
    ({"api_addr": "https://n1.example.com:99999"}, "BH-104", "error", "up to 65535"),
    ({"api_addr": "https://[2001:db8::1]x"}, "BH-104", "error", "a port that is 0 or no number"),
    ({"cluster_addr": "https://n1.example.com"}, "BH-104", "error", "has no port"),
    (
        {"api_addr": "http://n1.example.com", "cluster_addr": "", "listener": PLAIN},
        "BH-104",
        "error",
        "cluster_addr is guessed as https://n1.example.com:444",
    ),
    (
        {"api_addr": "https://n1.example.com:65535", "cluster_addr": ""},
        "BH-104",
        "error",
        "guessed as port 65536",
    ),
    (
        {"api_addr": "https://n1.example.com:8200/vault"},
        "BH-105",
        "warning",
        "which redirects drop",
    ),
    ({"api_addr": "https://n1.example.com:8200?a#b"}, "BH-105", "warning", "which redirects drop"),
    ({"api_addr": "https://u:pw@n1.example.com:8200"}, "BH-105", "warning", "***@n1.example.com"),
    (
        {"api_addr": "https://n1.example.com:8201"},
        "BH-106",
        "error",
        'address "https://n1.example.com:8201" used for both API and cluster addresses',
    ),
    ({"cluster_addr": "https://n1.example.com:8200"}, "BH-106", "error", "used for both"),
    (
        {"cluster_addr": "https://other.example.com:8200"},
        "BH-107",
        "error",
        "port of an API listener",
    ),
    ({"api_addr": "https://lb.example.com:8201"}, "BH-107", "error", "port of a cluster listener"),
    ({"cluster_addr": "https://n1.example.com:9999"}, "BH-108", "warning", "fits no listener's"),
    ({"cluster_addr": ""}, "BH-109", "info", "it is guessed as https://n1.example.com:8201"),
    (
        {"api_addr": "http://0.0.0.0:8200", "listener": PLAIN},
        "BH-110",
        "error",
        "a wildcard address",
    ),
    ({"cluster_addr": "https://[::]:8201"}, "BH-110", "error", "a wildcard address"),
    ({"api_addr": "https://127.0.0.1:8200"}, "BH-110", "warning", "a loopback address while"),
    ({"api_addr": "https://localhost:8200"}, "BH-110", "warning", "a loopback address while"),
    ({"api_addr": "https://[::ffff:127.0.0.1]:8200"}, "BH-110", "warning", "a loopback address"),
    ({"api_addr": "https://[fe80::1]:8200"}, "BH-110", "warning", "a link-local address"),
    ({"api_addr": "https://$(HOSTNAME):8200"}, "BH-111", "error", "holds an unexpanded variable"),
    ({"api_addr": "https://${HOST}:8200"}, "BH-111", "error", "holds an unexpanded variable"),
    ({"api_addr": "https://$HOST:8200"}, "BH-111", "error", "holds an unexpanded variable"),
    ({"api_addr": "https://{{ X"}, "BH-111", "error", "holds an unexpanded variable"),
    ({"cluster_addr": "https://TEMPLATE_IP:8201"}, "BH-111", "error", "cluster_addr "),
    (
        {"api_addr": "https://2001:db8::1:8200"},
        "BH-112",
        "error",
        "without brackets, or with a zone",
    ),
    ({"api_addr": "https://[fe80::1%eth0]:8200"}, "BH-112", "error", "without brackets, or with a"),
    (
        {"api_addr": "http://n1.example.com:8200"},
        "BH-113",
        "warning",
        "http:// but the listener on ",
    ),
    ({"listener": PLAIN}, "BH-113", "warning", "on port 8200 serves plain HTTP"),
    (
        {"disable_clustering": "= true"},
        "BH-114",
        "warning",
        "every request to a standby is redirected",
    ),
    ({"api_addr": "https://node1:8200"}, "BH-115", "warning", "single-label or .local name"),
    ({"api_addr": "https://node1.local:8200"}, "BH-115", "warning", "single-label or .local name"),
    ({"api_addr": "https://N1.example.com:8200"}, "BH-119", "warning", "has an odd host name"),
    ({"api_addr": "https://n1.example.com.:8200"}, "BH-119", "warning", "has an odd host name"),
    ({"api_addr": "https://n 1.example.com:8200"}, "BH-119", "warning", "has an odd host name"),
    ({"api_addr": "https://ñ1.example.com:8200"}, "BH-119", "warning", "has an odd host name"),
    ({"cluster_addr": "http://n1.example.com:8201"}, "BH-120", "info", "always TLS"),
]


@pytest.mark.parametrize(("changes", "code", "severity", "message"), CASES)
def test_address_with_a_fault_has_its_finding(
    changes: dict[str, str], code: str, severity: str, message: str
) -> None:
    found = [one for one in check_addresses(config_of(**changes), is_ha) if one.code.id == code]
    assert [one.severity for one in found] == [severity]
    assert message in found[0].text
    assert found[0].fix
    assert "pw" not in str(found[0])


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ('"tcp" { address = "127.0.0.1:8200" tls_disable = 1 }', "listener 2 binds 127.0.0.1:8200"),
        (
            '"tcp" { address = "127.0.0.1:8201" cluster_address = ":9" tls_disable = 1 }',
            "listener 2 binds 127.0.0.1:8201, which the cluster address of listener 1 binds too",
        ),
        (
            '"tcp" { address = ":7" cluster_address = ":7" tls_disable = 1 }',
            "the cluster address of listener 2 binds :7, which listener 2 binds too",
        ),
        ('"unix" { address = "/s" } listener "unix" { address = "/s" }', "listener 3 binds /s"),
    ],
)
def test_two_listeners_on_one_socket_are_an_error(second: str, expected: str) -> None:
    config = config_of(listener=f"{GOOD['listener']} listener {second}")
    found = [one for one in check_addresses(config, is_ha) if one.code.id == "BH-121"]
    assert found
    assert found[0].severity == "error"
    assert found[0].text.startswith(expected)


def test_listeners_on_free_ports_do_not_collide() -> None:
    free = '"tcp" { address = "127.0.0.1:0" tls_disable = 1 }'
    assert findings_of(listener=f"{free} listener {free}", api_addr="http://127.0.0.1:8200") == []


def test_environment_that_overrides_the_file_is_told() -> None:
    config = config_of({"BAO_API_ADDR": "https://n2.example.com:8200"})
    assert [str(one) for one in check_addresses(config, is_ha)] == [
        "api_addr comes from env BAO_API_ADDR, not from file x.hcl:1 (BH-118): "
        "unset the variable if the file should count"
    ]
    assert check_addresses(config_of({"BAO_API_ADDR": GOOD["api_addr"]}), is_ha) == []


def test_errors_stop_the_start_and_come_first() -> None:
    findings = check_addresses(
        config_of(api_addr="localhost:8200", cluster_addr="http://n1.example.com:1"),
        is_ha,
    )
    assert [one.code.id for one in findings] == ["BH-102", "BH-108", "BH-120"]
    with pytest.raises(ConfigError) as caught:
        enforce(findings)
    assert caught.value.code == "BH-102"
    assert str(caught.value) == (
        "redirect address must include scheme (ex. 'http'): api_addr is \"localhost:8200\" "
        '(BH-102): write "https://node1.example.com:8200"'
    )


def test_warnings_do_not_stop_the_start() -> None:
    enforce([CODES["BH-115"].at("", "text"), CODES["BH-109"].at("", "text")])


_PARTS = ["http", "https", "://", ":", "/", "[", "]", "::1", "0.0.0.0", "localhost", "a.b", "8200"]
_PARTS += [
    "99999",
    "-1",
    "@",
    "u:secret",
    "?",
    "#",
    "$X",
    "{{",
    "%",
    " ",
    "é",
    "..",
    "\\\\",
    "fe80::1",
]


@given(
    st.lists(st.sampled_from(_PARTS), max_size=7).map("".join),
    st.lists(st.sampled_from(_PARTS), max_size=7).map("".join),
)
@example(api_addr="", cluster_addr="://u:secret@")
@example(api_addr="http:///u:secret@a.b", cluster_addr="u:secret@?@")
def test_any_addresses_are_judged(api_addr: str, cluster_addr: str) -> None:
    try:
        config = config_of(api_addr=api_addr, cluster_addr=cluster_addr)
    except ConfigError as exc:
        assert exc.code == "BH-111"  # noqa: PT017 - a template, the only thing refused before
        return
    for finding in check_addresses(config, is_ha):
        assert finding.code.id.startswith("BH-1")
        assert "u:secret@" not in str(finding)


@pytest.mark.parametrize("ha", [True, False, None])
def test_missing_api_address_is_an_error_where_nodes_share_the_store_of_the_lock(
    ha: bool | None,
) -> None:
    asked: list[str] = []

    def ha_of(store: str) -> bool | None:
        asked.append(store)
        return ha

    config = config_of(api_addr="")
    assert check_addresses(config, ha_of)[0].severity == ("error" if ha else "warning")
    config = config_of(api_addr="", ha_storage='"other" {}')
    found = check_addresses(config, ha_of)[0]
    # A store that is named for the lock is meant for it, also where it is not known.
    assert found.severity == ("warning" if ha is False else "error")
    assert asked == ["sqlite", "other"]


def test_api_address_that_the_store_will_tell_is_not_missing() -> None:
    config = config_of(api_addr="")
    assert "BH-101" in [one.code.id for one in check_addresses(config, is_ha)]
    told = check_addresses(config, is_ha, api_addr_is_told=True)
    assert "BH-101" not in [one.code.id for one in told]


@pytest.mark.parametrize(
    ("listener", "host", "api_addr", "cluster_addr"),
    [
        (LOCAL, "n1", "http://n1:8200", "https://n1:8201"),
        (GOOD["listener"], "10.0.0.1", "https://10.0.0.1:8200", "https://10.0.0.1:8201"),
        (PLAIN, "2001:db8::1", "http://[2001:db8::1]:8200", "https://[2001:db8::1]:8201"),
        ('"unix" { address = "/run/x" }', "n1", "", ""),
    ],
)
def test_address_that_the_store_has_told_gets_scheme_and_port_of_the_listener(
    listener: str, host: str, api_addr: str, cluster_addr: str
) -> None:
    config = with_told_address(config_of(api_addr="", cluster_addr="", listener=listener), host)
    assert (config.api_addr, config.cluster_addr) == (api_addr, cluster_addr)
    if api_addr:
        assert config.sources["api_addr"].text == "told by the store"
        assert [one for one in check_addresses(config, is_ha) if one.severity == "error"] == []


def test_address_that_the_store_has_told_leaves_a_configured_cluster_address() -> None:
    config = with_told_address(config_of(api_addr=""), "other")
    assert config.cluster_addr == GOOD["cluster_addr"]
