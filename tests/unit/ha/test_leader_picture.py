"""
Who leads, told as scenarios: ``leader/*.txt``.

A scenario is a row of moments. Each one has what happens (a line each: seconds, then the event), a
line ``----``, and then what the picture says: the steps that were asked for, and what it shows.

    1.5 record a u1 epoch=3 expires=6
    1.5 next
    ----
    step: read the advertisement of u1
    shown: leader=none link=none changing

Events: ``begins``, ``active``, ``record``, ``advertised``, ``notice``, ``link``, ``dead``. ``next``
asks for the next step of a node that contends, ``next-stopping`` of one that contends no more. This
node is ``me``; a value that is left out is the one of ``DEFAULTS``. Scenarios that begin with "this
node has no cluster address" or "the store announces nothing" are played in such a world.

``pytest tests/unit/ha/test_leader_picture.py --rewrite`` writes what the picture says into the
files. Commit only what you understand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from baoha.cluster.channel import LeaderNotice
from baoha.core.view import LinkState
from baoha.ha import leader_picture
from baoha.ha.leader_picture import CheckDeath, LeaderPicture, Own, ReadAdvertisement, TryLock, Wait
from baoha.sansio.advertisement import Advertisement
from baoha.storage.base import LockRecord

SCENARIOS = sorted(Path(__file__).with_name("leader").glob("*.txt"))
DEFAULTS = {
    "begins": {"hold-off": "0", "rest": "0"},
    "record": {"epoch": "1", "expires": "6", "asked": "0"},
    "advertised": {"redirect": "https://a:8200", "cluster": "https://a:8201"},
    "notice": {"epoch": "1"},
}


class Teller:
    """Plays one scenario."""

    def __init__(self, *, is_clustered: bool = True, store_announces: bool = True) -> None:
        self.picture = LeaderPicture(
            Own(
                identity="me",
                is_clustered=is_clustered,
                store_announces=store_announces,
                poll_s=0.25,
            )
        )
        self.steps: list[str] = []

    def play(self, line: str) -> None:
        """Play one line of what happens."""
        moment, event, *words = line.split()
        now = float(moment)
        options = dict(DEFAULTS.get(event, {}))
        for word in words:
            if "=" in word:
                name, _, value = word.partition("=")
                options[name] = value
        plain = [word for word in words if "=" not in word]
        events: dict[str, Callable[[float, list[str], dict[str, str]], None]] = {
            "begins": self._begins,
            "record": self._record,
            "advertised": self._advertised,
            "notice": self._notice,
        }
        if event in events:
            events[event](now, plain, options)
        elif event == "link":
            self.picture.link_became(LinkState(plain[0]), now=now)
        elif event == "dead":
            self.picture.proved_dead()
        elif event == "active":
            self.picture.became_active()
        else:
            assert event in ("next", "next-stopping"), f"what is {line!r}?"
            step = self.picture.next_step(now=now, eligible=event == "next")
            self.steps.append(f"step: {_said(step)}")

    def said(self) -> str:
        """Return the steps since the last time, and what is shown now."""
        shown, picture = self.picture.shown(), self.picture
        leader = "none"
        if shown.leader is not None:
            leader = shown.leader.uuid + (" (dead)" if shown.leader.is_dead else "")
        words = [f"shown: leader={leader} link={shown.link.value}"]
        words += ["changing"] if shown.changing else []
        words += [f"unreachable={shown.unreachable}"] if shown.unreachable else []
        channel = picture.followed.cluster_addr if picture.followed else "none"
        words += [f"channel={channel}"]
        words += [f"linger={picture.linger_s:g}"] if picture.linger_s is not None else []
        steps, self.steps = self.steps, []
        return "\n".join([*steps, " ".join(words)])

    def _begins(self, now: float, _words: list[str], options: dict[str, str]) -> None:
        self.picture.began(
            now=now, hold_off_s=float(options["hold-off"]), rest_s=float(options["rest"])
        )

    def _record(self, now: float, words: list[str], options: dict[str, str]) -> None:
        record = None
        if words != ["none"]:
            identity, value = words[0], words[1] if len(words) > 1 else ""
            record = LockRecord(
                identity=identity,
                value=value,
                epoch=int(options["epoch"]),
                expires_in_s=float(options["expires"]),
            )
        self.picture.saw_record(record, asked_at=now - float(options["asked"]), now=now)

    def _advertised(self, now: float, _words: list[str], options: dict[str, str]) -> None:
        found = Advertisement(redirect_addr=options["redirect"], cluster_addr=options["cluster"])
        self.picture.saw_advertisement(found, now=now)

    def _notice(self, _now: float, words: list[str], options: dict[str, str]) -> None:
        self.picture.heard(LeaderNotice(phase=words[0], epoch=int(options["epoch"])))


def _said(step: TryLock | CheckDeath | ReadAdvertisement | Wait) -> str:
    match step:
        case TryLock(None):
            return "try for the lock"
        case TryLock(evict):
            assert evict is not None
            return f"take the lock from {evict.identity}, epoch {evict.epoch}"
        case CheckDeath(record, address):
            return f"is {record.identity} dead? port: {address or 'never opened'}"
        case ReadAdvertisement(uuid):
            return f"read the advertisement of {uuid}"
        case Wait(seconds):
            return f"wait {seconds:.4g} s"


def told(text: str) -> str:
    """Return a scenario with what the picture says in it now."""
    teller = Teller(
        is_clustered=not text.startswith("# this node has no cluster address"),
        store_announces=not text.startswith("# the store announces nothing"),
    )
    moments = []
    for moment in re.split(r"\n{2,}", text.strip()):
        happens = moment.split("\n----\n")[0]
        lines = [line for line in happens.splitlines() if not line.startswith("#")]
        for line in lines:
            teller.play(line)
        moments.append(f"{happens}\n----\n{teller.said()}" if lines else happens)
    return "\n\n".join(moments) + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_leader_picture_any_scenario_says_what_is_written(
    path: Path, pytestconfig: pytest.Config
) -> None:
    text = path.read_text()
    now_told = told(text)
    if pytestconfig.getoption("--rewrite"):
        path.write_text(now_told)
    else:
        assert now_told == text


def test_scenarios_tell_each_rule_of_the_picture() -> None:
    """Goal: a rule at the head of the module is shown by a scenario of its own, named after it."""
    rules = re.findall(r"^(\d)\. ", leader_picture.__doc__ or "", re.MULTILINE)
    assert rules == ["1", "2", "3"]
    named = {path.stem.split("_")[1] for path in SCENARIOS if path.stem.startswith("rule_")}
    assert named == set(rules)


@pytest.mark.parametrize(
    "answer",
    ["try for the lock", "take the lock from", "is a dead?", "read the advertisement", "wait"],
)
def test_scenarios_tell_each_answer_of_next_step(answer: str) -> None:
    assert any(f"\nstep: {answer}" in path.read_text() for path in SCENARIOS)


def test_next_step_once_for_each_reading_then_waits() -> None:
    """Goal: whoever obeys the picture cannot spin, whatever became of a step."""
    teller = Teller()
    teller.play("0 begins")
    teller.play("0 record none")
    for _ in range(3):
        teller.play("0 next")
    assert [step.split()[1] for step in teller.steps] == ["try", "wait", "wait"]
