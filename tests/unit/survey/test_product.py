"""Which product a server is: by what it says, never by its store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from baoha_cli.client.address import parse_address
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NOT_ASKED, NodeLook, Reply
from baoha_cli.survey.product import Product, product_of

SEAL = {"initialized": True, "sealed": False, "commit_date": "2026-10-26T20:32:27Z"}
BAOHA = Reply(200, body={"live": True, "software": "baoha"})
DENIED = Reply(403, errors=("permission denied",))
REDIRECT = Reply(307, location="http://a:8200/v1/sys/ha/live")


def look(live: Reply, **seal: object) -> NodeLook:
    return NodeLook(
        parse_address("http://a:8200"), "a", Reply(200, body={**SEAL, **seal}), live=live
    )


@pytest.mark.parametrize("storage", ["sqlite", "inmem", "postgresql", "etcd", "raft", "x"])
def test_product_of_server_that_says_baoha_is_baoha_on_any_store(storage: str) -> None:
    assert product_of(look(BAOHA, storage_type=storage)) is Product.BAOHA


@pytest.mark.parametrize("live", [DENIED, REDIRECT, Reply(503), Reply(200), Reply(200, body={})])
@pytest.mark.parametrize("storage", ["sqlite", "inmem", "postgresql", "raft"])
def test_product_of_server_that_does_not_say_baoha_is_another(storage: str, live: Reply) -> None:
    assert product_of(look(live, storage_type=storage)) is Product.OPENBAO


def test_product_of_server_with_a_build_date_is_vault() -> None:
    assert product_of(look(DENIED, build_date="2026-01-01T00:00:00Z")) is Product.VAULT


@pytest.mark.parametrize("live", [NOT_ASKED, Reply(kind=ErrorKind.TIMEOUT, error="x")])
def test_product_of_server_that_was_not_asked_is_not_guessed(live: Reply) -> None:
    assert product_of(look(live, storage_type="sqlite")) is Product.OTHER


def test_product_is_guessed_from_a_store_nowhere() -> None:
    guess = re.compile(r'storage_type.*"(sqlite|inmem|etcd)"')
    root = Path(__file__).parents[3]
    sources = [path for room in ("baoha", "cli") for path in (root / room).rglob("*.py")]
    assert sources
    assert [path.name for path in sources if guess.search(path.read_text())] == []
