"""Terminal tables of what is not a front: a device's profile, a search's plan, this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from eesearch.core.cascades import CascadeProfile
from eesearch.core.costs import DeviceProfile, LatencyProfile
from eesearch.core.design import OUTPUT, OWN
from eesearch.reporting.formats import cost_words, duration

if TYPE_CHECKING:  # they import torch, which `eesearch solve` does without
    from eesearch.costs.profile import AnyProfile
    from eesearch.study.estimate import Plan


def profile_tables(profile: AnyProfile) -> list[Table]:
    """The table of a device, of several networks each one's; of a system, those of its tiers, and what it sends."""
    if isinstance(profile, CascadeProfile):
        named = [each.model_copy(update={"device": f"{each.device}: {name}"}) for name, each in profile.members.items()]
        return [table for each in named for table in profile_tables(each)]
    if isinstance(profile, DeviceProfile):
        return [profile_table(profile)]
    measured = {tier.profile.device: tier.profile for tier in profile.tiers}
    table = plain_table(profile.device, ("after", "carry (kB)", "in 8-bit codes (kB)"))
    for cut, size in {"input": profile.raw_bytes, **profile.carry_bytes}.items():
        coded = cost_words(profile.coded_bytes[cut], "bytes", unit=False) if cut in profile.coded_bytes else ""
        table.add_row(Text(cut), cost_words(size, "bytes", unit=False), coded)
    table.caption = Text("\n".join(f"{name}: {words}" for name, words in profile.fingerprint.items()))
    return [*map(profile_table, measured.values()), table]


def profile_table(profile: DeviceProfile) -> Table:
    """Cost of every prefix and head of a device: MACs, and milliseconds where it was timed."""
    timed = profile.latency
    table = plain_table(profile.device, ("after", "MACs (M)", "latency (ms)", "heads in place"))
    for k, name in enumerate((*profile.cuts, OUTPUT)):
        latency = f"{timed.prefix_ms[k]:.4f}" if timed else ""
        heads = (timed.head_ms if timed else profile.macs_head).get(name, {})
        words = "\n".join(f"{cost_words(cost, profile.axis)}  {head}" for head, cost in heads.items())
        table.add_row(Text(name), cost_words(profile.macs_prefix[k], "macs", unit=False), latency, Text(words))
    if timed:
        table.caption = Text("\n".join(_measured(profile, timed)))
    return table


def _measured(profile: DeviceProfile, timed: LatencyProfile) -> Iterator[str]:
    """How a device's figures were taken, and how far they can be trusted."""
    decisions = ", ".join(f"{name} {ms:.4f}" for name, ms in timed.decision_ms.items())
    contended = max((timing.contention for timing in timed.timings.values()), default=1.0)
    yield (
        f"decision (ms): {decisions}; going on: {timed.resume_ms:.4f} ms; noise between processes {timed.noise:.1%}; "
        f"contention {contended:.2f}"
    )
    if profile.smaller:
        calls = [f"b{each.batch} {each.prefix_ms[-1] / each.batch:.4f}" for each in (*profile.smaller, timed)]
        yield f"per call of {timed.batch} samples; the whole network for one of them (ms): {', '.join(calls)}"
    if profile.energy:
        yield f"the whole network takes {profile.energy.prefix_mj[-1]:.3g} mJ a call"
    yield from (f"Caution: {caution}." for caution in profile.cautions)


def plan_table(plan: Plan) -> Table:
    """What a search would do: the cuts of each network with the heads that fit there, then totals."""
    table = plain_table("cuts", ("after", "hidden state", "MACs so far", "heads"))
    for network in plan.networks:
        for cut in network.cuts:
            shape = "x".join(map(str, cut.shape))
            table.add_row(Text(cut.name), shape, f"{cut.share:.1%}", Text("\n".join(cut.heads)))
        if not network.cuts:
            table.add_row(Text(f"{network.name}/{OUTPUT}"), "", f"{1.0:.1%}", "as a whole")
    several, banks = len(plan.networks) > 1, ("", "the bank", "a draft, the bank")[plan.banks]
    designs = plan.trials - plan.banks
    first, then = (f"{plan.samples[0]:,} for {banks}, ", f"{banks}, then ") if banks else ("", "")
    networks = ", ".join(f"{each.name} {cost_words(each.macs, 'macs')}" for each in plan.networks)
    summary = {
        **({"networks": networks} if several else {}),
        "cached hidden states": _cache_words(plan, ", of one network at a time" if several else ""),
        "trainings": f"{plan.trials} ({then}{designs} design{'' if designs == 1 else 's'})",
        "training samples": f"{first}at most {plan.samples[1]:,} for each design",
        "time": f"about {estimate_words(plan.seconds)}",
    }
    table.caption = Text("\n".join(f"{name}: {value}" for name, value in summary.items()))
    return table


def _cache_words(plan: Plan, of: str) -> str:
    """How large what a bank caches is, and a design; where it would go, and the limit."""
    told = {"": plan.cache_bytes} if plan.banks else {}
    if plan.design_cache_bytes or not told:
        told["of a design "] = plan.design_cache_bytes
    words = [
        f"{whose}{size / 1e6:,.1f} MB{'' if whose else of}, {plan.caching.place(size).words}"
        for whose, size in told.items()
    ]
    return "; ".join([*words, f"at most {plan.caching.max_gb:g} GB (--max-cache)"])


def solved_table(rows: Sequence[Mapping[str, int | float | str]], certificate: str) -> Table:
    """The points of a front that was solved from files, and what is known about it."""
    heads = {head for row in rows for head in str(row["heads"]).split("|")} - {OWN}
    hidden = {"exit_rate", *(["heads"] if len(heads) < 2 else [])} | {
        name for name in rows[0] if name.endswith(("_p95", "_worst"))
    }
    columns = tuple(name for name in rows[0] if name not in hidden)
    table = plain_table("front, by rising cost", columns)
    for row in rows:
        table.add_row(*(Text(_figure(row.get(name, ""), listed=name == "thresholds")) for name in columns))
    table.caption = Text(certificate)
    return table


def _figure(value: int | float | str, *, listed: bool) -> str:
    """A number to six digits; each of a list to four."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return "|".join(f"{float(part):.4g}" for part in text.split("|")) if listed and text else text


def facts_table(facts: Mapping[str, str]) -> Table:
    """Names and values."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    return table


def estimate_words(seconds: Mapping[str, float]) -> str:
    """Estimated phases, and their sum."""
    parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    return f"{duration(sum(seconds.values()))} ({parts})"


def plain_table(title: str, columns: tuple[str, ...]) -> Table:
    """An empty table in the style of all."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
