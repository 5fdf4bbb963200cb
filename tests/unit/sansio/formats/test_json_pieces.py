"""Large JSON, read piece by piece: the same values and the same refusals as small JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from baoha.errors import InvalidRequest
from baoha.sansio.formats.json_decoder import WHOLE_BYTES_MAX, decode_object
from baoha.sansio.formats.json_pieces import (
    NUMBER_BYTES_MAX,
    PIECE_BYTES,
    JSONLimits,
    MalformedError,
    PiecewiseDecoder,
    TooComplexError,
)

LIMITS = JSONLimits(strings=1000, values=250_000, depth=700)
SMALLEST = 6

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


def piecewise(body: bytes, *, piece_bytes: int = PIECE_BYTES) -> Any:
    def number(text: str, is_integer: bool) -> int | float:
        return int(text) if is_integer else float(text)

    decoder = PiecewiseDecoder(
        body, LIMITS, number=number, pause=lambda: None, piece_bytes=piece_bytes
    )
    return decoder.run()


def outcome(body: bytes) -> Any:
    try:
        return repr(decode_object(body))  # -0.0 is not 0
    except InvalidRequest as exc:
        return exc.errors


@given(_json, st.booleans(), st.integers(SMALLEST, 40))
def test_piecewise_value_is_that_of_python_whatever_the_piece(
    value: Any, ascii_only: bool, piece_bytes: int
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert repr(piecewise(body, piece_bytes=piece_bytes)) == repr(value)


_odd_parts = st.sampled_from(
    (
        *(b"\xff", b"\xc3", b"\xa9", b"\xe2\x82", b"\xf0\x9f\x98\x80", b"a", b"\\n", b"\\\\"),
        *(b"\\ud83d", b"\\ude00", b"\\uDFFF", b"\\u0041", b"\\", b"\\u00", b"\\x", b"\x01"),
    )
)


@given(st.lists(_odd_parts, max_size=30), st.integers(SMALLEST, 20))
@example(parts=[b"\\ud83d", b"\\ude00"] * 8, piece_bytes=6)
@example(parts=[b"aaa", b"\\ud83d", b"\xff"], piece_bytes=9)
def test_piecewise_odd_string_is_read_as_in_a_small_body(
    parts: list[bytes], piece_bytes: int
) -> None:
    string = b'"' + b"".join(parts) + b'"'
    try:
        read = piecewise(string, piece_bytes=piece_bytes)
    except MalformedError:
        read = None
    try:
        expected = decode_object(b'{"a":' + string + b"}")["a"]
    except InvalidRequest:
        expected = None

    assert read == expected


_fragments = st.sampled_from(
    (
        *(b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"', b"1", b"-", b"0", b".5", b"e9", b"-0"),
        *(b"01", b"true", b"nul", b" ", b"\n", b"\x00", b'{"a":1}', b"1e400", b"NaN", b"\xff"),
    )
)


@given(st.lists(_fragments, max_size=12).map(b"".join))
def test_large_body_is_judged_as_the_same_body_when_small(body: bytes) -> None:
    assert outcome(b" " * WHOLE_BYTES_MAX + body) == outcome(body)


@given(st.lists(_fragments, max_size=12).map(b"".join))
def test_large_member_is_judged_as_the_same_member_when_small(body: bytes) -> None:
    padding = b" " * WHOLE_BYTES_MAX

    assert outcome(b'{"k":' + padding + body + b"}") == outcome(b'{"k":' + body + b"}")


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b"[" * 701, "depth"),
        (b'{"a":' * 701, "depth"),
        (b"[" + b'"",' * 1000 + b'""]', "strings"),
        (b"[" + b"0," * 250_000 + b"0]", "values"),
        (b"0 " * 250_001, "values"),
    ],
)
def test_text_over_a_limit_names_it(body: bytes, limit: str) -> None:
    with pytest.raises(TooComplexError, match=limit):
        piecewise(body)


@pytest.mark.parametrize("number", [b"1" * NUMBER_BYTES_MAX, b"0." + b"0" * NUMBER_BYTES_MAX])
def test_number_of_absurd_length_is_malformed(number: bytes) -> None:
    with pytest.raises(MalformedError):
        piecewise(number)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b"x" * 1_000_000 + b'"',
        b'"' + b"\\n" * 500_000 + b'"',
        b" " * 1_000_000 + b"1",
        b"[" + b"0," * 100_000 + b"0]",
    ],
)
def test_pause_comes_between_pieces_and_may_end_the_work(body: bytes) -> None:
    class Abandoned(Exception):
        pass

    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 10:
            raise Abandoned

    with pytest.raises(Abandoned):
        decode_object(b'{"a":' + body + b"}", pause=pause)
