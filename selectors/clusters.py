"""The clusters of a pool as a selector keeps them."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..features.base import Feature


@dataclass(frozen=True)
class ClusterState:
    """Clusters of a pool."""

    centroids: npt.NDArray[np.float32]
    """(k, d); of length 1 if spherical. There are fewer than asked for where the sample has fewer different vectors."""
    n_sample: npt.NDArray[np.int64]
    """Documents of the sample in each."""
    spherical: bool
    mean_distance: float
    """Of the sample's documents to their centroids."""
    silhouettes: dict[str, float] = field(default_factory=dict)
    """By number of clusters, where it was to be chosen."""
    key: int = 0
    """Of the step's random numbers."""


class Clustered(NamedTuple):
    """The clusters of a fitted selector, and the feature whose vectors they are made of."""

    feature: Feature
    state: ClusterState
