"""Numbers as people write them: 2_000_000, 1e9, 2.5B, 128MB, 5%."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator

_SUFFIX = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


_MOST = 2**63 - 1
_DIGITS = r"([\d_.]+(?:e[+-]?\d+)?)"


def parse_count(value: Any) -> int:
    """Return a whole number from an int, a float such as 1e9, or text such as "2.5B", "1e9" or "2_000_000".

    Raises ValueError for anything that is not a whole number from 0 to 2^63 - 1.
    """
    return _parse(value, rf"{_DIGITS}\s*([KMBGT]?)", _SUFFIX, "a count such as 2_000_000, 1e9 or 2.5B")


def parse_bytes(value: Any) -> int:
    """Return a number of bytes from a number or text such as "128MB" (powers of 1024). Raises ValueError."""
    return _parse(value, rf"{_DIGITS}\s*(?:([KMGT])i?)?B?", _BYTES, "a size such as 128MB or 1_000_000")


def _parse(value: Any, pattern: str, suffixes: dict[str, int], expected: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not {expected}")
    match = re.fullmatch(pattern, str(value).strip(), re.IGNORECASE | re.ASCII)
    number = _number(match[1]) * suffixes[(match[2] or "").upper()] if match else Decimal("nan")
    if not number.is_finite() or number != number.to_integral_value():
        raise ValueError(f"{value!r} is not {expected}")
    if number > _MOST:
        raise ValueError(f"{value!r} is above 2^63 - 1, expected {expected}")
    return int(number)


def _number(text: str) -> Decimal:
    """Return the number, NaN where it is none or so large or small that arithmetic with it would take for ever."""
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return Decimal("nan")
    return number if number.is_finite() and -30 < number.adjusted() < 30 else Decimal("nan")


def parse_share(value: Any) -> int | float:
    """Return a count as int, or a percentage such as "5%" as a float in [0, 1]. Raises ValueError."""
    return _percentage(value) if _has_percent(value) else parse_count(value)


def parse_size_or_share(value: Any) -> int | float:
    """Return a size such as "10GB" as int, or a percentage as a float in [0, 1]. Raises ValueError."""
    return _percentage(value) if _has_percent(value) else parse_bytes(value)


def parse_fraction(value: Any) -> float:
    """Return a part of a whole as a float in [0, 1], from a number such as 0.95 or text such as "95%".

    Raises ValueError.
    """
    if _has_percent(value):
        return _percentage(value)
    share = Decimal("nan") if isinstance(value, bool) else _number(str(value).strip())
    if not (share.is_finite() and 0 <= share <= 1):
        raise ValueError(f"{value!r} is not a share such as 95% or 0.95")
    return float(share)


def _has_percent(value: Any) -> bool:
    return isinstance(value, str) and value.rstrip().endswith("%")


def _percentage(value: str) -> float:
    share = _number(value.strip()[:-1].strip()) / 100
    if not (share.is_finite() and 0 <= share <= 1):
        raise ValueError(f"{value!r} is not between 0% and 100%")
    return float(share)


Written = int | float | str
"""What stands in the file, for the JSON Schema."""

Count = Annotated[int, BeforeValidator(parse_count, json_schema_input_type=Written)]
Size = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=Written)]
CountOrShare = Annotated[int | float, BeforeValidator(parse_share, json_schema_input_type=Written)]
SizeOrShare = Annotated[int | float, BeforeValidator(parse_size_or_share, json_schema_input_type=Written)]
