"""What a run chose otherwise than the one before, against sets that are worked out here from the raw records."""

import json
import os
from collections import Counter

import polars as pl
import pytest
import tamis
from small_flow import chosen, documents, make_case, stages, write_jsonl
from tamis.pipelines import flows
from tamis.pipelines.cli import main
from tamis.storage.diffs import CHANGED, CHOSEN, DROPPED, GONE, NEW
from tamis.storage.errors import ConfigError
from tamis.storage.verify import verify

SMALL_SHARDS = {"web": {"files": ["raw/*"], "shard_bytes": 25_000}}


def diff_case(folder, **changes):
    config = make_case(folder, corpora=SMALL_SHARDS, **changes)
    return config, records(folder)


def records(folder):
    """All records of the raw files, by id."""
    lines = (line for path in sorted((folder / "raw").iterdir()) for line in path.read_text().splitlines())
    return {record["id"]: record for record in map(json.loads, lines)}


def edit(folder):
    """A file of new records, one that is gone, one with other texts, fewer records and some from another file."""
    write_jsonl(folder / "raw" / "part-9.jsonl", documents(60, seed=9))
    (folder / "raw" / "part-0.jsonl").unlink()
    old = [json.loads(line) for line in (folder / "raw" / "part-1.jsonl").read_text().splitlines()]
    kept = [r | {"text": r["text"] + " return class"} if i % 3 == 0 else r for i, r in enumerate(old) if i % 5]
    moved = [json.loads(line) for line in (folder / "raw" / "part-2.jsonl").read_text().splitlines()]
    write_jsonl(folder / "raw" / "part-1.jsonl", kept + moved[:20])
    write_jsonl(folder / "raw" / "part-2.jsonl", moved[20:])


def expected(then, now, chosen_then, chosen_now):
    """By id: change, why and whether the text is another."""
    found = {}
    for doc_id in chosen_then | chosen_now:
        other = doc_id in then and doc_id in now and then[doc_id]["text"] != now[doc_id]["text"]
        if doc_id not in chosen_then:
            found[doc_id] = ("in", CHOSEN if doc_id in then else NEW, other)
        elif doc_id not in chosen_now:
            found[doc_id] = ("out", DROPPED if doc_id in now else GONE, other)
        elif other:
            found[doc_id] = ("changed", CHANGED, True)
    return found


def by_source(records, ids):
    tokens, n = Counter(), Counter()
    for doc_id in ids:
        tokens[records[doc_id]["source"]] += len(records[doc_id]["text"].split())
        n[records[doc_id]["source"]] += 1
    return {source: (n[source], tokens[source]) for source in n}


def run(config, *overrides):
    return tamis.run(config, "small", overrides=list(overrides))


def whole(done):
    return json.loads((done.lake.run(done.id) / "diff.json").read_text())


def test_the_diff_of_two_snapshots_is_that_of_the_sets(tmp_path):
    config, then = diff_case(tmp_path)
    lot = "flows.small.steps.like_code.cut.temperature=200"  # so that much is chosen otherwise
    first = run(config, lot)
    assert first.record.diff == {} and "diff" not in stages(first)
    chosen_then = set(chosen(first))
    edit(tmp_path)
    now, second = records(tmp_path), run(config, lot, "seed=18")
    chosen_now, found = set(chosen(second)), whole(second)
    wanted = expected(then, now, chosen_then, chosen_now)
    assert {why for _, why, _ in wanted.values()} == {NEW, CHOSEN, GONE, DROPPED, CHANGED}, "each of them is tried"

    table = pl.read_parquet(second.lake.run(second.id) / "diff.parquet")
    rows = {r["doc_id"]: (r["change"], r["why"], r["text_changed"]) for r in table.iter_rows(named=True)}
    assert rows == wanted and table.height == len(wanted)
    counts = Counter((change, why) for change, why, _ in wanted.values())
    for change in ("in", "out"):
        assert found["documents"][change] == {why: counts[change, why] for why in found["documents"][change]}
    assert found["documents"]["changed"] == counts["changed", CHANGED]
    assert found["documents"]["kept"] == len(chosen_then & chosen_now)
    sizes = [len(chosen_then), len(chosen_now)]
    assert [found["documents"][when] for when in ("then", "now")] == sizes
    assert found["corpus_documents"] == {
        "then": len(then), "now": len(now), "new": len(now.keys() - then.keys()), "gone": len(then.keys() - now.keys()),
        "changed": sum(then[i]["text"] != now[i]["text"] for i in then.keys() & now.keys()),
    }  # fmt: skip
    sources = {row["source"]: row for row in found["sources"]}
    for when, of, ids in (("then", then, chosen_then), ("now", now, chosen_now)):
        assert {s: (r[f"documents_{when}"], r[f"tokens_{when}"]) for s, r in sources.items()} == by_source(of, ids)
        assert found["tokens"][when] == sum(tokens for _, tokens in by_source(of, ids).values())
    assert second.record.diff == {name: found[name] for name in second.record.diff}
    checks_the_rows(table, then, now, second)


def checks_the_rows(table, then, now, second):
    """Scores, tokens and reasons are those of the tables of the runs."""
    for row in table.iter_rows(named=True):
        where = now if row["shard_now"] else then
        assert row["source"] == where[row["doc_id"]]["source"]
        for when, of in (("before", then), ("now", now)):
            assert (row[f"shard_{when}"] is not None) == (row["doc_id"] in of)
            if row[f"n_tokens_{when}"] is not None:
                assert row[f"n_tokens_{when}"] == len(of[row["doc_id"]]["text"].split())
        assert (row["step"] is not None) == (row["why"] in (DROPPED, CHOSEN)), row
    query = "select doc_id, step, reason, score from selections where run = $1"
    last = {doc_id: rest for doc_id, *rest in tamis.sql(second.lake, query, [second.id]).fetchall()}
    for row in table.filter(pl.col("why") == DROPPED).iter_rows(named=True):
        assert [row["step"], row["reason"]] == last[row["doc_id"]][:2]
    for row in table.filter(pl.col("change") == "in").iter_rows(named=True):
        assert row["score_now"] == last[row["doc_id"]][2]


def test_what_a_run_left_is_in_the_catalogue_and_whole(tmp_path):
    config, _ = diff_case(tmp_path)
    run(config)
    edit(tmp_path)
    second = run(config)
    found, path = whole(second), second.lake.run(second.id) / "diff.parquet"
    (row,) = tamis.sql(second.lake, "from diffs").pl().iter_rows(named=True)
    assert (row["run"], row["previous"]) == (second.id, found["previous"])
    assert row["documents_in"] == sum(found["documents"]["in"].values())
    assert row["tokens_out"] == sum(found["tokens"]["out"].values())
    listed = tamis.sql(second.lake, "select * exclude run from diff_documents order by doc_id").pl()
    assert listed.equals(pl.read_parquet(path).sort("doc_id").select(listed.columns))
    assert len(tamis.sql(second.lake, "from diff_sources").fetchall()) == len(found["sources"])
    assert tamis.sql(second.lake, "select step, psi from diff_scores").fetchall() == [
        ("like_code", found["scores"][0]["all"]["psi"])
    ]
    assert list(verify(second.lake)) == []
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    assert [damage.file for damage in verify(second.lake)] == [str(path)]


def test_a_run_that_had_nothing_to_do_has_an_empty_diff_that_costs_nothing(tmp_path):
    config, _ = diff_case(tmp_path)
    first = run(config)
    (tmp_path / "raw" / "part-1.jsonl").touch()
    again = run(config)
    assert again.record.computed == 0 and "diff" not in stages(again)
    assert not (again.lake.run(again.id) / "diff.json").exists()
    short = again.record.diff
    assert short["unchanged"] and short["previous"] == first.id
    assert short["documents"]["kept"] == len(chosen(first)) == short["documents"]["then"]
    compared = tamis.diff(again.lake, again.id)
    assert {name: compared[name] for name in short} == short
    files = again.record.files["web"]
    assert (files["touched"], files["trusted"], files["new"]) == (1, 2, 0)
    assert files["bytes_digested"] == files["bytes_unchanged"] == (tmp_path / "raw" / "part-1.jsonl").stat().st_size


def test_files_are_new_changed_gone_or_as_they_were(tmp_path):
    config, _ = diff_case(tmp_path)
    assert {k: v for k, v in run(config).record.files["web"].items() if k in ("new", "trusted")} == {
        "new": 3, "trusted": 0,
    }  # fmt: skip
    edit(tmp_path)
    os.utime(tmp_path / "code.jsonl", ns=(1, 1))
    files = run(config).record.files
    assert {k: files["web"][k] for k in ("new", "changed", "gone", "touched", "trusted")} == {
        "new": 1, "changed": 2, "gone": 1, "touched": 0, "trusted": 0,
    }  # fmt: skip
    assert {(f["file"], f["change"]) for f in files["web"]["named"]} == {
        ("raw/part-0.jsonl", "gone"), ("raw/part-1.jsonl", "changed"), ("raw/part-2.jsonl", "changed"),
        ("raw/part-9.jsonl", "new"),
    }  # fmt: skip
    assert files["targets/code"]["touched"] == 1


def test_the_files_of_a_diff_are_those_of_its_two_runs_whoever_read_them(tmp_path):
    steps = [{"name": "lot", "select": "random", "cut": {"budget": {"documents": 20}}}]
    config, _ = diff_case(tmp_path, flows={name: {"corpus": "web", "steps": steps} for name in ("one", "other")})
    first = {name: tamis.run(config, name) for name in ("one", "other")}
    edit(tmp_path)
    kinds = {"new": 1, "changed": 2, "gone": 1, "touched": 0, "trusted": 0}
    for name in ("one", "other"):  # the first of them reads the files
        found = whole(tamis.run(config, name))
        assert found["previous"] == first[name].id and {kind: found["files"][kind] for kind in kinds} == kinds
    assert {kind: tamis.diff(first["one"].lake, "one", "other")["files"][kind] for kind in kinds} == {
        **dict.fromkeys(kinds, 0), "trusted": 3,
    }  # fmt: skip


def test_any_two_runs_are_compared_and_what_cannot_be_is_said(tmp_path, capsys):
    config, _ = diff_case(tmp_path, flows={
        name: {"corpus": corpus, "steps": [{"name": "lot", "select": "random", "cut": {"budget": {"documents": n}}}]}
        for name, corpus, n in (("few", "web", 20), ("more", "web", 30), ("elsewhere", "other", 5))
    })  # fmt: skip
    text = config.read_text().replace("corpora:\n", "corpora:\n  other: {files: [code.jsonl]}\n")
    config.write_text(text)
    few, more = (tamis.run(config, name) for name in ("few", "more"))
    tamis.run(config, "elsewhere")
    found = tamis.diff(few.lake, "more", "few", output=tmp_path / "in.parquet")
    assert found["documents"]["in"] == {NEW: 0, CHOSEN: 10} and found["documents"]["kept"] == 20
    assert set(pl.read_parquet(tmp_path / "in.parquet")["doc_id"]) == set(chosen(more)) - set(chosen(few))
    assert tamis.diff(few.lake, few.id, more.id)["documents"]["out"] == {GONE: 0, DROPPED: 10}
    for names, what in (
        (("few",), "first finished one of 'few'"), (("nothing",), "no finished run 'nothing'"),
        (("few", "elsewhere"), "name two over one corpus"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=what):
            tamis.diff(few.lake, *names)
    command = ["diff", "more", "few", "-c", str(config)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert ended.value.code == 0 and json.loads(capsys.readouterr().out)["documents"] == found["documents"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "-o", str(tmp_path / "out.parquet")])
    assert ended.value.code == 0 and "10 newly chosen" in capsys.readouterr().out
    assert pl.read_parquet(tmp_path / "out.parquet").height == 10
    for output in (tmp_path / "out.txt", few.lake.root / "out.parquet"):
        with pytest.raises(SystemExit) as ended:
            main([*command, "-o", str(output)])
        assert ended.value.code == 2


def test_scores_that_drift_are_an_alarm_of_the_run(tmp_path, capsys):
    steps = [{"name": "like_code", "select": "dsir", "target": "code", "refit": "frozen",
              "cut": {"budget": {"documents": 50}}}]  # fmt: skip
    config = make_case(tmp_path, n=400, steps=steps)
    first = run(config)
    text = "def return import class lambda "
    odd = [{"id": f"odd-{i}", "text": text * (3 + i % 5), "source": "code"} for i in range(300)]
    write_jsonl(tmp_path / "raw" / "odd.jsonl", odd)
    second = run(config)
    (alarm,) = [a for a in second.record.alarms if a["name"] == "score_drift"]
    (scores,) = whole(second)["scores"]
    assert alarm["value"] == scores["all"]["psi"] > alarm["threshold"] == 0.2
    assert first.id in alarm["message"] and scores["scored"] == {"then": 400, "now": 700, "new": 300}
    assert scores["new"]["psi"] > scores["all"]["psi"] and scores["new"]["ks"] > 0.5
    with pytest.raises(SystemExit):
        main(["status", second.id, "-c", str(config)])
    shown = capsys.readouterr().out
    assert (
        "[score_drift]" in shown
        and f"against run {first.id}" in shown
        and "like_code: frozen, the state of run" in shown
    )
    (tmp_path / "raw" / "odd.jsonl").unlink()
    for override in ("alarms.score_drift=off", "flows.small.steps.like_code.with.mix=0.5"):
        quiet = run(config, override)
        assert [a for a in quiet.record.alarms if a["name"] == "score_drift"] == []
    assert [s["comparable"] for s in whole(quiet)["scores"]] == [False]


def test_a_run_ends_well_where_the_one_before_is_not_whole_any_more(tmp_path):
    config, _ = diff_case(tmp_path)
    first = run(config)
    for path in (tmp_path / "lake" / "selections" / first.steps[-1]["selection"]).glob("*.parquet"):
        path.unlink()
    edit(tmp_path)
    second = run(config)
    assert second.exit_code == 0 and "not whole in the lake any more" in second.record.diff["error"]


def test_a_run_that_was_ended_while_it_was_compared_is_not_called_finished(tmp_path, monkeypatch):
    config, _ = diff_case(tmp_path)
    run(config)
    edit(tmp_path)

    def ended(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(flows, "note_diff", ended)
        run(config)
    finished = tmp_path / "lake" / "runs" / "finished"
    assert len(list(finished.iterdir())) == 1, "else the next run would say that there is nothing new, without alarms"
    again = run(config)
    assert len(list(finished.iterdir())) == 2 and again.record.diff["documents"]["in"][NEW] > 0
