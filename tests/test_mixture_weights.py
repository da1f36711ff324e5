"""How a mixture's budget is divided: UniMax and temperature against their formulas, caps, and nothing lost."""

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tamis.selectors.mixture_weights import by_temperature, by_unimax, by_weights, capacity, fill

SIZES = st.dictionaries(st.text("abcdefg", min_size=1, max_size=2), st.integers(0, 10**12), min_size=1, max_size=12)
EPOCHS = st.sampled_from([0.5, 1, 1.5, 2, 4, 100])
BUDGETS = st.integers(0, 10**13)


def unimax_of_the_paper(budget, sizes, epochs):
    """Algorithm 1 of Chung et al. 2023, as it is written, without rounding; `sizes` by name."""
    shares = {}
    left = Fraction(budget)
    for i, name in enumerate(sorted(sizes, key=lambda n: sizes[n])):
        even = left / (len(sizes) - i)
        shares[name] = min(even, Fraction(epochs) * sizes[name])
        left -= shares[name]
    return shares


def test_unimax_by_hand():
    """Four sources of 10, 100, 1,000 and 10,000 tokens, 4 epochs, a budget of 4,000.

    4,000 / 4 = 1,000, but the first has 40; 3,960 / 3 = 1,320, but the second has 400; 3,560 / 2 = 1,780 each.
    """
    sizes = {"d": 10_000, "a": 10, "c": 1_000, "b": 100}
    expected = {"a": 40, "b": 400, "c": 1_780, "d": 1_780}
    assert unimax_of_the_paper(4_000, sizes, 4) == expected
    assert by_unimax(4_000, {name: capacity(n, 4) for name, n in sizes.items()}).asked == expected


def test_unimax_above_all_capacities_is_in_proportion_to_the_sizes():
    asked = by_unimax(1_000_000, {"a": 40, "b": 400, "c": 4_000})
    assert asked.asked == {"a": 40, "b": 400, "c": 4_000}
    assert sum(asked.wanted.values()) == 1_000_000


@settings(max_examples=300)
@given(sizes=SIZES, epochs=EPOCHS, budget=BUDGETS)
@example(sizes={"a": 3, "b": 3, "c": 100}, epochs=1, budget=10)
def test_unimax_is_that_of_the_paper(sizes, epochs, budget):
    caps = {name: capacity(n, epochs) for name, n in sizes.items()}
    asked = by_unimax(budget, caps).asked
    exact = unimax_of_the_paper(budget, sizes, epochs)
    slack = 1 + len(sizes) / 2  # a cap of half a token is rounded down, and the others share what that leaves
    assert all(abs(asked[name] - exact[name]) < slack for name in sizes)
    assert sum(asked.values()) == min(budget, sum(caps.values()))


@settings(max_examples=300)
@given(
    sources=st.dictionaries(
        st.text("abcdefg", min_size=1, max_size=2), st.tuples(st.integers(0, 10**12), st.integers(0, 1000), EPOCHS),
        min_size=1, max_size=12,
    ),
    budget=BUDGETS, redistribute=st.booleans(),
)  # fmt: skip
def test_no_token_is_lost_and_no_cap_exceeded(sources, budget, redistribute):
    caps = {name: capacity(n, epochs) for name, (n, _, epochs) in sources.items()}
    weights = {name: Fraction(weight, 7) for name, (_, weight, _) in sources.items()}
    found = by_weights(budget, weights, caps, redistribute)
    assert by_weights(budget, dict(reversed(weights.items())), caps, redistribute) == found
    assert sum(found.wanted.values()) == budget
    assert all(0 <= found.asked[name] <= caps[name] for name in sources)
    whole = sum(weights.values())
    if not redistribute:
        assert all(found.asked[name] == min(caps[name], found.wanted[name]) for name in sources)
        return
    reachable = sum(caps[name] for name in sources if weights[name])
    assert sum(found.asked.values()) == min(budget, reachable) or not whole
    level = max((Fraction(found.asked[n] - 1) / weights[n] for n in sources if weights[n]), default=0)
    for name in sources:  # whoever has less for its weight than another is stopped by its cap
        if weights[name] and found.asked[name] < caps[name]:
            assert found.asked[name] + 1 > level * weights[name]


def test_what_a_cap_leaves_goes_to_the_others_by_weight():
    weights = {"a": Fraction(5), "b": Fraction(3), "c": Fraction(2)}
    assert fill(1_000, weights, {"a": 100, "b": 10_000, "c": 10_000}) == {"a": 100, "b": 540, "c": 360}
    assert by_weights(1_000, weights, {"a": 100, "b": 10_000, "c": 10_000}).asked == {"a": 100, "b": 300, "c": 200}


def test_temperature_by_hand():
    sizes = {"a": 100, "b": 10_000, "c": 1_000_000}
    plenty = dict.fromkeys(sizes, 10**9)
    assert by_temperature(11_100, sizes, plenty, 2).asked == {"a": 100, "b": 1_000, "c": 10_000}
    assert by_temperature(1_010_100, sizes, plenty, 1).asked == sizes
    assert by_temperature(2_010, sizes, plenty, 2, limit=10_000).asked == {"a": 96, "b": 957, "c": 957}
    assert by_temperature(30, sizes, plenty, 1e6).asked == {"a": 10, "b": 10, "c": 10}


@given(sizes=SIZES, temperature=st.floats(0.2, 20), budget=st.integers(0, 10**9))
def test_temperature_is_the_formula(sizes, temperature, budget):
    plenty = dict.fromkeys(sizes, 10**14)
    asked = by_temperature(budget, sizes, plenty, temperature).asked
    powers = {name: n ** (1 / temperature) if n else 0.0 for name, n in sizes.items()}
    whole = sum(powers.values())
    if whole:
        assert all(asked[n] == pytest.approx(budget * powers[n] / whole, rel=1e-9, abs=1) for n in sizes)
    assert sum(asked.values()) == (budget if whole else 0)
