"""The effective configuration, and the documentation that is written from the schema."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from baoha.config import ServerConfig, build, effective, parse_document, schema
from baoha.config.reference import markers, page_with_tables, table
from baoha.timing import HATiming

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"
CANARY = "c4n4ry"


def rows_of(text: str, environ: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    config = build([parse_document(text, "x.hcl")], environ or {})
    return {key: (value, source) for key, value, source in effective(config)}


def test_effective_configuration_shows_values_and_where_they_came_from() -> None:
    rows = rows_of(
        """
        api_addr = "http://127.0.0.1:8200"
        storage "sqlite" { path = "x.db" timeout = 2.5 retry { a = 1 } }
        listener "tcp" { tls_disable = true custom_response_headers { "2xx" = { "X-A" = ["b"] } } }
        listener "unix" { address = "/s" socket_mode = "0600" }
        ha { lock_ttl = "90s" }
        """,
        {"BAO_API_ADDR": "http://127.0.0.1:8300", "VAULT_LOG_LEVEL": "warn"},
    )
    assert rows["api_addr"] == ("http://127.0.0.1:8300", "env BAO_API_ADDR, not file x.hcl:2")
    assert rows["cluster_addr"] == ("https://127.0.0.1:8301", "derived from api_addr")
    assert rows["log_level"] == ("warn", "env VAULT_LOG_LEVEL")
    assert rows["log_format"] == ("standard", "default")
    assert rows["ha.lock_ttl"] == ("1m30s", "file x.hcl:6")
    assert rows["ha.renew_retry"] == ("250ms", "default")
    assert rows["storage.type"] == ("sqlite", "file x.hcl:3")
    assert rows["storage.timeout"] == ("2.5", "file x.hcl:3")
    assert rows["storage.retry"] == ("(1 entries)", "file x.hcl:3")
    assert rows["listener.1.tls_disable"] == ("true", "file x.hcl:4")
    assert rows["listener.1.custom_response_headers"] == ("2xx: X-A", "file x.hcl:4")
    assert rows["listener.2.socket_mode"] == ("0600", "file x.hcl:5")
    assert rows["seal.type"] == ("shamir", "default")


def test_effective_configuration_shows_no_secret() -> None:
    key = base64.b64encode((CANARY * 6)[:32].encode()).decode()
    rows = rows_of(
        f"""
        api_addr = "http://user:{CANARY}@127.0.0.1:8200"
        storage "postgresql" {{
          connection_url = "postgres://u:{CANARY}@h/db"
          password = "{CANARY}"
          auth_token = "{CANARY}"
          secret_key = "{CANARY}"
          encryption_key = "{CANARY}"
          endpoint = "https://u:{CANARY}@h"
          inner {{ any = "{CANARY}" }}
          table = "shown"
        }}
        listener "tcp" {{
          tls_disable = true
          custom_response_headers {{ "default" = {{ "X-A" = ["{CANARY}"] }} }}
        }}
        seal "static" {{ current_key = "{key}" current_key_id = "1" }}
        """
    )
    assert CANARY not in repr(rows)
    assert key not in repr(rows)
    assert rows["storage.table"][0] == "shown"
    assert rows["storage.endpoint"][0] == "https://***@h"
    assert rows["seal.current_key"][0] == "***"


def test_every_key_of_the_schema_is_in_the_effective_configuration() -> None:
    rows = rows_of(
        """
        api_addr = "https://a:1"
        storage "s3" { }
        listener "tcp" {
          tls_cert_file = "c" tls_key_file = "k" x_forwarded_for_authorized_addrs = "10.0.0.1"
        }
        listener "unix" { }
        """
    )
    wanted = set(schema.TOP) | {f"ha.{key}" for key in schema.HA}
    wanted |= {f"listener.1.{key}" for key in schema.LISTENER_TCP}
    wanted |= {f"listener.2.{key}" for key in schema.LISTENER_UNIX}
    assert wanted - set(rows) == set()


def test_schema_has_every_duration_of_the_machinery_with_its_default() -> None:
    for field in fields(HATiming):
        option = schema.HA[field.name.removesuffix("_s")]
        assert option.default == field.default
        assert option.doc


def test_key_is_either_used_or_without_effect() -> None:
    used = {"top": set(schema.TOP) | set(schema.BLOCKS)}
    used["listener"] = set(schema.LISTENER_TCP) | set(schema.LISTENER_UNIX)
    for group, keys in schema.NO_EFFECT.items():
        assert used[group] & set(keys) == set()


@pytest.mark.parametrize(
    "name", [*schema.SECTIONS, *(f"no-effect.{key}" for key in schema.NO_EFFECT)]
)
def test_documentation_has_the_table_of_the_schema(name: str) -> None:
    opening, closing = markers(name)
    assert f"{opening}\n{table(name)}\n{closing}" in PAGE.read_text()


def test_documentation_that_is_stale_is_written_anew() -> None:
    page = PAGE.read_text()
    opening, closing = markers("ha")
    before, _, rest = page.partition(opening)
    stale = f"{before}{opening}\nold\n{closing}{rest.partition(closing)[2]}"
    assert stale != page
    assert page_with_tables(stale) == page


def test_documentation_is_written_anew_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    opening, closing = markers("ha")
    file.write_text(f"before\n{opening}\nold\n{closing}\nafter\n")
    command = [sys.executable, "-W", "error", "-m", "baoha.config.reference", str(file)]
    subprocess.run(command, cwd=PAGE.parents[1], check=True)
    assert file.read_text() == f"before\n{opening}\n{table('ha')}\n{closing}\nafter\n"


def test_representation_of_a_configuration_holds_no_setting_of_a_store() -> None:
    config = build(
        [
            parse_document(
                f'storage "x" {{ a = "{CANARY}" }} listener "tcp" {{ tls_disable = 1 }}', "x.hcl"
            )
        ],
        {},
    )
    assert isinstance(config, ServerConfig)
    assert CANARY not in repr(config)


def test_setting_that_its_store_calls_a_secret_is_masked_whatever_its_name() -> None:
    text = (
        'storage "far" { bucket = "c4n4ry" other = "seen" } listener "tcp" { tls_disable = true }'
    )
    config = build([parse_document(text, "x.hcl")], {})
    assert CANARY in str(effective(config))
    rows = {
        key: value
        for key, value, _ in effective(config, lambda store: frozenset({"bucket", store}))
    }
    assert (rows["storage.bucket"], rows["storage.other"]) == ("***", "seen")
