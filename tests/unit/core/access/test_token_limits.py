"""The lifetimes that the tuning of the token method allows; measured on OpenBao 2.7.2."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.logical import Logical, open_logical

MINUTE, HOUR = 60, 3600


def capped(wanted: str, most: str = "1h", what: str = "TTL") -> list[str]:
    return [
        f'{what} of "{wanted}" exceeded the effective max_ttl of "{most}"; {what} value is capped '
        "accordingly"
    ]


async def open_tuned(default: str, most: str) -> Logical:
    logical = await open_logical()
    tuning = {"default_lease_ttl": default, "max_lease_ttl": most}
    await logical.call("POST", "sys/auth/token/tune", tuning)
    return logical


# What is asked; lifetime and warnings of the new token; the same when 3 h more are asked.
UNDER_AN_HOUR: list[tuple[dict[str, Any], int, list[str], int, list[str]]] = [
    ({}, 10 * MINUTE, [], HOUR, capped("3h")),
    ({"ttl": "30m"}, 30 * MINUTE, [], HOUR, capped("3h")),
    ({"ttl": "2h"}, HOUR, capped("2h"), HOUR, capped("3h")),
    ({"explicit_max_ttl": "2h"}, 10 * MINUTE, [], HOUR, capped("3h")),
    ({"explicit_max_ttl": "30m"}, 10 * MINUTE, [], 30 * MINUTE, capped("3h", "30m")),
    (
        {"explicit_max_ttl": "5m"},
        5 * MINUTE,
        capped("10m", "5m"),
        5 * MINUTE,
        capped("3h", "5m"),
    ),
    ({"explicit_max_ttl": "2h", "ttl": "90m"}, HOUR, capped("1h30m"), HOUR, capped("3h")),
    ({"period": "30m"}, 30 * MINUTE, [], 30 * MINUTE, []),
    ({"period": "2h"}, HOUR, capped("2h", what="period"), HOUR, capped("2h", what="period")),
    (
        {"period": "2h", "explicit_max_ttl": "3h"},
        HOUR,
        capped("2h", what="period"),
        HOUR,
        capped("2h", what="period"),
    ),
    ({"policies": ["root"], "ttl": "2h"}, HOUR, capped("2h"), HOUR, capped("3h")),
    ({"policies": ["root"], "explicit_max_ttl": "2h"}, 2 * HOUR, [], HOUR, capped("3h")),
]


@pytest.mark.parametrize(("asked", "ttl_s", "warnings", "renewed_s", "again"), UNDER_AN_HOUR)
async def test_token_lives_and_is_renewed_within_the_tuned_limits(
    asked: dict[str, Any], ttl_s: int, warnings: list[str], renewed_s: int, again: list[str]
) -> None:
    logical = await open_tuned("10m", "1h")

    made = await logical.call("POST", "auth/token/create", {"policies": ["default"]} | asked)

    assert made.auth is not None
    assert (made.auth.lease_duration, made.warnings) == (ttl_s, warnings)
    token = made.auth.client_token
    renewed = await logical.call("POST", "auth/token/renew-self", {"increment": "3h"}, token=token)
    assert renewed.auth is not None
    assert (renewed.auth.lease_duration, renewed.warnings) == (renewed_s, again)


@pytest.mark.parametrize(
    ("default", "most", "ttl_s", "warnings"),
    [
        ("system", "system", 768 * HOUR, []),
        ("10m", "system", 10 * MINUTE, []),
        ("system", "1h", HOUR, capped("768h")),
        ("1000h", "2000h", 1000 * HOUR, []),
    ],
)
async def test_token_that_asks_for_nothing_gets_the_tuned_default(
    default: str, most: str, ttl_s: int, warnings: list[str]
) -> None:
    logical = await open_tuned(default, most)

    made = await logical.call("POST", "auth/token/create", {"policies": ["default"]})

    assert made.auth is not None
    assert (made.auth.lease_duration, made.warnings) == (ttl_s, warnings)


async def test_root_token_with_an_end_of_its_own_is_not_capped() -> None:
    logical = await open_logical()
    asked = {"policies": ["root"], "explicit_max_ttl": "900h"}

    made = await logical.call("POST", "auth/token/create", asked)

    assert made.auth is not None
    assert (made.auth.lease_duration, made.warnings) == (900 * HOUR, [])
