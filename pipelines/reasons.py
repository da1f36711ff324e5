"""Why documents have their scores in a step of a past run: what the step's selector says of them.

The state of the step, the numbers of its features and its models are opened once for all documents that are asked
about. What was removed from the lake is said in place of a reason.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..selectors.base import Selector
from ..selectors.reasons import Reason
from ..storage.errors import TamisError
from ..storage.lake import Lake
from .opened_runs import OpenedRun
from .opened_steps import OpenedStep, Place
from .runs import RunRecord

SHOWN = 120
"""Characters of a document that a part names."""


def reasons(
    lake: Lake, record: RunRecord, step: str, places: Sequence[Place], *, most: int = 10
) -> list[Reason | None]:
    """Return why documents, named by shard and row, have their scores in a step, in the order of the places.

    None: there is no more to say than the score, or the document did not enter the step. A reason of the kind `missing`
    says what of the lake, or which model, is not there any more.
    """
    return step_reasons(OpenedStep(OpenedRun(lake, record), step), places, most)


def step_reasons(step: OpenedStep, places: Sequence[Place], most: int) -> list[Reason | None]:
    """Return the reasons of documents in an opened step, as `reasons` does."""
    if "selector" not in step.record and step.record["kind"] != "dedup":
        return [None] * len(places)
    try:
        entered = step.entered(places)
        found = _reasons(step, entered, most) if entered else {}
    except TamisError as error:
        return [Reason("missing", str(error))] * len(places)
    return [found.get(place) for place in places]


def _reasons(step: OpenedStep, places: Sequence[Place], most: int) -> dict[Place, Reason | None]:
    if type(step.selector).reasons is Selector.reasons:
        return {}
    batch, scores = step.seen(places)
    found = step.selector.reasons(batch, step.state, scores, step.around(most))
    return dict(zip(places, _with_texts(step, found), strict=True)) if found else {}


def _with_texts(step: OpenedStep, found: Sequence[Reason | None]) -> list[Reason | None]:
    """Return reasons in which the parts that name a document of the pool have the beginning of its text."""
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    for part in (part for reason in found if reason for part in reason.parts if "shard" in part):
        wanted[part["shard"]][part["row"]] = ""
    for digest, rows in wanted.items():
        shard = step.run.shards[digest]
        for number, (start, n) in enumerate(shard.row_groups):
            mine = [row for row in rows if start <= row < start + n]
            if mine:
                text = shard.read_group(number, ["text"]).column("text")
                rows |= {row: text[row - start].as_py()[:SHOWN] for row in mine}

    def told(part: dict[str, Any]) -> dict[str, Any]:
        return part | {"text": wanted[part["shard"]][part["row"]]} if "shard" in part else part

    return [reason and replace(reason, parts=[told(part) for part in reason.parts]) for reason in found]
