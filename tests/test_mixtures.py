"""Mixtures: asked and achieved, whose a document is, the order, and what a second call computes."""

import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flow import make_case, stages, write_jsonl
from tamis.pipelines import cli
from tamis.storage import publish
from tamis.storage.errors import ConfigError, DiskError
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

SOURCES = {"alpha": 40, "beta": 120, "gamma": 400}


def records(corpus, n, source=None):
    """Documents of 3 to 12 words, whose words say which they are."""
    return [
        {"id": f"{corpus}-{i:04d}", "text": f"{corpus} {i} " + "word " * (1 + i * 7 % 10), "source": source or corpus}
        for i in range(n)
    ]


def three_corpora(folder, mixture, sizes=SOURCES, flows=None, **changes):
    """Three corpora of different sizes and one mixture `m` over them."""
    for corpus, n in sizes.items():
        write_jsonl(folder / corpus / "a.jsonl", records(corpus, n)[: n // 3])
        write_jsonl(folder / corpus / "b.jsonl", records(corpus, n)[n // 3 :])
    return make_case(
        folder, n=3, corpora={corpus: {"files": [f"{corpus}/*"]} for corpus in sizes}, targets={}, flows=flows or {},
        mixtures={"m": {"parts": [{"corpus": corpus} for corpus in sizes], **mixture}}, **changes,
    )  # fmt: skip


def written(run, output=0):
    """Return the copies of a mixture in their order."""
    folder = run.outputs[output]
    manifest = json.loads((folder / "manifest.json").read_text())
    return pa.concat_tables([pq.read_table(folder / f["file"]) for f in manifest["files"]])


def by_part(run):
    """Return (tokens, most copies of a document, fewest) of each part, counted in what was written."""
    found = {}
    table = written(run).to_pylist()
    for part in {row["part"] for row in table}:
        times = Counter(row["id"] for row in table if row["part"] == part)
        tokens = sum(row["n_tokens"] for row in table if row["part"] == part)
        found[part] = (tokens, max(times.values()), min(times.values()))
    return found


def test_three_sources_with_weights_and_a_cap_that_binds(tmp_path):
    """Alpha is asked for more than two epochs of it: it stops there, and the run says so."""
    parts = [{"corpus": c, "weight": w, "max_epochs": e} for c, w, e in
             (("alpha", 0.5, 2), ("beta", 0.3, 1.5), ("gamma", 0.2, 1))]  # fmt: skip
    run = tamis.mix(three_corpora(tmp_path, {"budget": {"tokens": 2000}, "parts": parts}), "m")
    shares = {share["part"]: share for share in run.mixture["parts"]}
    assert {name: s["wanted"] for name, s in shares.items()} == {"alpha": 1000, "beta": 600, "gamma": 400}
    assert shares["alpha"]["asked"] == 2 * shares["alpha"]["available"] < 1000
    found = by_part(run)
    for name, share in shares.items():
        assert share["asked"] - 12 < share["achieved"] <= share["asked"]
        assert found[name][0] == share["achieved"]
        assert found[name][1] <= -(-share["max_epochs"] // 1)
    assert found["alpha"] == (shares["alpha"]["asked"], 2, 2)
    assert run.exit_code == 3 and len(run.record.warnings) == 1
    assert "part alpha: 600 of 1,000 tokens: it has 300, which may stand there 2 times" in run.record.warnings[0]
    assert run.mixture["achieved"] == sum(tokens for tokens, *_ in found.values()) <= 2000


def test_three_sources_are_mixed_as_they_always_were(tmp_path):
    """A flow, a corpus and some sources of another: pinned, so that it changes only where somebody means it to."""
    parts = [{"flow": "some", "weight": 0.4}, {"corpus": "beta", "weight": 0.4, "max_epochs": 2},
             {"corpus": "alpha", "sources": "alpha", "weight": 0.2}]  # fmt: skip
    config = three_corpora(tmp_path, {"budget": {"tokens": 2000}, "parts": parts, "redistribute": True}, flows=FLOWS)
    run = tamis.mix(config, "m")
    shares = [(s["part"], s["asked"], s["achieved"], s["documents"], s["copies"]) for s in run.mixture["parts"]]
    assert shares == [("some", 850, 849, 110, 110), ("beta", 850, 850, 113, 113), ("alpha", 300, 300, 40, 40)]
    ids = [row["id"] for row in written(run).to_pylist()]
    assert hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16] == "0927aa91da23247b"


def test_what_the_cap_leaves_goes_to_the_others_where_asked_for(tmp_path):
    parts = [{"corpus": c, "weight": w} for c, w in (("alpha", 6), ("beta", 2), ("gamma", 2))]
    mixture = {"budget": {"tokens": 1500}, "parts": parts, "redistribute": True}
    run = tamis.mix(three_corpora(tmp_path, mixture), "m")
    assert [s["wanted"] for s in run.mixture["parts"]] == [900, 300, 300]
    assert [s["asked"] for s in run.mixture["parts"]] == [300, 600, 600]
    assert run.exit_code == 0 and 1500 - 3 * 12 < run.mixture["achieved"] <= 1500


def test_temperature_and_unimax(tmp_path):
    config = three_corpora(tmp_path, {"budget": {"tokens": 1000}, "weights": {"temperature": 2}})
    run = tamis.mix(config, "m")
    sizes = {s["part"]: s["available"] for s in run.mixture["parts"]}
    roots = {name: n**0.5 for name, n in sizes.items()}
    for share in run.mixture["parts"]:
        assert share["asked"] == pytest.approx(1000 * roots[share["part"]] / sum(roots.values()), abs=1)
        assert share["asked"] - 12 < share["achieved"] <= share["asked"]
    even = ["mixtures.m.weights={unimax: 4}", "mixtures.m.budget.tokens=6000"]
    run = tamis.mix(config, "m", overrides=even)
    assert [s["asked"] for s in run.mixture["parts"]] == [1200, 2400, 2400]
    assert by_part(run)["alpha"] == (1200, 4, 4)
    assert run.exit_code == 0
    run = tamis.mix(config, "m", overrides=["mixtures.m.weights={unimax: 2}", "mixtures.m.budget.tokens=1e6"])
    assert run.exit_code == 3 and "all of its parts are at their most epochs" in run.record.warnings[0]
    assert all(s["achieved"] == 2 * s["available"] for s in run.mixture["parts"])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=3, max_size=3),
    weights=st.lists(st.sampled_from([0.1, 0.5, 1, 3]), min_size=3, max_size=3),
    epochs=st.lists(st.sampled_from([0.5, 1, 1.5, 3]), min_size=3, max_size=3),
    budget=st.integers(1, 300),
    rule=st.sampled_from(["given", {"temperature": 2}, {"unimax": 2.5}]),
)
def test_any_sizes_and_weights(tmp_path_factory, sizes, weights, epochs, budget, rule):
    folder = tmp_path_factory.mktemp("mixture")
    parts = []
    for number, words in enumerate(sizes):
        name = "abc"[number]
        write_jsonl(folder / f"{name}.jsonl", [{"id": f"{i}", "text": "w " * n} for i, n in enumerate(words)])
        parts.append({"corpus": name, "max_epochs": epochs[number]})
        if rule == "given":
            parts[-1]["weight"] = weights[number]
    config = make_case(
        folder, n=3, corpora={name: {"files": [f"{name}.jsonl"]} for name in "abc"}, flows={}, targets={},
        mixtures={"m": {"budget": {"tokens": budget}, "parts": parts, "weights": rule}},
    )  # fmt: skip
    run = tamis.mix(config, "m")
    rows = written(run).to_pylist() if run.mixture["copies"] else []
    total = sum(row["n_tokens"] for row in rows)
    assert total == run.mixture["achieved"] <= budget
    for share, words, most in zip(run.mixture["parts"], sizes, epochs, strict=True):
        mine = [row for row in rows if row["part"] == share["part"]]
        cap = min(most, 2.5) if rule == {"unimax": 2.5} else most
        assert share["available"] == sum(words)
        assert share["asked"] <= cap * sum(words)
        assert share["achieved"] == sum(row["n_tokens"] for row in mine) <= share["asked"]
        assert share["asked"] - share["achieved"] < max([1, *words])
        times = Counter(row["id"] for row in mine)
        assert all(n <= -(-cap // 1) for n in times.values())
        most_tokens = max((times[str(i)] for i, n in enumerate(words) if n), default=0)
        assert most_tokens - min((times[str(i)] for i, n in enumerate(words) if n), default=0) <= 1


def test_sources_have_shares_of_their_own(tmp_path):
    rows = [*records("a", 20, "x"), *records("b", 80, "y"), *records("c", 300, None)]
    for row in rows[100:]:
        row["source"] = None
    write_jsonl(tmp_path / "all.jsonl", rows)
    mixture = {"budget": {"tokens": 900}, "parts": [{"corpus": "all", "max_epochs": 3}], "per": "source",
               "weights": {"temperature": 1e9}}  # fmt: skip
    config = make_case(tmp_path, n=3, corpora={"all": {"files": ["all.jsonl"]}}, flows={}, targets={},
                       mixtures={"m": mixture})  # fmt: skip
    run = tamis.mix(config, "m")
    assert [(s["source"], s["asked"]) for s in run.mixture["parts"]] == [("(none)", 300), ("x", 300), ("y", 300)]
    assert run.exit_code == 0
    parts = "[{corpus: all, sources: [x, z], weight: 1}, {corpus: all, name: rest, weight: 9}]"
    run = tamis.mix(config, "m", overrides=[f"mixtures.m.parts={parts}", "mixtures.m.weights=given"])
    assert [(s["part"], s["source"]) for s in run.mixture["parts"]] == [("all", "x"), ("rest", "(none)"), ("rest", "y")]
    assert run.record.warnings[0] == "part all: no document has the source 'z'"
    assert {row["source"] for row in written(run).to_pylist() if row["part"] == "all"} == {"x"}


FLOWS = {
    "long": {"corpus": "gamma", "steps": [{"name": "f", "filter": {"n": "stats.n_words >= 8"}}]},
    "some": {"corpus": "gamma", "steps": [{"name": "s", "select": "random", "cut": {"budget": {"documents": 200}}}]},
}
OVERLAPPING = {"budget": {"tokens": 100_000}, "parts": [{"flow": "long"}, {"flow": "some"}, {"corpus": "alpha"}]}


def test_a_document_belongs_to_the_first_part_that_has_it(tmp_path):
    config = three_corpora(tmp_path, OVERLAPPING, flows=FLOWS)
    run = tamis.mix(config, "m")
    query = "select doc_id from selections where run = $1 and kept"
    kept = {
        flow: {doc_id for (doc_id,) in tamis.sql(run.lake, query, [flow_run]).fetchall()}
        for flow, flow_run in run.mixture["runs"].items()
    }
    both = kept["long"] & kept["some"]
    assert len(kept["some"]) == 200 and both
    rows = written(run).to_pylist()
    assert {r["id"] for r in rows if r["part"] == "long"} == kept["long"]
    assert {r["id"] for r in rows if r["part"] == "some"} == kept["some"] - kept["long"]
    assert len(rows) == len({r["id"] for r in rows}), "one copy each"
    assert [o["lost"] for o in run.mixture["origins"]] == [0, len(both), 0]
    other = tamis.mix(config, "m", overrides=["mixtures.m.parts=[{flow: some}, {flow: long}]"])
    assert other.mixture["origins"][1]["lost"] == len(both)
    assert "first" in run.mixture["rule"]
    nothing_left = tamis.mix(config, "m", overrides=["mixtures.m.parts=[{corpus: gamma}, {flow: long}]"])
    lost = len(kept["long"])
    assert f"part long: it has no documents, all {lost} belong to parts before it" in nothing_left.record.warnings


def test_texts_that_are_the_same_stand_once(tmp_path):
    config = three_corpora(tmp_path, {"budget": {"tokens": 10**6}, "dedup": "text"})
    again = [{**row, "id": f"again-{row['id']}"} for row in records("alpha", 40)[:30]]
    write_jsonl(tmp_path / "beta" / "c.jsonl", again)
    write_jsonl(tmp_path / "alpha" / "c.jsonl", again[:10])
    run = tamis.mix(config, "m")
    rows = written(run).to_pylist()
    assert Counter(r["part"] for r in rows) == SOURCES
    assert len({r["text"] for r in rows}) == len(rows)
    assert [o["lost"] for o in run.mixture["origins"]] == [10, 30, 0]
    by_id = tamis.mix(config, "m", overrides=["mixtures.m.dedup=id"])
    assert by_id.mixture["documents"] == run.mixture["documents"] + 40
    assert by_id.exit_code == run.exit_code == 3, "the budget is far above what there is"


def test_the_order_is_a_keyed_shuffle_in_which_copies_stand_apart(tmp_path):
    config = three_corpora(tmp_path, {"budget": {"tokens": 5000}, "weights": {"unimax": 3}})
    rows = written(tamis.mix(config, "m")).to_pylist()
    first = rows[: len(rows) // 2]
    share = sum(r["part"] == "alpha" for r in rows) / len(rows)
    assert sum(r["part"] == "alpha" for r in first) / len(first) == pytest.approx(share, abs=0.06)
    places = {}
    for place, row in enumerate(rows):
        places.setdefault(row["id"], []).append(place)
    apart = [b - a for at in places.values() for a, b in pairwise(at)]
    assert sum(gap == 1 for gap in apart) < 0.02 * len(apart)
    fewer = written(tamis.mix(config, "m", overrides=["mixtures.m.budget.tokens=2500"])).to_pylist()
    left = Counter((r["corpus"], r["id"]) for r in fewer)
    assert not left - Counter((r["corpus"], r["id"]) for r in rows), "a larger budget only adds"


@pytest.mark.parametrize("mixture", [
    {"weights": {"unimax": 3}},
    {"weights": {"temperature": 3}, "order": {"by": "stats.n_words % 3", "ascending": False}},
    {"dedup": "text", "order": {"by": "score"}, "parts": [{"flow": "some"}, {"flow": "long"}, {"corpus": "beta"}]},
])  # fmt: skip
def test_shards_workers_and_files_do_not_change_a_byte(tmp_path, monkeypatch, mixture):
    config = three_corpora(tmp_path, {"budget": {"tokens": 3000}, **mixture}, flows=FLOWS)
    found = []
    for case, (shard_bytes, workers, range_bytes) in enumerate(
        [("128MB", 1, 10**9), (8_000, 3, 10_000), (2_500, 2, 4_000)]
    ):
        monkeypatch.setattr("tamis.storage.memory.Budget.range_bytes", range_bytes)
        monkeypatch.setattr("tamis.storage.sorting.MOST_PARTITIONS", 5)
        overrides = [f"lake=lake-{case}", *(f"corpora.{c}.shard_bytes={shard_bytes}" for c in SOURCES)]
        run = tamis.mix(config, "m", overrides=overrides, workers=workers)
        files = sorted(run.outputs[0].glob("part-*"))
        found.append(([f.read_bytes() for f in files], [s["achieved"] for s in run.mixture["parts"]]))
        for corpus in SOURCES:  # other files, in another order
            rows = [json.loads(line) for f in (tmp_path / corpus).iterdir() for line in f.read_text().splitlines()]
            for old in (tmp_path / corpus).iterdir():
                old.unlink()
            for i in range(case + 2):
                write_jsonl(tmp_path / corpus / f"{9 - i}.jsonl", rows[i :: case + 2][::-1])
    assert found[0][0]
    assert found[1] == found[0] and found[2] == found[0]


def test_a_curriculum_is_sorted_by_the_column(tmp_path):
    flows = {**FLOWS, "scored": {"corpus": "beta", "steps": [
        {"name": "s", "select": "random", "cut": {"budget": {"documents": 60}}}]}}  # fmt: skip
    config = three_corpora(tmp_path, {"budget": {"tokens": 900}, "order": {"by": "stats.n_words"}}, flows=flows)
    run = tamis.mix(config, "m")
    words = [len(row["text"].split()) for row in written(run).to_pylist()]
    assert words == sorted(words) and len(set(words)) > 5
    down = tamis.mix(config, "m", overrides=["mixtures.m.order.ascending=false"])
    assert [len(row["text"].split()) for row in written(down).to_pylist()] == words[::-1]
    assert stages(down)["draw m"] == (0, 1), "another order is the same draw"
    by_length = tamis.mix(config, "m", overrides=["mixtures.m.order.by=length(text) + n_bytes"])
    lengths = [len(row["text"]) for row in written(by_length).to_pylist()]
    assert lengths == sorted(lengths)
    parts = "[{flow: scored}, {corpus: alpha}]"
    run = tamis.mix(config, "m", overrides=["mixtures.m.order.by=score", f"mixtures.m.parts={parts}"])
    scores = [row["score"] for row in written(run).to_pylist()]
    numbers = [s for s in scores if s is not None]
    assert numbers == sorted(numbers) and scores[: len(numbers)] == numbers and len(numbers) < len(scores)
    assert f"order by score: {len(scores) - len(numbers)} of {len(scores)} documents have no number" in str(
        run.record.warnings
    )


def test_a_second_call_computes_nothing(tmp_path):
    config = three_corpora(tmp_path, OVERLAPPING, flows=FLOWS)
    first = tamis.mix(config, "m")
    again = tamis.mix(config, "m")
    assert first.record.computed > 0 and again.record.computed == 0, stages(again)
    assert again.outputs == first.outputs and again.record.warnings == first.record.warnings
    assert again.mixture == first.mixture, "the flows were not run again either"
    run = tamis.run(config, "some")
    assert run.record.computed == 0
    assert tamis.mix(config, "m").mixture["runs"]["some"] == run.id, "it takes up what was run by hand"
    other = tamis.mix(config, "m", overrides=["mixtures.m.budget.tokens=300"])
    assert {name for name, (n, _) in stages(other).items() if n} == {"draw m", "write parquet"}
    write_jsonl(tmp_path / "gamma" / "new.jsonl", records("new", 50))
    more = tamis.mix(config, "m")
    assert more.mixture["documents"] > first.mixture["documents"]
    assert more.mixture["runs"]["long"] != first.mixture["runs"]["long"]


def test_a_write_that_fails_leaves_nothing_and_goes_on_from_there(tmp_path, monkeypatch):
    config = three_corpora(
        tmp_path, {"budget": {"tokens": 2000}, "outputs": [{"format": "parquet", "shard_bytes": 1500}]}
    )
    whole = tamis.mix(config, "m", overrides=["lake=other"])
    expected = [f.read_bytes() for f in sorted(whole.outputs[0].glob("part-*"))]
    assert len(expected) > 3
    moved = []

    def full_disk(source, target):
        moved.append(target)
        if len(moved) == 3:
            raise OSError(28, "No space left on device")
        publish.move_into_place(source, target)

    monkeypatch.setattr("tamis.storage.export.move_into_place", full_disk)
    with pytest.raises(DiskError, match="the disk is full"):
        tamis.mix(config, "m")
    lake = Lake.open(tmp_path / "lake")
    assert not list((lake.root / "mixtures").glob("*/*/manifest.json")) and not list(lake.scratch.iterdir())
    again = tamis.mix(config, "m")
    assert stages(again)["draw m"] == (0, 1)
    assert [f.read_bytes() for f in sorted(again.outputs[0].glob("part-*"))] == expected


def test_the_command_says_what_each_part_has(tmp_path, capsys):
    config = three_corpora(tmp_path, {"budget": {"tokens": 100_000}, "weights": {"unimax": 2}})
    outputs = []
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["mix", "m", "-c", str(config), "--no-prefect", *extra])
        assert ended.value.code == 3
        outputs.append(capsys.readouterr().out)
    printed, record = outputs[0], json.loads(outputs[1])
    assert "of 100,000 tokens" in printed and "gamma" in printed and "at their most epochs" in printed
    assert "lake/mixtures/m/" in printed
    assert [share["epochs"] for share in record["mixture"]["parts"]] == [2, 2, 2]
    with pytest.raises(SystemExit):
        cli.main(["list", "-c", str(config), "--json"])
    assert {"mixture", "selector"} <= {entry["kind"] for entry in json.loads(capsys.readouterr().out)}


def test_the_catalogue_has_parts_and_rows(tmp_path):
    config = three_corpora(tmp_path, {"budget": {"tokens": 3000}, "weights": {"unimax": 3},
                                      "outputs": [{"format": "parquet"}, {"format": "jsonl.zst"}]})  # fmt: skip
    run = tamis.mix(config, "m")
    assert [f.name for folder in run.outputs for f in sorted(folder.glob("part-*"))] == [
        "part-00000.parquet", "part-00000.jsonl.zst"]  # fmt: skip
    written_by_part = tamis.sql(run.lake, """
        select part, sum(multiplicity * n_tokens)::bigint, count(*), sum(multiplicity)::bigint from mixture_rows
        where mixture = 'm' group by 1 order by 1""").fetchall()  # fmt: skip
    parts = tamis.sql(run.lake, """
        select part, achieved, documents, copies from mixture_parts join
        (select distinct draw from mixtures where mixture = 'm') using (draw) order by 1""").fetchall()  # fmt: skip
    assert written_by_part == parts and len(parts) == 3
    joined = "select count(*), count(d.n_tokens) from mixture_rows r join documents d using (corpus, doc_id)"
    assert tamis.sql(run.lake, joined).fetchall() == [(run.mixture["documents"],) * 2]
    card = (run.outputs[0] / "card.md").read_text()
    assert "| alpha |" in card and "The rule:" in card
    assert list(verify(run.lake)) == []
    next((run.lake.root / "draws").glob("*/*/*.parquet")).unlink()
    assert "is missing" in next(iter(verify(run.lake))).problem
    assert stages(tamis.mix(config, "m"))["draw m"] == (3, 0)
    assert list(verify(run.lake)) == []


def test_a_flows_warnings_are_those_of_its_mixture(tmp_path):
    config = three_corpora(tmp_path, {**OVERLAPPING, "budget": {"tokens": 100}, "weights": {"unimax": 1}}, flows=FLOWS)
    with (tmp_path / "gamma" / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    for _ in range(2):
        run = tamis.mix(config, "m")
        assert run.exit_code == 3 and run.record.warnings[0].startswith("flow long: 1 records of gamma")


@pytest.mark.parametrize(("change", "message"), [
    ({"parts": [{"flow": "lnog"}]}, "did you mean 'long'"),
    ({"parts": [{"corpus": "alhpa"}]}, "did you mean 'alpha'"),
    ({"parts": [{"corpus": "alpha", "flow": "long"}]}, "exactly one of `flow` and `corpus`"),
    ({"parts": [{"corpus": "alpha"}, {"corpus": "alpha"}]}, "two parts are named 'alpha'"),
    ({"parts": [{"corpus": "alpha", "weight": 1}, {"corpus": "beta"}]}, "'beta' has no weight"),
    ({"parts": [{"corpus": "alpha", "weight": 1}], "weights": {"unimax": 2}}, "has a weight, but"),
    ({"weights": {"unimax": 2, "temperature": 2}}, "not by both"),
    ({"weights": {"temprature": 2}}, "did you mean 'temperature'"),
    ({"weights": {"unimax": 2}, "redistribute": False}, "belongs to given weights"),
    ({"budget": {"tokens": 0}}, "greater than 0"),
    ({"order": {"by": "score"}}, "no part is a flow"),
    ({"order": {"by": "stats.n_wrods"}}, "did you mean 'stats.n_words'"),
    ({"order": {"by": "source"}}, "expected a number"),
])  # fmt: skip
def test_what_cannot_be_right_is_refused_before_any_work(tmp_path, change, message):
    config = three_corpora(tmp_path, {"budget": {"tokens": 100}, **change}, flows=FLOWS)
    with pytest.raises(ConfigError, match=message):
        tamis.mix(config, "m")
    assert not (tmp_path / "lake" / "runs").exists()


def test_a_part_whose_documents_have_no_tokens_is_said(tmp_path):
    blank = [{"id": f"b{i}", "text": "   "} for i in range(5)]
    write_jsonl(tmp_path / "blank" / "a.jsonl", blank)
    config = three_corpora(tmp_path, {"budget": {"tokens": 100}, "parts": [{"corpus": "alpha"}, {"corpus": "blank"}]})
    given = yaml.safe_load(config.read_text())
    given["corpora"]["blank"] = {"files": ["blank/*"]}
    given["mixtures"]["m"]["parts"] = [{"corpus": "alpha", "weight": 1}, {"corpus": "blank", "weight": 1}]
    config.write_text(yaml.safe_dump(given))
    run = tamis.mix(config, "m")
    assert run.exit_code == 3 and any("part blank: 0 of 50 tokens" in warning for warning in run.record.warnings)


def test_losses_of_a_model_that_a_flow_trains_are_no_order(tmp_path):
    models = {"prior": {"size": "tiny", "budget": {"tokens": 1000}}}
    features = {"stats": {"use": "text_stats"}, "lm": {"use": "losses", "model": "prior"}}
    mixture = {"budget": {"tokens": 100}, "order": {"by": "lm.loss"}}
    config = three_corpora(tmp_path, mixture, models=models, features=features)
    with pytest.raises(ConfigError, match="losses of the model 'prior'"):
        tamis.mix(config, "m")


def test_an_unknown_mixture_has_a_nearest_name(tmp_path):
    config = three_corpora(tmp_path, {"budget": {"tokens": 100}})
    with pytest.raises(ConfigError, match="mixture 'n' is not in the configuration"):
        tamis.mix(config, "n")


def test_the_example_of_the_repository_is_checked():
    root = Path(__file__).resolve().parents[1]
    assert tamis.load(root / "flows.yaml").config.mixtures
