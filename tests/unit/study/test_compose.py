from eesearch.study.compose import Composer
from eesearch.study.trial import Finished
from eesearch.training.plans import Work
from tests.unit.study.conftest import FIELDS, TRAINED, proposal


def ended(problem):
    """The bank, a design that was trained, one that was stopped early, one that failed."""
    cut = problem.cuts[0]
    few = proposal(problem) | {f"exit:{cut}": "none"}
    return [
        Finished(0, "bank", problem.first(), "", 4.0, "complete", samples=TRAINED),
        Finished(1, "sampler", problem.run(proposal(problem)), "", 3.0, "complete", 3 * TRAINED, proposal(problem)),
        Finished(3, "sampler", None, "", 2.0, "pruned", 2 * TRAINED, few),
        Finished(4, "sampler", None, "HeadError: no", 1.0, "failed", 0, proposal(problem)),
    ]


def test_trials_tell_their_design_however_they_ended(made):
    problem = made()
    composed = Composer(problem).answers(ended(problem), final=False)
    bank, trained, stopped, failed = composed.trials
    assert [t.state for t in composed.trials] == ["complete", "complete", "pruned", "failed"]
    assert [t.epochs for t in composed.trials] == [None, None, 2, None]
    assert [t.samples for t in composed.trials] == [TRAINED, 3 * TRAINED, 2 * TRAINED, 0]
    assert stopped.exits == trained.exits[1:]
    assert failed.exits == trained.exits
    assert (stopped.strategy, stopped.design, stopped.value) == ("joint", "", None)
    assert set(composed.designs) == {bank.design, trained.design}
    assert stopped.hypervolumes == trained.hypervolumes
    assert stopped.elapsed == 9.0


def test_of_a_stopped_trial_only_its_own_epochs_are_told(made, monkeypatch):
    """Other networks were trained before its first epoch."""
    problem = made()
    work = Work(epochs=4, last=4, samples=500, forward=50, backward=5, ready=(100, 10, 1))
    monkeypatch.setattr(problem.workshop, "work", lambda design: work)
    stopped = Finished(1, "sampler", None, "", 2.0, "pruned", work.upto(1).samples, proposal(problem))
    told = Composer(problem).answers([ended(problem)[0], stopped], final=False).trials[1]
    assert (told.epochs, told.samples, told.forward, told.backward) == (1, 200, 20, 2)


def test_a_warm_start_that_was_stopped_early_or_failed_was_tried(made):
    exits = [{"cut": None, "head": {"kind": "linear"}}]
    cut = made().cuts[0]
    starts = [{"name": name, "strategy": "joint", "exits": [exits[0] | {"cut": cut}]} for name in ("a", "b")]
    problem = made(warm_start=starts)
    stopped = Finished(1, "warm start a", None, "", 2.0, "pruned", 2 * TRAINED, problem.seeds()[0][1])
    answers = Composer(problem).answers([ended(problem)[0], stopped], final=False)
    assert problem.untried(answers) == ["warm start b"]


def test_while_there_is_only_a_draft_there_is_a_front_and_nothing_that_needs_the_bank(made):
    problem = made(training=FIELDS["training"] | {"draft": 0.25})
    draft = Finished(0, "draft", problem.draft(), "", 1.0, "complete", samples=TRAINED // 4)
    (early,) = Composer(problem).answers([draft], final=False).devices
    assert early.points
    assert not early.seeds
    assert not problem.materials.store.path("weights", problem.workshop.bank_design.key).exists()
    bank = Finished(1, "bank", problem.first(), "", 4.0, "complete", samples=TRAINED)
    answers = Composer(problem).answers([draft, bank], final=False)
    (late,) = answers.devices
    assert late.seeds
    assert [t.hypervolumes[0] for t in answers.trials] == sorted(t.hypervolumes[0] for t in answers.trials)
