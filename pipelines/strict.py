"""What all models of `flows.yaml` have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ..storage.lake import NAME

Name = Annotated[str, Field(pattern=f"^{NAME}$")]


class Strict(BaseModel):
    """A mapping in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
