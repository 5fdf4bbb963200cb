"""
What this node sees wrong, as its status shows it: "BH-nnn sentence".

Rule of this file: a code is a row of `baoha.diagnostics`, so that what a node says of itself and
what `baoha explain` says of it are one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import trio

from baoha.diagnostics.code import Code


class Problems:
    """What this node sees wrong, one sentence for each subject; logged by whoever reports it."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Sequence[str]]] = []
        self._by_subject: dict[str, str] = {}
        self._until: dict[str, float] = {}

    def include(self, source: Callable[[], Sequence[str]]) -> None:
        """Show what another part of the node sees wrong, too; whoever owns it logs it."""
        self._sources.append(source)

    def report(self, subject: str, code: Code | None, sentence: str, *, for_s: float = inf) -> bool:
        """
        Remember a problem; True when it is new or has changed (the moment to log it).

        Args:
            subject: what it is about; a later report of the same subject takes its place.
            code: what `baoha explain` says of it; None where there is no code.
            sentence: what was seen, without the code.
            for_s: forget it by itself after so long.
        """
        if code is not None:
            sentence = code.sentence(sentence)
        self._until[subject] = trio.current_time() + for_s
        if self._by_subject.get(subject) == sentence:
            return False
        self._by_subject[subject] = sentence
        return True

    def clear(self, subject: str) -> bool:
        """Forget a problem; True when there was one."""
        return self._by_subject.pop(subject, None) is not None

    def sentences(self) -> tuple[str, ...]:
        """Return all: those that were reported, sorted by subject, then those of the sources."""
        now = trio.current_time()
        for subject in [subject for subject, until in self._until.items() if until <= now]:
            del self._until[subject]
            self._by_subject.pop(subject, None)
        reported = [self._by_subject[subject] for subject in sorted(self._by_subject)]
        return (*reported, *(sentence for source in self._sources for sentence in source()))
