"""What `tamis clean` keeps, as `flows.yaml` says it."""

from pydantic import Field

from .strict import Strict


class Keep(Strict):
    """Which runs are kept, with everything that they refer to."""

    runs: int = Field(3, ge=0, description="the newest finished runs of each flow, mixture and command")
    days: float = Field(30.0, ge=0, description="every run that began in the last days, unfinished ones too")
    hours: float = Field(1.0, ge=0, description="everything that was published in the last hours, whoever needs it")
