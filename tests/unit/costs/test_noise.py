"""What the timer's own noise is, from rounds that are given."""

import pytest

from eesearch.core.errors import CostError
from eesearch.costs.noise import FIGURES, timer_noise
from eesearch.costs.timer import Protocol, Rounds


def measured(*figures, contention=1.0, settled=True):
    """Each figure: the medians of its processes; rounds spread by 2 % around them."""

    def measure(jobs, device, protocol, progress):
        assert len({id(job.parts[0].form) for job in jobs}) == 1, "the same module"
        assert len(jobs) == FIGURES
        return {
            job.name: [Rounds([0.99 * ms, ms, 1.01 * ms], contention, settled) for ms in processes]
            for job, processes in zip(jobs, figures, strict=True)
        }

    return timer_noise("cpu:eager:t1:b1", Protocol(), measure=measure)


def test_spreads_between_figures_processes_and_rounds():
    noise = measured([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], [1.0, 1.1, 1.2], [1.2, 1.2, 1.2], [1.0, 1.0, 1.0])
    assert noise.ms == 1.1
    assert noise.figures == pytest.approx(0.2 / 1.1)
    assert noise.processes == pytest.approx(0.2 / 1.1)
    assert noise.rounds == pytest.approx(0.016)
    assert noise.ties == noise.figures
    assert noise.verdict == "differences under 18.2% are ties"


def test_a_quiet_machine_is_believed_down_to_the_floor():
    assert measured(*[[1.0, 1.0, 1.0]] * FIGURES).verdict == "differences under 2.0% are ties"


def test_what_disturbs_is_told():
    quiet = [[1.0, 1.0, 1.0]] * FIGURES
    assert "other work runs on these cores" in measured(*quiet, contention=1.2).verdict
    assert "never settled" in measured(*quiet, settled=False).verdict


def test_where_nothing_is_timed_there_is_no_noise():
    with pytest.raises(CostError, match="nothing is timed on the device 'macs'"):
        timer_noise("macs")
