"""Numbers as people write them: 2_000_000, 1e9, 2.5B, 128MB, 5%."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator

_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_count(value: Any) -> int:
    """Return a whole number from an int, a float such as 1e9, or text such as "2.5B", "1e9" or "2_000_000".

    Raises ValueError for anything that is not a whole number >= 0.
    """
    return _parse(value, r"([\d_.]+(?:[eE][+-]?\d+)?)\s*([KMBGT]?)", _SUFFIX, "a count such as 2_000_000, 1e9 or 2.5B")


def parse_bytes(value: Any) -> int:
    """Return a number of bytes from an int or text such as "128MB" (powers of 1024)."""
    return _parse(value, r"([\d_.]+)\s*([KMGT]?)i?B?", _BYTES, "a size such as 128MB or 1_000_000")


def _parse(value: Any, pattern: str, suffixes: dict[str, int], expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not {expected}")
    match = re.fullmatch(pattern, str(value).strip(), re.IGNORECASE)
    try:
        number = Decimal(match[1].replace("_", "")) * suffixes[match[2].upper()] if match else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"{value!r} is not {expected}")
    return int(number)


def parse_share(value: Any) -> "int | float":
    """Return a count as int, or a percentage such as "5%" as a float in [0, 1]."""
    if isinstance(value, str) and value.strip().endswith("%"):
        share = float(value.strip()[:-1]) / 100
        if not 0 <= share <= 1:
            raise ValueError(f"{value!r} is not between 0% and 100%")
        return share
    return parse_count(value)


Count = Annotated[int, BeforeValidator(parse_count)]
Size = Annotated[int, BeforeValidator(parse_bytes)]
CountOrShare = Annotated[int | float, BeforeValidator(parse_share)]
