"""The HTTP client: kinds of failure, limits, redirects, and where the token goes."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.client.answer import Answer
from baoha_cli.client.client import Client
from baoha_cli.client.token import Token
from baoha_cli.client.transport import ConnectionSettings, TLSOptions
from baoha_cli.failures import ErrorKind, RequestFailed, UsageFailed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cli_lab import Reply, Script, ScriptedServer, Seen, free_port, table

TOKEN = Token("s.0123456789abcdef", "test")


async def ask(endpoint: Endpoint, transport: ConnectionSettings | None = None) -> Answer:
    async with Client(transport or ConnectionSettings(timeout_s=5)) as client:
        return await client.request(endpoint, "GET", "/v1/x", token=TOKEN)


def answering(reply: Reply) -> Script:
    return lambda _: reply


async def failure(endpoint: Endpoint, transport: ConnectionSettings | None = None) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        await ask(endpoint, transport)
    assert TOKEN.value not in str(caught.value)
    return caught.value


async def test_request_to_closed_port_is_refused_and_was_not_sent() -> None:
    failed = await failure(parse_address(f"http://127.0.0.1:{free_port()}"))
    assert (failed.kind, failed.sent) == (ErrorKind.REFUSED, False)
    assert "connect: connection refused" in failed.message


async def test_request_to_unknown_name_is_a_dns_failure() -> None:
    failed = await failure(parse_address("http://name.invalid:8200"))
    assert failed.kind is ErrorKind.DNS


async def test_handshake_that_stalls_does_not_use_up_the_time_of_the_request() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        endpoint = parse_address(f"https://127.0.0.1:{listener.getsockname()[1]}")
        transport = ConnectionSettings(timeout_s=60, handshake_timeout_s=0.1)
        with trio.fail_after(10):
            failed = await failure(endpoint, transport)
    assert (failed.kind, failed.sent) == (ErrorKind.TIMEOUT, False)
    assert "TLS handshake timeout: nothing within 0.1s" in failed.message


async def test_request_to_name_that_dns_cannot_carry_is_a_dns_failure() -> None:
    failed = await failure(Endpoint("http", "a" * 70 + ".example", 80))
    assert failed.kind is ErrorKind.DNS


async def test_request_to_silent_server_times_out_and_may_have_happened() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        endpoint = parse_address(f"http://127.0.0.1:{listener.getsockname()[1]}")
        failed = await failure(endpoint, ConnectionSettings(timeout_s=0.2))
    assert (failed.kind, failed.sent) == (ErrorKind.TIMEOUT, True)


async def test_request_with_https_to_plain_port_says_so() -> None:
    with ScriptedServer(answering((400, {}))) as node:
        failed = await failure(parse_address(node.url.replace("http:", "https:")))
    assert failed.kind is ErrorKind.TLS
    assert "server gave HTTP response to HTTPS client" in failed.message


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50000 + b"\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["empty", "binary", "cut", "length", "chunk", "status", "headers", "ssh"],
)
async def test_answer_that_is_not_http_is_a_protocol_failure(reply: bytes) -> None:
    with ScriptedServer(answering(reply)) as node:
        failed = await failure(parse_address(node.url))
    assert failed.kind is ErrorKind.PROTOCOL


async def test_answer_larger_than_the_limit_is_refused() -> None:
    with ScriptedServer(answering((200, b"x" * 4096))) as node:
        transport = ConnectionSettings(timeout_s=5, body_bytes_max=1024)
        failed = await failure(parse_address(node.url), transport)
    assert failed.kind is ErrorKind.PROTOCOL
    assert "larger than 1024" in failed.message


async def test_redirect_is_an_answer_and_is_not_followed() -> None:
    with ScriptedServer(answering((200, {}))) as target:
        reply: Reply = (307, b"", {"Location": f"{target.url}/v1/x"})
        with ScriptedServer(answering(reply)) as node:
            answer = await ask(parse_address(node.url))
        assert answer.status == 307
        assert target.seen == []


async def test_reads_share_a_connection_and_survive_its_end() -> None:
    scripted: list[Reply] = [(200, {"n": 1}), b"", (200, {"n": 2})]
    replies = iter(scripted)
    with ScriptedServer(lambda _: next(replies)) as node:
        async with Client(ConnectionSettings(timeout_s=5)) as client:
            endpoint = parse_address(node.url)
            first = await client.request(endpoint, "GET", "/v1/x")
            second = await client.request(endpoint, "GET", "/v1/x")
        assert (first.mapping(), second.mapping()) == ({"n": 1}, {"n": 2})
        assert len(node.seen) == 3


async def test_write_is_never_sent_twice() -> None:
    scripted: list[Reply] = [(200, {}), b"", (200, {})]
    replies = iter(scripted)
    with ScriptedServer(lambda _: next(replies)) as node:
        async with Client(ConnectionSettings(timeout_s=5)) as client:
            endpoint = parse_address(node.url)
            await client.request(endpoint, "GET", "/v1/x")
            with pytest.raises(RequestFailed) as caught:
                await client.request(endpoint, "PUT", "/v1/x", body=b"{}")
        assert [seen.method for seen in node.seen] == ["GET", "PUT"]
    assert caught.value.sent


async def test_header_that_http_cannot_carry_does_not_show_its_value() -> None:
    async with Client(ConnectionSettings()) as client:
        with pytest.raises(UsageFailed) as caught:
            await client.request(
                Endpoint("http", "127.0.0.1", 1), "GET", "/", headers=[("A", "se\r\ncret")]
            )
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_path_is_escaped_and_query_encoded() -> None:
    with ScriptedServer(answering((200, {}))) as node:
        async with Client(ConnectionSettings(timeout_s=5)) as client:
            await client.request(
                parse_address(node.url), "GET", "/v1/a b/%2e?c", query=[("list", "true")]
            )
        assert node.seen[0].path == "/v1/a%20b/%252e%3Fc?list=true"


async def test_namespace_and_token_travel_as_headers() -> None:
    with ScriptedServer(answering((200, {}))) as node:
        await ask(parse_address(node.url), ConnectionSettings(timeout_s=5, namespace="team"))
        headers = node.seen[0].headers
    assert headers["x-vault-token"] == TOKEN.value
    assert headers["x-vault-namespace"] == "team"
    assert headers["x-vault-request"] == "true"


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


async def test_tls_with_trusted_certificate_works(authority: trustme.CA, ca_file: str) -> None:
    with ScriptedServer(
        answering((200, {"a": 1})), context=serving(authority, "127.0.0.1")
    ) as node:
        options = TLSOptions(ca_cert=ca_file)
        answer = await ask(parse_address(node.url), ConnectionSettings(timeout_s=5, tls=options))
    assert answer.mapping() == {"a": 1}
    assert answer.peer.tls_version.startswith("TLSv1.")
    assert answer.peer.certificate_der


async def test_tls_with_unknown_authority_is_refused(authority: trustme.CA) -> None:
    with ScriptedServer(answering((200, {})), context=serving(authority, "127.0.0.1")) as node:
        failed = await failure(parse_address(node.url))
        assert node.seen == []
    assert failed.kind is ErrorKind.TLS
    assert "certificate signed by unknown authority" in failed.message


async def test_tls_with_wrong_name_is_refused(authority: trustme.CA, ca_file: str) -> None:
    with ScriptedServer(answering((200, {})), context=serving(authority, "other.example")) as node:
        options = TLSOptions(ca_cert=ca_file)
        failed = await failure(
            parse_address(node.url), ConnectionSettings(timeout_s=5, tls=options)
        )
    assert failed.kind is ErrorKind.TLS
    assert "not valid for this address" in failed.message


async def test_tls_server_name_is_verified_instead_of_host(
    authority: trustme.CA, ca_file: str
) -> None:
    with ScriptedServer(answering((200, {})), context=serving(authority, "other.example")) as node:
        options = TLSOptions(ca_cert=ca_file, server_name="other.example")
        answer = await ask(parse_address(node.url), ConnectionSettings(timeout_s=5, tls=options))
    assert answer.status == 200


async def test_tls_without_verification_needs_to_be_asked_for(authority: trustme.CA) -> None:
    with ScriptedServer(answering((200, {})), context=serving(authority, "other.example")) as node:
        options = TLSOptions(skip_verify=True)
        answer = await ask(parse_address(node.url), ConnectionSettings(timeout_s=5, tls=options))
    assert answer.status == 200


# --- a proxy that was asked for -----------------------------------------------------------------


async def test_proxy_gets_connect_and_no_token() -> None:
    with ScriptedServer(answering((403, b""))) as proxy:
        transport = ConnectionSettings(timeout_s=5, proxy=parse_address(proxy.url))
        failed = await failure(parse_address("http://a.example:8200"), transport)
        [seen] = proxy.seen
    assert failed.kind is ErrorKind.UNREACHABLE
    assert (seen.method, seen.path) == ("CONNECT", "a.example:8200")
    assert TOKEN.value not in str(seen)


# --- whatever a server says ---------------------------------------------------------------------


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(reply=st.binary(max_size=400) | st.binary(max_size=200).map(lambda b: b"HTTP/1.1 200 K" + b))
def test_arbitrary_bytes_end_as_answer_or_as_known_failure(reply: bytes) -> None:
    with ScriptedServer(answering(reply)) as node:
        endpoint = parse_address(node.url)

        async def attempt() -> None:
            try:
                answer = await ask(endpoint, ConnectionSettings(timeout_s=2))
                outcomes.append(type(answer.mapping()) is dict and type(answer.errors()) is tuple)
            except RequestFailed as failed:
                outcomes.append(failed.kind in (ErrorKind.PROTOCOL, ErrorKind.TIMEOUT))

        outcomes: list[bool] = []
        trio.run(attempt)
        assert outcomes == [True]


def test_table_script_answers_by_path() -> None:
    script = table({"/v1/x": (200, {"a": 1})})
    assert script(Seen("GET", "/v1/x?list=true", {}, b"")) == (200, {"a": 1})
    assert script(Seen("GET", "/v1/y", {}, b"")) == (404, {"errors": []})
