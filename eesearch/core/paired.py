"""Intervals of accuracies: of one, and of the difference between a policy and the backbone on the same samples."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from eesearch.core.design import Value
from eesearch.core.weights import Weights, effective_samples


class Paired(Value):
    """On how many samples exactly one of the two is right; where both are right or both wrong, nothing is lost.

    With class weights, these are the numbers among samples of equal weight that would tell the difference as surely.

    Attributes:
        lost: Number of samples that the policy gets wrong and the backbone right.
        gained: The reverse.
        samples: Number of all samples.
    """

    lost: int | float
    gained: int | float
    samples: int | float

    @classmethod
    def of(cls, right: NDArray[np.bool_], backbone: NDArray[np.bool_], weights: Weights | None = None) -> Paired:
        """Compare who is right about each sample. All [N]"""
        lost, gained = backbone & ~right, right & ~backbone
        if weights is None:
            return cls(lost=int(lost.sum()), gained=int(gained.sum()), samples=len(right))
        samples = effective_samples(lost | gained, weights)
        each = samples / float(weights.sum())
        return cls(lost=each * float(weights[lost].sum()), gained=each * float(weights[gained].sum()), samples=samples)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Lost, gained, samples: whole numbers where all samples count the same."""
        return int(self.lost), int(self.gained), int(self.samples)

    @property
    def drop(self) -> float:
        """Accuracy lost to the backbone, as a share of all samples; below 0: gained."""
        return (self.lost - self.gained) / self.samples

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the drop, as shares.

        Adjusted Wald of Agresti and Min, "Simple improved confidence intervals for comparing matched proportions"
        (Statistics in Medicine 2005): half a sample more in each cell of the 2 x 2 table.
        """
        samples, differ, drop = self.samples + 2.0, self.lost + self.gained + 1.0, self.lost - self.gained
        centre = drop / samples
        half = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * sqrt(differ / samples - centre**2) / sqrt(samples)
        return max(-1.0, centre - half), min(1.0, centre + half)


def wilson(accuracy: float, samples: float) -> tuple[float, float]:
    """The 95 % interval of an accuracy (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    shrunk = 1.0 + z * z / samples
    centre = (accuracy + z * z / (2 * samples)) / shrunk
    half = z / shrunk * sqrt(accuracy * (1.0 - accuracy) / samples + (z / (2 * samples)) ** 2)
    return max(0.0, centre - half), min(1.0, centre + half)
