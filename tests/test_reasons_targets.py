"""The target documents behind a score: they are those of the target, and their shares sum to what is stored."""

import shutil

import numpy as np
import pytest
import tamis
from hypothesis import example, given
from hypothesis import strategies as st
from small_flow import CODE, make_case, write_jsonl
from tamis.features.compressors import sizer
from tamis.pipelines.reasons import reasons
from tamis.selectors.shared_strings import LEAST_BYTES, shared_strings

ZIP_FIT = {
    "defaults": {},
    "exact": {"method": "exact", "n_targets": 5},
    "official": {"method": "exact", "alignment": "ncd", "unit": "document", "n_targets": "all"},
    "best": {"window_words": 16, "window_score": "max"},
    "zstd": {"method": "exact", "alignment": "ncd", "compressor": "zstd", "level": 3, "n_targets": 4},
    "two": {"target": ["code", "prose"], "n_targets": 4},
}
SIMILAR = {
    "contrast": {"neighbours": 3, "pool_sample": 20},
    "cosine": {"score_by": "cosine", "neighbours": 50},
    "centroids": {"centroids": 2},
    "both": {"target": ["code", "prose"], "neighbours": 2},
}


def flow(select, target="code", **parameters):
    cut = {"budget": {"documents": "30%"}}
    step = {"name": "pick", "select": select, "target": target, "with": parameters, "cut": cut}
    return {"corpus": "web", "steps": [step]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    prose = [{"id": f"p{i}", "text": f"the river and the mountain, he said quietly {i}"} for i in range(6)]
    write_jsonl(folder / "prose.jsonl", prose)
    flows = {n: flow("zip_fit", **p) for n, p in ZIP_FIT.items()}
    words = {"vectors": "words"}
    flows |= {n: flow("target_similarity", **words, **p) for n, p in SIMILAR.items()}
    targets = {"code": {"files": ["code.jsonl"], "holdout": 0.2}, "prose": {"files": ["prose.jsonl"]}}
    features = {"words": {"use": "static_embeddings"}}
    config = make_case(folder, n=90, flows=flows, targets=targets, features=features)
    write_jsonl(
        folder / "raw" / "odd.jsonl", [{"id": "odd", "text": "été " * 9 + " ".join(CODE)}, {"id": "no", "text": " "}]
    )
    return {name: tamis.run(config, name) for name in flows}


def explained(run, most=5):
    rows = tamis.sql(run.lake, "from selection_steps where run = $1 order by doc_id", [run.id]).pl().rows(named=True)
    found = reasons(run.lake, run.record, "pick", [(r["shard"], r["row"]) for r in rows], most=most)
    assert len(found) == len(rows) > 80
    return [(row, reason) for row, reason in zip(rows, found, strict=True)]


def targets_of(run):
    found = tamis.sql(run.lake, "select target, doc_id, text from targets").fetchall()
    return {(target.removeprefix("targets/"), doc_id): text for target, doc_id, text in found}


@pytest.mark.parametrize("name", ZIP_FIT)
def test_the_shares_of_all_sampled_documents_sum_to_the_score(runs, name):
    known = targets_of(runs[name])
    for row, reason in explained(runs[name], most=10**6):
        if row["score"] is None:
            assert reason.parts == [] and row["reason"] == "no text"
            continue
        assert reason.total == pytest.approx(row["score"], rel=1e-9, abs=1e-12)
        shares = sum(part["weight"] for part in reason.parts)
        assert shares + reason.rest == pytest.approx(row["score"], rel=1e-9, abs=1e-12)
        if name in ("official", "zstd"):  # nothing is subtracted for the pool, and no part is left out
            assert reason.rest == pytest.approx(0, abs=1e-12)
        assert reason.parts == sorted(reason.parts, key=lambda part: -part["alignment"])
        for part in reason.parts:
            assert known[part["target"], part["doc_id"]].startswith(part["text"])


def test_the_alignment_is_that_of_the_official_formula(runs):
    size = sizer("gzip", 6)
    texts = dict(tamis.sql(runs["official"].lake, "select doc_id, text from text").fetchall())
    known = targets_of(runs["official"])
    for row, reason in explained(runs["official"])[:20]:
        for part in reason.parts:
            s, t = texts[row["doc_id"]].encode(), known["code", part["doc_id"]].encode()
            ncd = (size(s + t) - min(size(s), size(t))) / max(size(s), size(t))
            assert part["alignment"] == pytest.approx(1 - ncd, abs=1e-12)


def test_marks_are_strings_that_stand_in_the_target(runs):
    texts = dict(tamis.sql(runs["defaults"].lake, "select doc_id, text from text").fetchall())
    known, marked = targets_of(runs["defaults"]), 0
    for row, reason in explained(runs["defaults"]):
        others = [known[part["target"], part["doc_id"]] for part in reason.parts]
        for start, end, weight in reason.marks:
            string = texts[row["doc_id"]][start:end]
            assert len(string.encode()) == weight >= LEAST_BYTES - 3 and any(string in other for other in others)
            marked += 1
        for part, other in zip(reason.parts, others, strict=True):
            assert part["shared"] in texts[row["doc_id"]] and part["shared"] in other
    assert marked > 50


@pytest.mark.parametrize("name", SIMILAR)
def test_the_nearest_documents_of_the_target_make_the_similarity(runs, name):
    known = targets_of(runs[name])
    for row, reason in explained(runs[name], most=50):
        if row["score"] is None:
            continue
        assert reason.kind == "targets" and reason.parts
        cosines = [part["cosine"] for part in reason.parts]
        assert cosines == sorted(cosines, reverse=True)
        assert all(known[part["target"], part["doc_id"]].startswith(part["text"]) for part in reason.parts)
        if name == "centroids":
            assert reason.total is None and "2 centroids" in reason.about
            continue
        assert reason.total == row["score"]
        assert sum(p["weight"] for p in reason.parts) + reason.rest == pytest.approx(row["score"], abs=1e-9)
        if name == "cosine":  # the mean over all documents of the target, so nothing is left
            assert np.mean(cosines) == pytest.approx(row["score"], abs=1e-5)
            assert reason.rest == pytest.approx(0, abs=1e-5)


def test_a_target_that_was_removed_leaves_its_texts(runs, tmp_path):
    run = runs["exact"]
    moved = shutil.copytree(run.lake.root, tmp_path / "lake")
    shutil.rmtree(moved / "corpora" / "targets" / "code" / "snapshots")
    lake = tamis.Lake.open(moved)
    before = [reason for _, reason in explained(run)]
    places = [(row["shard"], row["row"]) for row, _ in explained(run)]
    for mine, whole in zip(reasons(lake, run.record, "pick", places, most=5), before, strict=True):
        assert mine.total == whole.total and mine.marks == whole.marks
        assert [p["text"] for p in mine.parts] == [p["text"] for p in whole.parts]
        assert not any("doc_id" in part for part in mine.parts)


@given(st.text(alphabet="abé ", max_size=60), st.lists(st.text(alphabet="abé ", max_size=60), max_size=3))
@example("xx abcdefgh yy", ["..abcdefgh.."])
@example("éééééé", ["aéééééé"])
def test_shared_strings_stand_in_both_and_none_overlaps(text, others):
    mine, theirs = text.encode(), [other.encode() for other in others]
    spans, last = shared_strings(mine, theirs), 0
    for start, end in spans:
        assert last <= start < end <= len(mine)
        last = end
        assert any(mine[start:end].decode() in other for other in others)
    longest = max(
        (n for n in range(len(text) + 1) if any(text[i : i + n] in o for o in others for i in range(len(text)))),
        default=0,
    )
    if not spans:  # then there is nothing to find that is longer than chance, but blanks
        found = {text[i : i + longest] for i in range(len(text)) if any(text[i : i + longest] in o for o in others)}
        assert all(len(one.encode()) < LEAST_BYTES + 2 or not one.strip() for one in found)
