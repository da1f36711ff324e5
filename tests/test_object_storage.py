"""The lake and the raw files in an S3 store: everything is as in a folder, and a store fails with words."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
import tamis
import zstandard
from object_store import object_store
from small_flow import CODE, STEPS, chosen, documents, make_case, stages, write_jsonl
from small_tokens import token_case
from tamis.pipelines.cleaning import clean, survey
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.loading import load_config
from tamis.pipelines.repairing import repair
from tamis.pipelines.runs import load_runs
from tamis.storage.catalog import connect
from tamis.storage.claims import claim, claim_again
from tamis.storage.errors import LakeError, StoreError
from tamis.storage.inputs import list_inputs
from tamis.storage.lake import Lake
from tamis.storage.places import local, place, remove_files
from tamis.storage.processes import HOST
from tamis.storage.readers import ReadOptions, read_records
from tamis.storage.sweeping import lease, lease_of
from tamis.storage.verify import verify

SMALL_SHARDS = {"web": {"files": ["raw/*"], "shard_bytes": 40_000}}
NEWEST = Keep(runs=1, days=0, hours=0)
BUDGET = "flows.small.steps.like_code.cut.budget.tokens"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Return what makes a bucket; temporary files of its lakes lie in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("scratch")))
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("scratch")))
        with object_store(patch.setenv) as new_bucket:
            yield new_bucket


def put(url, data):
    path = place(url)
    path.fs.pipe_file(path.path, data)


def command(*words):
    return [sys.executable, "-m", "tamis.pipelines.cli", *map(str, words)]


def start(config):
    return subprocess.Popen(command("run", "small", "-c", config, "--no-prefect", "-q"), stdout=subprocess.DEVNULL)


def digests(lake):
    """Return the content of every selection, and of every file of a mixture, by their names."""
    selections = {p.parent.name: json.loads(p.read_bytes()) for p in (lake.root / "selections").glob("*/manifest.json")}
    mixtures = [json.loads(p.read_bytes()) for p in (lake.root / "mixtures").glob("*/*/manifest.json")]
    return {k: v["shards"] for k, v in selections.items()}, [[f["sha256"] for f in m["files"]] for m in mixtures]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a case, and its run on a lake in a folder."""
    config = make_case(tmp_path_factory.mktemp("whole"), n=200, files=3, corpora=SMALL_SHARDS)
    return config, tamis.run(config, "small")


def on_store(config, lake):
    """Return the same case with another lake."""
    text = config.read_text().replace("lake: lake", f"lake: {lake}")
    other = config.with_name(f"on-{lake.rpartition('/')[2]}.yaml")
    other.write_text(text)
    return other


@pytest.fixture(scope="module")
def resumed(bucket, whole):
    """Return a run whose process was killed in the middle, and the run that went on."""
    lake = f"{bucket()}/killed"
    config = on_store(whole[0], lake)
    process = start(config)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if next(place(f"{lake}/features").glob("*/*/*.parquet"), None):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over too soon, or never computed a feature"
    return tamis.run(config, "small")


def test_a_run_killed_on_the_store_goes_on_to_what_a_folder_holds(whole, resumed):
    assert [r.status for r in load_runs(resumed.lake)] == ["interrupted", "done"]
    assert digests(resumed.lake) == digests(whole[1].lake)
    assert chosen(resumed) == chosen(whole[1])
    assert list(verify(resumed.lake)) == []
    assert not [p for p in resumed.lake.scratch.iterdir() if f"~{os.getpid()}." not in p.name], "dead processes' files"
    assert all("~" not in str(path) for path in resumed.lake.root.glob("**/*")), "nothing temporary is in the store"


def test_nothing_is_computed_again(whole, resumed):
    again = tamis.run(on_store(whole[0], str(resumed.lake.root)), "small")
    assert again.record.computed == 0
    assert (again.lake.run(again.id) / "log.jsonl").read_text().count('"event": "stage"') == len(again.record.stages)


def test_two_runs_at_once_do_not_harm_each_other(bucket, whole):
    lake = f"{bucket()}/both"
    config = on_store(whole[0], lake)
    processes = [start(config) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    both = Lake.open(lake)
    assert [r.status for r in load_runs(both)] == ["done", "done"]
    assert digests(both) == digests(whole[1].lake)
    assert list(verify(both)) == []
    query = "select count(*), count(distinct run) from selections where kept"
    kept = len(chosen(whole[1]))
    assert tamis.sql(both, query).fetchall() == [(2 * kept, 2)], "the catalogue that is last knows both runs"


def test_every_command_that_looks_works_on_the_store(whole, resumed, tmp_path):
    config, lake = on_store(whole[0], str(resumed.lake.root)), str(resumed.lake.root)
    doc_id = chosen(resumed)[0]
    told = tamis.explain(lake, doc_id)
    assert told["runs"][0]["steps"][-1]["kept"]

    def answer(*words):
        done = subprocess.run(command(*words), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert answer("sql", "select count(*) as n from documents", "--lake", lake, "--format", "csv") == "n\n200\n"
    assert resumed.id in answer("status", "--lake", lake)
    out = tmp_path / "out"
    answer("export", resumed.id, "-c", config, "--format", "parquet", "-o", out, "-q")
    assert sorted(pl.read_parquet(out / "*.parquet")["id"]) == chosen(resumed)
    fewer = tamis.run(config, "small", overrides=[f"{BUDGET}=10%"])
    compared = tamis.compare(lake, [resumed.id, fewer.id])
    assert [one["run"] for one in compared["choices"]] == [resumed.id, fewer.id]


def test_damage_in_the_store_is_named_and_made_again(whole, resumed):
    config = on_store(whole[0], str(resumed.lake.root))
    path = sorted((resumed.lake.root / "scores").glob("*/*.parquet"))[0]
    put(str(path), path.read_bytes()[:-40])
    assert [d.file for d in verify(resumed.lake)] == [str(path)]
    path.unlink()
    again = tamis.run(config, "small", overrides=[f"{BUDGET}=15%"])
    assert stages(again)["score like_code"][0] == 1
    assert list(verify(resumed.lake)) == []


def test_a_lake_on_the_store_is_repaired_or_left_as_it_was(whole, resumed):
    root, loaded = resumed.lake.root, load_config(on_store(whole[0], str(resumed.lake.root)))
    patterns = ("selections/*/*.parquet", "states/*/state.safetensors", "corpora/web/shards/*.parquet")
    before = digests(resumed.lake)
    paths = [sorted(root.glob(pattern))[0] for pattern in patterns]
    cut = {str(path): path.read_bytes()[:-40] for path in paths}
    for path, content in cut.items():
        put(path, content)
    raw = whole[0].parent / "raw"
    raw.rename(whole[0].parent / "elsewhere")
    done = repair(Lake.open(str(root)))  # where the raw files are is not known
    assert done.exit_code == 3 and done.removed == [] and set(map(str, paths)) <= {d.file for d in done.left}
    assert {str(path): path.read_bytes() for path in paths} == cut
    assert str(paths[0].relative_to(root)) in done.put_back
    (whole[0].parent / "elsewhere").rename(raw)
    done = repair(Lake.open(str(root)), loaded)
    assert done.exit_code == 0 and done.put_back == [] and list(verify(resumed.lake)) == []
    assert digests(resumed.lake) == before


def left(url, *, parts):
    """Leave a put in parts unfinished."""
    path = place(url)
    bucket, key, _ = path.fs.split_path(path.path)
    upload = path.fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    for number in range(1, parts + 1):
        path.fs.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 500)


@pytest.fixture(scope="module")
def grown(bucket, tmp_path_factory):
    """Return a case on the store, and three runs of it, of which the last saw one more file."""
    folder = tmp_path_factory.mktemp("grown")
    steps = [*STEPS[:2], {**STEPS[2], "refit": "frozen"}]
    config = make_case(folder, n=80, files=2, lake=f"{bucket()}/grown", steps=steps)
    runs = [tamis.run(config, "small", overrides=["seed=2"]), tamis.run(config, "small", overrides=[f"{BUDGET}=10%"])]
    write_jsonl(folder / "raw" / "part-9.jsonl", documents(30, seed=3))
    return config, [*runs, tamis.run(config, "small")]


def test_a_frozen_fit_a_diff_a_page_and_a_look_at_every_byte(grown):
    config, runs = grown
    lake, last = runs[0].lake, runs[-1]
    fitted = {name: count for name, count in stages(last).items() if name.startswith(("summarise", "fit"))}
    assert sum(computed for computed, _ in fitted.values()) == 0, fitted
    found = tamis.diff(lake, last.id)
    assert found["previous"] == runs[1].id and not found.get("unchanged")
    assert found["documents"]["now"] == len(chosen(last))
    assert last.record.files["web"]["new"] == 1
    assert "report" in last.report.name and b"part-9.jsonl" in last.report.read_bytes()
    again = tamis.run(config, "small", rehash=True)
    assert again.record.computed == 0 and again.record.inputs["web"]["digested"] == 3


def test_a_lake_on_the_store_is_cleaned(grown, monkeypatch):
    config, runs = grown
    lake, last = runs[0].lake, tamis.run(config, "small")
    rows = tamis.sql(lake, "select * from selections where run = $1 order by all", [last.id]).fetchall()
    left(f"{lake.root}/catalog.duckdb", parts=2)
    with monkeypatch.context() as later:
        now = time.time() + 48 * 3600
        later.setattr("time.time", lambda: now)
        assert survey(lake, Keep(runs=1, days=0)).gone == [], "by the clock of the server nothing is an hour old"
    time.sleep(1.1)  # the times of a store are whole seconds
    for path in (lake.root / "mixtures").glob("*/*/*"):
        path.unlink()
    monkeypatch.setattr("tamis.storage.store_calls.REMOVED_AT_ONCE", 7)
    shown = survey(lake, NEWEST)
    kinds = {row["kind"]: row for row in shown.by_kind()}
    assert kinds.keys() >= {"runs", "selections", "snapshots", "states", "scores", "uploads"}
    assert (kinds["uploads"]["bytes"], kinds["uploads"]["artefacts"]) == (1_000, 1)
    done = clean(lake, NEWEST)
    assert [one.path for one in done.gone] == [one.path for one in shown.gone] and runs[0].id in done.dropped
    assert not [one for one in done.gone for file in one.files if (lake.root / file).exists()]
    assert list(verify(lake)) == [] and survey(lake, NEWEST).gone == [] and not lease_of(lake).exists()
    assert tamis.sql(lake, "select * from selections where run = $1 order by all", [last.id]).fetchall() == rows
    assert {run.run for run in load_runs(lake)} == set(done.kept)
    put(f"{lease_of(lake)}", json.dumps({"host": HOST, "pid": 999_999_999}).encode())
    assert connect(lake).sql("select count(*) from runs").fetchall() == [(len(done.kept),)]
    assert tamis.run(config, "small", overrides=["seed=4"]).record.status == "done"
    assert not lease_of(lake).exists(), "the run took away what a killed process had left"


def test_what_a_store_does_not_remove_is_said(bucket, monkeypatch):
    root = place(f"{bucket()}/locked")
    put(f"{root}/a", b"x")
    refused = {"Errors": [{"Key": "locked/a", "Code": "AccessDenied"}]}
    monkeypatch.setattr(root.fs, "call_s3", lambda *_, **__: refused)
    with pytest.raises(StoreError, match=r'"locked/a" and 0 others cannot be removed \(AccessDenied\)'):
        remove_files([root / "a"])


def test_one_process_cleans_a_lake_on_the_store(resumed, monkeypatch):
    lake = resumed.lake
    monkeypatch.setattr("tamis.storage.sweeping.RENEWED", -1)
    with lease(lake) as renew:
        with pytest.raises(LakeError, match="another `tamis clean` or `tamis repair` goes on"), lease(lake):
            pass
        renew()
        renew()
        put(f"{lease_of(lake)}", b'{"host": "elsewhere", "pid": 1}')
        with pytest.raises(LakeError, match="took over"):
            renew()
    assert lease_of(lake).exists(), "it is that of the other one"
    with pytest.raises(LakeError, match="goes on"), lease(lake):
        pass
    assert connect(lake).sql("select count(*) from documents").fetchall() == [(200,)]
    monkeypatch.setattr("tamis.storage.sweeping.SILENT", -1)
    with lease(lake):
        assert json.loads(lease_of(lake).read_bytes())["host"] == HOST, "it was silent for long"
    assert not lease_of(lake).exists()


def test_of_two_who_claim_one_does(bucket):
    path = place(f"{bucket()}/claim")
    first = claim(path, b"first")
    with pytest.raises(FileExistsError):
        claim(path, b"second")
    assert claim(path, b"first") == first, "the answer to its own put was lost, and it was sent again"
    second = claim(path, b"second", first)
    with pytest.raises(FileExistsError):
        claim(path, b"third", first)
    path.unlink()
    with pytest.raises(FileExistsError):
        claim_again(path, b"second", second)
    assert not path.exists()


def test_raw_files_in_the_store(bucket, tmp_path):
    raw = bucket()
    records = documents(300)
    texts = ["".join(json.dumps(r) + "\n" for r in records[i::3]) for i in range(3)]
    put(f"{raw}/raw/a.jsonl", texts[0].encode())
    put(f"{raw}/raw/deep/b.jsonl.zst", zstandard.compress(texts[1].encode()))
    pl.DataFrame([json.loads(line) for line in texts[2].splitlines()]).write_parquet(tmp_path / "c.parquet")
    put(f"{raw}/raw/c.parquet", (tmp_path / "c.parquet").read_bytes())
    put(f"{raw}/code.jsonl", b"".join(b'{"text": "%s"}\n' % " ".join(CODE[i:]).encode() for i in range(9)))
    corpora = {"web": {"files": [f"{raw}/raw/**"]}}
    targets = {"code": {"files": [f"{raw}/code.jsonl"]}}
    config = make_case(tmp_path, corpora=corpora, targets=targets)
    first = tamis.run(config, "small")
    assert first.record.counts["documents"] == 300
    files = dict(tamis.sql(first.lake, "select file, sha256 from files where corpus = 'web'").fetchall())
    assert sorted(files) == [f"{raw}/raw/a.jsonl", f"{raw}/raw/c.parquet", f"{raw}/raw/deep/b.jsonl.zst"]
    again = tamis.run(config, "small")
    assert again.record.computed == 0, "an unchanged ETag is trusted"
    put(f"{raw}/raw/a.jsonl", texts[0].encode() + b'{"id": "new", "text": "one more"}\n')
    more = tamis.run(config, "small")
    assert (more.record.counts["documents"], stages(more)["ingest web"]) == (301, (1, 2))
    put(f"{raw}/raw/a.jsonl", texts[0].encode() + b'{"id": "new", "text": "one more"}\n')
    touched = tamis.run(config, "small")
    assert stages(touched)["ingest web"] == (0, 3), "written again with the same bytes: digested, not read"


def test_a_file_that_changes_while_it_is_read_is_noticed(bucket, tmp_path):
    raw = bucket()
    line = b'{"text": "%s"}\n' % (b"word " * 2_000)
    put(f"{raw}/a.jsonl", line * 3_000)
    (file,) = list_inputs([f"{raw}/*.jsonl"], tmp_path)
    items = read_records(file, ReadOptions(batch_bytes=1 << 20))
    next(items)
    put(f"{raw}/a.jsonl", line * 2)
    assert list(items)[-1].reason.startswith("changed while being read")
    (file,) = list_inputs([f"{raw}/*.jsonl"], tmp_path)
    put(f"{raw}/a.jsonl", line[:-1] + b" ")
    (last,) = read_records(file, ReadOptions())
    assert last.reason.startswith("changed while being read")


def test_one_of_two_makers_makes_the_lake(bucket, tmp_path):
    lake = place(f"{bucket()}/lake")
    (tmp_path / "marker").write_text('{"format": 1}')
    (lake / "lake.json").put(tmp_path / "marker", create=True)
    with pytest.raises(FileExistsError):
        (lake / "lake.json").put(tmp_path / "marker", create=True)
    assert Lake.open(lake, create=True).root == lake
    put(f"{lake}2/other.txt", b"x")
    with pytest.raises(LakeError, match=r"is not empty and has no lake\.json"):
        Lake.open(f"{lake}2", create=True)


def test_a_copy_on_this_machine_follows_the_object_and_is_bounded(bucket, monkeypatch):
    store = bucket()
    put(f"{store}/a", b"old")
    first = local(place(f"{store}/a"))
    assert (first.read_bytes(), local(place(f"{store}/a"))) == (b"old", first)
    put(f"{store}/a", b"new")
    assert local(place(f"{store}/a")).read_bytes() == b"new"
    monkeypatch.setenv("TAMIS_CACHE_BYTES", "10")
    put(f"{store}/b", b"0123456789")
    assert local(place(f"{store}/b")).read_bytes() == b"0123456789"
    assert not first.exists()


def test_a_large_file_goes_up_in_parts(bucket, tmp_path):
    data = os.urandom(18 << 20)
    (tmp_path / "large").write_bytes(data)
    large = place(f"{bucket()}/large")
    large.put(tmp_path / "large")
    assert large.read_bytes() == data
    with large.open("rb") as file:
        assert file.read() == data


def test_threads_that_share_an_open_file_do_not_move_one_another(bucket):
    store = bucket()
    put(f"{store}/a", b"0123456789")
    with place(f"{store}/a").published() as file:
        file.seek(4)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(lambda: (file.seek(8), file.read(9))).result() == (8, b"89")
        assert (file.read(3), file.tell()) == (b"456", 7)


def test_the_store_is_read_only_for_sql(resumed):
    with pytest.raises(Exception, match="only runs write to"):
        connect(resumed.lake).execute(f"copy (select 1) to '{resumed.lake.root}/x.csv'")


def test_a_store_that_refuses_is_named_with_what_to_do(bucket, tmp_path):
    with pytest.raises(StoreError, match=r'"s3://tamis-none/lake/lake.json" is in a bucket that is not there'):
        Lake.open("s3://tamis-none/lake", create=True)
    with pytest.raises(StoreError, match=r"s3://tamis-none/raw.*make the bucket"):
        list_inputs(["s3://tamis-none/raw/*.jsonl"], tmp_path)


def test_a_server_that_is_not_there_is_given_up(tmp_path):
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"}
    environment |= {"AWS_SECRET_ACCESS_KEY": "y", "TMPDIR": str(tmp_path)}
    looked = command("status", "--lake", "s3://bucket/lake")
    done = subprocess.run(looked, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert '"s3://bucket/lake/lake.json" cannot be reached' in done.stderr
    assert "Traceback" not in done.stderr
    bare = {k: v for k, v in environment.items() if "ACCESS_KEY" not in k} | {"AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(looked, env=bare, capture_output=True, text=True)
    assert "needs credentials" in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


@pytest.mark.slow  # make test-slow: half a minute
def test_a_mixture_of_tokens_is_that_of_a_folder(bucket, tmp_path):
    forms = ("tokens", "megatron")
    here = tamis.run(token_case(tmp_path / "here", forms=forms), "small")
    there = tamis.run(token_case(tmp_path / "there", forms=forms, lake=f"{bucket()}/forms"), "small")
    assert digests(there.lake) == digests(here.lake)
    folder = next(o for o in there.outputs if any(o.glob("tokens-*.bin")))
    assert tamis.locate(str(folder), [0, 99]).equals(tamis.locate(here.outputs[0], [0, 99]))
    first = next(iter(tamis.torch_dataset(str(folder), 16, seed=1)))
    assert first["input_ids"].equal(next(iter(tamis.torch_dataset(here.outputs[0], 16, seed=1)))["input_ids"])


@pytest.mark.slow  # make test-slow: a minute
def test_a_model_that_is_trained_on_the_store_is_that_of_a_folder(bucket, tmp_path):
    steps = [
        {"name": "models", "train": "prior"},
        {"name": "low", "select": "perplexity", "with": {"losses": "lm"}, "cut": {"budget": {"tokens": "20%"}}},
    ]
    more = {"models": {"prior": {"size": "tiny", "budget": {"tokens": "2k"}}}, "steps": steps}
    more["features"] = {"lm": {"use": "losses", "model": "prior"}}
    here = tamis.run(make_case(tmp_path / "here", n=200, **more), "small")
    there = tamis.run(make_case(tmp_path / "there", n=200, lake=f"{bucket()}/models", **more), "small")
    assert there.record.models[0]["digest"] == here.record.models[0]["digest"]
    assert chosen(there) == chosen(here)
    assert list(verify(there.lake)) == []
