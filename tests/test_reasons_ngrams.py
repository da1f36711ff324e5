"""The n-grams behind a DSIR weight: all of them together are the score that is stored, whatever the settings."""

import math
import re
from itertools import pairwise

import pyarrow as pa
import pytest
import tamis
from hypothesis import example, given
from hypothesis import strategies as st
from small_flow import PROSE, make_case, write_jsonl
from tamis.features.ngrams import NGrams
from tamis.pipelines.reasons import reasons
from tamis.selectors.ngram_reasons import words_of

SETTINGS = {
    "defaults": {},
    "none": {"normalise": "none"},
    "official": {"hash": "sha256", "buckets": 10_000, "mix": 0, "normalise": "none"},
    "trigrams": {"ngrams": 3, "prior_words": 0},
    "few_buckets": {"buckets": 16, "smoothing": 0.5},
    "windows": {"unit": "window", "window_words": 16},
    "best_window": {"unit": "window", "window_words": 16, "window_score": "max", "prior_words": 3},
    "long_ones": {"min_words": 30},
    "two": {"target": ["code", "prose"]},
    "joint": {"target": ["code", "prose"], "targets": "joint"},
}


def step(name, target="code", **parameters):
    cut = {"by": "top", "budget": {"documents": "30%"}}
    return {"name": name, "select": "dsir", "target": target, "with": parameters, "cut": cut}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ngrams")
    write_jsonl(folder / "prose.jsonl", [{"id": "p", "text": " ".join(PROSE)}, {"id": "q", "text": "a river Σ İ said"}])
    flows = {n: {"corpus": "web", "steps": [step("pick", **p)]} for n, p in SETTINGS.items()}
    targets = {"code": {"files": ["code.jsonl"]}, "prose": {"files": ["prose.jsonl"]}}
    config = make_case(folder, n=120, flows=flows, targets=targets)
    odd = [{"id": "odd", "text": "İstanbul, ΟΔΟΣ Σ! Def İ def return\n\n  ... Étude"}, {"id": "empty", "text": " \n "}]
    write_jsonl(folder / "raw" / "odd.jsonl", odd)
    return {name: tamis.run(config, name) for name in SETTINGS}


def steps_rows(run):
    query = "from selection_steps where run = $1 order by doc_id"
    return tamis.sql(run.lake, query, [run.id]).pl().rows(named=True)


def texts(run):
    return dict(tamis.sql(run.lake, "select doc_id, text from text").fetchall())


@pytest.mark.parametrize("name", SETTINGS)
def test_all_ngrams_sum_to_the_stored_score(runs, name):
    run, rows = runs[name], steps_rows(runs[name])
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows], most=10**9)
    n_scored = 0
    for row, reason in zip(rows, found, strict=True):
        if row["score"] is None:
            assert reason.parts == [] and row["reason"] in reason.about
            continue
        n_scored += 1
        weights = [part["weight"] for part in reason.parts]
        size = math.fsum(abs(w) for w in weights)
        assert math.fsum(weights) == pytest.approx(row["score"], rel=1e-9, abs=1e-13 * size)
        assert reason.total == pytest.approx(row["score"], rel=1e-9, abs=1e-13 * size) and reason.rest == 0
        assert math.fsum(w for _, _, w in reason.marks) == pytest.approx(row["score"], rel=1e-9, abs=1e-13 * size)
    assert n_scored >= 40 and any(r["kept"] for r in rows) and any(not r["kept"] for r in rows)


@pytest.mark.parametrize("name", ["defaults", "two"])
def test_few_parts_are_the_largest_and_the_rest_is_said(runs, name):
    run, rows = runs[name], [r for r in steps_rows(runs[name]) if r["score"] is not None]
    places = [(r["shard"], r["row"]) for r in rows]
    every, few = (reasons(run.lake, run.record, "pick", places, most=most) for most in (10**9, 3))
    for whole, short in zip(every, few, strict=True):
        assert short.parts == whole.parts[:3] and short.marks == whole.marks
        assert [abs(p["weight"]) for p in whole.parts] == sorted((abs(p["weight"]) for p in whole.parts), reverse=True)
        shown = math.fsum(p["weight"] for p in short.parts)
        assert shown + short.rest == pytest.approx(short.total, rel=1e-9, abs=1e-9)


def test_parts_count_ngrams_of_the_text(runs):
    run, known = runs["defaults"], texts(runs["defaults"])
    rows = [r for r in steps_rows(run) if r["score"] is not None]
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows], most=10**9)
    for row, reason in zip(rows, found, strict=True):
        words = re.findall(r"\w+|[^\w\s]+", known[row["doc_id"]].lower())
        grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
        assert {p["text"]: p["count"] for p in reason.parts} == {g: grams.count(g) for g in grams}


def test_a_document_of_several_targets_belongs_to_the_one_that_took_it(runs):
    run = runs["two"]
    rows = [r for r in steps_rows(run) if r["kept"]]
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows])
    taken = {name: sum(f" for {name}," in reason.about for reason in found) for name in ("code", "prose")}
    cuts = run.steps[0]["cuts"]
    assert taken == {name: cuts[f"score_{name}"]["n_kept"] for name in taken} and min(taken.values()) > 0


@given(st.text(alphabet=[*"abAB .,_!İΣσςßéÉ1²\u0301\u200d漢\n"], max_size=40))
@example("İ")
@example("ΑΣ ΑΣΑ")
def test_words_are_those_that_are_hashed_and_stand_where_it_is_said(text):
    words, spans = words_of(text)
    ids = NGrams(ngrams=1).compute(pa.record_batch({"text": pa.array([text], pa.large_string())})).column("ids")
    assert len(words) == len(ids[0])
    for word, (start, end) in zip(words, spans, strict=True):
        assert word.replace("ς", "σ") in text[start:end].lower().replace("ς", "σ")  # which sigma its place decides
