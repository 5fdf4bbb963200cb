"""Tables and values in bao's form, formats, durations, key=value input, addresses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from baoha_cli.client.address import labels, parse_address, parse_addresses
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output import gotext
from baoha_cli.output.documents import Document, Format, Output, parse_format
from baoha_cli.shell.environment import duration_s, find_token, lookup, store_token
from baoha_cli.shell.inputs import key_values
from baoha_cli.text import one_line, printable
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<nil>"),
        (True, "true"),
        ("", ""),
        (1.5, "1.5"),
        (123456789012345678901, "123456789012345678901"),
        ({"b": 1, "a": "x"}, "map[a:x b:1]"),
        ([1, 2.5, True, None], "[1 2.5 true <nil>]"),
        ({"a": {"b": []}}, "map[a:map[b:[]]]"),
    ],
)
def test_value_in_table_is_what_go_prints(value: object, text: str) -> None:
    assert gotext.value_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (29, "29s"), (60, "1m"), (3600, "1h"), (5400, "1h30m"), (2764800, "768h")],
)
def test_duration_in_table_is_what_bao_prints(seconds: int, text: str) -> None:
    assert gotext.duration_text(seconds) == text


def test_titles_are_as_wide_as_bao_makes_them() -> None:
    assert gotext.titled_line("Secret Path", "secret/data/a").splitlines()[0] == (
        "== Secret Path =="
    )
    assert gotext.titled_line("Metadata Path", "secret/metadata/a").splitlines()[0] == (
        "= Metadata Path ="
    )
    assert gotext.heading("Metadata", len("custom_metadata") + 9) == "======= Metadata ======="
    assert gotext.heading("Data", len("x") + 9) == "== Data =="
    assert gotext.heading("Version 1", len("deletion_time") + 9) == "====== Version 1 ======"


def test_json_is_escaped_as_go_does() -> None:
    assert gotext.pretty_json({"a": "<é&>"}) == '{\n  "a": "\\u003cé\\u0026\\u003e"\n}'


# --- formats ------------------------------------------------------------------------------------

DOCUMENT = Document(
    {"schema": "x/v1", "nodes": [{"addr": "a", "n": None}], "text": "tab\there"},
    lambda wide: "WIDE" if wide else "TABLE",
    rows=[("NODE", "TEXT"), ("a", "tab\there\nnext")],
    names=["a", "b"],
    fields={"only": [1, None]},
    where="node",
    records=[{"addr": "a"}, {"addr": "b"}],
)
GOLDEN = {
    Format.TABLE: "TABLE\n",
    Format.WIDE: "WIDE\n",
    Format.JSON: (
        '{\n  "schema": "x/v1",\n  "nodes": [\n    {\n      "addr": "a",\n      "n": null\n    }\n'
        '  ],\n  "text": "tab\\there"\n}\n'
    ),
    Format.YAML: 'nodes:\n- addr: a\n  n: null\nschema: x/v1\ntext: "tab\\there"\n',
    Format.NDJSON: '{"addr": "a"}\n{"addr": "b"}\n',
    Format.TSV: "NODE\tTEXT\na\ttab\\there\\nnext\n",
    Format.NAME: "a\nb\n",
}


def output(**options: object) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(stdout=out, stderr=err, **options), out, err  # type: ignore[arg-type]


@pytest.mark.parametrize("form", Format)
def test_document_in_format_is_golden(form: Format) -> None:
    printer, out, err = output(chosen=form)
    printer.emit(DOCUMENT)
    assert out.getvalue() == GOLDEN[form]
    assert err.getvalue() == ""


def test_field_path_walks_the_document() -> None:
    for path, text in (("nodes.0.addr", "a\n"), ("nodes.0.n", "null\n"), ("schema", "x/v1\n")):
        printer, out, _ = output(field=path)
        printer.emit(DOCUMENT)
        assert out.getvalue() == text
    for path in ("nodes.1", "nodes.x", "a", "nodes.0.addr.b", "nodes.99999999999999999999"):
        printer, out, _ = output(field=path)
        with pytest.raises(CommandFailed):
            printer.emit(DOCUMENT)
        assert out.getvalue() == ""


def test_bao_field_has_no_newline_and_its_own_words() -> None:
    printer, out, _ = output(bao_field="only")
    printer.emit(DOCUMENT)
    assert out.getvalue() == "[1 <nil>]"
    printer, _, _ = output(bao_field="nope")
    with pytest.raises(CommandFailed, match='Field "nope" not present in node'):
        printer.emit(DOCUMENT)


def test_format_that_is_unknown_is_a_usage_error() -> None:
    assert parse_format("JSON") == (Format.JSON, None)
    assert parse_format("field=a.b") == (Format.TABLE, "a.b")
    with pytest.raises(UsageFailed, match="Invalid output format"):
        parse_format("bogus")


def test_stderr_that_fails_is_no_reason_to_fail() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "full")

    printer = Output(stdout=io.StringIO(), stderr=Full())
    printer.note("x")
    printer.error("y")


def test_secret_is_blanked_on_stderr() -> None:
    printer, _, err = output()
    printer.hide("s.abcdefgh")
    printer.error("token s.abcdefgh refused")
    assert err.getvalue() == "token <token> refused\n"


@given(st.text(max_size=300))
def test_printable_text_has_no_control_characters(text: str) -> None:
    for shown in (printable(text), one_line(text)):
        assert not any(ord(char) < 32 and char not in "\n\t" for char in shown)
        shown.encode("utf-8")
    assert "\n" not in one_line(text)


# --- input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3s", 3), ("250ms", 0.25), ("1m30s", 90), ("2", 2), ("1.5", 1.5), ("1h", 3600), ("0s", 0)],
)
def test_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    assert duration_s(text, what="x") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "3x", "1s2", "soon", "1e3s", "nan", "inf"])
def test_duration_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageFailed):
        duration_s(text, what="--timeout")


def test_key_values_come_from_words_and_files(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("from file\n")
    (tmp_path / "map.json").write_text('{"n": 1, "m": {"k": null}}')
    data = key_values(
        [
            f"f=@{tmp_path}/value",
            "a=1",
            "a=2",
            "a=3",
            "e=",
            "eq=x=y",
            "at=\\@x",
            f"@{tmp_path}/map.json",
        ]
    )
    assert data == {
        "f": "from file\n",
        "a": ["1", "2", "3"],
        "e": "",
        "eq": "x=y",
        "at": "@x",
        "n": 1,
        "m": {"k": None},
    }


def test_key_value_that_is_malformed_shows_the_key_and_not_the_value(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('["secret"]')
    for argument in ("novalue", "=secret", f"@{tmp_path}/list.json"):
        with pytest.raises(UsageFailed) as caught:
            key_values([argument])
        assert "secret" not in caught.value.message
    with pytest.raises(CommandFailed):
        key_values(["a=@/nonexistent"])


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
        ("https://a", "https://a:443"),
        ("http://a/", "http://a:80"),
        ("https://[::1]:8200", "https://[::1]:8200"),
        ("HTTPS://A.example:1/vault/", "https://a.example:1"),
    ],
)
def test_address_that_is_one_is_read(text: str, origin: str) -> None:
    assert parse_address(text).origin == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8200",
        "127.0.0.1:8200",
        "http://",
        "http://:8200",
        "http://a:0",
        "http://a:99999",
        "http://[::1",
        "https://2001:db8::1:8200",
        "ftp://a",
        "unix:///run/x",
        "http://u:p@a",
        "http://a?x=1",
        "http://a#x",
        "http://a b",
        "http://a\n",
        "http://" + "a" * 3000,
    ],
)
def test_address_that_could_mean_something_else_is_refused(text: str) -> None:
    if text.endswith("\n"):
        text += "x"
    with pytest.raises(UsageFailed):
        parse_address(text)


@given(st.text(max_size=60))
def test_address_of_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"http://{text}", f"https://{text}:8200/{text}"):
        try:
            endpoint = parse_address(candidate)
        except UsageFailed:
            continue
        assert 0 < endpoint.port < 65536
        assert endpoint.host


@pytest.mark.parametrize(
    "text",
    [
        "http://me:hidden@a:1",
        "me:hidden@a:1",
        "ftp://hidden@a",
        "http://hidden@",
        "http://h@hidden@[a",
        "http://me:hidden@a\u2100:1",
    ],
)
def test_address_with_a_password_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(UsageFailed) as caught:
        parse_address(text)
    assert "hidden" not in caught.value.message + caught.value.hint


def test_addresses_given_twice_count_once_and_labels_stay_unique() -> None:
    found = parse_addresses(["http://a:1,http://b:1", "http://a:1", " http://a:2 ,"])
    assert [endpoint.origin for endpoint in found] == ["http://a:1", "http://b:1", "http://a:2"]
    assert list(labels(found).values()) == ["a:1", "b", "a:2"]


def test_variable_of_ours_beats_bao_beats_vault_and_empty_is_not_set() -> None:
    environ = {"VAULT_ADDR": "v", "BAO_ADDR": "b", "BAOHA_ADDR": ""}
    found = lookup(environ, "ADDR")
    assert found is not None
    assert (found.value, found.name) == ("b", "BAO_ADDR")


@pytest.mark.parametrize("value", ["a b", "a\nX-Header: 1", "é", "a\x00"])
def test_token_that_no_header_can_carry_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        find_token({"BAO_TOKEN": value})
    assert value not in caught.value.message
    assert "BAO_TOKEN" in caught.value.message


def test_token_from_stdin_is_its_first_line() -> None:
    token = find_token({}, stdin=io.StringIO("s.one\ns.two\n"), flag="-")
    assert token is not None
    assert token.value == "s.one"
    assert "s.one" not in repr(token)


def test_token_from_stdin_that_is_no_text_is_refused() -> None:
    with pytest.raises(CommandFailed, match="standard input holds no token"):
        find_token({}, stdin=io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"), flag="-")


def test_stderr_gets_no_control_characters() -> None:
    stderr = io.StringIO()
    Output(stdout=None, stderr=stderr).error("its version \x1b[2J is older")
    assert stderr.getvalue() == "its version \\x1b[2J is older\n"


@pytest.mark.parametrize("settings", [{"bao_field": "a"}, {"field": "a"}, {"chosen": Format.TSV}])
def test_value_on_a_terminal_has_no_control_characters_and_a_pipe_gets_it_as_it_is(
    settings: dict[str, Any],
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    document = Document({"a": "x\x1b[2Jy\nz"}, lambda _: "")
    for stdout, is_plain in ((Terminal(), False), (io.StringIO(), True)):
        Output(stdout=stdout, stderr=None, **settings).emit(document)
        assert ("\x1b" in stdout.getvalue()) is is_plain


def test_token_file_is_written_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / ".vault-token"
    store_token(path, "s.abc")
    store_token(path, "s.def")
    assert path.read_text() == "s.def"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CommandFailed):
        store_token(tmp_path / "missing" / "file", "s.x")
