"""Keyed randomness: pinned numbers, because selections of old runs depend on them, and light statistics."""

import math
from hashlib import blake2b

import numpy as np
import pytest
from tamis.selectors.keyed import gumbel, mix64, stream_key, uniform

DOC_KEYS = np.arange(1, 200_001, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
KEY = stream_key(17, "near_code", "gumbel")
PINNED_KEY = 0xB49A94C275D1A226
PINNED_UNIFORM = ["0x1.9864acb7b5d07p-1", "0x1.e14eb92d5bf5cp-3", "0x1.b61eca6df4d18p-4", "0x1.11841b796dfacp-3"]
PINNED_GUMBEL = ["0x1.7c9f34220f280p+0", "-0x1.7b25b6acd89c6p-2", "-0x1.9bd57f4c55f16p-1", "-0x1.66463dfab655ep-1"]


def test_mix64_is_the_published_splitmix64():
    gamma = 0x9E3779B97F4A7C15  # its state after n steps from seed 0 is n * gamma
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [mix64(n * gamma % 2**64) for n in (1, 2, 3, 4)] == published


def test_a_stream_key_is_the_start_of_blake2b():
    digest = blake2b(b"17/near_code/gumbel/3").digest()
    assert stream_key(17, "near_code", "gumbel", 3) == int.from_bytes(digest[:8], "little")
    assert KEY == stream_key(17, "near_code", "gumbel", 0) == PINNED_KEY


def test_the_numbers_of_documents_are_pinned():
    keys = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert [u.hex() for u in uniform(keys, KEY)] == PINNED_UNIFORM
    assert [g.hex() for g in gumbel(keys, KEY)] == PINNED_GUMBEL


def test_gumbel_takes_the_logarithms_of_libm():
    u = uniform(DOC_KEYS[:10_000], KEY)
    assert gumbel(DOC_KEYS[:10_000], KEY).tolist() == [-math.log(-math.log(one)) for one in u.tolist()]


def test_both_ends_of_the_interval_are_excluded():
    lowest = uniform(np.array([KEY], np.uint64), KEY)[0]  # mix64(0) is 0
    assert lowest == 2.0**-53
    largest = np.array([_unmix64(2**64 - 1) ^ KEY], np.uint64)
    assert uniform(largest, KEY)[0] == 1 - 2.0**-53
    assert np.isfinite(gumbel(largest, KEY)).all()


def test_the_numbers_are_uniform_and_gumbel():
    u = np.sort(uniform(DOC_KEYS, KEY))
    n = len(u)
    assert np.abs(u - (np.arange(n) + 0.5) / n).max() < 1.63 / math.sqrt(n)  # Kolmogorov and Smirnov, 1%
    g = gumbel(DOC_KEYS, KEY)
    assert g.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert g.var() == pytest.approx(math.pi**2 / 6, abs=0.03)


@pytest.mark.parametrize(
    "other",
    [
        stream_key(18, "near_code", "gumbel"),
        stream_key(17, "near_math", "gumbel"),
        stream_key(17, "near_code", "sample"),
        stream_key(17, "near_code", "gumbel", 1),
        KEY ^ 1,
    ],
)
def test_two_streams_are_independent(other):
    one, two = uniform(DOC_KEYS, KEY), uniform(DOC_KEYS, other)
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / math.sqrt(len(one))
    both = np.histogram2d(one, two, bins=8, range=[[0, 1], [0, 1]])[0]
    expected = len(one) / 64
    assert ((both - expected) ** 2 / expected).sum() < 100  # chi-square, 63 degrees of freedom: 0.2% above


def test_a_number_depends_on_nothing_but_document_and_key():
    order = np.random.default_rng(1).permutation(len(DOC_KEYS))
    assert np.array_equal(uniform(DOC_KEYS, KEY)[order], uniform(DOC_KEYS[order], KEY))
    assert uniform(np.empty(0, np.uint64), KEY).shape == (0,)


def _unmix64(x):
    """Invert mix64."""
    x = x ^ x >> 31 ^ x >> 62
    x = x * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    x = x ^ x >> 27 ^ x >> 54
    x = x * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return x ^ x >> 30 ^ x >> 60
