"""Do the best exits change with the device? What every device picks, and what others' picks would cost there."""

from __future__ import annotations

from dataclasses import dataclass

from eesearch.core.front import exit_name
from eesearch.reporting.promises import NONE
from eesearch.study.answers import SPENT, TIE, Answers, DeviceAnswer
from eesearch.study.picks import find_device
from eesearch.study.points import PickElsewhere

TITLE = "Do the best exits change with the device?"

NOTE = (
    "For each device the cheapest point that is expected to lose at most so many percentage points on new samples: "
    "where it lets samples leave, and its mean cost on test over the backbone's. To the right, what another device's "
    "pick would cost on this one, against its own pick; differences below 3 %, or the noise of the device, are ties."
)
"""What the columns are."""


@dataclass(frozen=True)
class ElsewhereRow:
    """The pick of one device within one limit, in words.

    Attributes:
        limit: In percentage points.
        point: Its number on the front of its device.
        exits: Where samples leave, in order.
        others: What the pick of each device costs here against the own one, in the order of the devices; `own` where it
            is the own one.
    """

    limit: str
    device: str
    point: str
    exits: tuple[str, ...]
    ratio: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class _Case:
    """One device within one limit; `extra`: device -> by which share its pick is dearer here than the own one."""

    device: DeviceAnswer
    own: PickElsewhere
    extra: dict[str, float]


@dataclass(frozen=True)
class _Dear:
    """By which share the pick of another device is dearer in a case."""

    extra: float
    other: str
    case: _Case


def elsewhere_rows(answers: Answers) -> list[ElsewhereRow]:
    """A row per limit and device; () where there is one device only, as in older runs."""
    names = [device.device for device in answers.devices]
    return [
        ElsewhereRow(
            limit=f"{100.0 * case.own.limit:g}",
            device=case.device.device,
            point=str(case.own.point),
            exits=_exits(case),
            ratio=f"{case.own.ratios[case.device.device]:.3f}",
            others=tuple("own" if name == case.device.device else _percent(case.extra.get(name)) for name in names),
        )
        for case in _cases(answers)
    ]


def elsewhere_sentences(answers: Answers) -> list[str]:
    """The answer in plain words, with the case where another device's exits would cost most."""
    cases = _cases(answers)
    exits = {(case.own.limit, case.own.device): _exits(case) for case in cases}
    dear = [_Dear(extra, other, case) for case in cases for other, extra in case.extra.items()]
    if not dear:
        return []
    differ = [each for each in dear if exits[each.case.own.limit, each.other] != _exits(each.case)]
    clear = [each for each in differ if each.extra > max(TIE, each.case.device.noise)]
    if clear:
        worst = max(clear, key=lambda each: each.extra)
        other, case, here = worst.other, worst.case, worst.case.device
        own, theirs = (", ".join(names) for names in (_exits(case), exits[case.own.limit, other]))
        return [
            f"Yes. {_within(case.own.limit)}, what {other} picks would cost {worst.extra:.0%} more on {here.device} "
            f"than its own pick ({SPENT[here.axis]}): its own leaves at {own}; that of {other} at {theirs}."
        ]
    most = max(0.0, *(each.extra for each in dear))
    if differ:
        return [
            "Not so that it counts: the exits that are picked differ, but another device's pick costs at most "
            f"{most:.1%} more than the own one, which is a tie."
        ]
    return [f"No: within every limit all devices pick the same exits; others' picks cost at most {most:.1%} more."]


def _cases(answers: Answers) -> list[_Case]:
    """Where the own pick is priced; by limit, then in the order of the devices."""
    cases = []
    for own in answers.elsewhere:
        device = find_device(answers.devices, own.device)
        mine = own.ratios[own.device]
        rivals = [each for each in answers.elsewhere if each.limit == own.limit and each.device != own.device]
        priced = [each for each in rivals if own.device in each.ratios and mine > 0.0]  # what sends nothing has no unit
        extra = {each.device: each.ratios[own.device] / mine - 1.0 for each in priced}
        cases.append(_Case(device, own, extra))
    return cases


def _exits(case: _Case) -> tuple[str, ...]:
    device, point = case.device, case.device.points[case.own.point]
    return ("the backbone itself",) if device.is_backbone(point) else tuple(map(exit_name, point.test.policy.exits))


def _percent(share: float | None) -> str:
    if share is None:
        return NONE
    words = f"{100.0 * share:+.1f} %"
    return words if float(words[:-2]) else "equal"


def _within(limit: float) -> str:
    return f"Within {100.0 * limit:g} point{'' if limit == 0.01 else 's'}" if limit else "At no loss"
