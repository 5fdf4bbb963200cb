"""HTTP to logical requests and back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from baoha.api.logical import execute, http_response, is_read, logical_request, token_of
from baoha.core.request import Auth, Operation, Request, Response
from baoha.errors import RequestError
from baoha.sansio.formats.json_encoder import ENCODED_BYTES_MAX
from baoha.sansio.wire.messages import HTTPRequest
from tests.support.fake_node import ACTIVE, FakeNodeView

FORM = ("content-type", "application/x-www-form-urlencoded")
MERGE_PATCH = ("content-type", "application/merge-patch+json")


def make(
    method: str = "GET",
    target: str = "secret/x",
    *headers: tuple[str, str],
    body: bytes = b"",
) -> HTTPRequest:
    path, _, query = f"/v1/{target}".partition("?")
    return HTTPRequest(
        method=method, path=path, raw_path=path, query=query, headers=headers, body=body
    )


async def refused(request: HTTPRequest) -> tuple[int, tuple[str, ...]]:
    with pytest.raises(RequestError) as caught:
        await logical_request(request)
    return caught.value.status_hint, caught.value.errors


@pytest.mark.parametrize(
    ("method", "target", "operation", "path"),
    [
        ("GET", "secret/x", Operation.READ, "secret/x"),
        ("GET", "secret/x?list=true", Operation.LIST, "secret/x/"),
        ("GET", "secret/x/?list=T", Operation.LIST, "secret/x/"),
        ("GET", "secret/x?list=", Operation.READ, "secret/x"),
        ("GET", "secret/x?list=false", Operation.READ, "secret/x"),
        ("GET", "secret/x?list=true&list=false", Operation.LIST, "secret/x/"),
        ("GET", "secret/x?list=false&list=true", Operation.READ, "secret/x"),
        ("GET", "secret/x?scan=1", Operation.SCAN, "secret/x/"),
        ("LIST", "secret/x", Operation.LIST, "secret/x/"),
        ("SCAN", "secret/x", Operation.SCAN, "secret/x/"),
        ("POST", "secret/x", Operation.UPDATE, "secret/x"),
        ("PUT", "secret/x?list=true", Operation.UPDATE, "secret/x"),
        ("DELETE", "secret/x", Operation.DELETE, "secret/x"),
        ("HEAD", "secret/x", Operation.HEAD, "secret/x"),
        ("HELP", "secret/x", Operation.HELP, "secret/x"),
        ("POST", "secret/x?help=1", Operation.HELP, "secret/x"),
        ("GET", "secret/x?help=", Operation.READ, "secret/x"),
    ],
)
async def test_logical_request_operation_and_path(
    method: str, target: str, operation: Operation, path: str
) -> None:
    request = await logical_request(make(method, target))

    assert (request.operation, request.path) == (operation, path)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("FOO", "x", (405, ())),
        ("get", "x", (405, ())),
        ("TRACE", "x", (405, ())),
        ("OPTIONS", "x", (400, ("cannot handle internal-only request operation",))),
        ("GET", "x?list=bogus", (400, ())),
        ("GET", "x?scan=bogus", (400, ())),
        ("GET", "x?list=1&scan=1", (400, ())),
        ("GET", "sys/replication/status", (404, ("unsupported path",))),
    ],
)
async def test_logical_request_refuses_what_cannot_be_asked(
    method: str, target: str, expected: tuple[int, tuple[str, ...]]
) -> None:
    assert await refused(make(method, target)) == expected


async def test_query_is_the_data_of_a_read_and_list_is_no_field() -> None:
    request = await logical_request(make("GET", "x?a=1&b=x%20y+z&a=2&list=true&bad=%zz&c;d&e"))

    assert request.data == request.query == {"a": "1,2", "b": "x y z", "e": ""}


async def test_query_of_a_write_is_not_its_data() -> None:
    request = await logical_request(make("POST", "x?a=1", body=b'{"z":1}'))

    assert request.data == {"z": 1}
    assert request.query == {"a": "1"}


async def test_body_of_a_read_is_ignored() -> None:
    request = await logical_request(make("DELETE", "x", body=b"{bad"))

    assert request.data == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=1&b=2&a=3", {"a": "1,3", "b": "2"}),
        (b"a=b+c%26&d", {"a": "b c&", "d": ""}),
        (b'{"a":"json"}', {"a": "json"}),
        (b' {"a":1}', {"a": 1}),
        (b"", {}),
    ],
)
async def test_form_body(body: bytes, expected: dict[str, Any]) -> None:
    request = await logical_request(make("POST", "x?q=9", FORM, body=body))

    assert request.data == expected


async def test_form_body_malformed_is_refused() -> None:
    assert await refused(make("POST", "x", FORM, body=b"a=%zz")) == (
        400,
        ("error parsing form data",),
    )


async def test_large_body_is_decoded_too() -> None:
    body = json.dumps({"a": "x" * 1_000_000}).encode()

    request = await logical_request(make("POST", "x", body=body))

    assert len(request.data["a"]) == 1_000_000


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", (400, ("mime: no media type",))),
        ("bogus;;", (400, ("mime: invalid media parameter",))),
        (
            "application/json",
            (
                415,
                (
                    "PATCH requires Content-Type of application/merge-patch+json, provided "
                    "application/json",
                ),
            ),
        ),
    ],
)
async def test_patch_needs_its_content_type(
    content_type: str, expected: tuple[int, tuple[str, ...]]
) -> None:
    headers = [("content-type", content_type)] if content_type else []

    assert await refused(make("PATCH", "x", *headers, body=b"{}")) == expected


async def test_patch_content_type_may_have_parameters() -> None:
    header = (MERGE_PATCH[0], f"{MERGE_PATCH[1]}; charset=utf-8")

    request = await logical_request(make("PATCH", "x", header, body=b'{"a":null}'))

    assert request.operation is Operation.PATCH
    assert request.data == {"a": None}


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([("x-vault-token", "s.a")], "s.a"),
        ([("x-vault-token", " s.a ")], "s.a"),
        ([("authorization", "Bearer s.b")], "s.b"),
        ([("authorization", "Bearer  s.b ")], "s.b"),
        ([("x-vault-token", ""), ("authorization", "Bearer s.b")], "s.b"),
        ([("x-vault-token", "s.a"), ("authorization", "Bearer s.b")], "s.a"),
        ([("authorization", "bearer s.b")], ""),
        ([("authorization", "Basic xyz")], ""),
        ([], ""),
    ],
)
def test_token_of(headers: list[tuple[str, str]], token: str) -> None:
    assert token_of(make("GET", "x", *headers)) == token


async def test_credentials_are_not_passed_to_engines() -> None:
    headers = [("x-vault-token", "s.a"), ("authorization", "Bearer b"), ("cookie", "c"), ("x", "1")]

    request = await logical_request(make("GET", "x", *headers))

    assert request.headers == {"x": "1"}
    assert "s.a" not in repr(request)


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("60", 60.0), ("5m", 300.0), ("0", 0.0), ("1500ms", 1.5)]
)
async def test_wrap_ttl(ttl: str, seconds: float) -> None:
    request = await logical_request(make("GET", "x", ("x-vault-wrap-ttl", ttl)))

    assert request.wrap_ttl_s == seconds


@pytest.mark.parametrize(
    ("ttl", "error"),
    [
        ("bogus", 'time: invalid duration "bogus"'),
        ("1.5", 'time: missing unit in duration "1.5"'),
        ("-5", "requested wrap ttl cannot be negative"),
    ],
)
async def test_wrap_ttl_malformed_is_refused(ttl: str, error: str) -> None:
    assert await refused(make("GET", "x", ("x-vault-wrap-ttl", ttl))) == (
        400,
        (f"error parsing X-Vault-Wrap-TTL header: {error}",),
    )


@pytest.mark.parametrize("namespace", ["nope", "nope/x", "/nope/"])
async def test_unknown_namespace_is_not_found(namespace: str) -> None:
    assert await refused(make("GET", "x", ("x-vault-namespace", namespace))) == (
        404,
        ("namespace not found",),
    )


@pytest.mark.parametrize("namespace", ["root", "root/", "/", ""])
async def test_root_namespace_is_known(namespace: str) -> None:
    assert (await logical_request(make("GET", "x", ("x-vault-namespace", namespace)))).path == "x"


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", [], True),
        ("HEAD", [], True),
        ("LIST", [], True),
        ("SCAN", [], True),
        ("GET", [("x-vault-wrap-ttl", "60")], False),
        ("POST", [], False),
        ("FOO", [], False),
    ],
)
def test_is_read(method: str, headers: list[tuple[str, str]], expected: bool) -> None:
    assert is_read(make(method, "x", *headers)) is expected


# --- answers ------------------------------------------------------------------------------------


def test_empty_response_is_204_with_the_index() -> None:
    answer = http_response(Response(), request_id="r", index="abc")

    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-vault-index") == "abc"


def test_status_of_the_response_wins() -> None:
    answer = http_response(Response(data={"a": None}, status=404), request_id="r", index="abc")

    assert answer.status == 404
    assert json.loads(answer.body)["data"] == {"a": None}
    assert answer.header("x-vault-index") == "abc"  # as recorded for deleted versions


def test_warnings_alone_are_an_answer() -> None:
    answer = http_response(Response(warnings=["w"]), request_id="r")

    assert answer.status == 200
    assert json.loads(answer.body)["warnings"] == ["w"]
    assert json.loads(answer.body)["data"] is None


def test_raw_response_has_no_envelope() -> None:
    response = Response(raw=b"text", raw_content_type="text/plain", status=400)

    answer = http_response(response, request_id="r")

    assert (answer.status, answer.body) == (400, b"text")
    assert answer.header("content-type") == "text/plain"


def test_auth_has_openbaos_order() -> None:
    auth = Auth(client_token="s.x", accessor="a", policies=["p"], token_policies=["p"])

    answer = http_response(Response(auth=auth), request_id="r")

    body = json.loads(answer.body)
    assert list(body["auth"]) == [
        "client_token",
        "accessor",
        "policies",
        "token_policies",
        "metadata",
        "lease_duration",
        "renewable",
        "entity_id",
        "token_type",
        "orphan",
        "mfa_requirement",
        "num_uses",
    ]
    assert body["data"] is None


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("list=true&limit=1", {"limit": "1"}),
        ("list=false", {"list": "false"}),
        ("scan=", {"scan": ""}),
    ],
)
async def test_list_is_a_field_unless_it_is_obeyed(query: str, fields: dict[str, str]) -> None:
    request = await logical_request(make("GET", f"secret/x?{query}"))

    assert request.data == fields


def test_any_of_several_authorization_headers_may_hold_the_token() -> None:
    basic, bearer = ("authorization", "Basic eDp5"), ("authorization", "Bearer s.t")

    assert token_of(make("GET", "secret/x", basic, bearer)) == "s.t"
    assert token_of(make("GET", "secret/x", basic)) == ""


@pytest.mark.parametrize("body", [b"a=b&" * 10_000, b"a=" + b"x" * (10 * 1024 * 1024)])
async def test_form_beyond_any_use_is_refused(body: bytes) -> None:
    assert await refused(make("POST", "secret/x", FORM, body=body)) == (
        400,
        ("error parsing form data",),
    )


@pytest.mark.parametrize("data", [{"a": [{}] * 300_000}, {"a": "<" * 1_000_000}])
async def test_heavy_answer_is_not_encoded_in_the_event_loop(data: dict[str, Any]) -> None:
    node = FakeNodeView(ACTIVE)
    rounds = 0

    async def handle(request: Request) -> Response:
        nonlocal rounds
        rounds = 0
        return Response(data=data)

    async def tick() -> None:
        nonlocal rounds
        while True:
            await trio.sleep(0.001)
            rounds += 1

    node.on_handle = handle
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        answer = await execute(node, make())
        nursery.cancel_scope.cancel()

    assert rounds > 0
    assert json.loads(answer.body)["data"] == data


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ("", 404),
        (" ; charset=utf-8", 404),
        (';a=b;c="d;\\"e" ; ', 404),
        (" " * 900, 404),
        (";", 404),
        (" x", 400),
        (";a", 400),
        (";a=", 400),
        (";;", 400),
        (';a="', 400),
        (" " * 1024 + "x", 400),
        (" " * 40_000 + "x", 400),
        (";a=b" * 10_000, 400),
    ],
)
async def test_content_type_of_a_patch_is_read_to_its_end_but_not_beyond_a_kilobyte(
    parameters: str, status: int
) -> None:
    content_type = ("content-type", f"application/merge-patch+json{parameters}")
    request = make("PATCH", "secret/x", content_type, body=b"{}")

    if status == 404:
        assert (await logical_request(request)).operation is Operation.PATCH
    else:
        assert await refused(request) == (400, ("mime: invalid media parameter",))


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_answer_above_the_bound_is_an_error_that_says_whether_it_was_executed(
    method: str,
) -> None:
    node = FakeNodeView(ACTIVE)

    async def handle(request: Request) -> Response:
        return Response(data={"v": "<" * (ENCODED_BYTES_MAX // 6)})

    node.on_handle = handle

    with pytest.raises(RequestError) as caught:
        await execute(node, make(method, "secret/x", body=b"{}"))

    assert caught.value.status_hint == 500
    assert ("was executed" in caught.value.errors[0]) is (method == "PUT")
    assert f"larger than {ENCODED_BYTES_MAX} bytes" in caught.value.errors[0]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=5), st.text(max_size=5), st.integers(1, 20_000)), max_size=4
    )
)
async def test_large_form_is_read_as_a_small_one(fields: list[tuple[str, str, int]]) -> None:
    values = {f"{number}{name}": text * count for number, (name, text, count) in enumerate(fields)}
    request = make("POST", "secret/x", FORM, body=urlencode(values).encode())

    assert (await logical_request(request)).data == values
