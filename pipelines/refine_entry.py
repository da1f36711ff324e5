"""The entry `refine` of a select step in `flows.yaml`: its budget is spent in rounds."""

from typing import Literal

from pydantic import Field

from .strict import Name, Strict


class Refine(Strict):
    """Choose in rounds: where the documents of one score high, the next takes more of their cluster."""

    rounds: int = Field(3, ge=1, description="each brings what is chosen to its part of the budget: a third, two, all")
    score: str = Field(
        description="a number, SQL over features and columns, e.g. `lm.loss`: computed for chosen documents only"
    )
    train: Name | None = Field(
        None, description="an entry of `models`, trained anew after each round on what is chosen so far: `score` then "
        "reads its losses, what the model still lacks"
    )  # fmt: skip
    weights: Literal["paper", "official"] = Field(
        "paper",
        description="paper: weights times the clusters' mean scores of this round, below 0 as 0; official: softmax of "
        "the mean scores of everything chosen so far, the weights before forgotten",
    )
