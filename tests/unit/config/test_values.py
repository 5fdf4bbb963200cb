"""Converters of single values, seal keys, address templates and the parts of addresses."""

from __future__ import annotations

import base64
import ipaddress
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.config import values
from baoha.config.host_addresses import read_host_addresses
from baoha.config.seal_keys import read_key
from baoha.config.sockaddr import HostAddress, render
from baoha.config.values import BadValue
from baoha.errors import ConfigError
from baoha.sansio.formats.hcl import Block, Value, parse
from baoha.sansio.urls import join_host_port, next_port, split_host_port, split_url

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("2d", 172_800.0),
        ("1h", 3600.0),
    ],
)
def test_duration_in_any_form_is_seconds(value: Value, seconds: float) -> None:
    assert values.to_duration_s(value) == seconds


@pytest.mark.parametrize(
    "value", ["5x", "", "  ", "-5s", -1, math.nan, math.inf, True, [], Block(()), 10**12, "9" * 400]
)
def test_duration_that_is_none_is_refused(value: Value) -> None:
    with pytest.raises(BadValue, match="must be a duration"):
        values.to_duration_s(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (7, 7),
        ("33554432", 33_554_432),
        ("32MiB", 32 * 1024**2),
        ("1 kb", 1000),
        ("2GB", 2e9),
    ],
)
def test_size_in_any_form_is_bytes(value: Value, size: int) -> None:
    assert values.to_size(value) == size


@pytest.mark.parametrize("value", [-1, "1.5MB", "1XB", "", True, 2.0, [], "99999999999999999TiB"])
def test_size_that_is_none_is_refused(value: Value) -> None:
    with pytest.raises(BadValue, match="must be a size"):
        values.to_size(value)


def test_limit_of_zero_is_refused() -> None:
    assert values.to_limit("1KiB") == 1024
    with pytest.raises(BadValue, match="above zero"):
        values.to_limit(0)


@pytest.mark.parametrize("value", [True, 1, 2, -1, 1.5, "1", "t", "T", "true", "TRUE", "True"])
def test_bool_that_is_true_in_go_is_true(value: Value) -> None:
    assert values.to_bool(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "", "0", "f", "F", "false", "FALSE", "False"])
def test_bool_that_is_false_in_go_is_false(value: Value) -> None:
    assert values.to_bool(value) is False


@pytest.mark.parametrize("value", ["yes", "tRUE", "2", [], Block(())])
def test_bool_that_is_none_is_refused(value: Value) -> None:
    with pytest.raises(BadValue, match="true or false"):
        values.to_bool(value)


def test_count_is_a_whole_number_or_its_digits() -> None:
    assert values.to_count("12") == 12
    assert values.to_positive(1) == 1
    for value in (-1, "-1", "x", 1.0, True, "9" * 30):
        with pytest.raises(BadValue):
            values.to_count(value)
    with pytest.raises(BadValue, match="above zero"):
        values.to_positive(0)


def test_text_is_text_or_a_number_without_control_characters() -> None:
    assert values.to_text("a b") == "a b"
    assert values.to_text(5) == "5"
    for value in (True, [], Block(()), "a\nb", "a\x00", "a\x7f"):
        with pytest.raises(BadValue):
            values.to_text(value)


def test_texts_are_a_list_or_one_text_with_commas() -> None:
    assert values.to_texts(["a", "b, c"]) == ("a", "b", "c")
    assert values.to_texts(" a , b,") == ("a", "b")
    for value in (5, [5], [["a"]]):
        with pytest.raises(BadValue):
            values.to_texts(value)


def test_networks_are_addresses_or_ranges() -> None:
    assert values.to_networks("10.0.0.1/8, ::1") == ("10.0.0.1/8", "::1")
    with pytest.raises(BadValue, match="CIDR"):
        values.to_networks("10.0.0.0/99")


def test_file_mode_is_octal_text() -> None:
    assert values.to_file_mode("0640") == 0o640
    assert values.to_file_mode("644") == 0o644
    assert values.to_file_mode("0o600") == 0o600
    for value in ("0999", 640, "rw", "", "7777777"):
        with pytest.raises(BadValue):
            values.to_file_mode(value)


def test_choice_ignores_case_and_names_the_words() -> None:
    kind = values.choice("info", "warn")
    assert kind.convert("WARN") == "warn"
    with pytest.raises(BadValue, match="must be one of info, warn"):
        kind.convert("nope")


@pytest.mark.parametrize(
    "text",
    [
        'h { "default" = { "X-A" = ["b", "c"] } "2xx" { "X-D" = ["e"] } }',
        '{"h": {"default": {"X-A": ["b", "c"]}, "2xx": {"X-D": ["e"]}}}',
        '{"h": [{"default": [{"X-A": ["b", "c"]}]}, {"2xx": {"X-D": ["e"]}}]}',
    ],
)
def test_response_headers_are_grouped_by_status(text: str) -> None:
    headers = values.to_response_headers(parse(text).items[0].value)
    assert {key: dict(group) for key, group in headers.items()} == {
        "default": {"X-A": ("b", "c")},
        "2xx": {"X-D": ("e",)},
    }


@pytest.mark.parametrize(
    "text",
    [
        "h = 1",
        'h { "default" = 1 }',
        'h { "9xx" = { "A" = ["b"] } }',
        'h { "default" = { "A" = "b" } }',
        'h { "default" = { "A b" = ["b"] } }',
        'h { "default" = { "X-Vault-Token" = ["b"] } }',
        'h { "default" = { "A" = ["b\\r\\nC: d"] } }',
        'h { "default" = { "A" = [1, true] } }',
    ],
)
def test_response_headers_that_cannot_be_sent_are_refused(text: str) -> None:
    with pytest.raises(BadValue):
        values.to_response_headers(parse(text).items[0].value)


_ANY_VALUE = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(_ANY_VALUE)
def test_any_value_is_converted_or_a_bad_value(value: Value) -> None:
    kinds = (values.TEXT, values.BOOL, values.COUNT, values.POSITIVE, values.DURATION, values.SIZE)
    more = (values.TEXTS, values.NETWORKS, values.FILE_MODE, values.RESPONSE_HEADERS, values.LIMIT)
    for kind in (*kinds, *more):
        refused = ""
        try:
            kind.convert(value)
        except BadValue as exc:
            refused = str(exc)
        if isinstance(value, str) and len(value) > 8:
            assert value not in refused


# --- seal keys ----------------------------------------------------------------------------------


def test_key_in_any_form_is_its_bytes(tmp_path: Path) -> None:
    text = base64.b64encode(KEY).decode()
    (tmp_path / "raw").write_bytes(KEY)
    (tmp_path / "text").write_text(text + "\n")
    (tmp_path / "hex").write_text(KEY.hex())
    environ = {"K": text}
    urlsafe = base64.urlsafe_b64encode(KEY).decode()
    forms = [text, text.rstrip("="), urlsafe, KEY.hex(), KEY.hex().upper(), "env://K"]
    forms += [f"file://{tmp_path}/{name}" for name in ("raw", "text", "hex")]
    assert [read_key(form, environ) for form in forms] == [KEY] * len(forms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2hvcnQ=",
        base64.b64encode(b"x" * 31).decode(),
        "ab" * 31,
        "not base64 at all!",
        "é" * 32,
    ],
)
def test_key_of_another_length_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(BadValue, match="must be base64 or hex of 32 bytes") as caught:
        read_key(text, {})
    assert not text or text not in str(caught.value)


def test_key_that_points_nowhere_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="variable NO_SUCH, which is not set"):
        read_key("env://NO_SUCH", {})
    with pytest.raises(BadValue, match="No such file"):
        read_key(f"file://{tmp_path}/none", {})
    (tmp_path / "junk").write_bytes(b"\xff" * 40)
    with pytest.raises(BadValue, match="32 bytes"):
        read_key(f"file://{tmp_path}/junk", {})
    with pytest.raises(BadValue, match="not a path"):
        read_key("file://\x00", {})


# --- templates ----------------------------------------------------------------------------------

HOST = [
    HostAddress(interface="lo", ip=ipaddress.ip_address("127.0.0.1")),
    HostAddress(interface="eth0", ip=ipaddress.ip_address("10.1.2.3"), default_route=True),
    HostAddress(interface="eth0", ip=ipaddress.ip_address("fe80::1"), default_route=True),
    HostAddress(interface="eth1", ip=ipaddress.ip_address("8.8.4.4"), default_route=True),
    HostAddress(interface="six", ip=ipaddress.ip_address("2001:db9::5")),
    HostAddress(interface="two", ip=ipaddress.ip_address("192.168.0.9")),
    HostAddress(interface="two", ip=ipaddress.ip_address("192.168.0.8")),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a:8200", "https://a:8200"),
        ("https://{{ GetPrivateIP }}:8200", "https://10.1.2.3:8200"),
        ("{{GetPublicIP}}:1", "8.8.4.4:1"),
        ('{{ GetInterfaceIP "eth0" }}:1', "10.1.2.3:1"),
        ('{{ GetInterfaceIP "six" }}:1', "[2001:db9::5]:1"),
        ('{{ GetInterfaceIP "two" }}:1', "192.168.0.8:1"),
        ('{{ GetInterfaceIP "lo" }}:1', "127.0.0.1:1"),
        ("{{ GetPrivateIPs }}:1", "10.1.2.3:1"),
        ('{{ GetAllInterfaces | include "name" "eth1" | attr "address" }}:1', "8.8.4.4:1"),
    ],
)
def test_template_gives_one_address(text: str, expected: str) -> None:
    assert render(text, "api_addr", lambda: HOST) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ GetPrivateIP }}", 'api_addr: template "GetPrivateIP" gives no address on this host'),
        ('{{ GetInterfaceIP "no" }}', "gives no address"),
        ("{{ GetInterfaceIP }}", "is not supported; supported are: GetPrivateIP, "),
        ("{{ Nonsense }}", 'template "Nonsense" is not supported'),
        ("{{ }}", 'template "" is not supported'),
        ('{{ GetPrivateIP "eth0" }}', "is not supported"),
        ("{{ GetAllInterfaces | sort }}", "is not supported"),
    ],
)
def test_template_that_gives_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render(text, "api_addr", lambda: HOST[:1])
    assert message in str(caught.value)
    assert caught.value.code == "BH-111"


def test_template_that_gives_several_addresses_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        render('{{ GetInterfaceIPs "two" }}', "api_addr", lambda: HOST)
    assert 'multiple addresses found ("192.168.0.8 192.168.0.9"), please configure one' in str(
        caught.value
    )


def test_host_addresses_of_this_host_have_loopback() -> None:
    found = read_host_addresses()
    assert any(one.ip.is_loopback and one.interface == "lo" for one in found)


# --- parts of addresses -------------------------------------------------------------------------


def test_url_of_every_shape_is_taken_apart() -> None:
    address = split_url("https://user:pw@[2001:db8::1]:8200/x?y")
    assert (address.scheme, address.host, address.port) == ("https", "2001:db8::1", 8200)
    assert (address.userinfo, address.tail) == (True, "/x?y")
    assert split_url("http://a/").tail == ""
    assert split_url("127.0.0.1:8200").scheme == ""
    assert split_url("https://a:").port is None
    assert split_url("https://a:99999").port is None
    assert split_url("https://2001:db8::1").unbracketed
    assert split_url("https://[::1]x").junk == "x"
    assert split_host_port(":8200").port == 8200


@given(st.text(max_size=60))
def test_any_text_is_taken_apart(text: str) -> None:
    for address in (split_url(text), split_host_port(text)):
        assert address.port is None or 0 <= address.port <= 65_535
        assert address.ip is None or address.host


def test_host_and_port_are_joined_with_brackets_where_needed() -> None:
    assert join_host_port("::1", 1) == "[::1]:1"
    assert join_host_port("a", 1) == "a:1"
    assert (next_port(8200), next_port(0)) == (8201, 0)
