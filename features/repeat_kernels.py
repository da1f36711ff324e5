"""How much of a document repeats itself: the word n-grams of Gopher's repetition rules, as integers.

Grams are compared by 64-bit hashes: two of a document's million differ and look alike once in 10^7 such documents. A
gram that holds a gram that comes once comes once itself, so each order looks only at what the order below found twice.
And of these only a third are looked up: a byte for each of the hash's last bits says first, without a branch, which
grams come once for sure. The tables are as large as the document needs, so that of a few kilobytes stay in the first
cache.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .word_kernels import ONE, join

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
REPEAT_COUNTS = (
    *(f"n_top_{n}gram_chars" for n in TOP_GRAMS),
    *(f"n_dup_{n}gram_chars" for n in DUPLICATE_GRAMS),
)
"""The columns that `count_repeats` writes."""

_FIRST_TOP, _LAST_TOP, _LAST_DUPLICATE = TOP_GRAMS[0], TOP_GRAMS[-1], DUPLICATE_GRAMS[-1]
_SKETCH_SLOTS = 4  # times the places of a table
_32 = np.uint64(32)

Scratch = tuple[npt.NDArray[Any], ...]
"""Arrays that `count_repeats` writes over: grams, places, first, times, slots, sketch."""


@njit(nogil=True, cache=True)
def count_repeats(
    tokens: npt.NDArray[np.uint64], ends: npt.NDArray[np.int64], scratch: Scratch, row: npt.NDArray[np.int64]
) -> None:
    """Write a document's row, zeros before, in the order of `REPEAT_COUNTS`, from its tokens' hashes and ends."""
    n_again = n = len(tokens)
    grams, places, first, times, slots, sketch = scratch
    for j in range(n):
        grams[j], places[j] = tokens[j], j  # as if every word came twice: all grams of two are looked at
    for order in range(_FIRST_TOP, min(n, _LAST_DUPLICATE) + 1):
        if n_again == 0 and order > _LAST_TOP:
            break
        n_grams = _lengthen(grams[:n_again], places, tokens[order - 1 :])
        n_grams = _drop_lonely(grams[:n_grams], places, sketch[: _SKETCH_SLOTS * slots_for(n_grams)])
        _find_alike(grams[:n_grams], slots[: slots_for(n_grams)], first, times)
        if order <= _LAST_TOP:
            chars = _top_chars(places[:n_grams], times, ends, order)
        else:
            chars = _duplicate_chars(places[:n_grams], first, times, ends, order)
        row[order - _FIRST_TOP] = chars
        n_again = _keep_repeated(grams[:n_grams], places, first, times)


@njit(nogil=True, cache=True)
def scratch_for(n_tokens: int) -> Scratch:
    """Return scratch for documents of up to so many tokens; what a document does not need is never touched."""
    places, first, times = np.empty(n_tokens, np.int32), np.empty(n_tokens, np.int32), np.empty(n_tokens, np.int32)
    slots = np.empty(slots_for(n_tokens), np.int32)
    return np.empty(n_tokens, np.uint64), places, first, times, slots, np.empty(_SKETCH_SLOTS * len(slots), np.uint8)


@njit(nogil=True, cache=True)
def slots_for(n_keys: int) -> int:
    """Return the size of a table that n keys fill to at most a half: a power of two."""
    size = 4
    while size < 2 * n_keys:
        size *= 2
    return size


@njit(nogil=True, cache=True)
def first_alike(keys: npt.NDArray[np.uint64], j: int, slots: npt.NDArray[np.int32]) -> int:
    """Return the place of the first key seen that equals `keys[j]`: j itself where it is new, and it is then seen.

    `slots` is an open-addressing table of places plus one, zeros at the start, its size a power of two.
    """
    key, mask = keys[j], np.uint64(len(slots) - 1)
    slot = key & mask
    place = np.uint64(slots[slot])
    while place != 0:
        if keys[place - ONE] == key:
            return int(place) - 1  # np.int64(place) is not inlined: less than half the speed
        slot = (slot + ONE) & mask
        place = np.uint64(slots[slot])
    slots[slot] = j + 1
    return j


@njit(nogil=True, cache=True)
def _lengthen(grams: npt.NDArray[np.uint64], places: npt.NDArray[np.int32], next_tokens: npt.NDArray[np.uint64]) -> int:
    """Lengthen the grams whose follower is in the list too, move them to the front, and return how many they are."""
    n = np.uint64(0)
    for j in range(len(grams) - 1):
        place = places[j]
        grams[n], places[n] = join(grams[j], next_tokens[place]), place
        n += np.uint64(places[j + 1] == place + 1)
    return int(n)


@njit(nogil=True, cache=True)
def _drop_lonely(grams: npt.NDArray[np.uint64], places: npt.NDArray[np.int32], sketch: npt.NDArray[np.uint8]) -> int:
    """Move the grams that may come more than once to the front, and return how many they are."""
    mask = np.uint64(len(sketch) - 1)
    sketch[:] = 0
    for gram in grams:
        slot = (gram >> _32) & mask
        sketch[slot] = sketch[slot] << 1 | 1
    n = np.uint64(0)
    for j in range(len(grams)):
        gram = grams[j]
        grams[n], places[n] = gram, places[j]
        n += np.uint64(sketch[(gram >> _32) & mask] > 1)
    return int(n)


@njit(nogil=True, cache=True)
def _find_alike(
    grams: npt.NDArray[np.uint64],
    slots: npt.NDArray[np.int32],
    first: npt.NDArray[np.int32],
    times: npt.NDArray[np.int32],
) -> None:
    """Write in `first` which gram is the first one alike, and in `times`, there, how many are."""
    slots[:] = 0
    for j in range(len(grams)):
        alike = first_alike(grams, j, slots)
        first[j] = alike
        times[j] = 0
        times[alike] += 1


@njit(nogil=True, cache=True)
def _keep_repeated(
    grams: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int32],
    first: npt.NDArray[np.int32],
    times: npt.NDArray[np.int32],
) -> int:
    """Move the grams that come more than once to the front, and return how many they are."""
    n = 0
    for j in range(len(grams)):
        grams[n], places[n] = grams[j], places[j]
        n += abs(times[first[j]]) > 1
    return n


@njit(nogil=True, cache=True)
def _top_chars(
    places: npt.NDArray[np.int32], times: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], order: int
) -> int:
    """Return the length of the most frequent gram, joined by spaces, times how often it comes; the first of equals.

    Where all come once, the first of equals is the first of the document, whether it is in the list or not.
    """
    place, most = 0, 1
    for j in range(len(places)):
        if times[j] > most:  # 0 where another gram stands for this one
            place, most = places[j], times[j]
    return int(most * (ends[place + order] - ends[place] + order - 1))


@njit(nogil=True, cache=True)
def _duplicate_chars(
    places: npt.NDArray[np.int32],
    first: npt.NDArray[np.int32],
    times: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
    order: int,
) -> int:
    """Return the code points in grams met before, from left to right, going on behind each one found.

    What is skipped is not met. `times` becomes negative for a kind of gram that was met.
    """
    chars, resume = 0, 0
    for j in range(len(places)):
        place = places[j]
        if place < resume:
            continue
        if times[first[j]] < 0:
            resume = place + order
            chars += ends[resume] - ends[place]
        else:
            times[first[j]] = -times[first[j]]
    return chars
