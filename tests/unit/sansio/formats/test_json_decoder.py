"""Request bodies: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.errors import InvalidRequest
from baoha.sansio.formats.json_decoder import (
    DEPTH_MAX,
    VALUES_MAX,
    WHOLE_BYTES_MAX,
    decode_object,
    decode_record,
)
from baoha.sansio.formats.json_encoder import encode
from tests.support.steps import count_steps

MEASURED = json.loads(
    (Path(__file__).parents[3] / "conformance/recordings/json-errors.json").read_text()
)
INIT = {"secret_shares": "int", "pgp_keys": "[]string", "root_token_pgp_key": "string"}
UNSEAL = {"key": "string", "reset": "bool"}
PREFIX = "failed to decode JSON input: "
COMPLEX = "refused JSON input due to high complexity: exceeded maximum "


def _error(body: bytes) -> str | None:
    try:
        decode_object(body)
    except InvalidRequest as exc:
        return exc.errors[0]
    return None


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: repr(case["body"]))
def test_decode_object_refuses_what_openbao_refuses_with_its_words(case: dict[str, Any]) -> None:
    assert _error(case["body"].encode("utf-8", "surrogatepass")) == case["error"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9007199254740993", 9007199254740993),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("1e21", 1e21),
        ("1.50", 1.5),
        ("1e-400", 0.0),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ('"\\ud800"', "\ufffd"),
        ('"\\ud800\\u0041"', "\ufffdA"),
        ('["\\udc00", {"\\ud800": 1}]', ["\ufffd", {"\ufffd": 1}]),
        ('"\\\\ud800"', "\\ud800"),
        ("null", None),
        ("[true, false]", [True, False]),
    ],
)
def test_decode_object_keeps_values(text: str, expected: object) -> None:
    assert decode_object(f'{{"a": {text}}}'.encode()) == {"a": expected}


def test_decode_object_minus_zero_keeps_its_sign() -> None:
    assert math.copysign(1, decode_object(b'{"a":-0}')["a"]) == -1


def test_decode_object_bytes_that_are_not_utf8_become_one_replacement_each() -> None:
    body = b'{"a":"x\xff\xfey\xe2\x82z\xed\xa0\x80"}'

    assert decode_object(body) == {"a": "x\ufffd\ufffdy\ufffd\ufffdz\ufffd\ufffd\ufffd"}


def test_decode_object_duplicate_keys_last_one_wins() -> None:
    assert decode_object(b'{"a":1,"a":2,"A":3}') == {"a": 2, "A": 3}


@pytest.mark.parametrize("body", [b"", b" \r\n\t", b"null", b"null null"])
def test_decode_object_without_a_value_is_the_empty_object(body: bytes) -> None:
    assert decode_object(body) == {}


def test_decode_object_more_values_the_first_one_counts() -> None:
    assert decode_object(b'{"a":1} {"b":2}') == {"a": 1}


def test_decode_object_integer_beyond_every_float_is_refused() -> None:
    digits = "1" * 5000

    assert _error(f'{{"a":{digits}}}'.encode()) == (
        f"{PREFIX}json: cannot unmarshal number {digits} into Go value of type float64"
    )


@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_decode_object_depth_is_bounded(bracket: str) -> None:
    opening = "[" if bracket == "[]" else '{"a":'
    inner = DEPTH_MAX - 1
    shallow = '{"a":' + opening * inner + "1" + bracket[1] * inner + "}"
    deep = '{"a":' + opening * (inner + 1) + "1" + bracket[1] * (inner + 1) + "}"

    assert _error(shallow.encode()) is None
    assert _error(deep.encode()) == f"{PREFIX}exceeded max depth"


def test_decode_object_brackets_in_strings_are_not_depth() -> None:
    assert _error(b'{"a":"' + b"[{" * 2000 + b'"}') is None


@pytest.mark.parametrize(("strings", "refused"), [(999, False), (1000, True)])
def test_decode_object_number_of_strings_is_bounded(strings: int, refused: bool) -> None:
    body = json.dumps({"a": ["x"] * strings}).encode()

    text = "refused JSON input due to high complexity: exceeded maximum number of strings"

    assert _error(body) == (text if refused else None)


# Larger ones are read piece by piece: the same answers.
_LARGE = b" " * WHOLE_BYTES_MAX


@pytest.mark.parametrize("padding", [b"", _LARGE])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b'"' + b'\\"' * 5000 + b'"', None),
        (b'"' + b"\\\\" * 5000 + b'"', None),
        (b'"' + b"[{,\\n" * 2000 + b'"', None),
        (b"[" + b"[]," * 2000 + b"0]", None),
        (b"[" * 699 + b"]" * 699, None),
        (b"[" * 700 + b"]" * 700, "failed to decode JSON input: exceeded max depth"),
        (b"[" + b'"",' * 1000 + b"0]", f"{COMPLEX}number of strings"),
        (b"[" + b'"\\"",' * 1000 + b"0]", f"{COMPLEX}number of strings"),
        (b"[" + b'"\\\\",' * 1000 + b"0]", f"{COMPLEX}number of strings"),
        (
            b"[" + b"0," * 800 + b"x]",
            f"{PREFIX}invalid character 'x' looking for beginning of value",
        ),
        (b"[]" * 701, f"{PREFIX}invalid character '[' after object key:value pair"),
        (b"]" * 2000, f"{PREFIX}invalid character ']' looking for beginning of value"),
    ],
)
def test_decode_object_large_and_small_bodies_are_judged_alike(
    value: bytes, error: str | None, padding: bytes
) -> None:
    assert _error(b'{"a":' + padding + value + b"}") == error


@pytest.mark.parametrize(("values", "refused"), [(VALUES_MAX - 3, False), (VALUES_MAX - 2, True)])
def test_decode_object_number_of_values_is_bounded(values: int, refused: bool) -> None:
    # The object, its key and the array are values too.
    body = b'{"a":[' + b"0," * (values - 1) + b"0]}"

    assert _error(body) == (f"{COMPLEX}estimated memory limits" if refused else None)


def test_decode_object_large_malformed_body_is_refused_at_once() -> None:
    some, more = (b'{"a":[' + b"[]," * count + b"x]}" for count in (100_000, 200_000))

    assert _error(more) == f"{PREFIX}invalid JSON"
    # Linear: the place of the error is not looked for again and again.
    assert count_steps(lambda: _error(more)) <= 2.2 * count_steps(lambda: _error(some))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_let_in_gets_out(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    inner = DEPTH_MAX - 1
    body = '{"a":' + opening * inner + '"\\ud800"' + closing * inner + "}"

    assert encode(decode_object(body.encode())).decode() == (
        body.replace("\\ud800", "\ufffd") + "\n"
    )


def test_decode_object_escaped_quotes_are_not_strings() -> None:
    assert _error(b'{"a":"' + b'\\"' * 5000 + b'"}') is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_decode_object_reads_what_python_writes(value: Any) -> None:
    assert decode_object(json.dumps({"a": value}).encode()) == {"a": value}


@given(st.binary(max_size=40))
def test_decode_object_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    error = _error(body)

    assert error is None or error.startswith(PREFIX)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("[]", "cannot unmarshal array into Go value of type http.InitRequest"),
        (
            '{"secret_shares":"5"}',
            "cannot unmarshal string into Go struct field InitRequest.secret_shares of type int",
        ),
        (
            '{"secret_shares":1.0}',
            "cannot unmarshal number 1.0 into Go struct field InitRequest.secret_shares of type "
            "int",
        ),
        (
            '{"secret_shares":99999999999999999999}',
            "cannot unmarshal number 99999999999999999999 into Go struct field "
            "InitRequest.secret_shares of type int",
        ),
        (
            '{"Pgp_Keys":"a"}',
            "cannot unmarshal string into Go struct field InitRequest.Pgp_Keys of type []string",
        ),
        (
            '{"pgp_keys":["a",1]}',
            "cannot unmarshal number into InitRequest.pgp_keys.1 of type string",
        ),
        (
            '{"root_token_pgp_key":5}',
            "cannot unmarshal number into Go struct field InitRequest.root_token_pgp_key of type "
            "string",
        ),
    ],
)
def test_decode_record_wrong_types_are_named(body: str, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_record(body.encode(), "InitRequest", INIT)

    assert caught.value.errors == (f"{PREFIX}json: {error}",)


def test_decode_record_names_match_in_any_case() -> None:
    assert decode_record(b'{"KEY":"a","Reset":true,"x":[1]}', "UnsealRequest", UNSEAL) == {
        "key": "a",
        "reset": True,
    }


def test_decode_record_null_is_absent() -> None:
    assert decode_record(b'{"key":null}', "UnsealRequest", UNSEAL) == {}
    assert decode_record(b'{"pgp_keys":[null]}', "InitRequest", INIT) == {"pgp_keys": [""]}
