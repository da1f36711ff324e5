"""The losses of language models in a selector: mean nats a predicted token, from the sums that a feature gives.

Sums are divided here, so that a document of several windows counts by its tokens, and every selector in the same way.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..features.base import Feature
from ..storage.errors import ConfigError

Float64s = npt.NDArray[np.float64]
SUM, COUNT = "nll", "n_predicted"
TOO_SHORT = "too few tokens"


def check_losses(selector: str, parameter: str, feature: Feature) -> None:
    """Raise ConfigError for a feature that has no losses: `nll` (nats, summed) and `n_predicted` (tokens)."""
    names = feature.columns.names
    if not {SUM, COUNT} <= set(names):
        raise ConfigError(
            f"{selector}: {parameter} is a feature of kind {feature.name!r} with the columns {', '.join(names[:6])}; "
            f"expected {SUM} and {COUNT}, as `losses` gives"
        )


def mean_loss(batch: pa.RecordBatch, parameter: str) -> Float64s:
    """Return the mean loss of each document in nats a token; NaN where no token was predicted, or the sum is NaN."""
    total = pc.fill_null(batch.column(f"{parameter}.{SUM}").cast(pa.float64()), np.nan)
    count = pc.fill_null(batch.column(f"{parameter}.{COUNT}").cast(pa.float64()), 0)
    n = count.to_numpy(zero_copy_only=False)
    means: Float64s = np.full(len(n), np.nan)
    np.divide(total.to_numpy(zero_copy_only=False), n, out=means, where=n > 0)
    return means


def scored(batch: pa.RecordBatch, parameter: str, score: Float64s, min_tokens: int) -> pa.Table:
    """Return scores; documents of which fewer tokens were predicted may not be chosen."""
    count = pc.fill_null(batch.column(f"{parameter}.{COUNT}").cast(pa.float64()), 0).to_numpy(zero_copy_only=False)
    short = count < min_tokens
    reason = pa.array(np.where(short, TOO_SHORT, ""), pa.string(), mask=~short)
    return pa.table({"score": pa.array(score, mask=short), "reason": reason})
