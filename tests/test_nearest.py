"""Nearest rows: exact whatever BLAS does, so the same bits for any blocks, cuts, threads and order of summation."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamis.selectors import nearest as module
from tamis.selectors.blas_threads import one_blas_thread, usable_threads
from tamis.selectors.nearest import mean_of_nearest, nearest, nearest_earlier
from tamis.selectors.nearest_kernels import dot, squared_distance
from tamis.storage.errors import SelectionError
from threadpoolctl import threadpool_limits


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def hard_rows(seed, n, d, n_centres, spread):
    """Return rows around few centres, nearer to each other than a float32 product can tell, and some copies."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n_centres, d))[draw.integers(n_centres, size=n)]
    rows = unit(rows + spread * draw.standard_normal((n, d)))
    return rows[draw.integers(n, size=n)]


def all_values(x, y, kernel):
    """Return the exact value of each pair of rows."""
    return np.array([[kernel(x, i, y, j) for j in range(len(y))] for i in range(len(x))]).reshape(len(x), len(y))


HARD = st.builds(
    hard_rows,
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(2, 40),
    st.integers(1, 4),
    st.sampled_from([0.0, 1e-7, 1e-6, 1e-4, 1.0]),
)


@given(HARD, st.integers(1, 40), st.booleans(), st.sampled_from([2.0**-40, 1.0, 2.0**40]))
def test_the_nearest_of_near_ties_and_copies_is_that_of_brute_force(rows, n, spherical, scale):
    rows = rows * np.float32(scale)
    x, y = rows, rows[::-1][:n].copy()
    index, value = nearest(x, y, spherical=spherical)
    exact = all_values(x, y, dot if spherical else squared_distance)
    expected = (exact.argmax if spherical else exact.argmin)(axis=1)  # the first of equals
    assert np.array_equal(index, expected)
    assert np.array_equal(value, exact[np.arange(len(x)), expected])


def test_the_cases_above_are_too_hard_for_float32():
    x = hard_rows(1, 40, 40, 2, 1e-6)
    assert ((x @ x.T).argmax(axis=1) != nearest(x, x, spherical=True)[0]).any()


@given(HARD)
def test_the_nearest_earlier_row_is_that_of_brute_force(x):
    value, index = nearest_earlier(x)
    exact = all_values(x, x, dot)
    assert (value[0], index[0]) == (-np.inf, -1)
    assert index[1:].tolist() == [exact[i, :i].argmax() for i in range(1, len(x))]
    assert value[1:].tolist() == [exact[i, :i].max() for i in range(1, len(x))]


@given(HARD, st.integers(1, 40), st.integers(1, 50))
def test_the_mean_of_the_nearest_is_that_of_brute_force(rows, n, k):
    x, y = rows, rows[::-1][:n].copy()
    exact = np.sort(all_values(x, y, dot), axis=1)[:, ::-1][:, :k]
    expected = [sum(row.tolist()[1:], row[0]) / len(row) for row in exact]
    assert mean_of_nearest(x, y, k).tolist() == expected


def test_the_kernels_are_exact_to_float64():
    x = np.random.default_rng(3).standard_normal((6, 37)).astype(np.float32)
    rows = x.astype(np.float64).tolist()
    for i in range(6):
        for j in range(6):
            true = math.fsum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            assert dot(x, i, x, j) == pytest.approx(true, rel=0, abs=1e-13)
            far = math.fsum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True))
            assert squared_distance(x, i, x, j) == pytest.approx(far, rel=1e-14)
            assert (squared_distance(x, i, x, j) == 0) == (i == j)


def everything(x, y, threads=1):
    """Return what the module says about two sets of rows."""
    results = [*nearest(x, y, threads=threads), *nearest(x, y, spherical=True, threads=threads)]
    return [a.tobytes() for a in (*results, mean_of_nearest(x, y, 3, threads=threads), *nearest_earlier(x))]


def test_blocks_and_threads_change_no_bit(monkeypatch):
    x, y = hard_rows(5, 700, 48, 5, 1e-5), hard_rows(5, 300, 48, 5, 1e-5)
    with threadpool_limits(1):
        expected = everything(x, y)
    for rows, columns, threads in [(1, 1000, 1), (1000, 1, 1), (7, 13, 3), (64, 64, 2), (333, 100, 2)]:
        monkeypatch.setattr(module, "BLOCK_ROWS", rows)
        monkeypatch.setattr(module, "BLOCK_COLUMNS", columns)
        assert everything(x, y, threads) == expected


@pytest.mark.parametrize("approximate", ["the other order", "as wrong as is allowed"])
def test_another_blas_changes_no_bit(monkeypatch, approximate):
    x, y = hard_rows(6, 300, 48, 3, 1e-5), hard_rows(7, 200, 48, 3, 1e-5)
    y[:100] = x[:100]
    expected = everything(x, y)
    noise = np.random.default_rng(8)

    def products(x, y, n_columns):
        for start in range(0, n_columns, 50):
            columns = slice(start, min(start + 50, n_columns))
            if approximate == "the other order":
                found = x[:, ::-1].copy() @ y[columns, ::-1].copy().T
            else:
                exact = x.astype(np.float64) @ y[columns].astype(np.float64).T
                found = exact + 48 * 2.0**-24 * noise.choice([-1, 1], exact.shape)
            yield columns, found.astype(np.float32)

    monkeypatch.setattr(module, "_products", products)
    assert everything(x, y) == expected


def test_rows_may_be_cut_anywhere():
    x, y = hard_rows(9, 500, 24, 4, 1e-6), hard_rows(9, 80, 24, 4, 1e-6)
    index, value = nearest(x, y)
    means = mean_of_nearest(x, y, 5)
    for cut in (1, 17, 250, 499):
        pieces = [nearest(part, y) for part in (x[:cut], x[cut:])]
        assert np.array_equal(np.concatenate([p[0] for p in pieces]), index)
        assert np.array_equal(np.concatenate([p[1] for p in pieces]), value)
        assert np.array_equal(np.concatenate([mean_of_nearest(part, y, 5) for part in (x[:cut], x[cut:])]), means)


def test_copies_are_compared_once(monkeypatch):
    x = np.repeat(hard_rows(10, 3, 16, 3, 1.0), 2000, axis=0)
    widths = []
    real = module._products

    def products(x, y, n_columns):
        widths.append(n_columns)
        return real(x, y, n_columns)

    monkeypatch.setattr(module, "_products", products)
    value, index = nearest_earlier(x)
    assert max(widths) <= 3
    first = np.unique(x, axis=0, return_index=True)[1]
    assert set(index[1:].tolist()) <= set(first.tolist())
    assert (value[1:] > 0.999999).sum() == len(x) - len(first)


def test_nothing_to_compare_with():
    x, none = np.ones((2, 3), np.float32), np.empty((0, 3), np.float32)
    index, value = nearest(x, none)
    assert index.tolist() == [-1, -1] and value.tolist() == [np.inf, np.inf]
    assert nearest(x, none, spherical=True)[1].tolist() == [-np.inf, -np.inf]
    assert np.isnan(mean_of_nearest(x, none, 2)).all()
    assert [len(a) for a in (*nearest(none, x), *nearest_earlier(none), mean_of_nearest(none, x, 1))] == [0] * 5


def test_rows_of_zeros_are_as_near_to_all():
    x, y = np.zeros((1, 4), np.float32), unit(np.eye(4)[::-1])
    assert nearest(x, y, spherical=True)[0].tolist() == [0]
    assert nearest(x, y)[0].tolist() == [0]


def test_vectors_that_float32_cannot_multiply_are_refused():
    with pytest.raises(SelectionError, match="length 1e"):
        nearest(np.full((1, 1), 1e30, np.float32), np.ones((1, 1), np.float32))


def test_the_setting_of_blas_is_the_same_afterwards():
    with threadpool_limits(2, "blas"):
        before = usable_threads()
        inside, leave = threading.Barrier(3), threading.Event()

        def stay():
            with one_blas_thread():
                inside.wait(60)
                leave.wait(60)

        threads = [threading.Thread(target=stay) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            inside.wait(60)
            with one_blas_thread():
                assert usable_threads() == 1
            assert usable_threads() == 1
        finally:
            leave.set()
            for thread in threads:
                thread.join()
        assert usable_threads() == before
