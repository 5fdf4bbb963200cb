"""
ACL policies: parsing, and the decision whether a request may pass.

Rules of this file:

1. What is not granted is denied; "deny" beats everything granted for the same path.
2. A restriction that this server cannot enforce is refused when the policy is written. It is
   never accepted and then ignored.
3. A list or a map that is set twice in one block is added up, as HCL 1 does: the last one alone
   would lose a "deny". Of a text the last one counts.

Matching. A path is looked up exactly first; for a listing also without its trailing slash. Else
the matching rule of the highest priority decides: the one whose first wildcard ("+" or "*") comes
later; then one without "*" at its end; then fewer "+"; then the longer; then the greater by bytes.
"+" stands for one whole segment, "*" at the end for any rest. For a listing the rules are asked
without the trailing slash only if none of them matches with it.

Templated paths ("{{identity...}}") match nothing here: tokens have no entity, and without one
OpenBao grants nothing through them either.

Source: OpenBao's documentation, "Policies"; error texts and corner cases measured on 2.7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from baoha.sansio.formats.hcl import Block, HCLError, Item, Value, parse
from baoha.sansio.policy_index import Pattern, PatternIndex, PrefixIndex

ROOT_POLICY: Final = "root"
CAPABILITIES: Final = frozenset(
    {"create", "read", "update", "delete", "list", "patch", "scan", "sudo", "deny"}
)
_LEGACY: Final = {
    "deny": frozenset({"deny"}),
    "read": frozenset({"read", "list"}),
    "write": frozenset({"create", "read", "update", "delete", "list"}),
    "sudo": frozenset({"create", "read", "update", "delete", "list", "sudo"}),
}
# A read's parameters are those of its query. Source: measured; deletions and listings are free
_WITH_PARAMETERS: Final = frozenset({"create", "read", "update", "patch"})
_LISTINGS: Final = frozenset({"list", "scan"})
_FAULTS_MAX: Final = 10  # named in one error
# What one comparison takes beside its characters, in characters.
_COMPARISON_CHARS: Final = 128
_PIECE_CHARS: Final = 1024 * 1024  # a millisecond
_NAME_CHARS_MAX: Final = 64 * 1024  # of a parameter in a policy
_TOP_KEYS: Final = frozenset({"name", "path"})
_UNSUPPORTED_KEYS: Final = frozenset(
    {
        "min_wrapping_ttl",
        "max_wrapping_ttl",
        "expiration",
        "pagination_limit",
        "list_scan_response_keys_filter_path",
        "mfa_methods",
    }
)
_PATH_KEYS: Final = _UNSUPPORTED_KEYS | {
    "comment",
    "policy",
    "capabilities",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
}

Parameters = Mapping[str, tuple[Any, ...]]
# Every value of each key of a block, in the order of the text.
Attributes = dict[str, list[Any]]


def _go_on() -> None:
    return


class PolicyError(ValueError):
    """The text is not a policy; the message is for the client."""


# Segments of a path that are compared in the time that it takes to look at a short one.
_SEGMENTS_OF_ONE: Final = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """
    What a policy says about one path.

    Attributes:
        path: without a leading slash, and without the "*" that ``is_prefix`` stands for.
        allowed: parameter to the values it may have (none given: any); empty: no restriction.
    """

    path: str
    is_prefix: bool
    capabilities: frozenset[str]
    allowed: Parameters = field(default_factory=dict)
    denied: Parameters = field(default_factory=dict)
    required: frozenset[str] = frozenset()

    @property
    def grants(self) -> bool:
        """Whether it allows anything."""
        return bool(self.capabilities - {"deny"})

    @property
    def weight(self) -> int:
        """What a decision that looks at it costs: 1 for all but the longest ones."""
        return 1 + self.path.count("/") // _SEGMENTS_OF_ONE

    def merge(self, other: Rule) -> Rule:
        """Return what two rules for the same path say together."""
        return replace(
            self,
            capabilities=self.capabilities | other.capabilities,
            allowed=_merge_parameters(self.allowed, other.allowed),
            denied=_merge_parameters(self.denied, other.denied),
            required=self.required | other.required,
        )

    @property
    def has_restrictions(self) -> bool:
        """Whether it looks at the parameters of a request."""
        return bool(self.allowed or self.denied or self.required)

    def parameters_cost(self, data: Mapping[str, Any]) -> int:
        """Return about how many characters have to be compared to check these parameters."""
        if not self.allowed and not self.denied:
            return 0
        anywhere = self.allowed.get("*", ())
        total = 0
        for name, value in data.items():
            known = _lowered(name)
            patterns = len(self.denied.get(known, ())) + len(self.allowed.get(known, anywhere))
            chars = len(value) if isinstance(value, str) else 0
            total += len(name) + patterns * (_COMPARISON_CHARS + chars)
        return total

    def permits_parameters(
        self, data: Mapping[str, Any], pause: Callable[[], None] = _go_on
    ) -> bool:
        """
        Return whether the parameters of a request keep to the restrictions.

        Args:
            pause: called between pieces of the work; what it raises ends it.
        """
        # A required one must be there as an engine reads it. Source: measured
        if not self.required <= data.keys():
            return False
        if not self.allowed and not self.denied:
            return True
        # Each one by itself: two spellings of a name are two parameters to an engine.
        for name, value in ((_lowered(name), value) for name, value in data.items()):
            pause()
            if "*" in self.denied:
                return False
            if name in self.denied and _value_in(value, self.denied[name], pause):
                return False
            if self.allowed:
                values = self.allowed.get(name, self.allowed.get("*"))
                if values is None or not _value_in(value, values, pause):
                    return False
        return True


def _lowered(name: str) -> str:
    """Return the name of a parameter as rules have it; one that no rule could have as it is."""
    return name.lower() if len(name) <= _NAME_CHARS_MAX else name


def _merge_parameters(ours: Parameters, theirs: Parameters) -> Parameters:
    merged = dict(ours)
    for name, values in theirs.items():
        known = merged.get(name)
        # An empty list stands for every value, so it absorbs the other one.
        merged[name] = (
            values if known is None else () if not known or not values else known + values
        )
    return merged


def _value_in(value: Any, values: tuple[Any, ...], pause: Callable[[], None]) -> bool:
    return not values or any(_value_matches(value, pattern, pause) for pattern in values)


def _value_matches(value: Any, pattern: Any, pause: Callable[[], None]) -> bool:
    """Return whether a request's value is the one of a rule, as OpenBao compares them."""
    if not isinstance(pattern, str) or not isinstance(value, str):
        return _equals(value, pattern)
    if len(pattern) < 2:  # a lone "*" is no wildcard
        return value == pattern
    head, tail = pattern.startswith("*"), pattern.endswith("*")
    if head and tail:
        return _contains(value, pattern[1:-1], pause)
    if head:
        return value.endswith(pattern[1:])
    if tail:
        return value.startswith(pattern[:-1])
    return value == pattern


def _contains(text: str, part: str, pause: Callable[[], None]) -> bool:
    """Return whether a text contains another one; looked for piece by piece."""
    for at in range(0, max(1, len(text)), _PIECE_CHARS):
        if text.find(part, at, at + _PIECE_CHARS + len(part)) >= 0:
            return True
        pause()
    return False


def _equals(value: Any, pattern: Any) -> bool:
    # Go compares types, too: a number of a request has one that no rule can write, and neither has
    # an object inside an object. Such a rule matches nothing. Source: measured
    if type(value) is not type(pattern):
        return False
    if isinstance(pattern, list):
        return len(value) == len(pattern) and all(map(_equals, value, pattern))
    if isinstance(pattern, dict):
        return value.keys() == pattern.keys() and all(
            not isinstance(inner, dict) and _equals(value[key], inner)
            for key, inner in pattern.items()
        )
    return isinstance(value, str | bool) and bool(value == pattern)


# --- parsing ------------------------------------------------------------------------------------


def parse_policy(text: str, *, blocks_max: int | None = None) -> tuple[Rule, ...]:
    """
    Parse a policy in HCL or JSON.

    Args:
        blocks_max: how many ``path`` blocks it may have.

    Raises:
        PolicyError: not a policy, or one that asks for something this server cannot enforce.
    """
    try:
        document = parse(text)
        _require_keys(document, _TOP_KEYS, where="")
        rules: list[Rule] = []
        for count, (labels, block, item) in enumerate(document.blocks("path", labels=1), 1):
            if blocks_max is not None and count > blocks_max:
                raise _refuse("", f"more than {blocks_max} path blocks")
            rules += _parse_path(labels[0], block, item)
        return tuple(rules)
    except HCLError as exc:
        raise PolicyError(f"failed to parse policy: {exc}") from exc


def _require_keys(block: Block, known: frozenset[str], *, where: str) -> None:
    wrong = (item for item in block.items if item.key not in known)
    bad = [
        f'\t* invalid key "{item.key}" on line {item.line}\n'
        for item in islice(wrong, _FAULTS_MAX + 1)
    ]
    if bad:
        count = "1 error" if len(bad) == 1 else f"{len(bad)} errors"
        if len(bad) > _FAULTS_MAX:
            count = f"more than {_FAULTS_MAX} errors"
        listed = "".join(bad[:_FAULTS_MAX])
        raise PolicyError(f"failed to parse policy: {where}{count} occurred:\n{listed}\n")


def _parse_path(label: str, block: Block, item: Item) -> list[Rule]:
    where = f'path "{label}": '
    _require_keys(block, _PATH_KEYS, where=where)
    values = _by_key(block)
    unsupported = sorted(_UNSUPPORTED_KEYS & values.keys())
    if unsupported:
        raise _refuse(where, f'"{unsupported[0]}" is not supported by this server')
    path = label.removeprefix("/")
    if "+*" in path:
        raise _refuse(f'{where}path "{label}": ', "invalid use of wildcards ('+*' is forbidden)")
    if _is_templated(label, where):
        return []
    is_prefix = path.endswith("*")
    return [
        Rule(
            path=path.removesuffix("*") if is_prefix else path,
            is_prefix=is_prefix,
            capabilities=_parse_capabilities(label, values, where),
            allowed=_parse_parameters(values, "allowed_parameters", where),
            denied=_parse_parameters(values, "denied_parameters", where),
            required=frozenset(
                str(name).lower() for name in _list(values, "required_parameters", where)
            ),
        )
    ]


def _refuse(where: str, why: str) -> PolicyError:
    return PolicyError(f"failed to parse policy: {where}{why}")


def _is_templated(label: str, where: str) -> bool:
    opened, closed = label.count("{{"), label.count("}}")
    if opened != closed:
        raise _refuse(
            where, "failed to validate policy templating: unbalanced templating characters"
        )
    return opened > 0


def _by_key(block: Block) -> Attributes:
    values: Attributes = {}
    for entry in block.items:
        values.setdefault(entry.key, []).append(entry.value)
    return values


def _parse_capabilities(label: str, values: Attributes, where: str) -> frozenset[str]:
    # The path is named twice in these texts: once by the file's parser, once by the path's.
    where = f'{where}path "{label}": '
    granted: set[str] = set()
    for legacy in values.get("policy", ())[-1:]:
        if not isinstance(legacy, str) or legacy not in _LEGACY:
            raise _refuse(where, f'invalid policy "{legacy}"')
        granted |= _LEGACY[legacy]
    for capability in _list(values, "capabilities", where):
        if capability not in CAPABILITIES:
            raise _refuse(where, f'invalid capability "{capability}"')
        granted.add(str(capability))
    return frozenset({"deny"}) if "deny" in granted else frozenset(granted)


def _list(values: Attributes, key: str, where: str) -> list[Value]:
    added_up: list[Value] = []
    for value in values.get(key, ()):
        if not isinstance(value, list) or any(isinstance(v, list | Block) for v in value):
            raise _refuse(where, f'"{key}" must be a list of strings')
        added_up += value
    return added_up


def _parse_parameters(values: Attributes, key: str, where: str) -> Parameters:
    entries: Attributes = {}
    for block in _objects(values.get(key, ()), key, where):
        for item in block.items:
            if not isinstance(item.value, list):
                raise _refuse(where, f'"{item.key}" must be a list')
            entries.setdefault(item.key, []).extend(_allowed_values(item.value, block))
    parameters: Parameters = {}
    for name, found in entries.items():
        # Spellings of one name: OpenBao takes one of them by chance, we take all.
        parameters = _merge_parameters(parameters, {name.lower(): tuple(found)})
    return parameters


def _objects(values: Iterable[Value], key: str, where: str) -> Iterator[Block]:
    for value in values:
        # JSON may write several objects as a list of them.
        for part in value if isinstance(value, list) else (value,):
            if not isinstance(part, Block) or (isinstance(value, list) and not part.folded):
                raise _refuse(where, f'"{key}" must be an object of lists')
            yield part


def _allowed_values(values: Iterable[Value], block: Block) -> Iterator[Any]:
    for value in values:
        if isinstance(value, Block):
            yield value.to_plain()
        elif not isinstance(value, list):
            yield value
        elif block.folded:  # JSON: a list in a list is part of it. Source: measured
            yield from _allowed_values(value, block)
        else:
            yield [v.to_plain() if isinstance(v, Block) else v for v in value]


# --- deciding -----------------------------------------------------------------------------------


class Decision(NamedTuple):
    """Whether a request may pass, and whether the path is granted with sudo."""

    allowed: bool
    sudo: bool


class ACL:
    """What a set of policies allows, ready for decisions. Immutable; safe to share."""

    def __init__(self, rules: Iterable[Rule], *, is_root: bool = False) -> None:
        self.is_root = is_root
        merged: dict[tuple[str, bool], Rule] = {}
        for rule in rules:
            key = (rule.path, rule.is_prefix)
            merged[key] = merged[key].merge(rule) if key in merged else rule
        self.size = sum(rule.weight for rule in merged.values())
        self._exact: dict[str, Rule] = {}
        patterns: list[Pattern[Rule]] = []
        for rule in merged.values():
            pattern = Pattern(rule.path, rule.is_prefix, rule.grants, rule)
            if rule.is_prefix or pattern.has_wildcard:
                patterns.append(pattern)
            else:
                self._exact[rule.path] = rule
        self._globs = {p.path: p.item for p in patterns if not p.has_wildcard}
        self._patterns = PatternIndex(patterns)
        self._granted = PrefixIndex({path: r for path, r in self._exact.items() if r.grants})

    def decide(self, operation: str, path: str, data: Mapping[str, Any] | None = None) -> Decision:
        """
        Return whether an operation on a full path may pass.

        Args:
            operation: the name of the capability that it needs.
            data: the parameters of a read or write; None where they do not matter.
        """
        decision, rule = self.decide_path(operation, path)
        if rule is None or data is None:
            return decision
        return Decision(rule.permits_parameters(data), decision.sudo)

    def decide_path(self, operation: str, path: str) -> tuple[Decision, Rule | None]:
        """
        Decide without the parameters; return also the rule that they have yet to keep to, if any.
        """
        if self.is_root:
            return Decision(allowed=True, sudo=True), None
        rule = self._find(path, listing=operation in _LISTINGS)
        if rule is None or "deny" in rule.capabilities:
            return Decision(allowed=False, sudo=False), None
        decision = Decision(operation in rule.capabilities, "sudo" in rule.capabilities)
        is_checked = decision.allowed and operation in _WITH_PARAMETERS and rule.has_restrictions
        return decision, rule if is_checked else None

    def capabilities(self, path: str) -> list[str]:
        """Return what is granted for a path, sorted; ["root"] is everything, ["deny"] nothing."""
        if self.is_root:
            return ["root"]
        rule = self._find(path.lstrip("/"), listing=True)
        if rule is None or not rule.capabilities or "deny" in rule.capabilities:
            return ["deny"]
        return sorted(rule.capabilities)

    def grants_below(self, prefix: str) -> bool:
        """Return whether anything is granted at or below a prefix (a mount that may be shown)."""
        if self.is_root or self.capabilities(prefix) != ["deny"]:
            return True
        return self._granted.has_below(prefix) or self._patterns.grants_below(prefix)

    def describe(self) -> dict[str, Any]:
        """Return the rules in the form of ``sys/internal/ui/resultant-acl``."""
        if self.is_root:
            return {"root": True}
        globs = {path: _describe(rule) for path, rule in self._globs.items()}
        exact = {path: _describe(rule) for path, rule in self._exact.items()}
        return {"exact_paths": exact, "glob_paths": globs, "root": False}

    def _find(self, path: str, *, listing: bool) -> Rule | None:
        rule = self._exact.get(path)
        trimmed = path.removesuffix("/")
        if rule is None and listing:
            rule = self._exact.get(trimmed)
        if rule is None:
            rule = self._patterns.find(path)
        if rule is None and listing and trimmed != path:
            rule = self._patterns.find(trimmed)
        return rule


def _describe(rule: Rule) -> dict[str, Any]:
    described: dict[str, Any] = {"capabilities": sorted(rule.capabilities)}
    if rule.allowed:
        described["allowed_parameters"] = {k: list(v) for k, v in rule.allowed.items()}
    if rule.denied:
        described["denied_parameters"] = {k: list(v) for k, v in rule.denied.items()}
    if rule.required:
        described["required_parameters"] = sorted(rule.required)
    return described
