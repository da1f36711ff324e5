"""`tamis explain` on 20 documents of each kind: chosen, cut, filtered, duplicate, contaminated, unread, unknown.

What it says is compared with the tables of the catalogue, and the values with the texts themselves.
"""

import json
import re

import pytest
import tamis
from small_flow import STEPS, documents, make_case, write_jsonl
from tamis.pipelines.explaining import Explainer, explain
from tamis.pipelines.finding import explain_at
from tamis.storage.errors import ConfigError

EXAM = "what is the sum of all the even numbers from two to twenty two in this list {}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    write_jsonl(folder / "exam.jsonl", [{"id": f"e{i}", "text": EXAM.format(i)} for i in range(3)])
    clean, twins, like_code = STEPS
    steps = [clean, twins, {"name": "exams", "decontaminate": "exam"}, like_code]
    config = make_case(
        folder, n=800, flows={"small": {"corpus": "web", "steps": steps}},
        targets={"code": {"files": ["code.jsonl"]}, "exam": {"files": ["exam.jsonl"]}},
    )  # fmt: skip
    meta = {"url": "https://example.org"}
    leaked = [{"id": f"leak{i}", "text": f"Copied {i}: {EXAM.upper().format(i % 3)}!", "meta": meta} for i in range(25)]
    write_jsonl(folder / "raw" / "leaked.jsonl", leaked)
    again = [{"id": one["id"], "text": f"{one['text']} once more"} for one in documents(800)[:25]]
    write_jsonl(folder / "raw" / "again.jsonl", again)
    broken = [f'{{"id": "bad-{i}", "text": {i}}}' if i % 2 else f'{{"id": "bad-{i}", "text": "a' for i in range(25)]
    (folder / "raw" / "broken.jsonl").write_text("\n".join(["{}", "", *broken]) + "\n")
    return tamis.run(config, "small")


def rows(run, query, *values):
    return tamis.sql(run.lake, query, list(values)).pl().rows(named=True)


KINDS = {
    "chosen": "step = 'like_code' and kept", "cut by the budget": "step = 'like_code' and not kept",
    "filtered": "step = 'clean' and not kept", "duplicate": "step = 'twins' and not kept",
    "contaminated": "step = 'exams' and not kept",
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def kind(request, run):
    """Return a kind, and the row and explanation of the step that decided about 20 documents of it."""
    found = rows(run, f"from selection_steps where run = $1 and {KINDS[request.param]} order by hash(doc_id)", run.id)
    assert len(found) >= 20
    with Explainer(run.lake, reasons="all") as explainer:
        return request.param, [(row, explainer.of(row["doc_id"])) for row in found[:20]]


def test_every_step_says_what_the_tables_hold(run, kind):
    name, found = kind
    for row, said in found:
        (one,) = said["runs"]
        table = rows(
            run, "from selection_steps where run = $1 and doc_id = $2 order by position", run.id, row["doc_id"]
        )
        keys = ("step", "kept", "reason", "ref", "score", "rank", "multiplicity")
        assert [{k: s[k] for k in keys} for s in one["steps"]] == [{k: r[k] for k in keys} for r in table]
        assert one["steps"][-1]["step"] == row["step"] and all(s["gone"] == [] for s in one["steps"])
        (document,) = said["documents"]
        (expected,) = rows(run, "from documents where doc_id = $1", row["doc_id"])
        assert (document["file"], document["line"]) == (expected["file"], expected["line"])
        assert (name in ("chosen", "cut by the budget")) == ("cut" in one["steps"][-1])


def test_rules_have_the_values_of_the_text(run, kind):
    name, found = kind
    for row, said in found:
        (record,) = rows(run, "select text, meta from document_rows semi join live_rows using (corpus, shard, row) "
                              "where doc_id = $1", row["doc_id"])  # fmt: skip
        n_words = len(re.findall(r"\w+", record["text"]))
        url = json.loads(record["meta"] or "{}").get("url")
        rules = {rule["rule"]: rule for rule in said["runs"][0]["steps"][0]["rules"]}
        assert rules["too_short"]["reads"] == {"stats.n_words": n_words} and rules["has_url"]["reads"] == {
            "meta.url": url
        }
        assert rules["too_short"]["holds"] == (n_words >= 5) and rules["has_url"]["holds"] == (url is not None)
        assert rules["too_short"]["sql"] == "stats.n_words >= 5"
        failing = next((rule for rule in rules if not rules[rule]["holds"]), None)
        assert failing == (row["reason"] if name == "filtered" else None)


def test_percentile_and_cut_are_those_of_all_scores(run, kind):
    name, found = kind
    if name not in ("chosen", "cut by the budget"):
        return
    every = [
        (r["score"], r["kept"]) for r in rows(run, "from selection_steps where run = $1 and step = 'like_code'", run.id)
    ]
    for row, said in found:
        cut = said["runs"][0]["steps"][-1]["cut"]
        below = sum(score < row["score"] for score, _ in every)
        equal = sum(score == row["score"] for score, _ in every)
        assert cut["percentile"] == pytest.approx(100 * (below + equal / 2) / len(every))
        assert cut["lowest_kept_score"] == min(score for score, kept in every if kept)
        assert cut["highest_dropped_score"] == max(score for score, kept in every if not kept)
        assert cut["budget"] == run.steps[-1]["budget"] and cut["by"] == "gumbel" and cut["ranked"] == len(every)


def test_scores_have_reasons_that_sum_to_them(run, kind):
    name, found = kind
    for row, said in found:
        why = said["runs"][0]["steps"][-1]["why"]
        assert (why is not None) == (name in ("chosen", "cut by the budget"))
        if why:
            assert why["kind"] == "ngrams" and why["total"] == pytest.approx(row["score"], rel=1e-9, abs=1e-9)
            assert sum(p["weight"] for p in why["parts"]) + why["rest"] == pytest.approx(
                why["total"], rel=1e-9, abs=1e-9
            )


def test_the_document_that_stays_or_the_exam_is_named_with_its_place(run, kind):
    name, found = kind
    for row, said in found:
        step = said["runs"][0]["steps"][-1]
        assert ("stays" in step) == (name in ("duplicate", "contaminated"))
        if name == "duplicate":
            (stays,) = rows(run, "select doc_id, file, line from documents where doc_id = $1", row["ref"])
            assert {key: step["stays"][key] for key in stays} == stays
        if name == "contaminated":
            (exam,) = rows(run, "from targets where doc_id = $1", row["ref"])
            assert (step["stays"]["target"], step["stays"]["line"]) == ("exam", exam["line"])
            ((shared),) = step["stays"]["shared"]
            assert (
                shared["text"].lower().startswith(exam["text"][:60]) and shared["text"] in said["documents"][0]["text"]
            )


def test_unread_records_are_explained_by_their_place(run):
    bad = rows(run, "from quarantine where file like '%broken%' order by line")
    assert len(bad) >= 20
    for row in bad:
        said = explain_at(run.lake, f"{row['file']}:{row['line']}")
        (found,) = said["quarantined"]
        assert said["found"] == [] and found["reason"] == row["reason"]
        assert found["raw"] == row["raw"].decode()[:300] and found["n_bytes"] == len(row["raw"])


def test_records_that_repeat_an_id_are_explained_by_their_place(run):
    left_out = rows(run, "from excluded")
    assert len(left_out) == 25
    for row in left_out:
        (record,) = rows(
            run, "select file, line, text from document_rows where shard = $1 and row = $2", row["shard"], row["row"]
        )
        ((said),) = explain_at(run.lake, f"{record['file']}:{record['line']}")["found"]
        (found,) = said["excluded"]
        assert (said["doc_id"], said["documents"], said["runs"]) == (row["doc_id"], [], [])
        assert (found["reason"], found["ref"], found["line"]) == ("repeated id", row["ref"], record["line"])
        whole = explain(run.lake, row["doc_id"])
        (stays,) = whole["documents"]
        assert f"{stays['file']}:{stays['line']}" == row["ref"] and whole["runs"]


def test_unknown_ids_name_the_nearest_or_the_unread_record(run):
    known = [row["doc_id"] for row in rows(run, "select doc_id from documents order by hash(doc_id) limit 20")]
    for doc_id in known:
        with pytest.raises(ConfigError, match=f"did you mean '{doc_id}'"):
            explain(run.lake, f"{doc_id}#")
    with pytest.raises(ConfigError, match=r"could not be read has it: `tamis explain --at raw/broken.jsonl:8`"):
        explain(run.lake, "bad-5")
