"""
What a seed does to a cluster: clients that write and read, faults that come and go, a healing.

Rules of this file: everything random comes from the simulation's own generator; a seed chooses the
options too (how many nodes, which faults, how often), so that different seeds are different worlds.

Two phases. *Safety*: faults come and go while clients write and read; no invariant may break.
*Liveness*: everything heals; within the ttl and ``RECOVERY_S`` there must be exactly one active
node, and every unsealed standby must forward.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from baoha.core.view import Role
from baoha.timing import HATiming
from tests.support.checkers import Violation
from tests.support.seeded import Freezer, run_seeded
from tests.support.simulation import Answer, CallFailed, SimNode, Simulation

SAFETY_S = 40.0
# How long a cluster may take beyond the ttl of its lock when all faults have healed: for attempts
# that the last fault spoiled, for dialling anew, and for the questions of the check itself, which
# may take a second for each node. ARCHITECTURE.md and docs/testing.md say the same number.
RECOVERY_S = 3.0
CLIENTS = 3
KEYS_PER_CLIENT = 2
FAULTS = (
    "crash",
    "pause",
    "suspend",
    "partition",
    "store silent",
    "store slow",
    "store away",
    "store full",
    "reply lost",
)
# What operators do on purpose. Alone, these fail no request.
PLANNED = ("stop and start", "seal and unseal", "rotate", "two step-downs")
# In every value that is written: nothing of it may be seen in a log.
CANARY = "canary"


@dataclass(frozen=True)
class Options:
    """What a seed has chosen."""

    nodes: int
    faults: tuple[str, ...]
    fault_every_s: float
    step_down_every_s: float
    drift: float


class Scenario:
    """
    One run of one seed.

    Args:
        faults: what may happen; None: what the seed chooses.
    """

    def __init__(self, simulation: Simulation, *, faults: tuple[str, ...] | None = None) -> None:
        self.sim = simulation
        rng = simulation.random
        self.options = Options(
            nodes=len(simulation.nodes),
            faults=faults or _choose_faults(rng),
            fault_every_s=rng.choice([2.0, 4.0, 8.0]),
            step_down_every_s=rng.choice([3.0, 10.0, 1000.0]),
            drift=rng.choice([0.0, 0.0, 0.05]),
        )
        for place in simulation.nodes:
            place.drift = rng.uniform(-self.options.drift, self.options.drift)
            if self._all_is_planned():
                # A slow store stretches the moments in which plans can cross.
                place.faults.latency_s = rng.choice([0.0, 0.02, 0.15])
        self._stop = False
        # Nodes that an operator is stopping or has sealed: they refuse, and may.
        self._withdrawn: set[str] = set()

    async def run(self) -> None:
        """Safety, then liveness."""
        sim = self.sim
        await sim.start_cluster()
        await self._wait_active(30.0)
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(self._client, number)
            nursery.start_soon(self._step_downs)
            nursery.start_soon(self._faults)
            await trio.sleep(SAFETY_S)
            self._stop = True
            nursery.cancel_scope.deadline = trio.current_time() + 60
        if nursery.cancel_scope.cancelled_caught:
            raise Violation("clients or faults did not end")
        await self._check_liveness()
        if sim.data.acknowledged < 10:
            raise Violation(f"only {sim.data.acknowledged} writes were acknowledged")

    def _all_is_planned(self) -> bool:
        return set(self.options.faults) <= set(PLANNED)

    # --- clients ---------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        """Write keys of its own with check-and-set, read anybody's."""
        sim, rng = self.sim, self.sim.random
        versions = {f"c{number}k{index}": 0 for index in range(KEYS_PER_CLIENT)}
        counter = 0
        while not self._stop:
            await trio.sleep(rng.uniform(0.05, 0.4))
            place = rng.choice(sim.nodes)
            key = rng.choice(sorted(versions))
            choice = rng.random()
            if choice < 0.5:
                counter += 1
                await self._write(place, key, versions, f"{CANARY}{number}.{counter}")
            elif choice < 0.55:
                await self._use_once(place)
            else:
                other = f"c{rng.randrange(CLIENTS)}k{rng.randrange(KEYS_PER_CLIENT)}"
                await self._read(place, other)

    async def _write(self, place: SimNode, key: str, versions: dict[str, int], value: str) -> None:
        data = self.sim.data
        version = versions[key] + 1
        data.trying(key, version, value)
        body = {"options": {"cas": version - 1}, "data": {"v": value}}
        try:
            answer = await self.sim.call(place, "POST", f"/v1/secret/data/{key}", body)
        except CallFailed as exc:
            self._failed(place, str(exc))
            if not exc.sent:
                data.refused(key, version, value)
            versions[key] = await self._current_version(key, versions[key])
            return
        if answer.status == 200:
            if answer.body["data"]["version"] != version:
                raise Violation(f"{key}: wrote version {version}, acknowledged {answer.body}")
            data.acked(key, version, value)
            versions[key] = version
            return
        self._failed(place, str(answer))
        if not is_unknown(answer):
            data.refused(key, version, value)
        versions[key] = await self._current_version(key, versions[key])

    async def _current_version(self, key: str, last: int) -> int:
        """Find out what became of a write whose outcome is not known."""
        while not self._stop:
            version = await self._read(self.sim.random.choice(self.sim.nodes), key)
            if version is not None:
                return version
            await trio.sleep(0.2)
        return last

    async def _read(self, place: SimNode, key: str) -> int | None:
        """Read a key through a node; None when there was no answer."""
        floor = self.sim.data.floor(key)
        try:
            answer = await self.sim.call(place, "GET", f"/v1/secret/data/{key}")
        except CallFailed as exc:
            self._failed(place, str(exc))
            return None
        if answer.status == 404:
            self.sim.data.read(key, floor, 0, None)
            return 0
        if answer.status != 200:
            self._failed(place, str(answer))
            return None
        version = answer.body["data"]["metadata"]["version"]
        self.sim.data.read(key, floor, version, answer.body["data"]["data"]["v"])
        return int(version)

    async def _use_once(self, place: SimNode) -> None:
        """Write with a token that has one use: it is good for one write, and for no second one."""
        sim = self.sim
        body = {"num_uses": 1, "policies": ["root"]}
        try:
            made = await sim.call(place, "POST", "/v1/auth/token/create", body)
            if made.status != 200:
                self._failed(place, str(made))
                return
            token = made.body["auth"]["client_token"]
            place = sim.random.choice(sim.nodes)
            body = {"data": {"v": CANARY}}
            headers = {"x-vault-token": token}
            path = "/v1/secret/data/once"
            first = await sim.call(place, "POST", path, body, headers=headers)
            if first.status == 403:
                raise Violation("the use of a token was counted without its write: not told")
            if first.status != 200:
                self._failed(place, str(first))
                return
            second = await sim.call(place, "POST", path, body, headers=headers)
            if second.status == 200:
                raise Violation("a token with one use was used twice")
        except CallFailed as exc:
            self._failed(place, str(exc))

    def _failed(self, place: SimNode, what: str) -> None:
        """Take note of a request that failed; where all is planned, none may."""
        if self._all_is_planned() and place.name not in self._withdrawn:
            raise Violation(f"a planned change failed a request through {place.group}: {what}")

    # --- faults ----------------------------------------------------------------------------------

    async def _step_downs(self) -> None:
        sim, rng = self.sim, self.sim.random
        while not self._stop:
            await trio.sleep(rng.uniform(0.5, 1.5) * min(self.options.step_down_every_s, SAFETY_S))
            if self._stop:
                return
            place = rng.choice(sim.nodes)
            try:
                answer = await sim.call(place, "PUT", "/v1/sys/step-down", timeout_s=10)
            except CallFailed as exc:
                sim.note(f"step-down through {place.name}: {exc}")
            else:
                sim.note(f"step-down through {place.name}: {answer.status} {answer.body}")

    async def _faults(self) -> None:
        """Faults come one after the other and may overlap; every one of them ends."""
        rng = self.sim.random
        async with trio.open_nursery() as nursery:
            while not self._stop:
                await trio.sleep(rng.uniform(0.3, 1.7) * self.options.fault_every_s)
                fault = rng.choice(self.options.faults)
                place = rng.choice(self.sim.nodes)
                lasts_s = rng.choice([0.1, 1.0, 4.0, 12.0])
                nursery.start_soon(self._fault, fault, place, lasts_s)

    async def _fault(self, fault: str, place: SimNode, lasts_s: float) -> None:
        sim = self.sim
        if place.node is None or place.paused:
            return
        if fault == "crash":
            sim.crash(place)
            await trio.sleep(lasts_s)
            await sim.restart(place)
            return
        sim.note(f"{fault} {place.group} for {lasts_s:g} s")
        if fault in PLANNED:
            await self._planned(fault, place, lasts_s)
        elif fault == "pause":
            sim.pause(place)
            await trio.sleep(lasts_s)
            if place.paused:
                sim.resume(place)
        elif fault == "suspend":
            sim.suspend(place, lasts_s)
            await trio.sleep(lasts_s)
            if place.paused:
                sim.resume(place)
        elif fault == "partition":
            other = sim.random.choice([node for node in sim.nodes if node is not place])
            both = sim.random.random() < 0.5
            sim.hub.block(place.name, other.name)
            if both:
                sim.hub.block(other.name, place.name)
            await trio.sleep(lasts_s)
            sim.hub.unblock(place.name, other.name)
            sim.hub.unblock(other.name, place.name)
        elif fault == "store silent":
            place.faults.silent = True
            await trio.sleep(lasts_s)
            place.faults.silent = False
            await place.faults.deliver_abandoned()
        elif fault == "store slow":
            place.faults.latency_s = sim.random.choice([0.05, 0.5])
            await trio.sleep(lasts_s)
            place.faults.latency_s = 0.0
        elif fault == "store away":
            place.faults.unavailable = True
            await trio.sleep(lasts_s)
            place.faults.unavailable = False
        elif fault == "store full":
            place.faults.full = True
            await trio.sleep(lasts_s)
            place.faults.full = False
        elif fault == "reply lost":
            place.faults.fail_nth(sim.random.randint(1, 10), "after")

    async def _planned(self, what: str, place: SimNode, lasts_s: float) -> None:
        """Do what an operator does, one node at a time."""
        sim = self.sim
        if what == "rotate":
            await self._ask(place, "/v1/sys/rotate")
        elif what == "two step-downs":
            async with trio.open_nursery() as nursery:
                for through in sim.random.sample(sim.nodes, 2):
                    nursery.start_soon(self._ask, through, "/v1/sys/step-down")
        elif not self._withdrawn and all(node.alive and not node.paused for node in sim.nodes):
            self._withdrawn.add(place.name)
            async with trio.open_nursery() as nursery:
                if sim.random.random() < 0.7:  # two plans that know nothing of each other
                    through = sim.random.choice([node for node in sim.nodes if node is not place])
                    nursery.start_soon(self._ask, through, "/v1/sys/step-down")
                    await trio.sleep(sim.random.uniform(0.0, 1.0))
                if what == "stop and start":
                    await self._stop_and_start(place, lasts_s)
                else:
                    await self._ask(place, "/v1/sys/seal")
                    await trio.sleep(lasts_s)
                    if place.node is not None and place.node.status().sealed:
                        await self._unseal(place)
            # Its clients wait until it forwards, as a load balancer does.
            await trio.sleep(3)
            self._withdrawn.discard(place.name)

    async def _stop_and_start(self, place: SimNode, lasts_s: float) -> None:
        sim, node = self.sim, place.node
        assert node is not None
        with trio.move_on_after(20):
            await node.leave()
        # What it had accepted is answered before it goes.
        await trio.sleep(sim.timing.park_s)
        if place.node is not node:
            return  # it has crashed meanwhile
        if place.paused:
            sim.resume(place)
        sim.crash(place)
        await trio.sleep(lasts_s)
        await sim.restart(place)

    async def _unseal(self, place: SimNode) -> None:
        try:
            await self.sim.unseal(place)
        except (CallFailed, AssertionError) as exc:
            self.sim.note(f"{place.group} stays sealed: {exc}")

    async def _ask(self, place: SimNode, path: str) -> None:
        try:
            answer = await self.sim.call(place, "PUT", path, timeout_s=10)
        except CallFailed as exc:
            self.sim.note(f"{path} through {place.name}: {exc}")
        else:
            self.sim.note(f"{path} through {place.name}: {answer.status} {answer.body}")

    # --- liveness --------------------------------------------------------------------------------

    async def _check_liveness(self) -> None:
        sim = self.sim
        sim.heal()
        for place in sim.nodes:
            if place.node is None:
                await sim.restart(place)
        for place in sim.nodes:
            if place.node is not None and place.node.status().sealed:
                await sim.unseal(place)
        await self._wait_active(sim.timing.lock_ttl_s + RECOVERY_S)
        for place in sim.nodes:
            for key in [f"c{n}k{i}" for n in range(CLIENTS) for i in range(KEYS_PER_CLIENT)]:
                if await self._read(place, key) is None:
                    raise Violation(f"{place.group} does not answer after everything has healed")

    async def _wait_active(self, limit_s: float) -> None:
        """Wait until one node is active and every other one forwards."""
        deadline = trio.current_time() + limit_s
        while True:
            roles = [place.node.status().role for place in self.sim.nodes if place.node]
            answers = 0
            for place in self.sim.nodes:
                try:
                    answer = await self.sim.call(
                        place, "GET", "/v1/auth/token/lookup-self", timeout_s=1
                    )
                except CallFailed:
                    continue
                answers += answer.status == 200
            if roles.count(Role.ACTIVE) == 1 and answers == len(self.sim.nodes):
                return
            if trio.current_time() > deadline:
                raise Violation(f"no liveness within {limit_s:g} s: {answers} nodes answer")
            await trio.sleep(0.1)


def _choose_faults(rng: random.Random) -> tuple[str, ...]:
    """Return what may happen in a seed's world; in one of six, nothing that was not planned."""
    if rng.random() < 1 / 6:
        return tuple(rng.sample(PLANNED, rng.randint(1, len(PLANNED))))
    both = FAULTS + PLANNED
    return tuple(rng.sample(both, rng.randint(1, len(FAULTS))))


class SecretWatch(logging.Handler):
    """Invariant 7: no token, no share and no value in any log record, whatever its level."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(logging.DEBUG)
        self._sim = sim

    def emit(self, record: logging.LogRecord) -> None:
        """Look at one record as a formatter would show it."""
        sim = self._sim
        text = self.format(record)
        for secret in (CANARY, sim.token, *sim.shares):
            if secret and secret in text:
                sim.verdict.report(f"a log record of {record.name} holds a secret")


@contextmanager
def watched_logs(sim: Simulation) -> Iterator[None]:
    """Watch all of baoha's log records, those that nobody would see included."""
    logger = logging.getLogger("baoha")
    watch, level = SecretWatch(sim), logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(watch)


def is_unknown(answer: Answer) -> bool:
    """Whether an error says that the outcome is unknown."""
    return "outcome" in json_text(answer) and "unknown" in json_text(answer)


def json_text(answer: Answer) -> str:
    """Return the errors of an answer as one text."""
    body = answer.body if isinstance(answer.body, dict) else {}
    return " ".join(str(error) for error in body.get("errors", ()))


async def play(
    freezer: Freezer, *, seed: int, nodes: int = 3, faults: tuple[str, ...] | None = None
) -> None:
    """
    Run one seed; what goes wrong is printed with the seed's trace.

    Raises:
        Violation: the first one; the run ends there.
    """
    async with trio.open_nursery() as nursery:
        sim = Simulation(freezer, nursery, seed=seed, nodes=nodes, timing=HATiming())
        sim.verdict.on_violation = nursery.cancel_scope.cancel
        try:
            with watched_logs(sim):
                await Scenario(sim, faults=faults).run()
            if sim.hub.handler_errors:
                raise Violation(f"a connection's task failed: {sim.hub.handler_errors}")
        except Exception:
            print(sim.describe())
            raise
        finally:
            if sim.verdict.violations:
                print(sim.describe())
            freezer.after_step = lambda: None
            freezer.thaw_all()
        nursery.cancel_scope.cancel()
    sim.verdict.enforce()


def play_seed(seed: int, *, faults: tuple[str, ...] | None = None) -> None:
    """Run one seed from the beginning; ``faults`` as ``Scenario`` takes them."""
    run_seeded(partial(play, seed=seed, faults=faults), seed)
