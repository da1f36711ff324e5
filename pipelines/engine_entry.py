"""What maps the stages of a flow over their items, as `flows.yaml` says it."""

from typing import Literal

from pydantic import Field

from .strict import Strict


class Engine(Strict):
    """What maps a stage over row groups."""

    use: Literal["threads"] = "threads"
    workers: int | None = Field(None, ge=1, description="default: the processors of this machine")
