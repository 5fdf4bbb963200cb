"""Configuration files as text: malformed ones, the lines of keys, and any input at all."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baoha.config import ServerConfig, build, check_addresses, effective, parse_document
from baoha.errors import ConfigError

BASE = """
[storage.sqlite]
path = "x.db"
[[listener.tcp]]
tls_disable = true
"""


def refusal_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build([parse_document(text, "x.toml")], {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.toml", "a = ", "x.toml:1:5: Invalid value"),
        ("x.toml", "a = 1979-05-27", "x.toml:1: dates and times are not values here"),
        ("x.toml", "a = " + "[" * 5000, "x.toml"),
        ("x.toml", "a = " + "9" * 5000, "x.toml: not valid TOML"),
        ("x.toml", ".".join("a" * 100) + " = 1", "x.toml: document is nested too deeply"),
        ("x.toml", "a = " + "[" * 100 + "]" * 100, "x.toml: document is nested too deeply"),
        ("x.hcl", "a = ", "x.hcl:1:5: "),
        ("x.hcl", "current_key = s3cr3t", "x.hcl:1:15: value is not quoted"),
        ("x.json", '{"a": }', "x.json:1:7: "),
        ("x", "a = [", "x:1:6: "),
    ],
)
def test_malformed_file_is_refused_with_its_place(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, name)
    assert str(caught.value).startswith(message)
    assert "s3cr3t" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_refused() -> None:
    for name in ("x.toml", "x.hcl"):
        with pytest.raises(ConfigError, match="illegal UTF-8 encoding"):
            parse_document(b"# \xff", name)


def test_lines_of_toml_keys_are_found_in_every_position() -> None:
    text = (
        'note = """\nlog_level = 1\n"""\n'  # not an assignment: inside a string
        "[[listener.tcp]]\ntls_disable = true\n[[listener.tcp]]\n"
        "tls_disable = true\n'wrong key' = 1\n"
    )
    assert refusal_of(text[text.index("[[") :]).startswith(
        'x.toml:5: unknown key "listener.2.wrong'
    )
    assert refusal_of(text).startswith('x.toml:1: unknown key "note"')
    inline = "ha = { park = 1,\n  lok = 2 }"
    assert refusal_of(inline).startswith('x.toml:1: unknown key "ha.lok"')


_KEYS = ["api_addr", "storage", "ha_storage", "listener", "seal", "ha", "log_level", "tcp", "unix"]
_KEYS += ["static", "inmem", "tls_disable", "address", "current_key", "lock_ttl", "x", "raft"]
_LEAVES = (
    st.booleans()
    | st.integers(-5, 9999)
    | st.sampled_from(["", "127.0.0.1:1", "http://a:1", "1s", "true", "{{ X }}", "env://X"])
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4) | st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)


def _hcl(tree: object) -> str:
    if isinstance(tree, dict):
        return "{ " + " ".join(f"{key} = {_hcl(value)}" for key, value in tree.items()) + " }"
    if isinstance(tree, list):
        return "[" + ", ".join(_hcl(value) for value in tree) + "]"
    if isinstance(tree, str):
        return f'"{tree}"'
    return str(tree).lower()


@given(st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=6), st.booleans())
@settings(max_examples=300)
def test_any_tree_gives_a_configuration_or_a_configuration_error(
    tree: dict[str, object], usable: bool
) -> None:
    hcl = "\n".join(f"{key} = {_hcl(value)}" for key, value in tree.items())
    toml = "\n".join(f"{key} = {_toml(value)}" for key, value in tree.items())
    for text, name in ((hcl, "x.hcl"), (toml, "x.toml"), (json.dumps(tree), "x.json")):
        documents = [parse_document(BASE, "base.toml")] if usable else []
        try:
            config = build([*documents, parse_document(text, name)], {})
        except ConfigError:
            continue
        assert check_addresses(config, lambda _: True) is not None
        assert len(effective(config)) > len(fields(ServerConfig))


def _toml(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key} = {_toml(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(_toml(value) for value in tree) + "]"
    return _hcl(tree)


@given(st.binary(max_size=100), st.sampled_from(["x.toml", "x.hcl", "x.json"]))
def test_any_bytes_give_a_document_or_a_configuration_error(source: bytes, name: str) -> None:
    message = name
    try:
        parse_document(source, name)
    except ConfigError as exc:
        message = str(exc)
    assert message.startswith(name)
