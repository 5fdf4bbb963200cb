"""SIGHUP: what is said of every key that has changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from baoha.asgi import Receive, Scope, Send
from baoha.config import ServerConfig, build, parse_document
from baoha.errors import ConfigError
from baoha.server.http.listener import APIListener
from baoha.server.logs import Logs
from baoha.server.reload import apply_reload

CANARY = "c4n4ry"
BASE = """
api_addr = "http://127.0.0.1:8200"
storage "x" {{ password = "{password}" }}
listener "tcp" {{ tls_disable = true {keys} }}
"""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("nothing is served")


@pytest.fixture
def logs() -> Iterator[Logs]:
    made = Logs(level="info", format="standard")
    yield made
    made.close()


def config_of(text: str) -> ServerConfig:
    return build([parse_document(text, "x.hcl")], {})


def reload(before: ServerConfig, after: ServerConfig, logs: Logs) -> ServerConfig:
    listeners = [APIListener(app, one) for one in before.listeners]
    return apply_reload(before, lambda: after, listeners, logs)


def needs_restart(caplog: pytest.LogCaptureFixture) -> list[str]:
    words = "changed, and takes effect with the next start: key="
    said = [record.getMessage() for record in caplog.records]
    return [text.removeprefix(words) for text in said if text.startswith(words)]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ("", []),
        ("connections_max = 7", ["listener.1.connections_max"]),
        (
            'http_idle_timeout = 7 x_forwarded_for_authorized_addrs = "10.0.0.1"',
            ["listener.1.x_forwarded_for_authorized_addrs", "listener.1.http_idle_timeout"],
        ),
        ('custom_response_headers { "default" = { "X-A" = ["b"] } }', []),
        ('address = "127.0.0.1:8300"', ["listener"]),
        ("} ha { park = 9", ["ha.park"]),
        (
            "} disable_request_forwarding = true default_lease_ttl = 7 ha {",
            ["disable_request_forwarding", "default_lease_ttl"],
        ),
    ],
)
def test_reload_names_each_key_that_needs_a_restart(
    keys: str, named: list[str], logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    logs.set_level(logging.INFO)
    before = config_of(BASE.format(password="a", keys=""))
    after = config_of(BASE.format(password="a", keys=keys))
    with caplog.at_level(logging.INFO, "baoha"):
        reload(before, after, logs)
    assert needs_restart(caplog) == named


def test_reload_notices_a_secret_and_does_not_say_it(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    before = config_of(BASE.format(password="a", keys=""))
    after = config_of(BASE.format(password=CANARY, keys=""))
    reload(before, after, logs)
    assert needs_restart(caplog) == ["storage.password"]
    assert CANARY not in caplog.text


def test_reload_of_a_bad_certificate_is_an_error_and_no_matter_of_a_restart(
    tmp_path: Path, logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    files = f'tls_cert_file = "{cert}" tls_key_file = "{key}"'
    before = config_of(BASE.format(password="a", keys=f"tls_disable = false {files}"))
    missing = tmp_path / "none.pem"
    (listener,) = before.listeners
    assert listener.tls is not None
    wrong = replace(listener, tls=replace(listener.tls, cert_file=str(missing)))
    in_force = reload(before, replace(before, listeners=(wrong,)), logs)
    assert in_force.listeners == before.listeners
    assert f'cannot read "{missing}"' in caplog.text
    assert needs_restart(caplog) == []

    plain = config_of(BASE.format(password="a", keys=""))
    caplog.clear()
    reload(before, plain, logs)
    assert needs_restart(caplog) == ["listener.1.tls_disable"]


def test_reload_of_files_that_are_wrong_changes_nothing(
    logs: Logs, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> ServerConfig:
        raise ConfigError("this is no configuration")

    before = config_of(BASE.format(password="a", keys=""))
    listeners = [APIListener(app, one) for one in before.listeners]
    assert apply_reload(before, fail, listeners, logs) == before
    assert "the old one stays" in caplog.text
    assert needs_restart(caplog) == []
