"""The samples of a draft: of the bank, learnt from a share of the training samples first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import content_key
from eesearch.core.errors import DataError
from eesearch.study.question import Study
from eesearch.training.data import Split
from eesearch.training.shares import Share, take_share


def draft_key(study: Study, train: Split) -> str:
    """Equal iff the draft learns from the same samples."""
    return content_key("draft", train.key, study.training.draft, study.seed)


def draft_rows(study: Study, y: NDArray[np.int64]) -> NDArray[np.intp]:
    """The training samples that the draft learns from, each class alike; none if the study wants no draft.

    Args:
        study: Says which share.
        y: Labels of the training split. [N]

    Raises:
        DataError: the share is too small to hold every class, or leaves none.
    """
    if study.training.draft is None:
        return np.empty(0, np.intp)
    do = "Change `training.draft`."
    _, rows = take_share(y, Share("train", "draft", study.training.draft, do), "train", study.seed)
    missing = np.setdiff1d(y, y[rows])
    if len(missing):
        raise DataError("the draft lacks classes", got=f"no sample of class {missing[0]}", expected="all", do=do)
    return rows


def drafted(study: Study, train: Split) -> Split:
    """These samples.

    Raises:
        DataError: as `draft_rows`.
    """
    rows = draft_rows(study, train.y)
    return Split("train", train.x[rows], train.y[rows], class_weights=train.class_weights)
