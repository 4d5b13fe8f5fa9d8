"""From finished trials to answers: merged fronts, selected on calibration, reported on test."""

from __future__ import annotations

from collections.abc import Sequence

from eesearch.core.costs import DeviceProfile
from eesearch.core.design import Design
from eesearch.core.front import Evaluation
from eesearch.study.answers import (
    Answers,
    DeviceAnswer,
    ExitFacts,
    OracleAnswer,
    Point,
    SeedAnswer,
    TrialAnswer,
)
from eesearch.study.joint_trials import JointTrials
from eesearch.study.problem import ENQUEUED_SEEDS, BankProblem
from eesearch.study.trial import Finished

Mode = BankProblem | JointTrials


def compose(problem: Mode, finished: Sequence[Finished]) -> Answers:
    """Merge the fronts of all finished trials on each device, and look the chosen policies up on test."""
    study = problem.study
    return Answers(
        study=study.name,
        mode=study.mode,
        data=problem.materials.dataset.record(),
        devices=tuple(_device(problem, finished, p) for p in problem.materials.profiles),
        trials=tuple(_trial(t) for t in finished),
        phases=dict(problem.materials.watch.phases),
        class_names=problem.materials.dataset.class_names,
    )


def _device(problem: Mode, finished: Sequence[Finished], profile: DeviceProfile) -> DeviceAnswer:
    outcomes = [t.outcome for t in finished if t.outcome is not None]
    designs = {o.design.key: o.design for o in outcomes if o.design is not None}
    backbone = Point(cal=problem.backbone(profile, "cal"), test=problem.backbone(profile, "test"))
    points = [point for outcome in outcomes for point in problem.points(outcome, profile)]
    front = problem.front(points, profile)
    for key in {point.design for point in front.points} & designs.keys():
        problem.workshop.keep_network(designs[key])
    timed = profile.latency
    answer = DeviceAnswer(
        device=profile.device,
        axis=profile.axis,
        backbone=backbone,
        points=tuple(Point(cal=e, test=_on_test(problem, e, designs, profile)) for e in front.points),
        broken=tuple(problem.constraints(profile).broken(front[0], front.backbone)) if len(front) else (),
        skipped=tuple(str(lim) for lim in problem.study.objectives.constraints.limits if lim.axis not in profile.axes),
        noise=timed.noise if timed else 0.0,
        noisy=tuple(name for name, timing in timed.timings.items() if timing.noisy) if timed else (),
    )
    known = _on_bank(problem, profile) if isinstance(problem, BankProblem) and designs else {}
    return answer.model_copy(update=known)


def _on_bank(problem: BankProblem, profile: DeviceProfile) -> dict[str, object]:
    """What the bank's tables tell beside its front: where rules landed, what an oracle could do, who over-thinks."""
    from eesearch.solve.oracle import oracle_front, overthinking, static_front  # loads numba

    bank = problem.workshop.bank_design
    scoring, _ = problem.rules(profile)
    table, costs = problem.replay(bank, profile, scoring.criterion, "test")
    oracle = oracle_front(table, costs[0], problem.space.max_exits)
    selected, prices = problem.replay(bank, profile, scoring.criterion, "cal")
    static = [e.made_by(bank) for e in static_front(selected, prices, scoring).points]
    return {
        "seeds": _seeds(problem, profile),
        "certificates": problem.solved(bank, profile).certificates,
        "oracle": tuple(OracleAnswer(**vars(point)) for point in oracle.points),
        "oracle_all_heads": oracle.all_heads,
        "static": tuple(Point(cal=e, test=problem.reported(e, bank, profile)) for e in static),
        "overthinking": tuple(ExitFacts(**vars(facts)) for facts in overthinking(table)),
    }


def _on_test(problem: Mode, evaluation: Evaluation, designs: dict[str, Design], profile: DeviceProfile) -> Evaluation:
    if evaluation.design not in designs:  # the backbone itself
        return problem.backbone(profile, "test")
    return problem.reported(evaluation, designs[evaluation.design], profile)


def _seeds(problem: BankProblem, profile: DeviceProfile) -> tuple[SeedAnswer, ...]:
    answers = []
    for rank, (seed, value) in enumerate(problem.replayed_seeds):
        cal = problem.seed_evaluation(seed, profile)
        point = Point(cal=cal, test=problem.reported(cal, problem.workshop.bank_design, profile))
        enqueued = bool(problem.space.trained) and rank < ENQUEUED_SEEDS
        answers.append(SeedAnswer(rule=seed.rule, point=point, value=value, enqueued=enqueued))
    return tuple(answers)


def _trial(trial: Finished) -> TrialAnswer:
    outcome = trial.outcome
    design = outcome.design if outcome else None
    return TrialAnswer(
        number=trial.number,
        state=trial.state,
        strategy=design.strategy if design else "",
        origin=trial.origin,
        value=outcome.values[0] if outcome and len(outcome.values) == 1 else None,
        design=design.key if design else "",
        exits=tuple(f"{e.cut}:{e.head.name}" for e in design.exits) if design else (),
        last_accuracy=outcome.last_accuracy if outcome else None,
        seconds=trial.seconds,
        error=trial.error,
    )
