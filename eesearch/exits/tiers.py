"""Exits on tiers: a table and its exits, once for each tier of a system that they may run on.

As with a last resort, nothing that reads tables and costs has to know: an exit on another tier is one more row with the
same logits. Where a carry is coded on its way, the exits behind say something else: then the rows are of a table that
was collected so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eesearch.core.cascades import member_of
from eesearch.core.design import NOTHING, ExitId
from eesearch.core.errors import PolicyError
from eesearch.core.systems import SystemProfile
from eesearch.core.tables import ExitTable


def with_places(table: ExitTable, exits: Iterable[ExitId], coded: Mapping[str, ExitTable]) -> ExitTable:
    """A table of one or more networks, and behind it the rows of exits on tiers that it lacks.

    Args:
        table: Of the networks.
        exits: Of policies; those that it knows, and a last resort, are left alone.
        coded: link -> what exits say behind it.

    Raises:
        PolicyError: neither knows an exit.
    """
    known = set(table.exits)
    missing = [e for e in dict.fromkeys(exits) if e not in known and not e.is_last_resort]
    rows = [np.zeros_like(table.logits[0]) if e.is_none else _said(e, table, coded) for e in missing]
    logits = np.concatenate([table.logits, np.stack(rows)]) if rows else table.logits
    return replace(table, logits=logits, exits=(*table.exits, *missing))


def _said(exit_id: ExitId, table: ExitTable, coded: Mapping[str, ExitTable]) -> np.ndarray:
    if not exit_id.link:
        return np.asarray(table.logits[table.row(exit_id.bare)])
    behind = coded[exit_id.link]
    return np.asarray(behind.logits[behind.row(exit_id.model_copy(update={"tier": ""}))])


def tiered(
    table: ExitTable, system: SystemProfile, coded: Sequence[ExitTable] = (), *, silent: bool = True
) -> ExitTable:
    """The rows of a table on every tier, and at every cut a head that says nothing, from which a sample may cross.

    A first tier of several devices has those at cuts of several views only.

    Args:
        table: Of one network, any split.
        system: Its tiers and links.
        coded: Of exits behind a cut at which the carry was coded, over the same samples.
        silent: Whether there are heads that say nothing.

    Raises:
        PolicyError: a coded table is of other samples.
    """
    first = [row for row, e in enumerate(table.exits) if system.on_first(e)]
    parts = [table.logits[first], *[table.logits] * (len(system.names) - 1)]
    exits = [table.exits[row].model_copy(update={"tier": system.names[0]}) for row in first]
    exits += [e.model_copy(update={"tier": tier}) for tier in system.names[1:] for e in table.exits]
    for behind in coded:
        if behind.samples != table.samples:
            raise PolicyError(
                "tables of coded carries are of other samples", got=behind.samples, expected=table.samples
            )
        exits += [e.model_copy(update={"tier": tier}) for tier in system.names[1:] for e in behind.exits]
        parts += [behind.logits] * (len(system.names) - 1)
    if silent:
        network = table.exits[-1].network
        crossings = [
            ExitId(network=network, cut=cut, head=NOTHING, tier=tier)
            for tier in system.names[:-1]
            for cut in system.carry_bytes
        ]
        crossings = [e for e in crossings if e.tier != system.names[0] or system.on_first(e)]
        exits += crossings
        parts.append(np.zeros((len(crossings), *table.logits.shape[1:]), np.float32))
    return replace(table, logits=np.concatenate(parts), exits=tuple(exits))


def tiered_networks(
    table: ExitTable, systems: Mapping[str, SystemProfile], coded: Sequence[ExitTable] = ()
) -> ExitTable:
    """The rows of one or more networks on every tier, as `tiered`; one network after the other, as in the table.

    Args:
        table: Of the networks, any split.
        systems: Name of each ("" if there is one only) -> its tiers and links.
        coded: Of exits behind cuts at which the carry was coded, over the same samples; each of one network.

    Raises:
        PolicyError: a coded table is of other samples.
    """
    if "" in systems:
        return tiered(table, systems[""], coded)
    tables = []
    for network in dict.fromkeys(e.network for e in table.exits):
        exits = [e for e in table.exits if e.network == network]
        behind = [each for each in coded if each.exits[0].network == network]
        tables.append(tiered(table.select(exits), systems[member_of(exits[0])], behind))
    return ExitTable.join(tables)
