"""Whether a point that was deployed does what its table says."""

import numpy as np

from eesearch.core.design import ABSTAINED
from eesearch.core.policy import Scoring
from eesearch.core.tables import ExitTable
from eesearch.exits.last_resort import with_last_resort
from eesearch.exits.routing import path_outputs, route
from eesearch.study.materials import load_study_data


def check_deployed(run, point):
    x = load_study_data(run.directory.study()).test.x
    policy = point.cal.policy
    net, fits = run.network(point, x)
    table = ExitTable.from_arrays(*run.directory.store.get("table", f"{point.cal.design}-test"))
    if policy.exits[-1].is_last_resort:
        table, _ = with_last_resort(table, [], {})
    scoring, rows = Scoring.of(policy, fits), [table.row(e) for e in policy.exits]
    scores, correct = path_outputs(table, rows, scoring)
    stops, each = route(scores, policy.thresholds), np.arange(len(x))
    asked = np.array([e.is_last_resort for e in policy.exits])[stops]
    safe = (np.abs(scores.astype(float) - np.array(policy.thresholds)[:, None]) > 1e-5).all(0)
    assert safe.mean() >= 0.995
    batch = net.predict(x, policy, fits)
    np.testing.assert_array_equal(batch.exit[safe], stops[safe])
    right = np.where(batch.answer == ABSTAINED, True, batch.answer == table.labels)
    np.testing.assert_array_equal(right[safe], correct[stops, each][safe])
    np.testing.assert_array_equal(batch.answer[safe] == ABSTAINED, asked[safe])
    np.testing.assert_allclose(batch.score[safe & ~asked], scores[stops, each][safe & ~asked], rtol=1e-5, atol=1e-5)
    for n in np.flatnonzero(safe)[:25]:
        alone = net.predict(x[n : n + 1], policy, fits)
        assert (alone.exit[0], alone.answer[0]) == (stops[n], batch.answer[n])
    return batch
