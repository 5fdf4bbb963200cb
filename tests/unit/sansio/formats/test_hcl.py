"""The HCL 1 parser: what it accepts, what it refuses and where, and that no text is expensive."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baoha.sansio.formats.hcl import Block, HCLError, parse
from tests.support.hcl_cases import ACCEPTED, REFUSED


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_text_that_openbao_accepts_is_parsed(text: str, expected: object) -> None:
    plain = parse(text).to_plain()
    assert plain == (expected or plain)
    assert parse(text.encode()).to_plain() == plain


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_text_that_is_malformed_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(HCLError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_bytes_that_are_not_utf8_are_refused_with_their_place() -> None:
    with pytest.raises(HCLError) as caught:
        parse(b"a = 1\n# \xff")
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_numbers_of_all_forms_have_their_value() -> None:
    plain = parse("a = -5 b = 0x1F c = 010 d = 1.5e3 e = .5 f = 1. g = 0").to_plain()
    assert plain == {"a": -5, "b": 31, "c": 8, "d": 1500.0, "e": 0.5, "f": 1.0, "g": 0}


def test_items_keep_order_duplicates_and_positions() -> None:
    block = parse('a = 1\n  a = 2\nstorage "x" "y" {\n\tb = 3\n}')
    assert [(item.key, item.labels, item.line, item.column) for item in block.items] == [
        ("a", (), 1, 1),
        ("a", (), 2, 3),
        ("storage", ("x", "y"), 3, 1),
    ]
    inner = block.items[2].value
    assert isinstance(inner, Block)
    assert (inner.items[0].line, inner.items[0].column) == (4, 2)


def test_blocks_of_json_and_hcl_are_read_alike() -> None:
    texts = [
        'listener "tcp" { a = 1 }\nlistener "tcp" { a = 2 }',
        '{"listener": [{"tcp": {"a": 1}}, {"tcp": {"a": 2}}]}',
        '{"listener": {"tcp": [{"a": 1}, {"a": 2}]}}',
    ]
    for text in texts:
        found = [
            (labels, block.to_plain())
            for labels, block, _ in parse(text).blocks("listener", labels=1)
        ]
        assert found == [(("tcp",), {"a": 1}), (("tcp",), {"a": 2})]


@pytest.mark.parametrize(
    "text",
    [
        'path = { "a" = { b = 1 } }',
        'path { "a" { b = 1 } }',
        'path "a" "b" { }',
        "path = 1",
        '{"path": 1}',
        '{"path": {"a": 1}}',
    ],
)
def test_block_with_the_wrong_labels_is_refused(text: str) -> None:
    with pytest.raises(HCLError, match=r"'path' must be a block with 1 label$"):
        list(parse(text).blocks("path", labels=1))


def test_nesting_at_the_limit_is_accepted_and_one_deeper_is_refused() -> None:
    for opening, closing in (("a = [", "]"), ("a {", "}"), ('a "b" {', "}")):
        body = "[" if opening == "a = [" else opening
        each = 2 if '"' in opening else 1
        count = 8 // each
        parse(opening + body * (count - 1) + closing * count, depth_max=8)
        with pytest.raises(HCLError, match="nested too deeply"):
            parse(opening + body * count + closing * (count + 1), depth_max=8)
    parse('{"a":' * 8 + "1" + "}" * 8, depth_max=8)
    with pytest.raises(HCLError, match="nested too deeply"):
        parse('{"a":' * 9 + "1" + "}" * 9, depth_max=8)


def test_size_at_the_limit_is_accepted_and_one_more_is_refused() -> None:
    parse("a = 1", size_max=5)
    with pytest.raises(HCLError, match="longer than 4 characters"):
        parse("a = 1", size_max=4)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "a = <<EOF\n" + "E\n" * 100_000,
        "a = <<EOF\n" + "<<EOF\n" * 50_000,
        "a = <<" + "E" * 500_000,
        'a = "' + "${" * 200_000,
        'a = "' + "\\\\" * 200_000,
        "[" * 500_000,
        '{"a":' * 100_000,
        "a " * 200_000 + "{}",
        "a {" * 100_000,
        "/*" * 200_000,
        "#" * 500_000,
        "a = 1 " * 100_000,
        "-" * 500_000,
        "0." * 200_000,
        "é" * 500_000,
        '{"' + "\\u0041" * 100_000,
    ],
    ids=lambda text: text[:8].encode("ascii", "replace").decode(),
)
def test_text_made_to_be_slow_is_not(text: str) -> None:
    # Only the clock can fail this one: a parser that goes back over the text needs hours.
    with contextlib.suppress(HCLError):
        parse(text).to_plain()


@pytest.mark.parametrize("text", ["a " * 1000, "a = " + "b" * 1000])
def test_error_quotes_little_of_a_long_text(text: str) -> None:
    with pytest.raises(HCLError) as caught:
        parse(text)
    assert len(str(caught.value)) < 250


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_gives_a_block_or_an_hcl_error(source: str | bytes) -> None:
    line = column = 1
    try:
        parse(source).to_plain()
    except HCLError as error:
        line, column = error.line, error.column
    assert line >= 1
    assert column >= 1


_FRAGMENTS = ["a", '"b"', "=", "{", "}", "[", "]", ",", "1", "-", "true", "<<E\n", "E\n", "\n"]
_FRAGMENTS += ["#", "/*", "*/", "${", '"', "\\", ":", "null", "0x", ".5", " ", "\t", "\r\n"]


@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=30).map("".join))
@settings(max_examples=400)
def test_any_tokens_give_a_block_or_an_hcl_error(text: str) -> None:
    try:
        block = parse(text)
    except HCLError:
        return
    block.to_plain()


_JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), _JSON, max_size=4))
def test_json_of_the_standard_library_is_read_back(document: dict[str, object]) -> None:
    text = json.dumps(document)
    if "\\u0000" in text or "\ue123" in text:
        return  # inside a JSON escape it is a character like any other
    assert parse(text).to_plain() == document
