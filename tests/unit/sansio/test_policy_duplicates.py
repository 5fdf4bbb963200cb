"""
What a policy means that sets a key twice, and which values its parameter rules match.

Every verdict was measured on OpenBao 2.7.2: the policy was written there, and a token that has it
alone sent the requests.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from baoha.sansio.policy import ACL, PolicyError, parse_policy

ALL = ("create", "read", "update")
WRITES: tuple[dict[str, Any], ...] = (
    {"a": "1"},
    {"a": "2"},
    {"b": "2"},
    {"b": "1"},
    {"a": "1", "b": "2"},
    {"z": "5"},
    {"a": "9", "z": "6"},
    {"A": "1"},
)
# name: (the block, what is granted, which of WRITES pass: one digit each)
ONE_BLOCK = {
    "deny, then a grant": ('capabilities=["deny"]|capabilities=["read","update"]', "", "00000000"),
    "a grant, then deny": ('capabilities=["read","update"]|capabilities=["deny"]', "", "00000000"),
    "deny, then nothing": ('capabilities=["deny"]|capabilities=[]', "", "00000000"),
    "deny, then a quoted key": (
        'capabilities=["deny"]|"capabilities"=["read","update"]',
        "",
        "00000000",
    ),
    "deny three times": (
        'capabilities=["read"]|capabilities=["deny"]|capabilities=["update"]',
        "",
        "00000000",
    ),
    "two grants": ('capabilities=["read"]|capabilities=["update"]', "read update", "11111111"),
    "three grants": (
        'capabilities=["read"]|capabilities=["update"]|capabilities=["create"]',
        "create read update",
        "11111111",
    ),
    "a text is set twice": (
        'policy="deny"|policy="write"',
        "create delete list read update",
        "11111111",
    ),
    "a text, the other order": ('policy="write"|policy="deny"', "", "00000000"),
    "a text beside a list": ('policy="deny"|capabilities=["read","update"]', "", "00000000"),
    "allowed, two maps": (
        'capabilities=["update"]|allowed_parameters={"a"=["1"]}|allowed_parameters={"b"=["2"]}',
        "update",
        "10101001",
    ),
    "allowed, one name twice": (
        'capabilities=["update"]|allowed_parameters={"a"=["1"]}|allowed_parameters={"a"=["2"]}',
        "update",
        "11000001",
    ),
    "allowed, one name twice in one map": (
        'capabilities=["update"]|allowed_parameters={"a"=["1"]|"a"=["2"]}',
        "update",
        "11000001",
    ),
    "allowed, as blocks": (
        'capabilities=["update"]|allowed_parameters {"a"=["1"]}|allowed_parameters {"b"=["2"]}',
        "update",
        "10101001",
    ),
    "allowed, nothing and a value": (
        'capabilities=["update"]|allowed_parameters={"a"=[]}|allowed_parameters={"a"=["2"]}',
        "update",
        "01000000",
    ),
    "denied, two maps": (
        'capabilities=["update"]|denied_parameters={"a"=["1"]}|denied_parameters={"b"=["2"]}',
        "update",
        "01010110",
    ),
    "denied, one name twice": (
        'capabilities=["update"]|denied_parameters={"a"=["1"]}|denied_parameters={"a"=["2"]}',
        "update",
        "00110110",
    ),
    "denied, everything and a value": (
        'capabilities=["update"]|denied_parameters={"*"=[]}|denied_parameters={"a"=["1"]}',
        "update",
        "00000000",
    ),
    "required, two lists": (
        'capabilities=["update"]|required_parameters=["a"]|required_parameters=["b"]',
        "update",
        "00001000",
    ),
}
# The same as JSON objects, where a key may stand twice, too.
JSON_OBJECTS = {
    "deny, then a grant": (
        '{"capabilities":["deny"],"capabilities":["read","update"]}',
        "",
        "00000000",
    ),
    "allowed, two maps": (
        '{"capabilities":["update"],"allowed_parameters":{"a":["1"]},"allowed_parameters":{"b":["2"]}}',
        "update",
        "10101001",
    ),
    "allowed, a list of maps": (
        '{"capabilities":["update"],"allowed_parameters":[{"a":["1"]},{"b":["2"]}]}',
        "update",
        "10101001",
    ),
    "denied, a list of maps": (
        '{"capabilities":["update"],"denied_parameters":[{"a":["1"]},{"a":["2"]}]}',
        "update",
        "00110110",
    ),
    "a list in a list is part of it": (
        '{"capabilities":["update"],"allowed_parameters":{"a":[["1"]]}}',
        "update",
        "10000001",
    ),
}
POLICIES = {
    **{
        f"HCL: {name}": (f'path "p" {{\n{block}\n}}'.replace("|", "\n"), *rest)
        for name, (block, *rest) in ONE_BLOCK.items()
    },
    **{
        f"JSON: {name}": (f'{{"path":{{"p":{text}}}}}', *rest)
        for name, (text, *rest) in JSON_OBJECTS.items()
    },
}


@pytest.mark.parametrize("name", POLICIES)
def test_decide_a_key_set_twice_is_added_up(name: str) -> None:
    text, granted, passing = POLICIES[name]
    acl = ACL(parse_policy(text))

    assert acl.capabilities("p") == (granted.split() or ["deny"])
    assert acl.decide("read", "p").allowed == ("read" in granted)
    passed = "".join(str(int(acl.decide("update", "p", data).allowed)) for data in WRITES)
    assert passed == passing


@pytest.mark.parametrize(
    "block",
    [
        'capabilities="deny"\ncapabilities=["read"]',
        'capabilities=["read"]\ncapabilities="deny"',
        'required_parameters="a"\nrequired_parameters=["a"]',
        'allowed_parameters={"a"="1"}\nallowed_parameters={"a"=["1"]}',
        'allowed_parameters=["a"]\nallowed_parameters={"a"=["1"]}',
        'allowed_parameters=[{"a"=["1"]}]',
        'denied_parameters={"a"=["1"]}\ndenied_parameters=""',
    ],
)
def test_parse_policy_refuses_a_wrong_value_wherever_it_stands(block: str) -> None:
    with pytest.raises(PolicyError, match="must be"):
        parse_policy(f'path "p" {{\n{block}\n}}')


# OpenBao takes one of the two by chance; a deny must not hang on that.
def test_decide_two_spellings_of_a_parameter_are_added_up() -> None:
    acl = ACL(
        parse_policy('path "p" { capabilities=["update"] denied_parameters={"a"=["1"] "A"=["2"]} }')
    )

    verdicts = [acl.decide("update", "p", {"a": value}).allowed for value in ("1", "2", "3")]
    assert verdicts == [False, False, True]


# --- values -------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(1, 1.0, 1.5, -1, 0, 10, 15, True, False, None),
    *("1", "1.5", "true", "x", "xa", "ax", "axa", "", "*", "**", "***", "text", "X", "null"),
    *("axby", "abc", "ac", "map[a:b]", "[x]"),
    *(["x"], [], [1], [True], ["x", "y"], [["x"]], [{"a": "b"}], ["xa"], ["x*"], [["x"], "y"]),
    *({"a": "b"}, {}, {"a": {"b": "c"}}, {"a": [{"b": "c"}]}, {"a": ["b"]}, {"a": 1}, {"a": True}),
    *({"a": "xa"}, {"a": "x*"}, {"c": "d", "a": "b"}, {"a": {}}),
)
_TEXTS = tuple(value for value in VALUES if isinstance(value, str))
# A value in a rule, and what it matches.
MATCHES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("1", "1.0", "1.5", "-1", "0", "1e1", "017", "0x1"), ()),
    "true": (True,),
    "false": (False,),
    '"true"': ("true",),
    '"1"': ("1",),
    '"1.5"': ("1.5",),
    '"null"': ("null",),
    '"<nil>"': (),
    '""': ("",),
    '"x"': ("x",),
    '"X"': ("X",),
    '"*"': ("*",),
    '"**"': _TEXTS,
    '"***"': ("*", "**", "***"),
    '"*x"': ("x", "ax"),
    '"x*"': ("x", "xa"),
    '"*x*"': ("x", "xa", "ax", "axa", "text", "axby", "[x]"),
    '"*x*y*"': (),
    '"a*c"': (),
    '"map[a:b]"': ("map[a:b]",),
    '"[x]"': ("[x]",),
    '["x"]': (["x"],),
    '["x*"]': (["x*"],),
    "[]": ([],),
    '[["x"]]': ([["x"]],),
    '[["x"],"y"]': ([["x"], "y"],),
    '["x","y"]': (["x", "y"],),
    "[1]": (),
    "[true]": ([True],),
    '[{a="b"}]': ([{"a": "b"}],),
    '{a="b"}': ({"a": "b"},),
    '{a="b", c="d"}': ({"c": "d", "a": "b"},),
    "{}": ({},),
    '{a={b="c"}}': (),
    "{a={}}": (),
    '{a=["b"]}': ({"a": ["b"]},),
    "{a=1}": (),
    "{a=true}": ({"a": True},),
    '{a="x*"}': ({"a": "x*"},),
}


@pytest.mark.parametrize("pattern", MATCHES)
def test_decide_a_rule_matches_the_values_that_openbao_matches(pattern: str) -> None:
    allowed, denied = (
        ACL(parse_policy(f'path "p" {{ capabilities=["update"] {kind}={{"Q"=[{pattern}]}} }}'))
        for kind in ("allowed_parameters", "denied_parameters")
    )
    expected = [json.dumps(value) for value in VALUES if _is_in(value, MATCHES[pattern])]

    passed = [json.dumps(v) for v in VALUES if allowed.decide("update", "p", {"q": v}).allowed]
    refused = [json.dumps(v) for v in VALUES if not denied.decide("update", "p", {"q": v}).allowed]
    assert (passed, refused) == (expected, expected)


def _is_in(value: Any, values: tuple[Any, ...]) -> bool:
    # As texts: for Python True is 1.
    return json.dumps(value) in map(json.dumps, values)
