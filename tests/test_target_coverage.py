"""Coverage of a target's n-grams and documents, against sets in plain Python and NumPy."""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tamis.pipelines.target_coverage import TargetGrams, facility_location

TEXTS = st.lists(
    st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat"]), max_size=9).map(" ".join), min_size=1, max_size=6
)


def text_of(texts):
    return pa.array(texts, pa.large_string())


def runs_of(texts, n):
    return Counter(
        tuple(words[i : i + n]) for words in (text.split() for text in texts) for i in range(len(words) - n + 1)
    )


def plain(target, chosen, orders=3):
    distinct, weighted = [], []
    for n in range(1, orders + 1):
        wanted, has = runs_of(target, n), runs_of(chosen, n)
        distinct.append(len(wanted.keys() & has.keys()) / len(wanted) if wanted else math.nan)
        weighted.append(sum(c for g, c in wanted.items() if g in has) / wanted.total() if wanted else math.nan)
    return distinct, weighted


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, st.data())
def test_every_target_and_group_has_its_shares(targets, pool, data):
    member = data.draw(hnp.arrays(np.bool_, (3, len(pool))))
    grams = TargetGrams([text_of(target) for target in targets], n_groups=3)
    half = len(pool) // 2
    grams.add(text_of(pool[:half]), member[:, :half])
    grams.add(text_of(pool[half:]), member[:, half:])
    for i, target in enumerate(targets):
        for group in range(3):
            chosen = [one for one, inside in zip(pool, member[group], strict=True) if inside]
            found, (distinct, weighted) = grams.coverage(i, group), plain(target, chosen)
            assert found.distinct == pytest.approx(distinct, nan_ok=True)
            assert found.weighted == pytest.approx(weighted, nan_ok=True)


@given(TEXTS, TEXTS, st.randoms())
def test_a_choice_with_the_target_has_all_of_it_in_any_order(target, other, random):
    chosen = [*target, *other]
    random.shuffle(chosen)
    grams = TargetGrams([text_of(target)])
    assert all(share == 0 or math.isnan(share) for share in grams.coverage(0).distinct)
    grams.add(text_of(chosen))
    found = grams.coverage(0)
    assert all(share == 1.0 or math.isnan(share) for share in found.distinct + found.weighted)


def test_many_different_words_fill_the_table():
    words = [f"w{i}" for i in range(30_000)]
    grams = TargetGrams([text_of([" ".join(words)])], n_groups=64)
    member = np.zeros((64, 2), np.bool_)
    member[63, 0] = True
    grams.add(text_of([" ".join(words[:6000]), " ".join(words)]), member)
    assert grams.coverage(0, 63).distinct == pytest.approx((0.2, 5999 / 29_999, 5998 / 29_998))
    assert grams.coverage(0, 62).distinct == (0, 0, 0)


def test_case_and_accents_are_folded():
    grams = TargetGrams([text_of(["Déjà vu"])], orders=2)
    grams.add(text_of(["DEJA, VU!"]))
    assert grams.coverage(0).distinct == (1.0, 1.0)


@pytest.mark.parametrize("n_groups", [0, 65])
def test_a_word_has_64_bits(n_groups):
    with pytest.raises(ValueError, match="1 to 64"):
        TargetGrams([text_of(["a"])], n_groups)


@given(hnp.arrays(np.float32, (6, 3), elements=st.integers(-2, 2)), st.permutations(range(4)))
def test_facility_location(x, order):
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9).astype(np.float32)
    target, chosen = x[:2], x[2:]
    expected = (target.astype(np.float64) @ chosen.T).max(axis=1).mean()
    assert facility_location(target, chosen) == pytest.approx(expected, abs=1e-6)
    assert facility_location(target, chosen[list(order)]) == facility_location(target, chosen)
    assert facility_location(target, np.concatenate([chosen, target])) >= facility_location(target, chosen) - 1e-12


def test_the_target_itself_is_at_one():
    x = np.eye(5, dtype=np.float32)
    assert facility_location(x, x[::-1]) == 1.0
    assert math.isnan(facility_location(x, x[:0])) and math.isnan(facility_location(x[:0], x))
