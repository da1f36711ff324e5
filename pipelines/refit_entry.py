"""What becomes of a fitted selector when the corpus has grown: `refit` of a `select` step."""

from typing import Literal

from ..selectors.base import Selector
from ..storage.errors import ConfigError

Refit = Literal["fresh", "merge", "frozen", "warm"]
HISTORY = ("frozen", "warm")
"""With these a result depends on what ran before, so the state that was used is part of the run's fingerprint."""
ABOUT_REFIT = (
    "when the corpus has changed: fresh: fit again; merge: the same state, made of the last one's summary and the new "
    "shards; frozen: the state of the last run; warm: clusters begin at those of the last run, which depends on history"
)


def check_refit(selector: Selector, refit: Refit, place: str) -> None:
    """Raise ConfigError where a selector cannot be refitted so."""
    if refit == "warm" and type(selector).fit_from is Selector.fit_from:
        raise ConfigError(
            f"{place}: refit: warm is for selectors that find clusters, and {selector.name} does not begin anywhere; "
            "use `fresh`, `merge` (the same result, cheaper) or `frozen` (the last state as it is)"
        )
    if refit == "merge" and not selector.merges:
        raise ConfigError(
            f"{place}: refit: merge is never exact for {selector.name}, whose fit needs the whole pool; "
            "use `fresh`, or `frozen` (the last state as it is)"
        )
