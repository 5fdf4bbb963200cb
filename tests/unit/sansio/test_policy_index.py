"""
Which pattern decides, found by an index.

Goal: the index answers as a look at every pattern would. Method: a second implementation that does
look at every one, over paths and patterns that meet often.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.policy import ACL, Rule
from baoha.sansio.policy_index import Pattern, PatternIndex, PrefixIndex

SEGMENTS = st.sampled_from(["", "a", "b", "ab", "abc", "+", "é"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)
PATTERNS = st.dictionaries(st.tuples(PATHS, st.booleans()), st.booleans(), max_size=12)


def matches(path: str, pattern: str, *, is_prefix: bool) -> bool:
    segments, parts = pattern.split("/"), path.split("/")
    if "+" not in segments:
        return path.startswith(pattern) if is_prefix else path == pattern
    if len(parts) < len(segments) or (len(parts) > len(segments) and not is_prefix):
        return False
    *most, last = zip(segments, parts, strict=False)
    return all(segment in ("+", part) for segment, part in most) and (
        last[0] in ("+", last[1]) or (is_prefix and last[1].startswith(last[0]))
    )


def lies_below(prefix: str, pattern: str, *, is_prefix: bool) -> bool:
    segments, wanted = pattern.split("/"), prefix.rstrip("/").split("/")
    if "+" not in segments:
        return pattern.startswith(prefix) or (is_prefix and prefix.startswith(pattern))
    pairs = zip(segments, wanted, strict=False)
    is_longer = len(segments) > len(wanted)
    return all(segment in ("+", part) for segment, part in pairs) and (is_prefix or is_longer)


def usable(found: dict[tuple[str, bool], bool]) -> list[tuple[str, bool, bool]]:
    """Leave out what no policy can have: "+*", and "+" as the beginning of a segment."""
    return [
        (path, is_prefix, grants)
        for (path, is_prefix), grants in found.items()
        if not (is_prefix and path.endswith("+")) and (is_prefix or "+" in path.split("/"))
    ]


@given(PATTERNS, PATHS)
def test_index_finds_what_a_look_at_every_pattern_finds(
    found: dict[tuple[str, bool], bool], path: str
) -> None:
    patterns = [Pattern(p, is_prefix, grants, p) for p, is_prefix, grants in usable(found)]
    wanted = [p for p in patterns if matches(path, p.path, is_prefix=p.is_prefix)]
    best = max(wanted, key=lambda p: p.rank, default=None)
    # Two of one path differ in "*" only.
    assert PatternIndex(patterns).find(path) == (None if best is None else best.item)


@given(PATTERNS, PATHS)
def test_index_knows_what_is_granted_below_a_mount(
    found: dict[tuple[str, bool], bool], path: str
) -> None:
    patterns = [Pattern(p, is_prefix, grants, p) for p, is_prefix, grants in usable(found)]
    prefix = f"{path}/"
    wanted = any(p.grants and lies_below(prefix, p.path, is_prefix=p.is_prefix) for p in patterns)
    assert PatternIndex(patterns).grants_below(prefix) is wanted


@given(st.lists(st.text("ab", max_size=6), max_size=12), st.text("ab", max_size=8))
def test_prefix_index_finds_the_longest_beginning(texts: list[str], text: str) -> None:
    index = PrefixIndex({known: known for known in texts})
    beginnings = [known for known in texts if text.startswith(known)]
    assert index.longest(text) == max(beginnings, key=len, default=None)
    assert index.has_below(text) is any(known.startswith(text) for known in texts)


def test_decision_does_not_look_at_every_rule() -> None:
    class Counted(str):
        """A text that counts how often it is compared with the beginning of another one."""

        __slots__ = ()
        count = 0

        def startswith(self, *args: object) -> bool:
            Counted.count += 1
            return super().startswith(*args)  # type: ignore[arg-type]

    rules = [
        Rule(path=f"{start}{number}", is_prefix=True, capabilities=frozenset({"read"}))
        for start in ("a/", "+/b")
        for number in range(2000)
    ]
    acl = ACL(rules)
    assert acl.decide("read", Counted("a/1999/x")).allowed
    assert not acl.decide("read", Counted("b/1999/x")).allowed
    assert Counted.count < 20
