"""A real pool of 99,678 documents in six formats: every record accounted for, byte for byte, and exact copies found."""

import json
import random

import polars as pl
import pytest
import tamis
from reference import reference_data

STEPS = [
    {"name": "twins", "dedup": "exact"},
    {"name": "some", "select": "random", "cut": {"budget": {"documents": "1%"}}},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a flow over the whole pool."""
    pool = reference_data("data/pool")
    folder = tmp_path_factory.mktemp("pool")
    (folder / "flows.yaml").write_text(f"""
version: 1
corpora: {{pool: {{files: ["{pool}/crawl-0[0-8].*", "{pool}/crawl-09/*.txt"], id: stem}}}}
flows: {{all: {{corpus: pool, steps: {STEPS}}}}}
""")
    return tamis.run(folder / "flows.yaml", "all")


def labels():
    return pl.read_parquet(reference_data("data/labels.parquet"))


def test_every_record_is_accounted_for(run):
    counts = run.record.counts
    assert counts["records"] == counts["documents"] + counts["quarantined"] + counts["excluded"] == 99_678
    assert (counts["documents"], counts["quarantined"], counts["excluded"], counts["repaired"]) == (99_678, 0, 0, 12)
    assert run.exit_code == 0


def test_ids_and_texts_are_those_of_the_files(run):
    query = "select doc_id as id, n_bytes as size, lower(hex(text_hash))[:16] as sha, repaired from documents"
    found = tamis.sql(run.lake, query).pl()
    both = labels().join(found, on="id", how="inner")
    assert both.height == labels().height == found.height == 99_678
    assert set(both.filter("repaired")["kind"]) == {"lone_surrogate"}
    assert both["repaired"].sum() == 12
    whole = both.filter(~pl.col("repaired"))
    assert (whole["size"] == whole["n_bytes"]).all()
    assert (whole["sha"] == whole["sha256_16"]).all()


def test_the_hash_is_that_of_the_text(run):
    query = (
        "select count(*) from text join documents using (corpus, doc_id) where unhex(sha256(text))[:16] <> text_hash"
    )
    assert tamis.sql(run.lake, query).fetchall() == [(0,)]


def test_one_document_of_each_group_of_copies_stays(run):
    groups = pl.read_parquet(reference_data("data/exact_dup_groups.parquet")).select("id", group="sha256_16")
    query = "select doc_id as id, kept, ref from selection_steps where run = $1 and step = 'twins'"
    verdicts = tamis.sql(run.lake, query, [run.id]).pl()
    joined = groups.join(verdicts, on="id")
    stays = joined.filter("kept").select("group", stays="id")
    assert joined.height == groups.height == 7060
    assert stays.height == stays["group"].n_unique() == groups["group"].n_unique() == 2878
    gone = joined.filter(~pl.col("kept")).join(stays, on="group")
    assert (gone["ref"] == gone["stays"]).all()
    assert verdicts.filter(~pl.col("kept")).height == 7060 - 2878


@pytest.mark.slow
def test_the_choice_from_the_pool_is_the_same_for_any_shards_workers_and_files(run, tmp_path):
    """1, 3 and 16 shards, 1, 2 and 4 workers, the documents shuffled over files of other names."""
    target = reference_data("data/targets") / "code_python.dev.jsonl"
    documents = tamis.sql(
        run.lake, "select doc_id as id, text, source, meta from text join documents using (corpus, doc_id)"
    )
    rows = documents.pl().to_dicts()
    found = []
    for case, (shards, workers) in enumerate([(1, 1), (3, 2), (16, 4)]):
        random.Random(case).shuffle(rows)
        raw = tmp_path / f"raw-{case}"
        raw.mkdir()
        for i in range(shards):
            lines = [json.dumps({**r, "meta": json.loads(r["meta"] or "{}")}) for r in rows[i::shards]]
            (raw / f"{(i * 7 + case) % shards:02d}.jsonl").write_text("\n".join(lines) + "\n")
        config = tmp_path / "flows.yaml"
        twins = "{name: twins, dedup: exact}"
        near = "{name: near, select: dsir, target: code, cut: {by: gumbel, budget: {tokens: 5%}}}"
        config.write_text(f"""
version: 1
lake: lake-{case}
corpora: {{pool: {{files: ["{raw}/*"], shard_bytes: 1GB}}}}
targets: {{code: {{files: ["{target}"], holdout: 0.2}}}}
flows: {{near: {{corpus: pool, steps: [{twins}, {near}]}}}}
""")
        done = tamis.run(config, "near", workers=workers)
        assert tamis.sql(done.lake, "select count(*) from shards where corpus = 'pool'").fetchall() == [(shards,)]
        query = "select doc_id, rank from selections where run = $1 and kept order by rank"
        found.append(tamis.sql(done.lake, query, [done.id]).fetchall())
    assert len(found[0]) > 1000
    assert found[0] == found[1] == found[2]
