"""What is printed at start. Source: OpenBao 2.7.2, recorded."""

from __future__ import annotations

from pathlib import Path

from baoha.config.load import load
from baoha.server.banner import configuration_block, describe
from baoha.storage.inmem import World


def test_block_labels_are_right_aligned_and_sorted() -> None:
    block = configuration_block(
        {
            "storage": "sqlite (HA available)",
            "api address": "http://127.0.0.1:8200",
            "HA storage": "x",
            "listener 1": "tcp (...)",
        }
    )
    assert block == (
        "\n==> baoha server configuration:\n\n"
        "              HA Storage: x\n"
        "             Api Address: http://127.0.0.1:8200\n"
        "              Listener 1: tcp (...)\n"
        "                 Storage: sqlite (HA available)\n"
    )


def test_describe_configuration_shows_what_openbao_shows(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'api_addr = "http://127.0.0.1:8200"\ncluster_addr = "https://127.0.0.1:8201"\n'
        "[storage.inmem]\n[[listener.tcp]]\n"
        'address = "127.0.0.1:8200"\ntls_disable = true\n'
    )
    info = describe(
        load([file], {}),
        addresses=["127.0.0.1:8200"],
        backend=World().open(),
        ha_backend=None,
        environ={"BAO_TOKEN": "hunter2", "PATH": "/bin"},
    )
    assert info["storage"] == "inmem (HA available)"
    assert info["api address"] == "http://127.0.0.1:8200"
    assert info["cluster address"] == "https://127.0.0.1:8201"
    assert info["environment variables"] == "BAO_TOKEN"
    assert info["listener 1"] == (
        'tcp (addr: "127.0.0.1:8200", cluster address: "127.0.0.1:8201", '
        'max_request_duration: "1m30s", max_request_size: "33554432", tls: "disabled")'
    )
    assert "hunter2" not in configuration_block(info)
