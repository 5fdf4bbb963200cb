"""Encoding in pieces: the same bytes as character by character, within bounds, and abandonable."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baoha.core.framework.stored_data import decode_any, encode_any
from baoha.sansio.formats.json_encoder import Fields, TooLargeError, cost, encode, encode_plain

SPECIAL = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
SURROGATES = ("\ud800", "\udfff")
PLAIN = ("<", ">", "&", "\u2028", "\u2029", "\x01", "\n", '"', "\\", "é", "\U0001f600", "a")
ODD = (*PLAIN, *SURROGATES)

_texts = st.lists(st.sampled_from(ODD), max_size=8).map("".join)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=15,
)


def reference(text: str) -> str:
    """Quote a text one character at a time."""
    quoted = (
        "\ufffd"
        if char in SURROGATES
        else SPECIAL.get(char) or json.dumps(char, ensure_ascii=False)[1:-1]
        for char in text
    )
    return f'"{"".join(quoted)}"'


@settings(deadline=None)
@given(_texts, st.sampled_from((1, 4_000, 8_192, 40_000)))
def test_text_in_pieces_is_quoted_as_by_characters(text: str, times: int) -> None:
    long = text * times

    assert encode(long).decode() == f'"{reference(text)[1:-1] * times}"\n'
    assert encode(Fields({long: 1})).decode() == f"{{{reference(long)}:1}}\n"


@given(_json)
def test_plain_text_reads_back_as_the_same_value(value: Any) -> None:
    text = encode_plain(value).decode("utf-8", "surrogatepass")

    assert repr(json.loads(text)) == repr(value)


@pytest.mark.parametrize("char", PLAIN)  # no decoder of ours lets a lone surrogate in
async def test_stored_secret_of_any_size_is_read_back(char: str) -> None:
    value = {"v": char * 300_000, char * 40_000: [1, 2.5, None, True, {}, [], "x"]}

    assert await decode_any(await encode_any(value)) == value


@pytest.mark.parametrize("value", ["<" * 1000, ["<"] * 1000, {"<" * 1000: 1}])
def test_text_above_the_bound_is_refused(value: Any) -> None:
    length = len(encode(value))

    assert len(encode(value, bytes_max=length)) == length
    with pytest.raises(TooLargeError):
        encode(value, bytes_max=length - 1)


@pytest.mark.parametrize("value", ["<" * 10_000_000, [0] * 1_000_000, {"é" * 10_000_000: 1}])
def test_pause_comes_between_pieces_and_may_end_the_work(value: Any) -> None:
    class Abandoned(Exception):
        pass

    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 10:
            raise Abandoned

    with pytest.raises(Abandoned):
        encode(value, pause=pause)


@pytest.mark.parametrize(
    ("light", "heavy"),
    [("x" * 100, "x" * 100_000), ([1] * 10, [1] * 100_000), ({"a": 1}, {"a" * 100_000: 1})],
)
def test_cost_grows_with_what_must_be_looked_at(light: Any, heavy: Any) -> None:
    assert cost(light) < 1000
    assert cost({"data": [heavy]}) >= 100_000
