"""When a flow is run by itself, as `flows.yaml` says it.

Every command reads it, so it is checked without Prefect, which takes a second to import. An interval counts from a
fixed time, not from the start of the server: a server that is started again every five hours would never come to what
is due every six.
"""

import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..storage.plugins import nearest
from .strict import Strict

ANCHOR = datetime(2024, 1, 1, tzinfo=UTC)
"""What intervals count from: a Monday, so that `every: 1w` is due at its midnight."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST = timedelta(days=366)
_AFTER = datetime(2024, 1, 1)  # what a cron expression is tried after


def parse_interval(value: Any) -> timedelta:
    """Return a time such as "30s", "15m", "6h", "1d" or "1w", or several such as "1h 30m". Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    parts = re.findall(r"(\d{1,9})\s*([smhdw])", value) if isinstance(value, str) else []
    if not parts or re.sub(r"\d{1,9}\s*[smhdw]|\s", "", value):
        raise ValueError(f"{value!r} is no time such as 30s, 15m, 6h, 1d or 1h 30m")
    found = timedelta(seconds=sum(int(n) * _SECONDS[unit] for n, unit in parts))
    if not timedelta(seconds=1) <= found <= _LONGEST:
        raise ValueError(f"{value!r} is not between 1s and {_LONGEST.days}d")
    return found


class Schedule(Strict):
    """When a flow is due: by a cron expression in a time zone, or every so often."""

    cron: str | None = Field(None, description='minute, hour, day, month, day of the week: "0 3 * * *"')
    timezone: str | None = Field(None, description="of cron: a name such as Europe/Berlin; default: UTC")
    every: Annotated[timedelta | None, BeforeValidator(parse_interval, json_schema_input_type=str)] = Field(
        None, description="30s, 15m, 6h, 1d: counted from midnight UTC"
    )
    missed: Literal["once", "skip"] = Field(
        "once",
        description="what was due, or was interrupted, while nothing served: made up by one run, or not at all",
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if len(value.split()) != 5:
            raise ValueError(f'{value!r} has {len(value.split())} fields, expected five such as "0 3 * * *"')
        try:
            next(CronSim(value, _AFTER))
        except CronSimError as error:
            raise ValueError(f"{value!r} is no cron expression: {str(error).lower()}") from None
        except StopIteration:
            raise ValueError(f"{value!r} is never due") from None
        if "W" in value.upper().split()[2]:
            raise ValueError(f"{value!r}: the nearest weekday (W) is not known to Prefect")
        if "L" in value.upper().split()[4]:
            raise ValueError(f"{value!r}: the last weekday of a month (L) is not known to Prefect in this form")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str | None) -> str | None:
        if value is not None and value not in zoneinfo.available_timezones():
            raise ValueError(f"no time zone {value!r}{nearest(value, sorted(zoneinfo.available_timezones()))}")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Schedule":
        if (self.cron is None) == (self.every is None):
            raise ValueError("expected either `cron` or `every`")
        if self.timezone is not None and self.cron is None:
            raise ValueError("`timezone` belongs to `cron`; an interval counts from midnight UTC")
        return self

    @property
    def text(self) -> str:
        """What people read."""
        if self.every is None:
            return f"cron {self.cron} {self.timezone or 'UTC'}"
        left, parts = int(self.every.total_seconds()), []
        for unit, seconds in reversed(_SECONDS.items()):
            if left >= seconds:
                parts.append(f"{left // seconds}{unit}")
                left %= seconds
        return "every " + " ".join(parts)
