"""How much of a document repeats itself: the word n-grams of Gopher's repetition rules, as integers.

Grams are compared by 64-bit hashes: two of a document's million differ and look alike once in 10^7 such documents. The
tables are as large as the document needs, so a document of a few kilobytes stays in the first-level cache. A gram that
holds a gram that comes once comes once itself, so each order looks only at what the order below found twice.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .text_buffers import Bytes, Offsets
from .unicode_tables import KIND
from .word_kernels import ONE, SEED, absorb, decode, join, mix64

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)
REPEAT_COUNTS = (
    *(f"n_top_{n}gram_chars" for n in TOP_GRAMS),
    *(f"n_dup_{n}gram_chars" for n in DUPLICATE_GRAMS),
)
"""The columns that `count_repeats` writes."""

_FIRST_TOP, _LAST_TOP, _LAST_DUPLICATE = TOP_GRAMS[0], TOP_GRAMS[-1], DUPLICATE_GRAMS[-1]


@njit(nogil=True, cache=True)
def count_repeats(
    offsets: Offsets,
    data: Bytes,
    classes: npt.NDArray[np.uint8],
    n_tokens: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Write one row a document, zeros before, in the order of `REPEAT_COUNTS`; `n_tokens` is `count_words`' answer."""
    most = n_tokens.max() if len(n_tokens) else 0
    tokens, grams, ends = np.empty(most, np.uint64), np.empty(most, np.uint64), np.zeros(most + 1, np.int64)
    places, first, times = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    slots = np.empty(slots_for(most), np.int32)
    for doc in range(len(offsets) - 1):
        n_again = n = n_tokens[doc]
        _hash_tokens(data, np.uint64(offsets[doc]), np.uint64(offsets[doc + 1]), classes, tokens, ends)
        grams[:n] = tokens[:n]
        places[:n] = np.arange(n)  # as if every word came twice: all grams of two are looked at
        for order in range(_FIRST_TOP, min(n, _LAST_DUPLICATE) + 1):
            n_grams = _lengthen(grams[:n_again], places, tokens[order - 1 :])
            _find_alike(grams[:n_grams], slots[: slots_for(n_grams)], first, times)
            if order <= _LAST_TOP:
                chars = _top_chars(places[:n_grams], times, ends, order)
            else:
                chars = _duplicate_chars(places[:n_grams], first, times, ends, order)
            counts[doc, order - _FIRST_TOP] = chars
            n_again = _keep_repeated(grams[:n_grams], places, first, times)


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
def _hash_tokens(
    data: Bytes,
    i: np.uint64,
    end: np.uint64,
    classes: npt.NDArray[np.uint8],
    tokens: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int64],
) -> None:
    """Write each token's hash, and in `ends` (from place 1) the code points of all tokens so far."""
    n, before, state, chars = 0, 0, SEED, 0
    while i < end:
        code, i = decode(data, i)
        kind = classes[code] & KIND
        if kind != before:
            if before != 0:
                tokens[n] = mix64(state)
                n += 1
                ends[n] = chars
            before, state = kind, SEED
        state = absorb(state, code)
        chars += kind != 0
    if before != 0:
        tokens[n] = mix64(state)
        ends[n + 1] = chars


@njit(nogil=True, cache=True)
def _lengthen(grams: npt.NDArray[np.uint64], places: npt.NDArray[np.int32], next_tokens: npt.NDArray[np.uint64]) -> int:
    """Lengthen the grams whose follower is in the list too, move them to the front, and return how many they are."""
    n = 0
    for j in range(len(grams) - 1):
        place = places[j]
        if places[j + 1] == place + 1:
            grams[n] = join(grams[j], next_tokens[place])
            places[n] = place
            n += 1
    return n


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
