"""Packing: end to end, exact budgets, and the same sequences from any position on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tamis.features.packing import Packing, Position

DOCUMENTS = st.lists(st.lists(st.integers(1, 99), max_size=12), max_size=8)
BUDGETS = st.one_of(st.none(), st.integers(0, 60))


def packing(documents, context, budget=None):
    return Packing(lambda first: documents[first:], context, budget)


def plain(sequences):
    return [ids.tolist() for ids, _ in sequences]


def test_documents_follow_each_other_after_end():
    assert plain(packing([[1, 2], [], [3, 4, 5]], 3)(Position())) == [[0, 1, 2], [0, 0, 3], [4, 5]]


def test_a_token_alone_teaches_nothing():
    assert plain(packing([[1, 2], []], 3)(Position())) == [[0, 1, 2]]


@given(DOCUMENTS, st.integers(2, 9), BUDGETS)
def test_sequences_are_the_pieces_of_one_long_text(documents, context, budget):
    whole = [token for ids in documents for token in [0, *ids]][:budget]
    pieces = [whole[i : i + context] for i in range(0, len(whole), context)]
    found = list(packing(documents, context, budget)(Position()))
    assert plain(found) == [piece for piece in pieces if len(piece) > 1]
    assert [after.n_tokens for _, after in found] == np.cumsum([len(ids) for ids, _ in found]).tolist()


@given(DOCUMENTS, st.integers(2, 9), BUDGETS)
def test_it_goes_on_from_any_position(documents, context, budget):
    pack = packing(documents, context, budget)
    whole = list(pack(Position()))
    for i, (_, after) in enumerate(whole):
        rest = list(pack(after))
        assert plain(rest) == plain(whole[i + 1 :])
        assert [place for _, place in rest] == [place for _, place in whole[i + 1 :]]


def test_documents_before_the_position_are_not_asked_for():
    asked = []

    def documents(first):
        asked.append(first)
        return [[7] * 5, [8] * 5, [9] * 5][first:]

    (*_, (_, after)) = (place for place, _ in zip(Packing(documents, 4)(Position()), range(2), strict=False))
    assert after == Position(1, 2, 8)
    assert plain(Packing(documents, 4)(after)) == [[8] * 4, [0, 9, 9, 9], [9, 9]]
    assert asked == [0, 1]
