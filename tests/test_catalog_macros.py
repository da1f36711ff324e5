"""The macros that compare choices give what a few lines over the tables give."""

import polars as pl
import pytest
import tamis
from small_flow import make_case

CUT = {"budget": {"tokens": "30%"}}
FLOWS = {
    "like_code": {"corpus": "web", "steps": [{"name": "best", "select": "dsir", "target": "code", "cut": CUT}]},
    "any": {"corpus": "web", "steps": [{"name": "twins", "dedup": "exact"},
                                       {"name": "some", "select": "random", "cut": CUT}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    config = make_case(tmp_path_factory.mktemp("macros"), flows=FLOWS)
    tamis.run(config, "any", overrides=["seed=3"])  # an older one
    return {name: tamis.run(config, name) for name in FLOWS}


def ask(runs, query):
    return tamis.sql(runs["any"].lake, query).pl()


def kept(runs, flow):
    return ask(runs, "from selections").filter(pl.col("run") == runs[flow].id, pl.col("kept"))


def test_overlap(runs):
    a, b = kept(runs, "like_code"), kept(runs, "any")
    both = a.join(b, on="doc_id")
    (found,) = ask(runs, "from overlap('like_code', 'any')").rows(named=True)
    assert (found["documents_a"], found["documents_b"]) == (a.height, b.height)
    assert found["documents_both"] == both.height > 0
    assert found["jaccard"] == pytest.approx(both.height / (a.height + b.height - both.height))
    assert (found["tokens_a"], found["tokens_both"]) == (a["n_tokens"].sum(), both["n_tokens"].sum())
    union = a["n_tokens"].sum() + b["n_tokens"].sum() - both["n_tokens"].sum()
    assert found["jaccard_tokens"] == pytest.approx(both["n_tokens"].sum() / union)
    by_id = ask(runs, f"from overlap('{runs['like_code'].id}', '{runs['any'].id}')").rows(named=True)
    assert by_id == [found], "a flow is its newest run"
    (nobody,) = ask(runs, "from overlap('like_code', 'never')").rows(named=True)
    assert (nobody["documents_b"], nobody["documents_both"], nobody["jaccard"]) == (0, 0, 0)


def test_only_in(runs):
    a, b = kept(runs, "like_code"), kept(runs, "any")
    found = ask(runs, "from only_in('like_code', 'any')")
    expected = a.filter(~pl.col("doc_id").is_in(b["doc_id"].to_list()))
    assert sorted(found["doc_id"]) == sorted(expected["doc_id"])
    assert found["score"].is_sorted(descending=True) and found["line"].null_count() == 0


@pytest.mark.parametrize("by", ["source", "n_tokens // 20", "meta->>'$.url' is null"])
def test_composition(runs, by):
    documents = ask(runs, f"select *, {by} as value from documents")
    chosen = documents.filter(pl.col("doc_id").is_in(kept(runs, "like_code")["doc_id"].to_list()))
    found = ask(runs, f"from composition('like_code', {by})")
    assert found["documents"].sum() == chosen.height and found["tokens"].sum() == chosen["n_tokens"].sum()
    for row in found.rows(named=True):
        of_value, of_corpus = (t.filter(pl.col("value") == row["value"]) for t in (chosen, documents))
        assert (row["documents"], row["tokens"]) == (of_value.height, of_value["n_tokens"].sum())
        assert row["share"] == pytest.approx(of_value["n_tokens"].sum() / chosen["n_tokens"].sum())
        assert row["share_of_corpus"] == pytest.approx(of_corpus["n_tokens"].sum() / documents["n_tokens"].sum())
        assert row["documents_of_corpus"] == of_corpus.height
