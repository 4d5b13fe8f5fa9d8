"""From finished trials to answers: merged fronts, selected on calibration, reported on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from pydantic import TypeAdapter, ValidationError

from eesearch.core.cascades import systems_of
from eesearch.core.costs import Profile
from eesearch.core.design import Design, content_key, with_reference
from eesearch.core.errors import CostError, PolicyError
from eesearch.core.front import Evaluation, Front
from eesearch.core.paired import Paired
from eesearch.core.policy import Policy
from eesearch.exits.evaluate import outcomes, replay
from eesearch.solve.optimism import optimism
from eesearch.study.answers import Answers, DeviceAnswer, SeedAnswer, TrialAnswer
from eesearch.study.bank_problem import BankProblem
from eesearch.study.cascade_problem import ONE, WHOLE, CascadeProblem
from eesearch.study.elsewhere import picks_elsewhere
from eesearch.study.examples import Examples, Replayed, make_examples
from eesearch.study.joint_trials import JointTrials
from eesearch.study.materials import recall_text
from eesearch.study.one_design import OneDesign
from eesearch.study.points import DesignFacts, ExitFacts, Layer, OracleAnswer, Point, StopFacts, Tried, stop_facts
from eesearch.study.problem import SOLVER_VERSION, solved_for
from eesearch.study.strategies import MOST_OF_A_LAYER, compare_strategies, counted_volume, spread
from eesearch.study.trial import Finished
from eesearch.study.workshop import SplitName
from eesearch.training.plans import Work

Mode = BankProblem | JointTrials | OneDesign

SPLITS: tuple[SplitName, ...] = ("cal", "test")

IDK = "IDK cascade of whole networks"
"""The construction of Wang et al. 2018 on the networks of a study."""

LAYERS = TypeAdapter(tuple[Layer, ...])

MOST_DOMINATED = 150
"""Dominated points that are kept per device."""


@dataclass(frozen=True)
class _Found:
    """What trials found on a device.

    Attributes:
        points: Of each trial, on calibration. [T]
        front: Of all trials.
        volumes: Its hypervolume after each of them, see `counted_volume`. [T]
    """

    profile: Profile
    points: Sequence[tuple[Evaluation, ...]]
    front: Front
    volumes: Sequence[float | None]


class Composer:
    """Composes the answers of a search, again and again while it runs; what was looked up once is remembered.

    Args:
        problem: Of the search.
        phases: Wall seconds by phase of earlier searches in the same directory.
    """

    def __init__(self, problem: Mode, phases: Mapping[str, float] | None = None) -> None:
        self.problem = problem
        self._earlier = dict(phases or {})
        self._points: dict[tuple[str, str], dict[Policy, Point]] = {}
        self._known: dict[str, dict[str, object]] = {}
        self._seeds: dict[str, tuple[SeedAnswer, ...]] = {}

    def answers(self, finished: Sequence[Finished], *, final: bool = True) -> Answers:
        """Merge the fronts of all finished trials on each device, and look the chosen policies up on test.

        Args:
            finished: The trials so far.
            final: Whether to work the methods of the literature out too, if they are not known yet; that may take long.
        """
        study, materials = self.problem.study, self.problem.materials
        now = materials.watch.phases
        found = [self._found(finished, profile) for profile in materials.profiles]
        trials = _trials(self.problem, finished, list(zip(*(f.volumes for f in found), strict=True)))
        devices = tuple(self._device(finished, trials, f, final) for f in found)
        return Answers(
            study=study.name,
            mode=study.mode,
            data=materials.dataset.record(),
            devices=devices,
            trials=trials,
            phases={name: self._earlier.get(name, 0.0) + now.get(name, 0.0) for name in {**self._earlier, **now}},
            designs=_designs(finished),
            class_names=materials.dataset.class_names,
            elsewhere=picks_elsewhere(devices, partial(self._price, designs=_designs(finished))),
        )

    def _price(self, point: Point, device: str, designs: Mapping[str, Design]) -> float | None:
        """Mean cost of a point on test over the backbone's, where it was not chosen; None: nobody can tell."""
        (profile,) = (found for found in self.problem.materials.profiles if found.device == device)
        if point.cal.design not in designs:
            return 1.0  # the backbone itself
        try:
            there = self.problem.reported(point.cal, designs[point.cal.design], profile)
        except (CostError, PolicyError):  # stops that are not on this device, such as those of another tier
            return None
        whole = self._backbone(profile).test.costs[profile.axis]
        return there.costs[profile.axis].mean / whole.mean

    def examples(self, answers: Answers, finished: Sequence[Finished]) -> Examples:
        """Samples of test, and where the points of the fronts let them leave."""
        designs = _designs(finished)
        replayed: dict[str, list[Replayed]] = {}
        lateness = np.zeros(len(self.problem.materials.dataset.test))
        for device, profile in zip(answers.devices, self.problem.materials.profiles, strict=True):
            found = [self._replayed(point, designs, profile) for point in device.points]
            replayed[device.device] = found
            for point, (stop, _) in zip(device.points, found, strict=True):
                paid = [facts.costs[device.axis] for facts in point.stops]
                lateness += np.array(paid)[stop] / device.backbone.test.costs[device.axis].mean
        return make_examples(self.problem.materials.dataset.test, replayed, lateness, answers.key)

    def _replayed(self, point: Point, designs: Mapping[str, Design], profile: Profile) -> Replayed:
        policy = point.test.policy
        if point.test.design not in designs:
            return replay(policy, self.problem.workshop.backbone_table("test"))
        table, _ = self.problem.replay(designs[point.test.design], profile, policy.decision, "test")
        return replay(policy, table, self.problem.workshop.fits(policy.fits))

    def _found(self, finished: Sequence[Finished], profile: Profile) -> _Found:
        points = [self.problem.points(trial.outcome, profile) if trial.outcome else () for trial in finished]
        front, volumes = self.problem.front((), profile), list[float | None]()
        for own in points:
            if own:
                front = self.problem.front([*front.points, *own], profile)
            volumes.append(counted_volume(self.problem, front, profile))
        return _Found(profile, points, front, volumes)

    def _device(
        self, finished: Sequence[Finished], trials: Sequence[TrialAnswer], found: _Found, final: bool
    ) -> DeviceAnswer:
        problem, designs = self.problem, _designs(finished)
        front, profile = found.front, found.profile
        shown = [designs[key] for key in {point.design for point in front.points} & designs.keys()]
        whole = with_reference(designs.values())  # in case that none on the front has it
        for design in (*shown, *([whole] if whole else [])):
            problem.workshop.keep_network(design)
        timed, limits = profile.latency, problem.study.objectives.constraints.limits
        dominated, left_out = self._dominated(finished, found)
        pairs = list(zip(trials, found.points, strict=True))
        look = partial(self._point, designs=designs, profile=profile)
        answer = DeviceAnswer(
            device=profile.device,
            axis=profile.axis,
            backbone=self._backbone(profile),
            points=tuple(self._point(e, designs, profile) for e in front.points),
            broken=tuple(problem.constraints(profile).broken(front[0], front.backbone)) if len(front) else (),
            optimism=self._optimism(finished, profile),
            skipped=tuple(str(limit) for limit in limits if limit.axis not in profile.axes),
            dominated=dominated,
            left_out=left_out,
            strategies=compare_strategies(problem, profile, pairs, look),
            designs=_facts(trials),
            noise=timed.noise if timed else 0.0,
            noisy=tuple(name for name, timing in timed.timings.items() if timing.noisy) if timed else (),
            contention=timed.contention if timed else 1.0,
            cautions=profile.cautions,
            system=profile.fingerprint if systems_of(profile) else {},
        )
        if not isinstance(problem, BankProblem) or problem.workshop.bank_design.key not in designs:
            return answer
        if profile.device not in self._known:
            self._known[profile.device] = {} if isinstance(problem, CascadeProblem) else _on_bank(problem, profile)
            self._seeds[profile.device] = _seeds(problem, profile)
        known = dict(self._known[profile.device])
        tried, seeds = {trial.origin for trial in finished}, self._seeds[profile.device]
        known["seeds"] = tuple(seed.model_copy(update={"enqueued": seed.rule in tried}) for seed in seeds)
        known["certificates"] = problem.solved(problem.workshop.bank_design, profile).certificates
        if isinstance(problem, CascadeProblem):
            known["layers"] = _kinds(problem, profile, find=final)
        else:
            known["layers"] = _baselines(problem, profile, find=final)
        return answer.model_copy(update=known)

    def _dominated(self, finished: Sequence[Finished], found: _Found) -> tuple[tuple[Tried, ...], int]:
        """What the trials' own fronts hold beside the merged one, spread evenly if there is much of it."""
        designs, best, profile = _designs(finished), {(e.design, e.policy) for e in found.front.points}, found.profile
        others = [
            (trial.number, evaluation)
            for trial, own in zip(finished, found.points, strict=True)
            for evaluation in own
            if evaluation.design and (evaluation.design, evaluation.policy) not in best
        ]
        others.sort(key=lambda pair: pair[1].costs[profile.axis].mean)
        kept = spread(others, MOST_DOMINATED)
        tried = tuple(Tried(trial=number, point=self._point(e, designs, profile)) for number, e in kept)
        return tried, len(others) - len(kept)

    def _optimism(self, finished: Sequence[Finished], profile: Profile) -> tuple[tuple[float, float], ...]:
        """Of picks from the merged front."""
        found = [self.problem.unseen(trial.outcome, profile) for trial in finished if trial.outcome]
        return optimism([folds for folds in found if folds])

    def _backbone(self, profile: Profile) -> Point:
        cal, test = (self.problem.backbone(profile, split) for split in SPLITS)
        costs = {axis: cost.mean for axis, cost in test.costs.items()}
        stops = (StopFacts(share=1.0, accuracy=test.accuracy, costs=costs),)
        return Point(cal=cal, test=test, stops=stops, paired=Paired(lost=0, gained=0, samples=test.samples))

    def _point(self, cal: Evaluation, designs: Mapping[str, Design], profile: Profile) -> Point:
        """The same policy on test, and what happens at each of its stops."""
        if cal.design not in designs:  # the backbone itself
            return self._backbone(profile)
        known = self._points.setdefault((profile.device, cal.design), {})
        if cal.policy not in known:
            design = designs[cal.design]
            test = self.problem.reported(cal, design, profile)
            stops, paired = _facts_on_test(self.problem, cal, design, profile)
            known[cal.policy] = Point(cal=cal, test=test, stops=stops, paired=paired)
        return known[cal.policy]


def _designs(finished: Sequence[Finished]) -> dict[str, Design]:
    outcomes = [trial.outcome for trial in finished if trial.outcome is not None]
    return {o.design.key: o.design for o in outcomes if o.design is not None}


def _facts(trials: Sequence[TrialAnswer]) -> dict[str, DesignFacts]:
    """Of every trained design, with the trial that trained it."""
    return {
        trial.design: DesignFacts(trial=trial.number, last_accuracy=trial.last_accuracy, notes=trial.notes)
        for trial in reversed(trials)
        if trial.design
    }


def _facts_on_test(
    problem: Mode, cal: Evaluation, design: Design, profile: Profile
) -> tuple[tuple[StopFacts, ...], Paired]:
    """What happens at each stop, and where the policy differs from the backbone."""
    policy = cal.policy
    table, costs = problem.replay(design, profile, policy.decision, "test")
    stop, right = outcomes(policy, table, problem.workshop.fits(policy.fits))
    facts = stop_facts(policy, costs, table.weight, stop=stop, right=right)
    return facts, Paired.of(right, problem.backbone_right("test"), table.weights)


def _on_bank(problem: BankProblem, profile: Profile) -> dict[str, object]:
    """What the bank's tables tell beside its front: where rules and others landed, what an oracle could do."""
    from eesearch.solve.oracle import oracle_front, overthinking, static_front  # loads numba

    bank = problem.workshop.bank_design
    scoring, _ = problem.rules(profile)
    table, costs = problem.replay(bank, profile, scoring.criterion, "test")
    oracle = oracle_front(table, costs[0], problem.space.max_exits)
    selected, prices = problem.replay(bank, profile, scoring.criterion, "cal")
    static = [e.made_by(bank) for e in static_front(selected, prices, scoring).points]
    return {
        "oracle": tuple(OracleAnswer(**vars(point)) for point in oracle.points),
        "oracle_all_heads": oracle.all_heads,
        "static": tuple(Point(cal=e, test=problem.reported(e, bank, profile)) for e in static),
        "overthinking": tuple(ExitFacts(**vars(facts)) for facts in overthinking(problem.workshop.table(bank, "test"))),
    }


def _kinds(problem: CascadeProblem, profile: Profile, *, find: bool) -> tuple[Layer, ...]:
    """The fronts of policies of one kind on several networks, and IDK's cascades; as `_baselines`."""
    design, layers, asked = problem.workshop.bank_design, [], problem.constraints(profile).model_dump(mode="json")
    solved = SOLVER_VERSION, problem.space.model_dump(mode="json"), asked, problem.study.budget.solve
    key = content_key("kinds", design.key, profile.model_dump(mode="json"), *solved)
    try:
        return LAYERS.validate_json(recall_text(problem.materials.store, "literature", key) or "")
    except ValidationError:  # there are none yet, or they were written by another eesearch
        if not find:
            return ()
    for kind in (ONE, WHOLE):
        points = tuple(Point(cal=e, test=problem.reported(e, design, profile)) for e in problem.layer(kind, profile))
        layers.append(Layer(name=kind, kind="cascade", points=spread(points, MOST_OF_A_LAYER)))
    if profile.axis != "bytes":  # see `_baselines`
        layers.append(Layer(name=IDK, kind="baseline", points=spread(problem.idk(profile), MOST_OF_A_LAYER)))
    found = LAYERS.dump_json(tuple(layers)).decode()
    problem.materials.store.put_text("literature", key, found, solved_for(profile))
    return tuple(layers)


def _baselines(problem: BankProblem, profile: Profile, *, find: bool) -> tuple[Layer, ...]:
    """The methods of the literature on the bank's exits; found once, if they are to be, and remembered.

    They know of no tiers: where bytes are counted there is nothing that they could save.
    """
    if profile.axis == "bytes":
        return ()
    from eesearch.study.policies import Comparison, literature  # loads numba

    bank, space = problem.workshop.bank_design, problem.space
    key = content_key("literature", bank.key, profile.model_dump(mode="json"), space.decisions[0], SOLVER_VERSION)
    try:
        compared = Comparison.model_validate_json(recall_text(problem.materials.store, "literature", key) or "")
    except ValidationError:  # there is none yet, or it was written by another eesearch
        if not find:
            return ()
        with problem.materials.watch.phase("methods of the literature"):
            tables = problem.workshop.table(bank, "cal"), problem.workshop.table(bank, "test")
            temperatures = problem.workshop.scoring(bank, space.rule_criterion)
            # Where deciding costs nothing, gates pay what every method pays here, and were learnt already.
            gates = problem.learned(bank, profile)[0] if space.gates and profile.axis == "macs" else None
            compared = literature(tables, profile, problem.study, temperatures, gates=gates, progress=problem.progress)
        problem.materials.store.put_text("literature", key, compared.model_dump_json(), solved_for(profile))
    return tuple(
        Layer(name=m.method, kind="baseline", points=spread(m.front, MOST_OF_A_LAYER)) for m in compared.methods
    )


def _seeds(problem: BankProblem, profile: Profile) -> tuple[SeedAnswer, ...]:
    answers = []
    for seed, value in problem.replayed_seeds:
        cal = problem.seed_evaluation(seed, profile)
        point = Point(cal=cal, test=problem.reported(cal, problem.workshop.bank_design, profile))
        answers.append(SeedAnswer(rule=seed.rule, point=point, value=value, enqueued=False))
    return tuple(answers)


def _trials(
    problem: Mode, finished: Sequence[Finished], volumes: Sequence[tuple[float | None, ...]]
) -> tuple[TrialAnswer, ...]:
    answers, elapsed = [], 0.0
    for trial, reached in zip(finished, volumes, strict=True):
        elapsed += trial.seconds
        answers.append(_trial(problem, trial).model_copy(update={"elapsed": elapsed, "hypervolumes": reached}))
    return tuple(answers)


def _trial(problem: Mode, trial: Finished) -> TrialAnswer:
    outcome = trial.outcome
    design = outcome.design if outcome else problem.proposed(trial.params) if trial.params else None
    exits = problem.told(design) if design else ()
    taken = _taken(problem, design, trial.samples) if design and trial.state == "pruned" else outcome
    return TrialAnswer(
        number=trial.number,
        state=trial.state,
        strategy=design.strategy if design else "",
        origin=trial.origin,
        value=outcome.values[0] if outcome and len(outcome.values) == 1 else None,
        design=design.key if design and outcome else "",
        exits=tuple(f"{e.cut}:{e.head.name}" for e in exits),
        alphas=tuple(e.alpha for e in exits),
        last_accuracy=outcome.last_accuracy if outcome else None,
        seconds=trial.seconds,
        error=trial.error,
        samples=trial.samples,
        forward=taken.forward if taken else 0,
        backward=taken.backward if taken else 0,
        notes=outcome.notes if outcome else {},
        epochs=taken.epochs if isinstance(taken, Work) else None,
    )


def _taken(problem: Mode, design: Design, samples: int) -> Work:
    """What a training took that was stopped after so many samples."""
    work = problem.workshop.work(design)
    before = work.ready[0]
    return work.upto(round((samples - before) * work.epochs / max(work.samples - before, 1)))
