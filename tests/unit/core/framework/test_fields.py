"""Fields of requests, converted as OpenBao 2.7.2 was measured to convert them."""

from __future__ import annotations

from typing import Any

import pytest

from baoha.core.framework.fields import FieldError, FieldKind, convert
from baoha.errors import InvalidRequest
from tests.support.logical import open_logical

SYNTAX = "'' cannot parse value as 'int': strconv.ParseInt: invalid syntax"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, 0),
        ("", 0),
        (5, 5),
        (True, 1),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0x1F", 31),
        ("017", 15),
        ("1_000", 1000),
    ],
)
def test_integer_known_spellings_are_read(value: Any, number: int) -> None:
    assert convert(FieldKind.INT, "n", value) == number


@pytest.mark.parametrize(
    "value", [" 5", "5 ", "\n5", "५", "1e3", "1.5", 1.5, "--5", "0x", "09", "x", "9" * 5000]
)
def test_integer_other_spellings_are_refused(value: Any) -> None:
    with pytest.raises(FieldError) as caught:
        convert(FieldKind.INT, "n", value)

    assert str(caught.value) == f'error converting input for field "n": {SYNTAX}'


BOOL_SYNTAX = "'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax"


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        *((value, True) for value in (True, 1, "1", "t", "T", "TRUE", "true", "True")),
        *((value, False) for value in (False, 0, "0", "f", "F", "FALSE", "false", "False")),
        *((value, False) for value in (None, "", [], {})),
    ],
)
def test_bool_known_spellings_are_read(value: Any, truth: bool) -> None:
    assert convert(FieldKind.BOOL, "b", value) is truth


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        *((value, BOOL_SYNTAX) for value in (2, -1, 10**20, 1.0, 0.0, -0.0, 1.5)),
        *((value, BOOL_SYNTAX) for value in ("2", "tRUE", "yes", "on", " true", "1.0", "01")),
        (["x"], "'' expected type 'bool', got unconvertible type '[]interface {}'"),
        ([True], "'' expected type 'bool', got unconvertible type '[]interface {}'"),
        ({"a": 1}, "'' expected type 'bool', got unconvertible type 'map[string]interface {}'"),
    ],
)
def test_bool_other_spellings_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(FieldError) as caught:
        convert(FieldKind.BOOL, "b", value)

    assert str(caught.value) == f'error converting input for field "b": {problem}'


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("POST", "secret/config", {}, "cas_required"),
        ("POST", "secret/config", {}, "metadata_cas_required"),
        ("POST", "secret/metadata/a", {}, "cas_required"),
        ("PATCH", "secret/metadata/a", {}, "metadata_cas_required"),
        ("POST", "sys/mounts/m", {"type": "kv"}, "local"),
        ("POST", "sys/mounts/m", {"type": "kv"}, "seal_wrap"),
        ("POST", "sys/mounts/m", {"type": "kv"}, "external_entropy_access"),
        ("POST", "auth/token/create", {}, "renewable"),
        ("POST", "auth/token/create", {}, "no_parent"),
        ("POST", "auth/token/create", {}, "no_default_policy"),
        ("POST", "sys/policies/acl/p", {"policy": 'path "a" {}'}, "cas_required"),
        ("POST", "sys/rotate/config", {}, "enabled"),
    ],
)
@pytest.mark.parametrize("value", [2, -1, 1.0, 0.0])
async def test_bool_of_every_endpoint_a_number_is_none(
    method: str, path: str, body: dict[str, Any], name: str, value: float
) -> None:
    logical = await open_logical()
    with pytest.raises(InvalidRequest, match="cannot parse value as 'bool'"):
        await logical.call(method, path, body | {name: value})


@pytest.mark.parametrize(("value", "seconds"), [(None, 0), (60, 60), ("60", 60), ("1.5h", 5400)])
def test_duration_known_spellings_are_read(value: Any, seconds: int) -> None:
    assert convert(FieldKind.DURATION, "d", value) == seconds


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1.5, 'time: missing unit in duration "1.5"'),
        (2.0, 'time: missing unit in duration "2.0"'),
        (" 5", 'time: invalid duration " 5"'),
        ("5 ", 'time: unknown unit " " in duration "5 "'),
        ("5s ", 'time: unknown unit "s " in duration "5s "'),
        (True, "could not parse duration from input"),
        (-1, "cannot provide negative value '-1'"),
    ],
)
def test_duration_other_spellings_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(FieldError) as caught:
        convert(FieldKind.DURATION, "d", value)

    assert str(caught.value) == f'error converting input for field "d": {problem}'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ([], {}),
        ([{"a": 1}, {"b": 2}, {"a": 3}], {"a": 3, "b": 2}),
        ([[{"a": 1}], [[]]], {"a": 1}),
    ],
)
def test_map_lists_of_objects_are_merged(value: Any, expected: dict[str, Any]) -> None:
    assert convert(FieldKind.MAP, "m", value) == expected


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        (1, "", "json.Number"),
        ([1], "[0]", "json.Number"),
        ([{"a": 1}, 5], "[1]", "json.Number"),
        ([[["x"]]], "[0][0][0]", "string"),
    ],
)
def test_map_other_values_are_refused_with_their_place(value: Any, place: str, kind: str) -> None:
    with pytest.raises(FieldError) as caught:
        convert(FieldKind.MAP, "m", value)

    assert str(caught.value) == (
        f"error converting input for field \"m\": '{place}' expected type "
        f"'map[string]interface {{}}', got unconvertible type '{kind}'"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1, "b": None, "c": True}, {"a": "1", "b": "", "c": "1"}),
        ("a=b", {"a": "b"}),
        (["a=b", "c=d=e"], {"a": "b", "c": "d=e"}),
        ([{"a": 1}, [{"b": 2}]], {"a": "1", "b": "2"}),
    ],
)
def test_pairs_are_read_from_objects_and_texts(value: Any, expected: dict[str, str]) -> None:
    assert convert(FieldKind.PAIRS, "p", value) == expected


@pytest.mark.parametrize("value", [{"a": [1]}, [{"a": [1]}], [{"a": 1}, "b=c"]])
def test_pairs_other_values_are_refused_as_texts(value: Any) -> None:
    with pytest.raises(FieldError) as caught:
        convert(FieldKind.PAIRS, "p", value)

    assert str(caught.value) == (
        'error converting input for field "p": decoding failed due to the following error(s):'
        "\n\n'[0]' expected type 'string', got unconvertible type 'map[string]interface {}'"
    )
