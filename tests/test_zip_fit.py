"""ZIP-FIT: the official numbers, what the samples cost, windows, several targets, and what is refused."""

import itertools
import json
import math
import re
import zlib
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from reference import reference_data
from tamis.features.compressors import sizer, sizer_behind
from tamis.features.text_buffers import text_buffers
from tamis.features.window_kernels import windows
from tamis.pipelines.health import spearman
from tamis.selectors.base import Target
from tamis.selectors.budget import CutRule, Part
from tamis.selectors.keyed import stream_key
from tamis.selectors.pilot import cut, sample
from tamis.selectors.target_sample import matched, pieces, stratified
from tamis.selectors.zip_fit import ZipFit
from tamis.storage.documents import doc_key, text_hashes
from tamis.storage.errors import ConfigError, SelectionError

OFFICIAL = {
    "gzip_l6": ZipFit("exact", "ncd", "gzip", 6, "all", unit="document"),
    "gzip_l9": ZipFit("exact", "ncd", "gzip", 9, "all", unit="document"),
    "lz4_l0": ZipFit("exact", "ncd", "lz4", 0, "all", unit="document"),
    "lz4_l9": ZipFit("exact", "ncd", "lz4", 9, "all", unit="document"),
    "zstd_l3": ZipFit("exact", "ncd", "zstd", 3, "all", unit="document"),
    "zstd_l19": ZipFit("exact", "ncd", "zstd", 19, "all", unit="document"),
}
FAST = ZipFit(alignment="ncd", unit="document")
CODE = ["def f(x): return x + 1", "import os\nclass A(object):\n    pass", "for i in range(10): print(i)"]
PROSE = ["The river ran quietly down the mountain.", "She said that the night was long.", "It was in the morning."]


def golden(name):
    return reference_data(f"goldens/{name}")


def documents(path):
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [(r["id"], r["text"].encode("utf-8", "replace").decode()) for r in map(json.loads, lines)]


def batch(found):
    text = pa.array([t for _, t in found], pa.large_string())
    return pa.RecordBatch.from_pydict(
        {
            "row": np.arange(len(found)),
            "doc_key": pa.array([doc_key(i) for i, _ in found], pa.uint64()),
            "text": text,
            "text_hash": pa.array(text_hashes(text), pa.binary(16)),
        }
    )


def target(found, name="target", weight=None):
    return Target(name, weight, lambda: iter([batch(found)]))


def named(texts, prefix="t"):
    return [(f"{prefix}{i}", text) for i, text in enumerate(texts)]


def draw(purpose):
    return stream_key(17, "zip_fit", purpose)


def scores(selector, pool, *targets, column="score"):
    summary = selector.merge([selector.summarise(batch(pool))])
    table = selector.score(batch(pool), selector.fit(summary, targets, draw))
    return np.asarray(table.column(column))


@pytest.mark.parametrize("variant", OFFICIAL)
def test_the_official_scores(variant):
    pool = [d for d in documents(golden("inputs/raw.jsonl")) if d[1].strip()]
    expected = dict(pl.read_parquet(golden("zipfit/scores.parquet")).select("id", variant).iter_rows())
    found = scores(OFFICIAL[variant], pool, target(documents(golden("inputs/target.jsonl"))))
    np.testing.assert_allclose(found, [expected[i] for i, _ in pool], rtol=1e-12, atol=0)


def test_the_official_sizes():
    raw, wanted = documents(golden("inputs/raw.jsonl")), documents(golden("inputs/target.jsonl"))
    texts = {i: t.encode() for i, t in [*raw, *wanted]}
    for variant, selector in OFFICIAL.items():
        size = sizer(selector.compressor, selector.level)
        for name in ("source", "target"):
            table = pl.read_parquet(golden(f"zipfit/{name}_sizes.parquet"))
            assert [size(texts[i]) for i in table["id"]] == table[variant].to_list()
    pairs = pl.read_parquet(golden("zipfit/pairs.parquet")).filter(pl.col("variant").is_in(list(OFFICIAL)))
    assert pairs.height > 0
    for row in pairs.iter_rows(named=True):
        selector = OFFICIAL[row["variant"]]
        behind = sizer_behind(selector.compressor, selector.level, texts[row["source_id"]])
        assert behind(texts[row["target_id"]]) == row["c_source_plus_target"]


def test_the_official_ranking_of_gzip_9():
    expected = json.loads(golden("zipfit/selection.json").read_text())["end_to_end_rank_sequences_by_alignment_gzip9"]
    pool = [d for d in documents(golden("inputs/raw.jsonl")) if d[1].strip()]
    wanted = target(documents(golden("inputs/target.jsonl")))
    found = dict(zip([i for i, _ in pool], scores(OFFICIAL["gzip_l9"], pool, wanted), strict=True))
    ranked = iter(sorted(found, key=lambda i: (-round(found[i], 12), i)))
    entries = {tuple(place["ids_with_this_text"]): place["score"] for place in expected}  # one a copy of a text
    for copies, score in entries.items():
        ids = [i for i in copies if i in found]
        assert list(itertools.islice(ranked, len(ids))) == sorted(ids)
        assert [found[i] for i in ids] == pytest.approx([score] * len(ids), rel=1e-12)


@pytest.mark.parametrize("level", range(1, 10))
def test_the_compressor_s_state_after_the_source_is_copied(level):
    behind = sizer_behind("gzip", level, PROSE[0].encode() * 3)
    for text in [*CODE, *PROSE, ""]:
        assert behind(text.encode()) == len(zlib.compress(PROSE[0].encode() * 3 + text.encode(), level, 31))


@pytest.mark.parametrize("level", [1, 3, 4, 6, 9])
def test_the_kernel_and_the_library_give_the_same_score(level):
    pool, wanted = named([*CODE, *PROSE], "p"), named(CODE)
    found = scores(ZipFit("exact", "ncd", "gzip", level, "all", unit="document"), pool, target(wanted))
    size = sizer("gzip", level)
    for (_, source), score in zip(pool, found, strict=True):
        similarities = []
        for _, text in wanted:
            both, one, two = (size(t.encode()) for t in (source + text, source, text))
            similarities.append(1 - (both - min(one, two)) / max(one, two))
        assert score == pytest.approx(np.mean(similarities), rel=1e-12)


def real_case(n):
    lines = [t for p in sorted(reference_data("data/pool-small").glob("*.jsonl")) for _, t in documents(p)]
    wanted = documents(reference_data("data/targets/math_word.dev.jsonl"))
    return named([t for t in lines if t], "p")[:n], target(wanted[:200])


def test_the_fast_method_finds_what_the_exact_one_finds():
    pool, wanted = real_case(400)
    exact, fast = scores(OFFICIAL["gzip_l6"], pool, wanted), scores(FAST, pool, wanted)
    best = [set(np.argsort(-s)[:20].tolist()) for s in (exact, fast)]
    assert spearman(exact, fast) >= 0.99 and len(best[0] & best[1]) >= 18
    refined = scores(FAST, pool, wanted, column="refined")
    assert 0.05 <= refined.mean() <= 0.3 and refined[list(best[1])].all()


def test_refined_documents_have_the_score_over_more_targets():
    pool, wanted = real_case(200)
    exact = scores(OFFICIAL["gzip_l6"], pool, wanted)
    fast, refined = (scores(replace(FAST, n_targets="all"), pool, wanted, column=c) for c in ("score", "refined"))
    assert refined.any() and not refined.all()
    np.testing.assert_allclose(fast[refined], exact[refined], rtol=1e-12)
    assert not np.allclose(fast[~refined], exact[~refined], rtol=1e-6)


def test_a_sample_has_one_document_of_each_stratum_and_does_not_depend_on_the_order():
    sizes, keys = list(range(100)), [doc_key(str(i)) for i in range(100)]
    places = stratified(sizes, keys, 10, 5)
    assert (places // 10).tolist() == list(range(10))
    backwards = stratified(sizes[::-1], keys[::-1], 10, 5)
    assert sorted(99 - backwards) == places.tolist()
    assert stratified(sizes, keys, 10, 6).tolist() != places.tolist()
    assert stratified(sizes, keys, 200, 5).tolist() == sizes


@pytest.mark.parametrize("text", ["", "one", "a b c d", "a b c d e f", "é-b  c\n" * 7, "  lead and, trail  "])
@pytest.mark.parametrize("words", [1, 2, 4])
def test_windows_cut_a_document_at_words(text, words):
    found = [m.start() for m in re.finditer(r"\w+|[^\w\s]+", text)]
    n = max(1, (len(found) + words // 2) // words)
    cuts = [0, *(found[k * words] for k in range(1, n)), len(text)]
    expected = [text[a:b] for a, b in itertools.pairwise(cuts)]
    starts, ends, first = windows(*text_buffers(pa.array(["x y", text, "z"], pa.large_string())), words)
    data = f"x y{text}z".encode()
    mine = slice(first[1], first[2])
    assert [data[a:b].decode() for a, b in zip(starts[mine], ends[mine], strict=True)] == expected


@pytest.mark.parametrize("score", ["mean", "max"])
def test_the_score_of_a_document_is_that_of_its_windows(score):
    whole = replace(FAST, unit="window", window_words=4, window_score=score)
    pool = named(["one two three four ", "five six seven eight"], "w")
    parts = scores(FAST, pool, target(named(CODE)))
    found = scores(whole, [("d", "one two three four five six seven eight")], target(named(CODE)))
    assert found[0] == pytest.approx(parts.mean() if score == "mean" else parts.max(), rel=1e-12)


def test_what_is_asked_for_is_what_is_chosen():
    pool = named([*CODE, *PROSE], "p")
    like_code = scores(ZipFit(), pool, target(named(["def g(y): return y + 1", "for j in range(9): print(j)"])))
    assert min(like_code[[0, 2]]) > max(like_code[3:])


def shared(source, text):
    size = sizer("gzip", 6)
    both, one, two = (size(t.encode()) for t in (source + text, source, text))
    return (one + two - both) / math.sqrt(one + 50)


def test_the_contrast_is_with_documents_of_the_pool_of_the_same_sizes_and_never_with_itself():
    pool, wanted = named([*CODE, *PROSE, "The river " * 30], "p"), named(CODE)
    selector = ZipFit("exact", n_targets="all", unit="document")
    found = scores(selector, pool, target(wanted))
    size = sizer("gzip", 6)
    by_key = sorted(wanted, key=lambda d: doc_key(d[0]))
    chosen = [text.decode() for text in selector.summarise(batch(pool)).documents()]
    others = [chosen[i] for i in matched([size(t.encode()) for _, t in by_key], [size(t.encode()) for t in chosen])]
    assert len(others) == len(wanted)
    for (_, source), score in zip(pool, found, strict=True):
        near = np.mean([shared(source, text) for _, text in wanted])
        far = np.mean([shared(source, text) for text in others if text != source])
        assert score == pytest.approx(near - far, rel=1e-9)


def test_sizes_are_matched_with_the_nearest_that_is_free():
    assert matched([10, 10, 50], [49, 12, 9, 400]) == [2, 1, 0]
    assert matched([5, 6, 7], [6, 1]) == [0, 1]


def test_equal_texts_have_equal_scores_whichever_of_them_the_pool_s_sample_has():
    pool = named([*CODE, *PROSE] * 3, "p")
    for method in ("fast", "exact"):
        found = scores(ZipFit(method, refined_share=0.5), pool, target(named(CODE)))
        assert found.reshape(3, -1).tolist() == [found[:6].tolist()] * 3
    alone = ZipFit().summarise(batch(pool))
    assert sorted(alone.documents()) == sorted(t.encode() for t in [*CODE, *PROSE])


def test_long_documents_of_a_target_are_met_in_pieces_of_whole_characters():
    document = ("é" * 5000 + "x") * 3
    found = pieces([(7, document.encode()), (1, b"short")], 1 << 13)
    assert sum(len(p) for _, p in found) == len(document.encode()) + 5 and max(len(p) for _, p in found) <= 1 << 13
    assert len({key for key, _ in found}) == len(found) and all(p.decode() for _, p in found)
    assert len(ZipFit(n_targets="all").fit(None, [target([("a", document)])], draw).sizes) > 1
    assert len(FAST.fit(None, [target([("a", document)])], draw).sizes) == 1


def test_a_sampled_text_ends_with_a_whole_character():
    assert cut("aé".encode(), 2) == b"a" and cut("aé".encode(), 3) == "aé".encode() and cut(b"abc", 9) == b"abc"
    (text,) = sample(batch([("a", "a" * 9 + "\U00100000" * 3)]), 5, 11).documents()
    assert text == b"a" * 9


def test_joint_targets_have_no_shares():
    with pytest.raises(SelectionError, match="no shares"):
        ZipFit(targets="joint").fit(None, [target(named(CODE), "code", 1.0), target(named(PROSE), "prose")], draw)


def test_a_document_without_text_may_not_be_chosen():
    selector, pool = ZipFit(), [("a", ""), ("b", "text"), ("c", " \n")]
    table = selector.score(batch(pool), selector.fit(None, [target(named(CODE))], draw))
    assert table.column("score").is_null().to_pylist() == [True, False, True]
    assert table.column("reason").to_pylist() == ["no text", None, "no text"]


def test_several_targets_have_a_column_and_a_share_each_or_are_one():
    pool, both = named([*CODE, *PROSE] * 4, "p"), [target(named(CODE), "code", 3.0), target(named(PROSE), "prose", 1.0)]
    selector = ZipFit()
    state = selector.fit(None, both, draw)
    table = selector.score(batch(pool), state)
    assert [n for n in table.column_names if n.startswith("score")] == ["score_code", "score_prose"]
    rows = np.arange(len(pool))

    def parts(column):
        part = Part(
            shard="s",
            row=rows,
            doc_key=np.asarray(batch(pool).column("doc_key")),
            score=np.asarray(table.column(column)),
            eligible=np.ones(len(rows), bool),
            weight=np.ones(len(rows), np.int64),
            group=None,
            doc_ids=lambda which: [pool[row][0] for row in which.tolist()],
        )
        return lambda: iter([part])

    choice = selector.select(parts, state, CutRule(budget=8), draw)
    assert [cut.n_kept for cut in choice.cuts.values()] == [6, 2]
    joint = ZipFit(targets="joint").fit(None, [replace(t, weight=None) for t in both], draw)
    assert joint.names == ("code+prose",) and len(joint.sizes) == 6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"level": 0}, r"level is 0, expected 1 to 9 for gzip: gzip 0 stores without compressing"),
        ({"level": 10}, "level is 10"),
        ({"compressor": "zstd", "level": 23}, "1 to 22 for zstd"),
        ({"n_targets": 0}, "n_targets is 0, expected auto, all, or a number from 1"),
        ({"refined_share": 1.5}, "refined_share is 1.5"),
        ({"window_words": 0}, "window_words is 0"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        ZipFit(**parameters)


def test_a_target_without_text_is_refused():
    with pytest.raises(SelectionError, match="'empty' has no text"):
        ZipFit().fit(None, [target([("a", "")], "empty")], draw)
