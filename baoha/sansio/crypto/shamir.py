"""
Shamir's secret sharing, as OpenBao cuts and joins its keys.

Rules of this file:

1. Nothing that is secret chooses a branch or an index. All multiplications are "vector of secret
   bytes times a public scalar": the x coordinates are public, the y bytes are not.
2. Randomness is an argument.

Theory of operation. Each byte of the secret is the constant term of its own random polynomial of
degree threshold - 1 over GF(2^8), reduced by x^8 + x^4 + x^3 + x + 1 (0x11b). A share is the value
of all polynomials at one x from 1..255, followed by the x itself. Joining is Lagrange interpolation
at 0.

All bytes of a vector are packed into one integer and multiplied at once, without a table: a table
that is read at secret indices leaks through the cache. (Python gives no promise about the time of
its integer operations; this takes away what leaks most.)

Source: docs/spec/openbao-ha.md section 2.5; shares of a real OpenBao join here (tests/conformance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from baoha.errors import InvalidKeyShare

SHARES_MAX: Final = 255  # every x but 0
SHARE_OVERHEAD_BYTES: Final = 1  # the x coordinate
_REDUCTION: Final = 0x1B  # 0x11b without its highest bit
_COORDINATE_KEY_BYTES: Final = 8  # random bytes that order one x; a tie is harmless


def split(
    secret: bytes, shares: int, threshold: int, *, random_bytes: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """
    Cut a secret into shares; any ``threshold`` of them join to it, fewer say nothing about it.

    Args:
        secret: at least one byte.
        shares: 2..255.
        threshold: 2..shares.
        random_bytes: cryptographically strong.
    """
    assert secret
    assert 2 <= threshold <= shares <= SHARES_MAX
    size = len(secret)
    polynomial = [int.from_bytes(secret)]
    polynomial += [int.from_bytes(random_bytes(size)) for _ in range(threshold - 1)]
    coordinates = _draw_coordinates(random_bytes)[:shares]
    return tuple(_evaluate(polynomial, x, size).to_bytes(size) + bytes([x]) for x in coordinates)


def combine(shares: Sequence[bytes]) -> bytes:
    """
    Join shares. Wrong or too few shares join to a wrong secret: the caller must check it.

    Raises:
        InvalidKeyShare: they cannot belong together.
    """
    if len(shares) < 2:
        raise InvalidKeyShare("less than two parts cannot be used to reconstruct the secret")
    size = len(shares[0]) - SHARE_OVERHEAD_BYTES
    if size < 1:
        raise InvalidKeyShare("parts must be at least two bytes")
    if any(len(share) != size + SHARE_OVERHEAD_BYTES for share in shares):
        raise InvalidKeyShare("all parts must be the same length")
    coordinates = [share[-1] for share in shares]
    if len(set(coordinates)) != len(coordinates):
        raise InvalidKeyShare("duplicate part detected")
    secret = 0
    for share, x in zip(shares, coordinates, strict=True):
        secret ^= _scale(int.from_bytes(share[:-1]), _weight_at_zero(x, coordinates), size)
    return secret.to_bytes(size)


def _draw_coordinates(random_bytes: Callable[[int], bytes]) -> list[int]:
    """Return 1..255 in random order: each x is ordered by random bytes of its own."""
    keyed = [(random_bytes(_COORDINATE_KEY_BYTES), x) for x in range(1, SHARES_MAX + 1)]
    return [x for _, x in sorted(keyed)]


def _evaluate(polynomial: Sequence[int], x: int, size: int) -> int:
    """Return the values at x of all polynomials (packed coefficients, constant first): Horner."""
    value = 0
    for coefficient in reversed(polynomial):
        value = _scale(value, x, size) ^ coefficient
    return value


def _weight_at_zero(x: int, coordinates: Sequence[int]) -> int:
    """Return the Lagrange weight of x at 0: the product of other / (other - x)."""
    numerator, denominator = 1, 1
    for other in coordinates:
        if other != x:
            numerator = _scale(numerator, other, 1)
            denominator = _scale(denominator, other ^ x, 1)
    return _scale(numerator, _inverse(denominator), 1)


def _inverse(value: int) -> int:
    """Return 1 / value: value ** 254, because value ** 255 is 1."""
    result = 1
    for _ in range(254):
        result = _scale(result, value, 1)
    return result


def _scale(packed: int, scalar: int, size: int) -> int:
    """
    Multiply each of ``size`` packed bytes by one public scalar.

    Doubling moves every byte one bit up and takes the reduction off where a bit fell out at the
    top; both happen to all bytes at once.
    """
    low_bits = int.from_bytes(b"\x01" * size)
    low_sevens = low_bits * 0x7F
    result = 0
    while scalar:
        if scalar & 1:
            result ^= packed
        fallen_out = (packed >> 7) & low_bits
        packed = ((packed & low_sevens) << 1) ^ (fallen_out * _REDUCTION)
        scalar >>= 1
    return result
