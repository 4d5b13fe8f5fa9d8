"""What a trial is in Optuna's storage, and what the rest of the program calls it."""

from __future__ import annotations

from typing import Literal

from optuna.trial import FrozenTrial, TrialState, create_trial

from eesearch.study.trial import SAMPLER, Finished, Outcome, SearchProblem

OUTCOME, ERROR, ORIGIN, SAMPLES = "outcome", "error", "origin", "samples"
"""Attributes of a trial: what it found, why it failed, who proposed it, how many samples it has learnt from."""

WORKER, RETRY_OF, PLACE = "worker", "retry_of", "place"
"""Attributes of a trial: the process that runs it; the interrupted trial that it repeats; the number that it would have
had if none had been interrupted."""

RUNG = "completed_rung_"
"""Prefix of the attributes in which Optuna keeps the value with which a trial came to each rung."""

STATES: dict[TrialState, Literal["complete", "failed", "pruned"]] = {
    TrialState.COMPLETE: "complete", TrialState.FAIL: "failed", TrialState.PRUNED: "pruned",
}  # fmt: skip


def interrupted(trial: FrozenTrial) -> bool:
    """Whether the process that ran a trial died or was stopped: it is tried again."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial ended by itself, well or badly."""
    return trial.state.is_finished() and not interrupted(trial)


def rungs(trial: FrozenTrial) -> dict[str, float]:
    """What a pruner has noted of a trial."""
    return {name: value for name, value in trial.system_attrs.items() if name.startswith(RUNG)}


def origin_of(trial: FrozenTrial) -> str:
    """Who proposed a trial."""
    return str(trial.user_attrs.get(ORIGIN, SAMPLER))


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """What a trial found; None if it was not completed."""
    text = trial.user_attrs.get(OUTCOME)
    return Outcome.model_validate_json(text) if text and trial.state == TrialState.COMPLETE else None


def samples_of(trial: FrozenTrial) -> int:
    """How many training samples a trial took, a stopped one too."""
    return int(trial.user_attrs.get(SAMPLES, 0))


def as_finished(trial: FrozenTrial) -> Finished:
    """A trial that counts, in the words of the rest of the program."""
    outcome = outcome_of(trial)
    return Finished(
        number=trial.number,
        origin=origin_of(trial),
        outcome=outcome,
        error=trial.user_attrs.get(ERROR, ""),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        state=STATES[trial.state],
        samples=samples_of(trial),
        params=trial.params,
    )


def carried(trial: FrozenTrial, problem: SearchProblem | None = None) -> FrozenTrial:
    """A copy of a trial that counts, for another study, where it gets another number.

    Args:
        trial: Ended.
        problem: Values it anew, and what it was worth after each epoch is forgotten; None: its values stay.
    """
    attributes = {name: value for name, value in trial.user_attrs.items() if name != RETRY_OF}
    values, outcome = trial.values, outcome_of(trial)
    if outcome is not None and problem is not None:
        outcome = problem.revalue(outcome)
        values = list(outcome.values)
        attributes[OUTCOME] = outcome.model_dump_json()
    copy = create_trial(
        state=trial.state,
        values=values if trial.state == TrialState.COMPLETE else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=attributes,
        intermediate_values={} if problem is not None else trial.intermediate_values,
        system_attrs={} if problem is not None else rungs(trial),
    )
    copy.datetime_start, copy.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copy


def busy_seconds(trials: list[FrozenTrial]) -> float:
    """Seconds during which at least one of the trials that count ran."""
    spans = sorted((t.datetime_start, t.datetime_complete) for t in trials if t.datetime_start and t.datetime_complete)
    total, until = 0.0, None
    for start, end in spans:
        begin = start if until is None else max(start, until)
        total += max(0.0, (end - begin).total_seconds())
        until = end if until is None else max(end, until)
    return total
