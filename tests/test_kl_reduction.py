"""KL reduction: the derived goldens, the authors' formula in plain NumPy, and what must hold for any counts."""

import hashlib
import json
import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference import reference_data
from tamis.features.ngrams import NGrams
from tamis.pipelines.kl_reduction import NgramCounts, kl, kl_reduction

COUNTS = hnp.arrays(np.int64, 20, elements=st.integers(0, 10**6))
WORDS = st.lists(st.lists(st.sampled_from(["the", "cat", "sat", "."]), max_size=9).map(" ".join), max_size=8)


def documents(name):
    with reference_data(f"goldens/inputs/{name}.jsonl").open(encoding="utf-8") as lines:
        return {d["id"]: d["text"].encode("utf-8", "replace").decode() for d in map(json.loads, lines)}


def counted(texts, **feature):
    counts = NgramCounts(feature=NGrams(**feature) if feature else None)
    counts.add(pa.array(list(texts), pa.large_string()))
    return counts.counts[0]


def choices(derived):
    """Yield the name and the ids of every choice of the goldens."""
    alignment = json.loads(reference_data("goldens/zipfit/selection.json").read_text())["by_variant_in_rank_order"]
    for name, said in derived["selections"].items():
        folder, _, variant = name.partition("/")
        if folder == "zipfit":
            yield name, alignment[variant][:50]
        elif variant:
            said = json.loads((reference_data("goldens/dsir") / folder / "selection.json").read_text())
            yield name, said["selected_in_output_order"][variant]
        else:
            yield name, said["ids"]


def smoothed(counts):
    """As the goldens were derived: 1e-8 is added to the shares, which are then made to add up to 1 again."""
    shares = counts / counts.sum() + 1e-8
    return shares / shares.sum()


def test_the_derived_numbers():
    derived = json.loads(reference_data("goldens/metrics/kl_reduction_DERIVED.json").read_text())
    raw = documents("raw")
    pool, target = counted(raw.values()), counted(documents("target").values())
    alike = smoothed(target), smoothed(pool)
    assert kl(*alike, 0) == pytest.approx(derived["KL(target||raw)"], rel=1e-12)
    found = {name: counted(raw[i] for i in ids) for name, ids in choices(derived)}
    assert len(found) == 17
    for name, counts in found.items():
        said = derived["selections"][name]
        assert kl_reduction(*alike, smoothed(counts), 0) == pytest.approx(said["kl_reduction"], rel=1e-12)


def test_the_authors_formula():
    raw = documents("raw")
    pool, target = counted(raw.values()), counted(documents("target").values())
    for n in (30, 100, 300):
        counts = counted(list(raw.values())[:n])
        assert kl_reduction(target, pool, counts) == pytest.approx(plain_reduction(target, pool, counts), rel=1e-9)


def plain_reduction(target, raw, selected):
    def shares(counts):
        return [n / sum(counts) for n in counts]

    def divergence(p, q):
        return sum(a * (math.log(a + 1e-10) - math.log(b + 1e-10)) for a, b in zip(p, q, strict=True))

    target, raw, selected = (shares(counts.tolist()) for counts in (target, raw, selected))
    return divergence(target, raw) - divergence(target, selected)


def test_the_buckets_are_those_of_sha256():
    words = re.findall(r"\w+|[^\w\s]+", "the cat, the cat")
    grams = words + [" ".join(pair) for pair in pairwise(words)]
    expected = Counter(int(hashlib.sha256(gram.encode()).hexdigest(), 16) % 10_000 for gram in grams)
    found = counted(["The CAT, the cat"])
    assert {int(i): int(found[i]) for i in np.flatnonzero(found)} == expected


@given(COUNTS, COUNTS)
def test_a_divergence_is_not_below_zero(p, q):
    if p.sum() and q.sum():
        assert kl(p, q) >= -20 * 1e-10 - 1e-14
        assert kl(p, 3 * p) == pytest.approx(0, abs=1e-14)
    else:
        assert math.isnan(kl(p, q))


@given(COUNTS, COUNTS)
def test_a_choice_like_the_pool_reduces_nothing_and_one_like_the_target_everything(target, raw):
    if target.sum() and raw.sum():
        assert kl_reduction(target, raw, 2 * raw) == pytest.approx(0, abs=1e-12)
        assert kl_reduction(target, raw, target) == pytest.approx(kl(target, raw))


@given(WORDS, WORDS, st.randoms())
def test_counts_add_up_in_any_order(left, right, random):
    small = {"hash": "fast", "buckets": 40}
    both = [*left, *right]
    random.shuffle(both)
    assert (counted(both, **small) == counted(left, **small) + counted(right, **small)).all()


@given(WORDS, st.data())
def test_a_group_counts_its_members(texts, data):
    member = data.draw(hnp.arrays(np.bool_, (3, len(texts))))
    counts = NgramCounts(3, NGrams(buckets=40))
    half = len(texts) // 2
    text = pa.array(texts, pa.large_string())
    counts.add(text[:half], member[:, :half])
    counts.add(text[half:], member[:, half:])
    for group in range(3):
        mine = [one for one, inside in zip(texts, member[group], strict=True) if inside]
        assert (counts.counts[group] == counted(mine, buckets=40)).all()
