"""The page of a run: what it did and what is new, escaped, and there also where it failed."""

import re

import pytest
import tamis
from small_flow import documents, make_case, write_jsonl
from tamis.pipelines.news import news
from tamis.pipelines.runs import load_runs
from tamis.storage.errors import TamisError
from tamis.storage.lake import Lake


def test_it_says_what_is_new_and_escapes_what_comes_from_the_corpus(tmp_path):
    config = make_case(tmp_path)
    first = tamis.run(config, "small")
    found = news(first.lake, first.record)
    assert (found.since, found.files["new"], found.text) == (None, 3, "300 documents in 3 files, the first time")
    write_jsonl(tmp_path / "raw" / "<b>new.jsonl", documents(40, seed=1))
    write_jsonl(tmp_path / "raw" / "part-1.jsonl", documents(5, seed=2))
    (tmp_path / "raw" / "part-0.jsonl").unlink()
    second = tamis.run(config, "small")
    found = news(second.lake, second.record)
    names = [(change, n, [name.rpartition("/")[2] for name in listed]) for change, n, listed in found.named()]
    assert names == [("new", 1, ["<b>new.jsonl"]), ("changed", 1, ["part-1.jsonl"]), ("gone", 1, ["part-0.jsonl"])]
    assert found.text == "1 new, 1 changed and 1 gone files: 145 documents, -155"
    page = second.report.read_text()
    assert "&lt;b&gt;new.jsonl" in page and "<b>" not in page
    assert found.text in page and f"since run {first.id}" in page and f"against run {first.id}" in page
    rows = re.findall(r'<tr><th scope="row">([^<]+)</th><td>([^<]*)</td><td>([^<]*)</td>', page)
    assert ("ingest web", "2", "1") in rows
    assert sum(s.computed for s in second.record.stages) == second.record.computed
    assert ("all", f"{second.record.computed:,}", f"{sum(s.reused for s in second.record.stages):,}") in rows
    assert all(f'<th scope="row">{step["name"]}</th>' in page for step in second.steps)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), "it asks nobody for anything"
    (card,) = re.findall(r'href="([^"]+card\.md)"', page)
    assert (second.report.parent / card).exists()
    again = tamis.run(config, "small")
    assert "no file is new, changed or gone" in again.report.read_text()


def test_a_run_that_failed_has_one_too(tmp_path):
    config = make_case(tmp_path)
    (tmp_path / "raw" / "part-1.jsonl").write_text("<script>alert(1)</script>\n")
    with pytest.raises(TamisError):
        tamis.run(config, "small", overrides=["corpora.web.on_bad=fail"])
    lake = Lake.open(tmp_path / "lake")
    (record,) = load_runs(lake)
    page = (lake.run(record.run) / "report.html").read_text()
    assert "failed, exit code 1" in page and "part-1.jsonl line 1" in page
    assert "<script>alert" not in page


def test_the_catalogue_counts_what_each_stage_computed_and_reused(tmp_path):
    config = make_case(tmp_path)
    done = [tamis.run(config, "small") for _ in range(2)]
    query = "select sum(computed), sum(reused) from stages join runs using (run) where run = $1 and not scheduled"
    for run in done:
        counts = tamis.sql(run.lake, query, [run.id]).fetchall()
        assert counts == [(run.record.computed, sum(s.reused for s in run.record.stages))]
