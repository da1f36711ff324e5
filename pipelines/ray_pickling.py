"""How a function travels: by value with what it refers to, its caches empty."""

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from ray.cloudpickle import CloudPickler


def pickled(function: Callable[..., Any]) -> bytes:
    """Return a function, or an object that can be called, with what it refers to.

    What belongs to an imported module is named, so the module must be there on the other side too.
    """
    with io.BytesIO() as buffer:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(function)
        return buffer.getvalue()


def _cached(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    return lru_cache(**parameters)(function)


def _reduced_cache(cache: Any) -> Any:
    """Return how a cache is made again: the one of a module there, or an empty one around the same function."""
    module, name = sys.modules.get(getattr(cache, "__module__", "")), getattr(cache, "__qualname__", "")
    if getattr(module, name, None) is cache:
        return getattr, (module, name)
    return _cached, (cache.cache_parameters(), cache.__wrapped__)


class _Pickler(CloudPickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap({type(lru_cache(len)): _reduced_cache}, CloudPickler.dispatch_table)
