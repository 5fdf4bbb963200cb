"""`diagnose config`: faults of configuration files in HCL, JSON and TOML, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trustme

from tests.support.cli_lab import CommandLine

HCL = """\
api_addr     = "https://a.example.com:8200"
cluster_addr = "https://a.example.com:8201"

storage "raft" {
  path    = "/var/lib/openbao"
  node_id = "a"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/openbao/tls.crt"
  tls_key_file  = "/etc/openbao/tls.key"
}
"""
TOML = """\
api_addr     = "https://a.example.com:8200"
cluster_addr = "https://a.example.com:8201"

[storage.postgresql]
connection_url = "postgres://db/bao"

[[listener.tcp]]
address       = "0.0.0.0:8200"
tls_cert_file = "/etc/openbao/tls.crt"
tls_key_file  = "/etc/openbao/tls.key"
"""
JSON = json.dumps(
    {
        "api_addr": "https://a.example.com:8200",
        "cluster_addr": "https://a.example.com:8201",
        "storage": {"postgresql": {"connection_url": "postgres://db/bao", "ha_enabled": "true"}},
        "listener": {"tcp": {"address": "0.0.0.0:8200", "tls_disable": False}},
    }
).replace('"tls_disable": false', '"tls_cert_file": "/a.crt", "tls_key_file": "/a.key"')

API = '"https://a.example.com:8200"'
CLUSTER = '"https://a.example.com:8201"'


@pytest.mark.parametrize(("name", "text"), [("a.hcl", HCL), ("a.toml", TOML), ("a.json", JSON)])
def test_good_file_has_no_finding(name: str, text: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    ran = cli("diagnose", "config", "--config", str(path), "--fail-on", "info")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("ok")


def without(text: str, key: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(key)) + "\n"


CASES: dict[str, tuple[str, str, list[str], int]] = {
    "api_addr is missing": ("a.toml", without(without(TOML, "api"), "cluster"), ["BH-101"], 1),
    "no scheme": ("a.hcl", HCL.replace(API, '"localhost:8200"'), ["BH-102"], 1),
    "no host": ("a.toml", TOML.replace(API, '"http://"'), ["BH-103"], 1),
    "no port": (
        "a.toml",
        without(TOML, "cluster").replace(API, '"https://a.example.com"'),
        ["BH-104"],
        1,
    ),
    "path": ("a.hcl", HCL.replace(API, '"https://a.example.com:8200/vault"'), ["BH-105"], 0),
    "same addresses": ("a.json", JSON.replace("8201", "8200"), ["BH-106"], 1),
    "API port in cluster_addr": (
        "a.toml",
        TOML.replace(CLUSTER, '"https://b.example.com:8200"'),
        ["BH-107"],
        1,
    ),
    "port of no listener": (
        "a.hcl",
        HCL.replace(CLUSTER, '"https://a.example.com:9999"'),
        ["BH-108"],
        0,
    ),
    "derived cluster_addr": ("a.toml", without(TOML, "cluster"), ["BH-109"], 0),
    "loopback": (
        "a.toml",
        TOML.replace(API, '"https://127.0.0.1:8200"'),
        ["BH-110"],
        0,
    ),
    "wildcard": ("a.hcl", HCL.replace(API, '"https://0.0.0.0:8200"'), ["BH-110"], 1),
    "unexpanded variable": (
        "a.hcl",
        HCL.replace(CLUSTER, '"https://$(HOSTNAME):8201"'),
        ["BH-111"],
        1,
    ),
    "IPv6 without brackets": (
        "a.json",
        JSON.replace("a.example.com:8200", "::1:8200"),
        ["BH-112"],
        1,
    ),
    "scheme of another kind": (
        "a.toml",
        TOML.replace(API, API.replace("https", "http")),
        ["BH-113"],
        0,
    ),
    "clustering is disabled": (
        "a.toml",
        "disable_clustering = true\n" + without(TOML, "cluster"),
        ["BH-114"],
        0,
    ),
    "single label": ("a.hcl", HCL.replace("a.example.com:8200", "bao-0:8200"), ["BH-115"], 0),
    "odd host": (
        "a.toml",
        TOML.replace("a.example.com:8200", "a.example.com.:8200"),
        ["BH-119"],
        0,
    ),
    "http cluster_addr": (
        "a.hcl",
        HCL.replace(CLUSTER, CLUSTER.replace("https", "http")),
        ["BH-120"],
        0,
    ),
    "two listeners on one socket": (
        "a.hcl",
        HCL + HCL[HCL.index("listener") :].replace("0.0.0.0", "127.0.0.1"),
        ["BH-121"],
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fault_of_file_is_named_and_only_it(name: str, cli: CommandLine, tmp_path: Path) -> None:
    file, text, codes, code = CASES[name]
    path = tmp_path / file
    path.write_text(text)
    ran = cli("diagnose", "config", "-o", "json", str(path))
    assert ran.err == ""
    data = json.loads(ran.out)
    assert [item["code"] for item in data["findings"]] == codes, data["findings"]
    assert ran.code == code
    assert all(item["file"].startswith(str(path)) for item in data["findings"])


def test_environment_that_overrides_the_file_is_told(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.write_text(HCL)
    cli.setenv("BAO_API_ADDR", "https://other.example.com:8200")
    ran = cli("diagnose", "config", str(path), "-o", "name")
    assert (ran.code, ran.out) == (0, "BH-118\n")


def several(folder: Path, *texts: str) -> list[str]:
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"n{number}.hcl"
        path.write_text(text)
        paths += ["--config", str(path)]
    return paths


def test_two_nodes_with_the_same_addresses_are_found(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("diagnose", "config", *several(tmp_path, HCL, HCL), "-o", "name")
    assert (ran.code, ran.out) == (1, "BH-116\n")


def test_api_addr_shared_by_all_is_found(cli: CommandLine, tmp_path: Path) -> None:
    other = HCL.replace("a.example.com:8201", "b.example.com:8201")
    ran = cli("diagnose", "config", *several(tmp_path, HCL, other), "-o", "name")
    assert (ran.code, ran.out) == (0, "BH-117\n")


def test_loopback_among_several_nodes_is_an_error(cli: CommandLine, tmp_path: Path) -> None:
    local = HCL.replace(API, '"https://127.0.0.1:8200"')
    ran = cli("diagnose", "config", *several(tmp_path, HCL, local), "-o", "name")
    assert (ran.code, ran.out) == (1, "BH-110\n")


def test_file_of_another_product_is_judged_by_its_addresses(
    cli: CommandLine, tmp_path: Path
) -> None:
    text = HCL.replace(API, '"https://$(POD_IP):8200"')
    text += 'seal "awskms" {\n  region = "eu-west-1"\n}\nlicense_path = "/etc/vault.hclic"\n'
    path = tmp_path / "vault.hcl"
    path.write_text(text)
    ran = cli("diagnose", "config", str(path), "-o", "name")
    assert (ran.code, ran.out) == (1, "BH-111\n")


def test_expired_certificate_file_is_found(cli: CommandLine, tmp_path: Path) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    issued = trustme.CA().issue_cert(
        "a.example.com", not_before=now - timedelta(9), not_after=now - timedelta(1)
    )
    certificate = tmp_path / "tls.crt"
    issued.cert_chain_pems[0].write_to_path(certificate)
    path = tmp_path / "a.hcl"
    path.write_text(HCL.replace("/etc/openbao/tls.crt", str(certificate)))
    ran = cli("diagnose", "config", str(path), "-o", "name")
    assert (ran.code, ran.out) == (1, "BH-701\n")


@pytest.mark.parametrize(
    "text", ["listener {", "", "api_addr = 5", "\x00\xff"], ids=["open", "empty", "type", "bytes"]
)
def test_malformed_file_is_one_line_on_stderr(text: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.write_text(text)
    ran = cli("diagnose", "config", str(path))
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
    assert ran.err


def test_missing_file_is_a_local_error(cli: CommandLine, tmp_path: Path) -> None:
    ran = cli("diagnose", "config", str(tmp_path / "nosuch.hcl"))
    assert (ran.code, ran.out) == (1, "")
    assert "nosuch.hcl" in ran.err


def test_config_without_files_is_a_usage_error(cli: CommandLine) -> None:
    assert cli("diagnose", "config").code == 64


def test_github_annotation_points_at_file_and_line(cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.write_text(HCL.replace(API, '"localhost:8200"'))
    ran = cli("diagnose", "config", str(path), "-o", "github")
    assert ran.out.startswith(f"::error file={path},line=1,title=BH-102 ")
