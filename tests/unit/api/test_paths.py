"""Paths as they are sent, and as they are read."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import example, given
from hypothesis import strategies as st

from baoha.api.paths import decoded_path
from tests.support.steps import count_steps

# What may stand in a request line, escapes of everything, and what other encodings give a meaning.
PARTS = st.one_of(
    st.sampled_from(["a", "/", "=", "==", "=3D", "%3D", "%25", "%2525", "_", ".", "~", "+", "é"]),
    st.binary(min_size=1, max_size=4).map(lambda data: "".join(f"%{byte:02x}" for byte in data)),
    st.binary(min_size=1, max_size=4).map(lambda data: "".join(f"%{byte:02X}" for byte in data)),
)


@given(st.lists(PARTS, max_size=30).map("".join))
@example("%20")
@example("a%0a")
@example("a%0d%0a")
@example("%09/%20")
@example("=")
def test_long_path_is_decoded_as_a_short_one(path: str) -> None:
    for long in (path + "/" * 1024, "x" * 1024 + path):
        assert decoded_path(long) == unquote(long, errors="replace")


def test_long_path_with_a_malformed_escape_is_none() -> None:
    assert decoded_path("%41" * 1000 + "%4") is None


def test_path_full_of_escapes_costs_few_steps() -> None:
    assert count_steps(lambda: decoded_path("/" + "%41" * 20_000)) < 200
