"""A plan beside what the run did: by stage, because a run that finds things in the lake has fewer stages."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from .plan_result import BETWEEN, PREFECT
from .runs import RunRecord

ALL = "in all"


def compared_stages(record: RunRecord) -> list[dict[str, Any]]:
    """Return planned and real seconds and bytes of each stage, and of all; stages of one name together.

    What lies between the stages, Prefect's part included, is what is left of the time from the start of the run to its
    end; of a run that has not ended, nothing.
    """
    rows: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"planned_seconds": 0.0, "seconds": 0.0, "planned_bytes": 0.0, "bytes": 0}
    )
    for planned in record.plan["stages"]:
        name = BETWEEN if planned["stage"] == PREFECT else planned["stage"]
        rows[name]["planned_seconds"] += planned["seconds"]["value"]
        rows[name]["planned_bytes"] += planned["bytes"]["value"]
    for stage in record.stages:
        rows[stage.name]["seconds"] += stage.seconds
        rows[stage.name]["bytes"] += stage.bytes
    if record.finished and record.started:
        whole = datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)
        in_stages = sum(stage.seconds for stage in record.stages)
        rows[BETWEEN]["seconds"] = round(max(0.0, whole.total_seconds() - in_stages), 3)
    total = {figure: sum(row[figure] for row in rows.values())
             for figure in ("planned_seconds", "seconds", "planned_bytes", "bytes")}  # fmt: skip
    return [{"stage": name, **row} for name, row in [*rows.items(), (ALL, total)]]


def compared_steps(record: RunRecord) -> list[dict[str, Any]]:
    """Return planned and real documents and tokens that each step kept."""
    planned = {step["name"]: step for step in record.plan["steps"]}
    return [
        {
            "step": step["name"], "planned_documents": p["documents"]["value"],
            "documents_error": p["documents"]["error"], "documents": step["kept"],
            "planned_tokens": p["tokens"]["value"], "tokens_error": p["tokens"]["error"],
            "tokens": step["tokens_kept"],
        }
        for step in record.steps if (p := planned.get(step["name"]))
    ]  # fmt: skip
