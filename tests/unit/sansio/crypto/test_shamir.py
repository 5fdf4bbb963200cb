"""Shamir's secret sharing: properties, OpenBao's texts, and a second, deliberately dumb opinion."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baoha.errors import InvalidKeyShare
from baoha.sansio.crypto.shamir import SHARES_MAX, combine, split

SECRET = bytes(range(32))


def dumb_multiply(left: int, right: int) -> int:
    """Multiply polynomials over GF(2) bit by bit, then take the remainder of a long division."""
    product = 0
    for bit in range(8):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def dumb_power(base: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = dumb_multiply(result, base)
    return result


class RecordedBytes:
    """Seeded randomness that remembers what it gave out."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self.given.append(self._random.randbytes(size))
        return self.given[-1]


sizes = st.integers(2, 12).flatmap(lambda t: st.tuples(st.just(t), st.integers(t, 16)))
seeds = st.integers(0, 2**32)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=16, max_size=33), sizes, seeds)
def test_split_any_threshold_shares_combine_and_fewer_do_not(
    secret: bytes, numbers: tuple[int, int], seed: int
) -> None:
    threshold, count = numbers
    chooser = random.Random(seed)
    shares = split(secret, count, threshold, random_bytes=chooser.randbytes)
    assert len(shares) == len(set(shares)) == count
    assert combine(chooser.sample(shares, threshold)) == secret
    assert combine(chooser.sample(shares, chooser.randint(threshold, count))) == secret
    if threshold > 2:
        assert combine(chooser.sample(shares, threshold - 1)) != secret


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1, max_size=5), sizes, seeds)
def test_split_every_share_is_the_polynomial_at_its_x(
    secret: bytes, numbers: tuple[int, int], seed: int
) -> None:
    threshold, count = numbers
    source = RecordedBytes(seed)
    shares = split(secret, count, threshold, random_bytes=source)
    coefficients = [secret, *source.given[: threshold - 1]]
    for share in shares:
        x = share[-1]
        assert x != 0
        for index, y in enumerate(share[:-1]):
            expected = 0
            for power, coefficient in enumerate(coefficients):
                expected ^= dumb_multiply(coefficient[index], dumb_power(x, power))
            assert y == expected


def test_split_largest_numbers_combine() -> None:
    shares = split(SECRET, SHARES_MAX, SHARES_MAX, random_bytes=random.Random(1).randbytes)
    assert sorted(share[-1] for share in shares) == list(range(1, 256))
    assert combine(shares) == SECRET
    assert combine(shares[1:]) != SECRET


def test_split_coordinates_are_in_random_order() -> None:
    orders = {
        tuple(share[-1] for share in split(SECRET, 5, 3, random_bytes=random.Random(s).randbytes))
        for s in range(20)
    }
    assert len(orders) == 20


def test_combine_changed_share_gives_another_secret() -> None:
    first, second = split(SECRET, 2, 2, random_bytes=random.Random(2).randbytes)
    changed = bytes([first[0] ^ 1]) + first[1:]
    assert combine([changed, second]) != SECRET


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([], "less than two parts cannot be used to reconstruct the secret"),
        ([b"ab"], "less than two parts cannot be used to reconstruct the secret"),
        ([b"a", b"b"], "parts must be at least two bytes"),
        ([b"", b""], "parts must be at least two bytes"),
        ([b"ab", b"abc"], "all parts must be the same length"),
        ([b"ax", b"bx"], "duplicate part detected"),
    ],
)
def test_combine_impossible_shares_are_refused(shares: list[bytes], text: str) -> None:
    with pytest.raises(InvalidKeyShare) as caught:
        combine(shares)
    assert str(caught.value) == text
