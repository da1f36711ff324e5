"""What a failed allocation looks like, whoever allocated, and what people are told.

Linux seldom lets one fail: it lends more than there is and kills who asks for it. They fail under `ulimit`, in DuckDB,
which has a limit of its own, and for sizes that no machine has.
"""

import re

import duckdb

from .errors import MemoryLackError
from .memory_limits import memory_there


def lacks_memory(error: BaseException | None) -> bool:
    """Say whether an error, or what it came from, is an allocation that failed."""
    while error is not None:
        if isinstance(error, MemoryError | duckdb.OutOfMemoryException):  # those of NumPy and Arrow are MemoryErrors
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False


_SIGNS = ("can't start new thread", "can't allocate memory", "not enough memory")
"""Of Python's threads, and of torch on the processor."""


def is_absurd(error: MemoryError) -> bool:
    """Say whether Arrow asked for more than the machine has: a damaged file told it so."""
    asked = re.search(r"of size (\d+) failed", str(error))
    return asked is not None and int(asked[1]) > memory_there()


def lack_of_memory(error: BaseException) -> MemoryLackError:
    """Return the error that tells people what to do."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    query = isinstance(error, duckdb.Error) or isinstance(error.__cause__, duckdb.Error)
    advice = (
        "a query of DuckDB has its share of `memory:` and no more: give it more, or more room on the disk of the lake"
        if query
        else "set a smaller `memory:` in flows.yaml, which chooses fewer workers, or these alone (`--workers 1`)"
    )
    return MemoryLackError(
        f"there was not enough memory ({first}); {advice}. What is finished is kept, and the same command goes on there"
    )
