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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from baoha.sansio.hcl import Block, HCLError, Item, Value, parse
from baoha.sansio.policy_parameters import Parameters, Restrictions, merge_parameters

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

# What a rule may have and still count as one.
_SEGMENTS_OF_ONE: Final = 8
_VALUES_OF_ONE: Final = 8
# Every value of each key of a block, in the order of the text.
Attributes = dict[str, list[Any]]


class PolicyError(ValueError):
    """The text is not a policy; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Rule:
    """
    What a policy says about one path.

    Attributes:
        path: without a leading slash, and without the "*" that ``is_prefix`` stands for.
        segments: the path split at "/", where a segment is "+"; else None.
        allowed: parameter to the values it may have (none given: any); empty: no restriction.
    """

    path: str
    is_prefix: bool
    capabilities: frozenset[str]
    allowed: Parameters = field(default_factory=dict)
    denied: Parameters = field(default_factory=dict)
    required: frozenset[str] = frozenset()

    @property
    def segments(self) -> tuple[str, ...] | None:
        """The path's segments where one of them is a wildcard."""
        parts = tuple(self.path.split("/"))
        return parts if "+" in parts else None

    def merge(self, other: Rule) -> Rule:
        """Return what two rules for the same path say together."""
        return replace(
            self,
            capabilities=self.capabilities | other.capabilities,
            allowed=merge_parameters(self.allowed, other.allowed),
            denied=merge_parameters(self.denied, other.denied),
            required=self.required | other.required,
        )

    @property
    def weight(self) -> int:
        """What a decision that looks at it costs: 1 for all but the longest ones."""
        values = sum(map(len, (*self.allowed.values(), *self.denied.values())))
        return 1 + self.path.count("/") // _SEGMENTS_OF_ONE + values // _VALUES_OF_ONE


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
        parameters = merge_parameters(parameters, {name.lower(): tuple(found)})
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


class Ruling:
    """What a set of policies says about one path."""

    def __init__(
        self, rule: Rule | None, restrictions: Restrictions | None, *, is_root: bool
    ) -> None:
        self._rule = rule
        self._restrictions = restrictions
        self._is_root = is_root

    def decide(self, operation: str) -> Decision:
        """Say whether an operation may pass; its parameters are not looked at."""
        if self._is_root:
            return Decision(allowed=True, sudo=True)
        if self._rule is None or "deny" in self._rule.capabilities:
            return Decision(allowed=False, sudo=False)
        granted = self._rule.capabilities
        return Decision(allowed=operation in granted, sudo="sudo" in granted)

    def restrictions(self, operation: str) -> Restrictions | None:
        """Return what the parameters of an operation have to keep to; None: nothing."""
        return self._restrictions if operation in _WITH_PARAMETERS else None


class ACL:
    """
    What a set of policies allows, ready for decisions. Immutable; safe to share.

    Attributes:
        is_root: everything is allowed.
        weight: what a decision about a path costs; a rule counts 1, or more if it is a long one.
    """

    def __init__(self, rules: Iterable[Rule], *, is_root: bool = False) -> None:
        self.is_root = is_root
        merged: dict[tuple[str, bool], Rule] = {}
        for rule in rules:
            key = (rule.path, rule.is_prefix)
            merged[key] = merged[key].merge(rule) if key in merged else rule
        self.weight = sum(rule.weight for rule in merged.values())
        self._restrictions = {
            key: Restrictions(rule.allowed, rule.denied, rule.required)
            for key, rule in merged.items()
            if rule.allowed or rule.denied or rule.required
        }
        self._exact: dict[str, Rule] = {}
        patterns: list[tuple[Rule, tuple[str, ...] | None]] = []
        for rule in merged.values():
            if rule.segments is None and not rule.is_prefix:
                self._exact[rule.path] = rule
            else:
                patterns.append((rule, rule.segments))
        # The first one that matches is then the one that decides.
        self._patterns = sorted(patterns, key=lambda p: _priority(p[0]), reverse=True)

    def decide(self, operation: str, path: str, data: Mapping[str, Any] | None = None) -> Decision:
        """
        Say whether an operation on a full path may pass.

        Args:
            operation: the name of the capability that it needs.
            data: the parameters of a read or write; None where they do not matter.
        """
        ruling = self.ruling(path, listing=operation in _LISTINGS)
        decision = ruling.decide(operation)
        restrictions = None if data is None else ruling.restrictions(operation)
        if not decision.allowed or restrictions is None or data is None:
            return decision
        return decision._replace(allowed=restrictions.permit(data))

    def ruling(self, path: str, *, listing: bool = False) -> Ruling:
        """
        Return what is said about a full path.

        Args:
            listing: the operation is one.
        """
        rule = None if self.is_root else self._find(path, listing=listing)
        key = None if rule is None else (rule.path, rule.is_prefix)
        restrictions = None if key is None else self._restrictions.get(key)
        return Ruling(rule, restrictions, is_root=self.is_root)

    def capabilities(self, path: str) -> list[str]:
        """Return what is granted for a path, sorted; ["root"] is everything, ["deny"] nothing."""
        if self.is_root:
            return ["root"]
        rule = self._find(path.lstrip("/"), listing=True)
        if rule is None or not rule.capabilities or "deny" in rule.capabilities:
            return ["deny"]
        return sorted(rule.capabilities)

    def grants_below(self, prefix: str) -> bool:
        """Say whether anything is granted at or below a prefix (a mount that may be shown)."""
        if self.is_root or self.capabilities(prefix) != ["deny"]:
            return True
        rules = [*self._exact.values(), *(rule for rule, _ in self._patterns)]
        return any(_may_lie_below(rule, prefix) for rule in rules)

    def describe(self) -> dict[str, Any]:
        """Return the rules in the form of ``sys/internal/ui/resultant-acl``."""
        if self.is_root:
            return {"root": True}
        globs = {rule.path: _describe(rule) for rule, parts in self._patterns if parts is None}
        exact = {path: _describe(rule) for path, rule in self._exact.items()}
        return {"exact_paths": exact, "glob_paths": globs, "root": False}

    def _find(self, path: str, *, listing: bool) -> Rule | None:
        rule = self._exact.get(path)
        trimmed = path.removesuffix("/")
        if rule is None and listing:
            rule = self._exact.get(trimmed)
        if rule is None:
            rule = self._find_pattern(path)
        if rule is None and listing and trimmed != path:
            rule = self._find_pattern(trimmed)
        return rule

    def _find_pattern(self, path: str) -> Rule | None:
        parts = path.split("/")
        for rule, segments in self._patterns:
            if segments is None:
                if path.startswith(rule.path):
                    return rule
            elif _segments_match(rule, segments, parts):
                return rule
        return None


def _priority(rule: Rule) -> tuple[int, bool, int, int, str]:
    segments = rule.segments or ()
    first = len(rule.path)
    if "+" in segments:
        first = sum(len(part) + 1 for part in segments[: segments.index("+")])
    return (first, not rule.is_prefix, -segments.count("+"), len(rule.path), rule.path)


def _segments_match(rule: Rule, segments: tuple[str, ...], parts: list[str]) -> bool:
    last = len(segments) - 1
    if len(parts) < len(segments) or (not rule.is_prefix and len(parts) > len(segments)):
        return False
    return all(
        segment == "+"
        or segment == parts[index]
        or (index == last and rule.is_prefix and parts[index].startswith(segment))
        for index, segment in enumerate(segments)
    )


def _may_lie_below(rule: Rule, prefix: str) -> bool:
    if not rule.capabilities - {"deny"}:
        return False
    segments = rule.segments
    if segments is None:
        return rule.path.startswith(prefix) or (rule.is_prefix and prefix.startswith(rule.path))
    wanted = prefix.rstrip("/").split("/")
    return all(
        segment in ("+", part) for segment, part in zip(segments, wanted, strict=False)
    ) and (rule.is_prefix or len(segments) > len(wanted))


def _describe(rule: Rule) -> dict[str, Any]:
    described: dict[str, Any] = {"capabilities": sorted(rule.capabilities)}
    if rule.allowed:
        described["allowed_parameters"] = {k: list(v) for k, v in rule.allowed.items()}
    if rule.denied:
        described["denied_parameters"] = {k: list(v) for k, v in rule.denied.items()}
    if rule.required:
        described["required_parameters"] = sorted(rule.required)
    return described
