"""Response bodies, byte for byte."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.envelope import envelope_body, error_body
from baoha.sansio.formats.json_encoder import Fields, encode


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1"),
        (100.5, "100.5"),
        (1e16, "10000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.2345678901234568e29, "1.2345678901234568e+29"),
        (1e-6, "0.000001"),
        (1.5e-05, "0.000015"),
        (-1e-05, "-0.00001"),
        (1.25e-07, "1.25e-7"),
        (5e-324, "5e-324"),
        (-0.0, "-0"),
        (9007199254740993, "9007199254740993"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_encode_scalars_as_go_does(value: object, expected: str) -> None:
    assert encode(value) == f"{expected}\n".encode()


def test_encode_escapes_what_html_would_read() -> None:
    text = '<a>&\u2028\u2029é\x7f\x01\n"\\/'

    expected = '"\\u003ca\\u003e\\u0026\\u2028\\u2029é\x7f\\u0001\\n\\"\\\\/"\n'

    assert encode(text) == expected.encode()


def test_encode_lone_surrogate_becomes_a_replacement() -> None:
    assert encode("a\ud800") == '"a\ufffd"\n'.encode()


def test_encode_sorts_maps_and_keeps_records() -> None:
    assert encode({"b": 1, "a": Fields(z=1, y={"d": [], "c": {}})}) == (
        b'{"a":{"z":1,"y":{"c":{},"d":[]}},"b":1}\n'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_encode_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode(value)


def test_encode_refuses_what_has_no_json_form() -> None:
    with pytest.raises(TypeError, match="bytes has no JSON form"):
        encode({"a": b"secret"})


@given(st.binary(min_size=8, max_size=8))
def test_encode_floats_read_back_the_same(data: bytes) -> None:
    (value,) = struct.unpack("d", data)
    if value == value and abs(value) != float("inf"):
        assert float(encode(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_encode_reads_back_the_same(value: object) -> None:
    assert json.loads(encode(value)) == value


def test_error_body_may_be_empty() -> None:
    assert error_body() == b'{"errors":[]}\n'
    assert error_body("a", "b") == b'{"errors":["a","b"]}\n'


def test_envelope_body_keeps_openbaos_order() -> None:
    body = envelope_body(request_id="r", data={"b": 1, "a": 2})

    assert body == (
        b'{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,'
        b'"data":{"a":2,"b":1},"wrap_info":null,"warnings":null,"auth":null}\n'
    )


def test_envelope_body_repeats_data_at_the_top() -> None:
    body = envelope_body(request_id="r", data={"b": 1, "a": 2}, top_level=True, warnings=["w"])

    assert body.startswith(b'{"a":2,"b":1,"request_id":"r",')
    assert b'"data":{"a":2,"b":1}' in body
    assert b'"warnings":["w"]' in body
