"""Bounded fuzzing of everything that reads what somebody else wrote: bytes are mutated, invariants must hold.

    PYTHONPATH=PARENT python tests/fuzzing.py --minutes 10 [--only jsonl,parquet] [--seed 1]

Each target runs in a child with a limit of memory and an alarm for each input, so that a crash of a C library or a hang
is a finding too; the input lies in a file before it is tried. Findings go to `build/fuzzed/<target>/`; those that were
mended stay in `tests/data/fuzzed/<target>/`, which `tests/test_fuzzed.py` tries again.
"""

# ruff: noqa: E501, T201  (lists of seeds; a program that prints)

import argparse
import contextlib
import copy
import gzip
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from small_flow import make_case
from tamis.features.text_stats import TextStats
from tamis.pipelines.loading import load_config
from tamis.pipelines.pure_sql import connect
from tamis.pipelines.rules import compile_rules, first_failing
from tamis.pipelines.runs import load_runs
from tamis.storage.catalog import fill_catalog
from tamis.storage.errors import ConfigError, InputError, LakeError
from tamis.storage.external_scores import ScoreFiles
from tamis.storage.id_list import ID_LIST, read_id_list, with_recipe
from tamis.storage.inputs import ReadOptions, list_inputs
from tamis.storage.lake import Lake
from tamis.storage.readers import BadRecord, read_records
from tamis.storage.schema import RECORD
from tamis.storage.state import load_state
from tamis.storage.verify import verify

FOUND, KEPT = Path(__file__).parents[1] / "build" / "fuzzed", Path(__file__).parent / "data" / "fuzzed"
SECONDS_AN_INPUT, BYTES_MORE = 20, 3 << 30
OPTIONS = ReadOptions(max_record_bytes=1 << 20, batch_bytes=1 << 16, max_unpacked_bytes=64 << 20)
LINES = b"".join(
    json.dumps(r).encode() + b"\n"
    for r in [{"id": "a", "text": "x"}, {"id": 7, "text": "\ud800é", "meta": {"a": [1, {"b": None}]}, "source": "s"},
              {"text": "", "n": 1e300}, {"id": None, "text": "a\nb\u2028", "source": 3}, [1], {"id": "b"}]
)  # fmt: skip


# --- inputs -----------------------------------------------------------------------------------------------------------


def reference(*suffixes):
    """Return the contents of damaged files, where the reference data are there."""
    root = os.environ.get("TAMIS_REFERENCE", Path(__file__).resolve().parents[2] / "shared")
    folder = Path(root) / "data" / "bad"
    found = sorted(p for s in suffixes for p in folder.glob(f"*{s}") if p.is_file()) if folder.exists() else []
    return [p.read_bytes() for p in found if p.stat().st_size < 1 << 16]


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@cache
def parquets():
    texts = [f"text {i} " * (i % 7) for i in range(60)]
    plain = pa.table({"id": [str(i) for i in range(60)], "text": texts, "source": ["a", None] * 30})
    nested = plain.append_column("meta", pa.array([{"a": [i], "b": {"c": "x"}} for i in range(60)]))
    ways = [dict(compression=c) for c in ("none", "snappy", "gzip", "zstd", "brotli", "lz4")]
    ways += [
        dict(use_dictionary=False, column_encoding={"text": e}) for e in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
    ]
    ways += [dict(data_page_version="2.0"), dict(row_group_size=10), dict(write_page_index=True)]
    return [parquet(t, **w) for t in (plain, nested) for w in ways] + reference(".parquet")


def texts_of(values):
    return [v.encode() for v in values]


@cache
def yamls():
    with tempfile.TemporaryDirectory() as folder:
        small = make_case(Path(folder), n=4).read_bytes()
    hostile = [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "a: &a {b: *a}", "<<: [{a: 1}, {b: 2}]", "!!python/object:os.system x",
        "? {a: 1}\n: 2", "a: 0x_f", "a: 1:2:3", "a: 2001-99-99", "a: " + "9" * 5000, "[" * 60, "a: !!binary x", "---\n---", "a: .inf",
        "version: 1\nversion: 1", "%TAG ! x", "a: \"\\ud800\"", "${HOME}: ${X", "a: !!set {x, y}", "a: !!timestamp x", "a: !!int ''",
    ]  # fmt: skip
    return [small, (Path(__file__).parents[1] / "flows.yaml").read_bytes(), *texts_of(hostile)]


@cache
def predicates():
    return texts_of([
        "stats.n_words >= 20 and source = 'web'", "meta.a.b is not null", "meta.\"x y\"::int > 3", "text like '%a%' escape '\\'",
        "regexp_matches(text, '(a+)+$')", "case when stats.n_words between 1 and 2 then true else false end",
        "list_contains(mine.tags, 'x') or mine.quality in (1, 2.5, null)", "length(text) % 7 = 0", "not (source is null)",
        "(select 1) = 1", "read_text('/etc/passwd') = ''", "1 = 1; drop table batch", "text = $$a$$", "current_date > '2020-01-01'",
        "list_filter([1, 2], x -> x > 1)[1] = 2", "text ~ 'a' and text similar to 'b'", "'a' || chr(0) = text", "-- x\ntrue", "/* */ true",
    ])  # fmt: skip


@cache
def lake_folder():
    import tamis

    folder = Path(tempfile.mkdtemp(prefix="tamis-fuzz-"))
    parts = [{"flow": "small", "weight": 1}]
    config = make_case(folder, n=40, files=2, mixtures={"m": {"budget": {"tokens": 200}, "parts": parts}})
    tamis.run(config, "small")
    tamis.mix(config, "m")
    return folder / "lake"


@cache
def manifests():
    root = lake_folder()
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.json") if p.name != "croissant.json")
    return [name.encode() + b"\0" + (root / name).read_bytes() for name in names]


@cache
def states():
    return [p.read_bytes() for p in sorted(lake_folder().glob("states/**/*.safetensors"))]


def mutated(rng, seeds):
    """Return one of the seeds with some bytes changed, put in, taken out, doubled, or joined to another seed."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        at, n = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 4, 8, 64])
        what = rng.randrange(7)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at : at + n] = (
                rng.choice([b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b'"', b"{", b"[", b"\\", b"-", b"'"]) * n
            )
        elif what == 2:
            data[at:at] = rng.randbytes(n)
        elif what == 3:
            del data[at : at + n]
        elif what == 4:
            data[at:at] = data[at : at + n] * rng.choice([1, 2, 50])
        elif what == 5:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other) + 1) :]
        else:
            data[at:] = data[at + n :] + data[at : at + n]
    return bytes(data)


# --- what must hold ---------------------------------------------------------------------------------------------------


def read(folder, name, content):
    """Read a file; return the lines of its documents and its bad records. Batches are whole and of the schema."""
    path = folder / name
    path.write_bytes(content)
    lines, bad = [], []
    for item in read_records(*list_inputs([name], folder), OPTIONS):
        if isinstance(item, BadRecord):
            assert item.reason and item.file == name
            bad.append(item)
            continue
        assert item.schema.equals(RECORD) and item.num_rows
        item.validate(full=True)
        lines += item.column("line").to_pylist()
    assert sum(b.line is None for b in bad) <= 1
    return lines, bad


def jsonl(folder, content):
    """Every line that is not blank is a document or in quarantine, once, and they come in their order."""
    lines, bad = read(folder, "a.jsonl", content)
    seen = lines + [b.line for b in bad]
    assert lines == sorted(lines) and len(set(seen)) == len(seen)
    if (
        not any(b.line is None for b in bad)
        and content[:4] not in PACKED
        and not content.startswith((b"\x1f\x8b", b"PAR1"))
    ):
        rows = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        wanted = {n for n, row in enumerate(rows, 1) if row.strip()}
        assert wanted - set(seen) == set(), "a line is lost"


PACKED = {b"\x28\xb5\x2f\xfd", *(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))}


def packed(folder, content):
    """What is unpacked is a prefix of what would have come of an undamaged file, or says that it may not be."""
    lines, _ = read(folder, "a.jsonl.gz", content)
    assert lines == sorted(lines) and len(set(lines)) == len(lines)


def text(folder, content):
    """A file is one document, or one bad record, or empty."""
    lines, bad = read(folder, "a.txt", content)
    if not content.startswith(b"PAR1"):
        assert len(lines) + len(bad) <= 1 and (lines or bad or len(content) < 64)


def of_parquet(folder, content):
    """Rows come in their order, each at most once, and bad ones begin where they say."""
    lines, bad = read(folder, "a.parquet", content)
    assert lines == sorted(set(lines))
    assert not set(lines) & {b.line for b in bad}
    assert lines or bad or not content or pq.ParquetFile(io.BytesIO(content)).metadata.num_rows == 0


def config(folder, content):
    path = folder / "flows.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_config(path)
    if b"=" in content and len(content) < 300:
        with contextlib.suppress(ConfigError):
            small = folder / "small.yaml"
            small.write_bytes(yamls()[0])
            load_config(small, [content.decode(errors="replace")])


@cache
def rows():
    schema = {
        "stats": TextStats().columns,
        "mine": pa.schema([("quality", pa.float64()), ("tags", pa.list_(pa.string()))]),
    }
    made = {"row": pa.array(range(4), pa.int64()), "text": pa.array(["a", "", "é" * 50, "a" * 500], pa.large_string()),
            "source": pa.array(["web", None, "x", "y"]), "n_bytes": pa.array([1, 0, 100, 500], pa.int64()),
            "doc_id": pa.array(list("abcd")), "meta": pa.array(['{"a": {"b": 1}}', None, "{}", '{"x y": "3"}']),
            "repaired": pa.array([False] * 4), "file": pa.array(["f"] * 4), "line": pa.array([1, 2, 3, 4], pa.int64())}  # fmt: skip
    for alias, columns in schema.items():
        made |= {f"{alias}.{f.name}": pa.nulls(4, f.type) for f in columns}
    return schema, pa.RecordBatch.from_pydict(made)


def predicate(folder, content):
    """An expression is refused, or runs: over any documents, without touching a file."""
    schema, batch = rows()
    try:
        rules = compile_rules({"rule": content.decode(errors="replace")}, schema)
    except ConfigError:
        return
    with connect() as connection, contextlib.suppress(ConfigError):
        first_failing(rules, batch, connection)


def manifest(folder, content):
    """A lake with a damaged manifest is read, or a LakeError says what is damaged."""
    name, _, body = content.partition(b"\0")
    path = lake_folder() / name.decode(errors="replace").replace("\0", "")
    if name not in {m.partition(b"\0")[0] for m in manifests()}:
        return
    whole = path.read_bytes()
    path.write_bytes(body)
    try:
        with contextlib.suppress(LakeError):
            lake = Lake.open(lake_folder())
            for damage in verify(lake):
                assert damage.file and damage.problem and damage.repair
            for _ in load_runs(lake):
                pass
        with contextlib.suppress(LakeError):
            import duckdb

            lake = Lake.open(lake_folder())
            with duckdb.connect() as connection:
                fill_catalog(connection, lake)
    finally:
        path.write_bytes(whole)


def restructured(rng, seeds):
    """Return a manifest with one value taken out or replaced by one of another kind."""
    name, _, body = rng.choice(seeds).partition(b"\0")
    value = json.loads(body)
    places = list(_places(value))
    *way, last = rng.choice(places) if len(places) > 1 else (None,)
    if last is None:
        return name + b"\0" + json.dumps(rng.choice(VALUES)).encode()
    inner = value = copy.deepcopy(value)
    for step in way:
        inner = inner[step]
    if rng.random() < 0.5:
        del inner[last]
    else:
        inner[last] = rng.choice(VALUES)
    return name + b"\0" + json.dumps(value).encode()


VALUES = [None, 0, -1, 10**30, 1.5, "", "../../../etc/passwd", "/dev/zero", [], {}, [[]], True, "x", {"a": 1}]


def _places(value, way=()):
    if way:
        yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places(one, (*way, key))


def state(folder, content):
    from tamis.selectors.dsir import DsirState

    path = folder / "state.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(LakeError):
        load_state(path, DsirState)


def id_list(folder, content):
    path = folder / "ids.parquet"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read_id_list(path)


@cache
def id_lists():
    table = pa.table([pa.array(["a", "b"]), pa.array([bytes(16)] * 2, pa.binary(16)), pa.array(["s", None]),
                      pa.array([1, 2], pa.int64()), pa.array([0.5, None], pa.float64())], schema=ID_LIST)  # fmt: skip
    return [parquet(table.cast(with_recipe({"mixture": "m"})), compression=c) for c in ("none", "zstd")]


def scores(folder, content):
    path = (
        folder / f"scores-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    )  # what is known of a file is kept by name
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        ScoreFiles((str(path),), "id", None).read()
    path.unlink()


@cache
def score_files():
    table = pa.table(
        {"id": ["a", "b", "c"], "quality": [0.1, 0.2, None], "label": pa.array(["x", "y", "x"]).dictionary_encode()}
    )
    return [parquet(table, compression=c) for c in ("none", "snappy")] + [
        parquet(table.set_column(0, "id", pa.array([1, 2, 3])))
    ]


def gzips():
    return [gzip.compress(LINES, mtime=0), gzip.compress(LINES[:40], mtime=0) + gzip.compress(LINES[40:], mtime=0),
            *reference(".gz")]  # fmt: skip


def zstds():
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return [compressor.compress(LINES), compressor.compress(LINES[:40]) + compressor.compress(LINES[40:]),
            b"\x50\x2a\x4d\x18\x04\0\0\0skip" + compressor.compress(bytes(1 << 20)), *reference(".zst")]  # fmt: skip


TARGETS = {
    "jsonl": (jsonl, lambda: [LINES, *reference(".jsonl", ".json")], mutated),
    "text": (text, lambda: [b"a text\n", "é\u2028".encode(), *reference(".txt")], mutated),
    "gzip": (packed, gzips, mutated),
    "zstd": (packed, zstds, mutated),
    "parquet": (of_parquet, parquets, mutated),
    "config": (config, yamls, mutated),
    "predicate": (predicate, predicates, mutated),
    "manifest": (manifest, manifests, restructured),
    "manifest_bytes": (manifest, manifests, mutated),
    "state": (state, states, mutated),
    "id_list": (id_list, id_lists, mutated),
    "scores": (scores, score_files, mutated),
}


# --- runs -------------------------------------------------------------------------------------------------------------


def check(target, content, folder):
    """Try one input. Raises what the target raises."""
    TARGETS[target][0](folder, content)


def generated(target, seed):
    """Yield inputs without end."""
    _, seeds, change = TARGETS[target]
    rng, known = random.Random(f"{target}/{seed}"), seeds()
    while True:
        yield change(rng, known)


def child(target, seed, seconds, trying):
    """Try inputs until the time is over; say how many, and stop at the first finding. The input lies in `trying`."""
    n, folder = 0, Path(tempfile.mkdtemp(prefix="tamis-fuzz-"))
    inputs = generated(target, seed)
    check(target, next(inputs), folder)  # what is imported and compiled is not timed
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES_MORE, size + BYTES_MORE))
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            content = next(inputs)
            trying.write_bytes(content)
            signal.setitimer(signal.ITIMER_REAL, SECONDS_AN_INPUT)
            check(target, content, folder)
            signal.setitimer(signal.ITIMER_REAL, 0)
            n += 1
    except BaseException:
        traceback.print_exc()
        return n, 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        trying.with_name("count").write_text(str(n))
        shutil.rmtree(folder, ignore_errors=True)
    return n, 0


def campaign(target, seconds, seed):
    """Run children of one target one after the other; return inputs tried, and the findings."""
    begin, n, found = time.monotonic(), 0, []
    while (left := seconds - (time.monotonic() - begin)) > 1:
        with tempfile.TemporaryDirectory(prefix="tamis-fuzz-") as folder:
            trying = Path(folder) / "trying"
            command = [sys.executable, __file__, "--child", target, "--seed", str(seed), "--seconds", str(left),
                       "--trying", str(trying)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True)
            count = trying.with_name("count")
            n += int(count.read_text()) if count.exists() else 0
            if done.returncode:
                content = trying.read_bytes() if trying.exists() else b""
                target_folder = FOUND / target
                target_folder.mkdir(parents=True, exist_ok=True)
                name = hashlib.sha256(content).hexdigest()[:12]
                (target_folder / name).write_bytes(content)
                last = (done.stderr.strip().splitlines() or ["?"])[-1][:200]
                said = f"signal {-done.returncode}" if done.returncode < 0 else last
                found.append((str(target_folder / name), said))
                (target_folder / f"{name}.txt").write_text(done.stderr)
        seed += 1
        if len(found) >= 10:
            break
    return n, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", default=",".join(TARGETS))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--child")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--trying", type=Path)
    given = parser.parse_args()
    if given.child:
        n, failed = child(given.child, given.seed, given.seconds, given.trying)
        sys.exit(failed)
    targets = given.only.split(",")
    n_found = 0
    print(f"seed {given.seed}", flush=True)
    for target in targets:
        n, found = campaign(target, given.minutes * 60 / len(targets), given.seed)
        n_found += len(found)
        print(f"{target:15} {n:>9,} inputs   {len(found)} findings", flush=True)
        for path, said in found:
            print(f"    {path}   {said}", flush=True)
    sys.exit(bool(n_found))


if __name__ == "__main__":
    main()
