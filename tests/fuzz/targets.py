"""
Every parser that meets the bytes of a client, a peer or an operator, in one table.

A target takes bytes and returns; it raises only what is no error of ours. Used by the unit test of
the parsers and by the fuzzer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from baoha.api.logical import _has_parameters, token_of
from baoha.api.operator_input import init_parameters, unseal_input
from baoha.api.paths import decoded_path, refusal
from baoha.api.query import parse_form, parse_query, wanted_listing
from baoha.config.documents import parse_document
from baoha.config.model import ForwardedForConfig
from baoha.core.framework.fields import FieldError, FieldKind, convert
from baoha.errors import BaohaError
from baoha.sansio.advertisement import decode_advertisement
from baoha.sansio.durations import parse_duration_ns
from baoha.sansio.formats import hcl
from baoha.sansio.formats.json_decoder import decode_object, decode_record
from baoha.sansio.formats.json_encoder import encode
from baoha.sansio.policy import parse_policy
from baoha.sansio.wire.frames import (
    ChannelLimits,
    decode_request,
    parse_envelopes,
    parse_message_start,
)
from baoha.sansio.wire.messages import HTTPRequest
from baoha.server.http.forwarded_for import _replace_client, parse_networks

_PROXY = ForwardedForConfig(
    authorized_addrs=("127.0.0.1",), reject_not_present=False, reject_not_authorized=False
)
_PROXIES = parse_networks(_PROXY.authorized_addrs)
_LIMITS = ChannelLimits()


@dataclass(frozen=True, slots=True)
class Target:
    """
    One parser.

    Attributes:
        examples: what its input is made of, for tests that repeat and combine them.
        beginning: before the repeated part.
        ending: behind it.
    """

    run: Callable[[bytes], object]
    examples: tuple[bytes, ...]
    beginning: bytes = b""
    ending: bytes = b""


def _never() -> None:
    return


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


def _path(data: bytes) -> None:
    raw = f"/v1/{_latin(data)}"
    path = decoded_path(raw)
    if path is not None:
        request = HTTPRequest(method="GET", path=path, raw_path=raw)
        refusal(request, request.first_values())


def _query(data: bytes) -> None:
    parse_query(_latin(data))
    wanted_listing(_latin(data))


def _headers(data: bytes) -> None:
    names = ("x-vault-index", "x-vault-inconsistent", "x-vault-namespace", "authorization")
    headers = tuple((name, _latin(data)) for name in names)
    request = HTTPRequest(method="GET", path="/v1/x", raw_path="/v1/x", headers=headers)
    refusal(request, request.first_values())
    token_of(request)


def _forwarded_for(data: bytes) -> None:
    headers = [(b"x-forwarded-for", data)]
    _replace_client({"headers": headers, "client": ("127.0.0.1", 1)}, _PROXY, _PROXIES)


def _field(kind: FieldKind) -> Callable[[bytes], object]:
    def run(data: bytes) -> None:
        text = _text(data)
        for value in (text, [text], text.split(",")):
            try:
                convert(kind, "name", value)
            except FieldError:
                continue

    return run


_JSON = (b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"', b"1", b"-1e9", b"true", b"\\u0041", b" ")
_HCL = (b"a", b" ", b"=", b"{", b"}", b"[", b"]", b'"', b"#", b"\n", b"/*", b"<<E\n", b"1", b"$")
_POLICY = (b'path "a" {', b"}", b'capabilities=["read"]', b"x=1", b'"', b"\n", b"{{", b"+/", b",")
_WORDS = (b"a", b"%41", b"%", b"&", b"=", b"+", b";", b"/", b"..", b".", b" ", b"\xff", b"list=1")
_NUMBERS = (b"1", b"0x", b"h", b".", b"-", b",", b"=", b"d", b"T", b":", b"e", b" ")
_BYTES = (b"\x00", b"\x01", b"\xff", b"\x00\x00\x00\x01", b"a", b"\x81", b"\xc1")

TARGETS: dict[str, Target] = {
    "json": Target(decode_object, _JSON, b'{"a":'),
    "json_list": Target(decode_object, (b"1,", b"[],", b'"a",', b"{},"), b'{"a":[', b"1]}"),
    "json_record": Target(
        lambda data: decode_record(data, "R", {"key": "string", "n": "int"}), _JSON
    ),
    "json_round": Target(lambda data: encode(decode_object(data)), _JSON, b'{"a":["', b'"]}'),
    "unseal": Target(lambda data: unseal_input(data, _never), (b"a", b"=", b"\\n"), b'{"key":"'),
    "init": Target(lambda data: init_parameters(data, _never, seal_type="shamir"), _JSON),
    "form": Target(lambda data: parse_form(data, _never), _WORDS),
    "query": Target(_query, _WORDS),
    "path": Target(_path, _WORDS),
    "headers": Target(_headers, (*_WORDS, b"Bearer ", b"W10=")),
    "content_type": Target(
        lambda data: _has_parameters(_latin(data), 0), (b" ", b";", b"a=b", b'"', b"\\", b"=")
    ),
    "forwarded_for": Target(_forwarded_for, (b"1.2.3.4", b",", b" ", b"::", b"%")),
    "networks": Target(lambda data: parse_networks([_text(data)]), (b"1", b".", b":", b"/", b"0")),
    "policy": Target(lambda data: parse_policy(_text(data)), _POLICY),
    "policy_faults": Target(
        lambda data: parse_policy(_text(data)), (b"x=1\n", b"y=2 "), b'path "a" {\n', b"}"
    ),
    "hcl": Target(hcl.parse, _HCL),
    "hcl_json": Target(hcl.parse, _JSON, b'{"a":['),
    "toml": Target(
        lambda data: parse_document(data, "a.toml"),
        (b"[a]\n", b"a.", b"b=1\n", b'"', b"'''", b"[[", b"]]", b" ", b"#\n", b"="),
    ),
    "duration": Target(lambda data: parse_duration_ns(_text(data)), _NUMBERS),
    "frames": Target(lambda data: parse_envelopes(data, _LIMITS), _BYTES),
    "message_start": Target(lambda data: parse_message_start(data, _LIMITS), _BYTES),
    "request_head": Target(lambda data: decode_request(data, b""), _BYTES),
    "advertisement": Target(decode_advertisement, _JSON),
    **{f"field_{kind.name.lower()}": Target(_field(kind), _NUMBERS) for kind in FieldKind},
}
# What a parser raises on purpose.
EXPECTED = (BaohaError, ValueError)


def run(name: str, data: bytes) -> bool:
    """Run one target; whether it accepted the input. Any other error is raised."""
    try:
        TARGETS[name].run(data)
    except EXPECTED as exc:
        # A ValueError that is not a subclass of ours would reach a client as "internal error".
        if type(exc) in (ValueError, UnicodeDecodeError, UnicodeEncodeError):
            raise AssertionError(f"{name} let {type(exc).__name__} out") from exc
        return False
    return True
