"""Policies are parsed once, outside the event loop, and within bounds."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import trio

from baoha.core.access.policy_rules import (
    ACL_RULES_MAX,
    BLOCKS_MAX,
    COMPARED_CHARS_MAX,
    TEXT_CHARS_MAX,
    RuleCache,
    keeps_to,
    make_acl,
)
from baoha.errors import InvalidRequest, PermissionDenied
from baoha.sansio.policy import PolicyError, Rule, parse_policy
from tests.support.held import held
from tests.support.logical import open_logical

TEXT = 'path "secret/*" { capabilities = ["read"] }\n'
LARGE = TEXT + "#" * 10_000


def blocks(count: int) -> str:
    return "".join(f'path "a/{number}" {{ policy = "read" }}\n' for number in range(count))


@pytest.mark.parametrize("text", [TEXT, LARGE])
async def test_rules_of_a_text_are_made_once(text: str) -> None:
    cache = RuleCache()

    first = await cache.rules(text)

    assert first == parse_policy(text)
    assert await cache.rules(text) is first


async def test_rules_wanted_by_many_at_once_are_made_once() -> None:
    cache = RuleCache()
    found: list[tuple[Rule, ...]] = []

    async def want() -> None:
        found.append(await cache.rules(LARGE))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(want)

    assert len(found) == 20
    assert len({id(rules) for rules in found}) == 1


async def test_rules_wanted_again_after_the_first_client_left_are_made() -> None:
    cache = RuleCache()
    with trio.CancelScope() as scope:
        scope.cancel()
        await cache.rules(LARGE)

    assert await cache.rules(LARGE) == parse_policy(LARGE)


async def test_rules_that_are_kept_are_bounded_the_oldest_go_first() -> None:
    cache = RuleCache()
    texts = [TEXT + f"# {number}\n" + "#" * 60_000 for number in range(100)]
    first = [await cache.rules(text) for text in texts]

    assert await cache.rules(texts[-1]) is first[-1]
    assert await cache.rules(texts[0]) is not first[0]


async def test_forgotten_rules_are_made_anew() -> None:
    cache = RuleCache()
    first = await cache.rules(TEXT)
    cache.forget()

    assert await cache.rules(TEXT) is not first


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (blocks(BLOCKS_MAX), ""),
        (blocks(BLOCKS_MAX + 1), f"failed to parse policy: more than {BLOCKS_MAX} path blocks"),
        (TEXT + "#" * (TEXT_CHARS_MAX - len(TEXT)), ""),
        (
            TEXT + "#" * (TEXT_CHARS_MAX - len(TEXT) + 1),
            f"policy is longer than {TEXT_CHARS_MAX} characters",
        ),
    ],
)
async def test_policy_beyond_any_use_is_refused_when_it_is_written(text: str, refusal: str) -> None:
    logical = await open_logical()
    if not refusal:
        await logical.call("PUT", "sys/policies/acl/p", {"policy": text})
        return
    with pytest.raises(InvalidRequest) as caught:
        await logical.call("PUT", "sys/policies/acl/p", {"policy": text})

    assert caught.value.errors == (refusal,)


async def test_policy_that_was_stored_before_there_was_a_bound_still_counts() -> None:
    assert len(await RuleCache().rules(blocks(BLOCKS_MAX + 1))) == BLOCKS_MAX + 1


@pytest.mark.parametrize("count", [1, 2, 10, 11, 10_000])
def test_policy_with_many_faults_names_ten(count: int) -> None:
    text = 'path "a" {\n' + "x = 1\n" * count + "}"

    with pytest.raises(PolicyError) as caught:
        parse_policy(text)

    message = str(caught.value)
    assert message.count("invalid key") == min(count, 10)
    counted = {1: "1 error occurred", 2: "2 errors occurred", 10: "10 errors occurred"}
    assert counted.get(count, "more than 10 errors occurred") in message


async def test_token_with_more_rules_than_can_be_asked_is_refused() -> None:
    rules = [
        Rule(path=f"a/{number}", is_prefix=False, capabilities=frozenset({"read"}))
        for number in range(ACL_RULES_MAX + 1)
    ]

    acl = await make_acl(rules[:-1])
    assert acl.decide("read", f"a/{ACL_RULES_MAX - 1}").allowed
    with pytest.raises(PermissionDenied):
        await make_acl(rules)


def restricted(**rules: str) -> Rule:
    listed = "".join(f"{name} = {{ {values} }}\n" for name, values in rules.items())
    return parse_policy(f'path "a" {{ capabilities = ["update"]\n{listed} }}')[0]


@pytest.mark.parametrize("chars", [100, 3 * 1024 * 1024])
@pytest.mark.parametrize(
    ("value", "is_there"), [("needle", True), ("needl", False), ("x", True), ("", False)]
)
async def test_text_of_any_length_is_compared_with_a_glob(
    chars: int, value: str, is_there: bool
) -> None:
    rule = restricted(allowed_parameters='"v" = ["*needle*", "*x"]')

    for before in (0, 1024 * 1024 - 3, chars):
        data = {"v": "." * before + value}
        assert await keeps_to(rule, data) is is_there

    assert await keeps_to(rule, {"v": "." * chars + "needle" + "." * chars})


async def test_large_parameters_are_compared_outside_the_event_loop() -> None:
    rule = restricted(denied_parameters='"v" = [' + '"*a*",' * 40 + "]")
    here = threading.get_ident()
    threads: set[int] = set()

    class Watched(str):
        __slots__ = ()

        def find(self, *args: object) -> int:
            threads.add(threading.get_ident())
            return super().find(*args)  # type: ignore[arg-type]

    assert await keeps_to(rule, {"v": Watched("." * 1024 * 1024)})

    assert threads
    assert here not in threads


@pytest.mark.parametrize("kind", ["allowed_parameters", "denied_parameters"])
@pytest.mark.parametrize(
    "data",
    [
        {"v": "." * (COMPARED_CHARS_MAX // 1000)},
        {f"v{number}": "." * 30_000 for number in range(10)} | {"v": "." * 300_000},
        {f"V{number}": number for number in range(3000)},
    ],
)
async def test_parameters_too_large_to_be_compared_are_refused(
    kind: str, data: dict[str, object]
) -> None:
    names = ["v", *(f"v{number}" for number in range(3000))] if len(data) > 11 else [*data]
    listed = ",".join(f'"*{number:x}*"' for number in range(1001))
    rule = restricted(**{kind: f'"*" = [{listed}]'})
    if kind == "denied_parameters":
        values = tuple(f"*{number:x}*" for number in range(1001))
        rule = replace(rule, denied=dict.fromkeys(names, values))

    with pytest.raises(PermissionDenied):
        await keeps_to(rule, data)


async def test_caches_dropped_on_a_change_of_the_active_node_parse_nothing_again() -> None:
    logical = await open_logical()
    store = logical.policies
    await logical.call("PUT", "sys/policies/acl/p", {"policy": LARGE})
    (before,) = held(store, Rule)
    await logical.core.load()
    await store.acl(["p"])

    (after,) = held(store, Rule)
    assert after is before

    logical.core.wipe()
    assert held(store, Rule) == []
    await store.acl(["p"])
    (anew,) = held(store, Rule)
    assert anew is not before
