"""Orders and packing: every place once, every token once, and nothing depends on where documents lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.pipelines.packed_order import packed_epoch
from tamis.selectors.keyed_permutation import permuted

KEYS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 600), KEYS)
def test_a_keyed_order_has_every_number_once(n, key):
    assert sorted(permuted(place, n, key) for place in range(n)) == list(range(n))


def test_keyed_orders_are_as_good_as_shuffles():
    """Each number comes at each place equally often, and neighbours are not neighbours."""
    n, times = 8, 4_000
    counts = np.zeros((n, n))
    for key in range(times):
        for place in range(n):
            counts[place, permuted(place, n, key)] += 1
    expected = times / n
    assert ((counts - expected) ** 2 / expected).sum() < 100, "49 degrees of freedom: above 85 once in 1,000"
    order = np.array([permuted(place, 100_000, 5) for place in range(100_000)])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02


def epoch_of(lengths, order="shuffle", numbers=None, context=7, seed=1, epoch=0, padded=True, keys=None):
    keys = np.arange(len(lengths), dtype=np.uint64) * np.uint64(7919) if keys is None else keys
    return packed_epoch(np.array(lengths, np.int64), keys, numbers, context, seed, epoch, order, padded)


def tokens_of(epoch):
    """Return (document, offset) of every token, sequence after sequence."""
    spans = [s for place in range(epoch.n_sequences) for s in epoch.spans(place)]
    return [(s.document, s.offset + i) for s in spans for i in range(s.n_tokens)]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(LENGTHS, st.sampled_from(["shuffle", "sequences", "stored"]), st.integers(2, 50), st.integers(0, 3))
def test_every_token_is_there_once(lengths, order, context, epoch):
    found = tokens_of(epoch_of(lengths, order, context=context, epoch=epoch))
    assert sorted(found) == [(d, i) for d, n in enumerate(lengths) for i in range(n)]


@given(LENGTHS, st.integers(2, 50))
def test_what_does_not_fill_a_sequence_is_all_that_is_dropped(lengths, context):
    epoch = epoch_of(lengths, context=context, padded=False)
    found = tokens_of(epoch)
    assert len(found) == len(set(found)) == sum(lengths) // context * context
    assert all(sum(s.n_tokens for s in epoch.spans(i)) == context for i in range(epoch.n_sequences))


@given(LENGTHS, st.data())
def test_documents_are_seen_as_often_as_they_are_named(lengths, data):
    numbers = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=40))
    found = tokens_of(epoch_of(lengths, numbers=np.array(numbers, np.int64)))
    assert sorted(found) == sorted((d, i) for d in numbers for i in range(lengths[d]))


def test_copies_of_a_document_are_no_neighbours():
    documents = epoch_of([3] * 50, numbers=np.repeat(np.arange(50), 4)).documents
    assert (documents[1:] == documents[:-1]).mean() < 0.1
    keys = np.repeat(np.arange(50, dtype=np.uint64), 4)  # copies that are written out
    order = keys[epoch_of([3] * 200, keys=keys).documents]
    assert (order[1:] == order[:-1]).mean() < 0.1


@pytest.mark.parametrize("order", ["shuffle", "sequences"])
def test_epochs_and_seeds_have_other_orders(order):
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    orders = [tuple(tokens_of(epoch_of(lengths, order, seed=s, epoch=e))) for s, e in [(1, 0), (1, 1), (2, 0)]]
    assert len(set(orders)) == 3
    assert orders[0] == tuple(tokens_of(epoch_of(lengths, order)))


def test_the_order_of_documents_is_that_of_their_keys_wherever_they_lie():
    rng = np.random.default_rng(0)
    lengths, keys = rng.integers(1, 60, 200), rng.integers(0, 2**63, 200).astype(np.uint64)
    moved = rng.permutation(200)
    one, other = epoch_of(lengths, keys=keys), epoch_of(lengths[moved], keys=keys[moved])
    assert (one.documents == moved[other.documents]).all() and (one.ends == other.ends).all()
