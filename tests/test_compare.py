"""What `tamis compare` says equals a few independent lines over the lake's tables."""

import json
import re
from collections import Counter
from hashlib import sha256
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import tamis
from scipy.stats import spearmanr
from small_flow import CODE, documents, make_case, write_jsonl
from tamis.features.static_embeddings import StaticEmbeddings
from tamis.pipelines.comparison_page import comparison_page
from tamis.pipelines.comparison_table import print_comparison
from tamis.storage.errors import ConfigError

BUDGET = {"budget": {"tokens": "30%"}}
FIRST = [{"name": "twins", "dedup": "exact"}]
FLOWS = {
    "near": [*FIRST, {"name": "best", "select": "dsir", "target": "code", "cut": BUDGET}],
    "lot": [*FIRST, {"name": "some", "select": "random", "cut": {"budget": {"tokens": "20%"}}}],
    "each": [*FIRST, {"name": "clusters", "select": "kmeans", "cut": BUDGET,
                      "with": {"vectors": "words", "clusters": {"count": 4}, "sampler": "random"}}],
    "long": [*FIRST, {"name": "clean", "decontaminate": ["code"]},
             {"name": "long", "filter": {"long": "stats.n_words > 30"}}],
}  # fmt: skip
NAMES = ["near", "lot", "each", "long"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    config = make_case(
        tmp_path_factory.mktemp("compare"), n=400, files=3,
        features={"stats": {"use": "text_stats"}, "words": {"use": "static_embeddings"}},
        flows={name: {"corpus": "web", "steps": steps} for name, steps in FLOWS.items()},
    )  # fmt: skip
    runs = {name: tamis.run(config, name) for name in FLOWS}
    lake = runs["near"].lake
    found = tamis.compare(lake, NAMES, by=["stats.n_words", "source = 'code'"])
    page = comparison_page(found)
    data = re.search(r'<script type="application/json" id="comparison">(.*?)</script>', page, re.DOTALL)[1]
    return lake, runs, json.loads(data)


def table(case, query):
    return tamis.sql(case[0], query).pl()


def kept(case, name):
    query = """select s.*, d.source from selection_steps s join documents d using (corpus, shard, row)
               where deciding and kept"""
    return table(case, query).filter(pl.col("run") == case[1][name].id)


def tokens_of(case):
    return min(kept(case, name)["n_tokens"].sum() for name in NAMES)


def equal(case, name):
    """Return the best documents of a ranked choice, as many as have no more tokens than the smallest choice."""
    left, found = tokens_of(case), []
    for row in kept(case, name).sort("rank").rows(named=True):
        if row["n_tokens"] <= left:
            left -= row["n_tokens"]
            found.append(row)
    return pl.DataFrame(found, infer_schema_length=None)


def measure(case, key):
    (found,) = (m for m in case[2]["measures"] if m["key"] == key)
    return found


def test_sizes(case):
    for choice in case[2]["choices"]:
        mine = kept(case, choice["name"])
        assert (choice["documents"], choice["tokens"]) == (mine.height, mine["n_tokens"].sum())
        assert 0.97 * tokens_of(case) < choice["equal"]["tokens"] <= tokens_of(case) == case[2]["equal_tokens"]
    corpus = table(case, "select count(*) as n, sum(n_tokens) as t, sum(n_bytes) as b from documents")
    assert tuple(case[2]["corpus"][k] for k in ("documents", "tokens", "bytes")) == corpus.row(0)
    assert [c["by"] for c in case[2]["choices"]] == ["dsir", "random", "kmeans", "filter"]
    assert any("each, long" in note for note in case[2]["notes"]), "which choices have no one order is said"


def test_overlap_at_equal_tokens_and_whole(case):
    for key, of in (("overlap", equal), ("overlap_whole", kept)):
        a, b = of(case, "near"), of(case, "lot")
        both = a.join(b, on="doc_id")
        (found,) = (o for o in case[2][key] if (o["a"], o["b"]) == ("near", "lot"))
        assert found["documents"] == both.height > 0
        assert found["jaccard"] == both.height / (a.height + b.height - both.height)
        union = a["n_tokens"].sum() + b["n_tokens"].sum() - both["n_tokens"].sum()
        assert found["jaccard_tokens"] == both["n_tokens"].sum() / union
    assert len(case[2]["overlap"]) == 6


def test_rank_correlation(case):
    scores = {
        n: table(case, "from selection_steps where deciding").filter(pl.col("run") == case[1][n].id) for n in NAMES
    }
    for found in case[2]["correlations"]:
        both = scores[found["a"]].join(scores[found["b"]], on="doc_id")
        expected = spearmanr(both["score"], both["score_right"]).statistic
        assert (found["documents"], found["spearman"]) == (both.height, pytest.approx(expected, abs=1e-12))
    assert len(case[2]["correlations"]) == 3, "the filter has no scores"
    (near,) = (s for s in case[2]["scores"] if s["name"] == "near")
    assert near["spearman_length"] == pytest.approx(
        spearmanr(scores["near"]["score"], scores["near"]["n_tokens"]).statistic
    )
    assert sum(near["all"]) == scores["near"].height and sum(near["chosen"]) == scores["near"]["kept"].sum()
    inside = np.clip(scores["near"]["score"], near["edges"][0], near["edges"][-1])
    assert near["all"] == np.histogram(inside, near["edges"])[0].tolist()


def test_composition(case):
    source, length, n_words, code = case[2]["compositions"]
    every = table(case, "from documents")
    for value in source["values"]:
        there = every.filter(pl.col("source") == value["value"])
        assert value["corpus"]["tokens"] == there["n_tokens"].sum()
        for name in NAMES:
            mine = kept(case, name)
            share = mine.filter(pl.col("source") == value["value"])["n_tokens"].sum() / mine["n_tokens"].sum()
            assert value["choices"][name]["share"] == pytest.approx(share)
    assert {v["value"]: v["corpus"]["documents"] for v in length["values"]} == {
        "0 to 15": every.filter(pl.col("n_tokens") < 16).height,
        "16 to 31": every.filter(pl.col("n_tokens").is_between(16, 31)).height,
        "32 to 63": every.filter(pl.col("n_tokens").is_between(32, 63)).height,
        "64 to 127": every.filter(pl.col("n_tokens") > 63).height,
    }
    assert sum(v["choices"]["long"]["documents"] for v in n_words["values"]) == kept(case, "long").height
    assert {v["value"]: v["choices"]["long"]["documents"] > 0 for v in n_words["values"]} == {
        "2": False, "20": False, "40": True, "80": True
    }  # fmt: skip
    assert {v["value"] for v in code["values"]} == {"true", "false"}


def grams(texts):
    """Return how often each of 10,000 buckets occurs: lower-cased tokens and pairs of them, by SHA-256."""
    counts = np.zeros(10_000)
    for text in texts:
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        for gram in [*words, *(" ".join(pair) for pair in pairwise(words))]:
            counts[int(sha256(gram.encode()).hexdigest(), 16) % 10_000] += 1
    return counts / counts.sum()


def kl(p, q):
    return float(p @ (np.log(p + 1e-10) - np.log(q + 1e-10)))


def texts_of(case, documents):
    every = dict(table(case, "select doc_id, text from text").iter_rows())
    return [every[doc_id] for doc_id in documents["doc_id"]]


def test_kl_reduction_to_the_part_that_no_selector_saw(case):
    unseen, seen = measure(case, "kl_reduction_unseen"), measure(case, "kl_reduction_seen")
    n = [int(re.search(r"(\d+) documents", m["about"])[1]) for m in (unseen, seen)]
    assert sum(n) == 20 and n[0] > 0
    state = case[1]["near"].record.targets["code"]
    assert n[1] == state["visible"]
    targets = dict(table(case, "select doc_id, text from targets").iter_rows())
    pool = grams(table(case, "select text from text")["text"])
    chosen = {name: grams(texts_of(case, equal(case, name))) for name in ("near", "lot")}
    held_out = [targets[i] for i in held_out_ids(case)]
    for m, texts in ((unseen, held_out), (seen, [t for i, t in targets.items() if i not in held_out_ids(case)])):
        wanted = grams(texts)
        for name, counts in chosen.items():
            assert m["values"][name] == pytest.approx(kl(wanted, pool) - kl(wanted, counts), abs=1e-9)
    assert unseen["values"]["near"] > unseen["by_lot"]["high"]
    assert unseen["by_lot"]["low"] <= unseen["by_lot"]["mean"] <= unseen["by_lot"]["high"]


def held_out_ids(case):
    """Return the target's documents that `near` was not fitted on: their words are not in its counts."""
    from tamis.pipelines.comparison_runs import compared_runs
    from tamis.pipelines.comparison_texts import target_texts

    (target,) = target_texts(compared_runs(case[0], ["near"]))
    return {
        i
        for i, text in table(case, "select doc_id, text from targets").iter_rows()
        if text in target.unseen.to_pylist()
    }


def test_coverage_and_variety(case):
    targets = dict(table(case, "select doc_id, text from targets").iter_rows())
    pairs = Counter(
        p for i in held_out_ids(case) for p in zip(targets[i].split(), targets[i].split()[1:], strict=False)
    )
    for name in ("near", "lot"):
        texts = texts_of(case, equal(case, name))
        had = {pair for text in texts for pair in zip(text.split(), text.split()[1:], strict=False)}
        share = sum(n for pair, n in pairs.items() if pair in had) / pairs.total()
        assert measure(case, "pairs_covered")["values"][name] == pytest.approx(share)
    words = int(re.search(r"([\d,]+) words", measure(case, "distinct_1")["about"])[1].replace(",", ""))
    mine = [w for text in texts_of(case, equal(case, "near").sort(["shard", "row"])) for w in text.split()]
    assert abs(len(mine) - words) < 100
    expected = len(set(mine[:words])) / words
    assert measure(case, "distinct_1")["values"]["near"] == pytest.approx(expected, rel=0.02)  # shards have no order


def vectors_of(texts):
    found = StaticEmbeddings().compute(pa.record_batch({"text": pa.array(texts, pa.large_string())}), None)
    x = np.array(found.column("vector").to_pylist(), np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_vectors(case):
    """The set with the fewest documents is measured whole, of the others a sample as large."""
    alone = {m["key"]: m for m in tamis.compare(case[0], ["long"])["measures"]}
    mine = vectors_of(texts_of(case, kept(case, "long")))
    assert f"{len(mine)} documents of each choice" in alone["nearest_distance"]["about"], "no draw has fewer"
    cosine = mine @ mine.T
    np.fill_diagonal(cosine, -1)
    distance = alone["nearest_distance"]["values"]["long"]
    assert distance == pytest.approx(1 - cosine.max(axis=1).mean(), abs=1e-3), "the lake has float16"
    targets = table(case, "select text from targets")["text"].to_list()
    reach = (vectors_of(targets) @ mine.T).max(axis=1).mean()
    assert alone["target_reach"]["values"]["long"] == pytest.approx(reach, abs=1e-3)
    assert "20 of its documents (all)" in alone["target_reach"]["about"], "too few are unseen"
    assert measure(case, "mauve")["values"]["near"] > measure(case, "mauve")["by_lot"]["high"]
    assert 0 < measure(case, "clusters_hit")["values"]["lot"] <= 1


def test_documents_that_only_one_choice_has(case):
    (near,) = (group for group in case[2]["samples"] if group["name"] == "near")
    others = {i for name in NAMES if name != "near" for i in kept(case, name)["doc_id"]}
    mine = kept(case, "near")
    assert 0 < len(near["shown"]) <= 6
    query = "select d.*, t.text from documents d join text t using (corpus, shard, row, doc_id)"
    documents = {row["doc_id"]: row for row in table(case, query).rows(named=True)}
    for shown in near["shown"]:
        assert shown["doc_id"] in set(equal(case, "near")["doc_id"])
        document = documents[shown["doc_id"]]
        assert (shown["file"], shown["line"], shown["source"]) == tuple(document[k] for k in ("file", "line", "source"))
        assert shown["text"] == document["text"][:700]
        (row,) = mine.filter(pl.col("doc_id") == shown["doc_id"]).rows(named=True)
        assert shown["score"] == row["score"]
        assert all(shown["text"][a:b].strip() for a, b, _ in shown["marks"])
        assert {part["text"].split()[0] for part in shown["parts"]} <= {*CODE, *shown["text"].split()}
        assert len(shown["others"]) == 3
    assert len(others) > 0


def test_the_same_twice_and_a_run_by_its_id(case):
    first, again = (tamis.compare(case[0], [case[1]["near"].id, "lot"]) for _ in range(2))
    assert {k: v for k, v in first.items() if k != "made"} == {k: v for k, v in again.items() if k != "made"}
    assert [c["name"] for c in first["choices"]] == ["near", "lot"]


def test_refusals(case):
    with pytest.raises(ConfigError, match=r"no finished run 'nera'.*did you mean 'near'"):
        tamis.compare(case[0], ["nera"])
    with pytest.raises(ConfigError, match=r"no feature of vectors 'wrods'.*did you mean 'words'"):
        tamis.compare(case[0], ["near"], vectors="wrods")
    with pytest.raises(ConfigError, match="--by"):
        tamis.compare(case[0], ["near"], by=["stats.nothing"])


def test_a_look_leaves_no_run_behind(case):
    assert table(case, "select count(*) from runs").item() == len(FLOWS)


def test_an_older_choice_of_a_corpus_that_has_grown(tmp_path):
    config = make_case(tmp_path, n=200, flows={"near": {"corpus": "web", "steps": FLOWS["near"]},
                                               "lot": {"corpus": "web", "steps": FLOWS["lot"]}})  # fmt: skip
    old = tamis.run(config, "near")
    write_jsonl(tmp_path / "raw" / "more.jsonl", documents(120, seed=5))
    new = tamis.run(config, "lot")
    found = tamis.compare(old.lake, ["near", "lot"])
    assert found["corpus"]["documents"] == new.record.counts["documents"] > old.record.counts["documents"]
    assert "near was made from an older state of web than lot" in found["notes"]
    near, lot = found["choices"]
    assert near["documents"] == old.steps[-1]["kept"] and lot["documents"] == new.steps[-1]["kept"]
    (pair,) = found["correlations"]
    scored = (tamis.sql(old.lake, "select doc_id from selection_steps where deciding and run = $1", [r.id]).pl()
              for r in (old, new))  # fmt: skip
    assert pair["documents"] == next(scored).join(next(scored), on="doc_id").height > 0
    assert all(row["by_lot"] is not None for row in found["measures"])


def test_choices_of_very_different_size_and_of_nothing(tmp_path):
    few = [{"name": "some", "select": "random", "cut": {"budget": {"documents": 3}}}]
    none = [{"name": "no", "filter": {"no": "stats.n_words > 1000"}}]
    config = make_case(tmp_path, n=120, flows={name: {"corpus": "web", "steps": steps} for name, steps in
                                               {"few": few, "none": none, "lot": FLOWS["lot"]}.items()})  # fmt: skip
    lake = {name: tamis.run(config, name) for name in ("few", "none", "lot")}["lot"].lake
    found = tamis.compare(lake, ["few", "lot"])
    assert any("few is the smallest choice by far" in note for note in found["notes"])
    assert found["choices"][1]["equal"]["tokens"] <= found["equal_tokens"] == found["choices"][0]["tokens"]
    assert comparison_page(found)
    with pytest.raises(ConfigError, match="none chose no tokens"):
        tamis.compare(lake, ["none", "lot"])


def test_runs_over_two_corpora_are_refused(tmp_path):
    config = make_case(tmp_path, n=60, corpora={name: {"files": ["raw/*"]} for name in ("web", "copy")},
                       flows={name: {"corpus": name, "steps": FLOWS["lot"]} for name in ("web", "copy")})  # fmt: skip
    lake = {name: tamis.run(config, name) for name in ("web", "copy")}["web"].lake
    with pytest.raises(ConfigError, match=r"several corpora \(copy, web\)"):
        tamis.compare(lake, ["web", "copy"])


def test_of_a_large_corpus_a_part_is_read(tmp_path, monkeypatch):
    """The texts of some row groups stand for all; every choice is thinned to what it has there."""
    from tamis.pipelines import comparison_texts

    config = make_case(tmp_path, n=400, files=4, corpora={"web": {"files": ["raw/*"], "shard_bytes": "10KB"}},
                       flows={name: {"corpus": "web", "steps": FLOWS[name]} for name in ("near", "lot")})  # fmt: skip
    lake = {name: tamis.run(config, name) for name in ("near", "lot")}["lot"].lake
    whole = tamis.compare(lake, ["near", "lot"], samples=0)
    monkeypatch.setattr(comparison_texts, "READ_FIRST", 30_000)
    monkeypatch.setattr(comparison_texts, "ENOUGH_TOKENS", 500)
    found = tamis.compare(lake, ["near", "lot"], samples=0)
    (equal_tokens,) = (words for title, words in found["how"] if title == "Equal tokens")
    share = float(re.search(r"([\d.]+)% of the bytes", equal_tokens)[1])
    assert 100 * 30_000 / found["corpus"]["bytes"] <= share < 100
    kl, whole_kl = (next(m for m in f["measures"] if m["key"] == "kl_reduction_unseen") for f in (found, whole))
    assert kl["values"]["near"] > kl["by_lot"]["mean"] and kl["values"] != whole_kl["values"]
    assert found["overlap"] == whole["overlap"], "what needs no texts is of the whole"
    assert 500 <= found["measured_tokens"] < found["equal_tokens"] == whole["measured_tokens"]
    monkeypatch.setattr(comparison_texts, "ENOUGH_TOKENS", 10**9)
    assert tamis.compare(lake, ["near", "lot"], samples=0)["measured_tokens"] == whole["equal_tokens"], "all is read"


def test_where_another_draw_would_lie(case):
    """The prediction interval of Student's t over the draws, whose values are the same choice's at other keys."""
    from scipy.stats import t as student
    from tamis.pipelines.intervals import prediction

    drawn = [0.1, 0.4, 0.2, 0.3, 0.25]
    half = student.ppf(0.975, 4) * np.std(drawn, ddof=1) * np.sqrt(1 + 1 / 5)
    assert prediction(drawn) == pytest.approx((0.25 - half, 0.25 + half))
    assert prediction([1.0]) is None
    for m in case[2]["measures"]:
        lot = m["by_lot"]
        assert lot["low"] <= lot["mean"] <= lot["high"], m["key"]
        assert m["form"] != "percent" or (lot["low"] >= 0 and lot["high"] <= 1)
    inside = [m["by_lot"]["low"] <= m["values"]["lot"] <= m["by_lot"]["high"] for m in case[2]["measures"]]
    assert np.mean(inside) > 0.7, "a random choice is one of them"


def compared(tmp_path, flows, names=None, *, by=(), n=300, **changes):
    """Run flows, compare them, and return the lake and the comparison."""
    config = make_case(tmp_path, n=n, flows={k: {"corpus": "web", "steps": v} for k, v in flows.items()}, **changes)
    lake = {name: tamis.run(config, name) for name in flows}[next(iter(flows))].lake
    return lake, tamis.compare(lake, names or list(flows), by=by)


def one(found, key, target="code"):
    return next(m for m in found["measures"] if m["key"] == key and m["target"] in (target, None))


def test_what_sieves_a_choice_afterwards_is_not_what_it_is_compared_with(tmp_path):
    """A dedup after the selector saw the choice alone: drawn from that, random documents would be the choice."""
    best = {"name": "best", "select": "dsir", "target": "code", "cut": BUDGET}
    _, found = compared(tmp_path, {"then_dedup": [best, {"name": "once", "dedup": "exact"}], "near": [best]})
    after, near = found["choices"]
    assert after["documents"] < near["documents"] and (after["by"], after["targets"]) == ("dsir", ["code"])
    assert {s["name"] for s in found["scores"]} == {"then_dedup", "near"}
    kl = one(found, "kl_reduction_unseen")
    assert kl["by_lot"]["high"] < min(kl["values"].values())


def test_choices_that_no_document_could_be_in_both_of(tmp_path):
    halves = {f"half_{i}": [{"name": "half", "filter": {"half": f"meta.url is not null and n_bytes % 2 = {i}"}},
                            {"name": "some", "select": "random", "cut": BUDGET}] for i in (0, 1)}  # fmt: skip
    _, found = compared(tmp_path, halves)
    assert any("what any of them could choose" in note for note in found["notes"])
    for m in found["measures"]:
        assert np.isfinite([*m["values"].values(), *m["by_lot"].values()]).all(), m["key"]


def test_breaking_down_by_text_and_by_numbers_of_many_digits(tmp_path):
    by = ["meta.url", "1700000000 + n_bytes", "case when n_bytes > 200 then 'nan'::double else n_bytes end", "doc_id"]
    lake, found = compared(tmp_path, {"lot": FLOWS["lot"]}, by=by)
    documents = tamis.sql(lake, "select n_bytes, meta->>'$.url' as url from documents").pl()
    for column in found["compositions"]:
        assert sum(v["corpus"]["documents"] for v in column["values"]) == documents.height, column["column"]
        labels = [v["value"] for v in column["values"]]
        assert len(set(labels)) == len(labels)
        assert sum(v["choices"]["lot"]["share"] for v in column["values"]) == pytest.approx(1)
    url, late, nan, ids = (
        {v["value"]: v["corpus"]["documents"] for v in c["values"]} for c in found["compositions"][2:]
    )
    assert url["(none)"] == documents["url"].null_count() and url["(others)"] > 100
    assert len(late) > 5
    assert nan["(none)"] == documents.filter(pl.col("n_bytes") > 200).height
    assert len(ids) == 41


def test_unseen_is_what_no_run_saw(tmp_path):
    config = make_case(tmp_path, flows={"near": {"corpus": "web", "steps": FLOWS["near"]}})
    runs = [tamis.run(config, "near", overrides=[f"targets.code.holdout={share}"]) for share in (0.5, 0.2)]
    both = tamis.compare(runs[0].lake, [run.id for run in runs])
    alone = tamis.compare(runs[1].lake, [runs[1].id])
    assert one(both, "kl_reduction_unseen")["about"] == one(alone, "kl_reduction_unseen")["about"]
    wide = one(tamis.compare(runs[0].lake, [runs[0].id]), "kl_reduction_unseen")["about"]
    assert wide != one(both, "kl_reduction_unseen")["about"], "half of the target is more"


def test_a_choice_by_several_targets_has_no_one_score(tmp_path):
    films = tmp_path / "film.jsonl"
    write_jsonl(
        films, [{"id": f"f{i}", "text": "the river said quietly that was in the mountain " * 3} for i in range(8)]
    )
    two = [{"name": "best", "select": "dsir", "target": ["code", "film"], "cut": BUDGET}]
    targets = {"code": {"files": ["code.jsonl"], "holdout": 0.2}, "film": {"files": ["film.jsonl"]}}
    _, found = compared(tmp_path, {"two": two, "near": FLOWS["near"], "lot": FLOWS["lot"]}, targets=targets)
    assert [(c["a"], c["b"]) for c in found["correlations"]] == [("near", "lot")]
    assert any("two chose by several targets" in note for note in found["notes"])


def test_a_choice_of_a_corpus_that_was_replaced(tmp_path):
    config = make_case(tmp_path, n=120, flows={"near": {"corpus": "web", "steps": FLOWS["near"]},
                                               "lot": {"corpus": "web", "steps": FLOWS["lot"]}})  # fmt: skip
    old = tamis.run(config, "near")
    for i in range(3):
        (tmp_path / "raw" / f"part-{i}.jsonl").unlink()
    write_jsonl(tmp_path / "raw" / "other.jsonl", documents(120, seed=9))
    tamis.run(config, "lot")
    with pytest.raises(ConfigError, match="nothing that near chose is in web as it is now; run it again"):
        tamis.compare(old.lake, ["near", "lot"])


def test_what_has_no_value_is_an_empty_cell_of_the_tables(case, capsys):
    nan = float("nan")
    lot = {"mean": nan, "low": nan, "high": nan}
    measures = [m | {"values": dict.fromkeys(m["values"], nan), "by_lot": lot} for m in case[2]["measures"]]
    scores = [s | {"spearman_length": nan} for s in case[2]["scores"]]
    correlations = [c | {"spearman": nan} for c in case[2]["correlations"]]
    print_comparison(case[2] | {"measures": measures, "scores": scores, "correlations": correlations})
    said = capsys.readouterr().out
    (draws,) = (line for line in said.split("the choices themselves")[1].splitlines() if "95% of draws" in line)
    assert draws.strip().endswith("95% of draws") and "nan" not in said
