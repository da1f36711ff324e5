"""The cut over 10^6, 10^7 and 10^8 scored documents: time, peak memory, and the same choice as a full sort.

    python tests/benchmarks/global_cut.py [--rows 1e6 1e7 1e8] [--folder DIR] [--cases top ties gumbel groups]

For each size it writes a lake as a flow does: scores, tokens, ids and sources in Parquet (zstd), shards of 100,000
documents. Every cut is made by the code that a flow runs (`pipelines/cut_inputs.Streams`, the selector's `select`) in a
process of its own, so its peak is of all that it holds; the full sorts, by NumPy and for `top` by Polars too, are
others. The chosen sets are compared by a digest of every document's bit. 10^8 documents take 3 GB of DIR, removed
afterwards. `--step` adds the rest of a select step: ranks, verdicts, and the numbers that say how far to trust them.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from side_by_side import report
from tamis.pipelines.config import Config
from tamis.pipelines.cut_inputs import Streams, resolve_rule
from tamis.pipelines.engine import Threads
from tamis.pipelines.measuring import Reader, tokens_column
from tamis.pipelines.plugins import make_tokens
from tamis.pipelines.runs import Stage, Unrecorded
from tamis.pipelines.scoring import Scored
from tamis.pipelines.selecting import _cut as cut_step
from tamis.pipelines.step_entries import CutEntry, SelectStep
from tamis.pipelines.work import Work
from tamis.selectors.cut_kernels import gumbel_keys
from tamis.selectors.random_baseline import Random
from tamis.storage.feature_store import publish_part
from tamis.storage.lake import Lake
from tamis.storage.publish import PARQUET
from tamis.storage.shards import Shard
from tamis.storage.survivors import Survivors, mask_digest

A_SHARD = 100_000
WORKERS = 2
SHARES = {"books": 0.5, "code": 0.3, "web": 0.15}
SOURCES = [*SHARES, "forum"]
CASES = {  # name: (column of scores, cut)
    "top": ("distinct", {"by": "top"}),
    "ties": ("tied", {"by": "top"}),
    "gumbel": ("distinct", {"by": "gumbel", "temperature": 0.5}),
    "groups": ("tied", {"by": "top", "per": "source", "shares": SHARES}),
}


def hashed(x, salt):
    """Return mix64 of numbers: keys and scores that are a function of the row alone."""
    x = x.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def shard_of(lake, number):
    return Shard(f"{number:08d}", A_SHARD, A_SHARD * 1000, (), lake.shard("pool", f"{number:08d}"))


def make(folder, n):
    """Write the lake: its documents without text, tokens, and two columns of scores."""
    lake = Lake.open(folder / "lake", create=True)
    work = of_lake(lake)
    for number in range(n // A_SHARD):
        shard, row = shard_of(lake, number), np.arange(A_SHARD)
        every = row + number * A_SHARD
        uniform = (hashed(every, 1) >> np.uint64(11)) * 2.0**-53
        tied = np.floor(uniform * 1000) / 1000
        tied[hashed(every, 2) % np.uint64(100) == 0] = np.nan
        ids = pc.binary_join_element_wise("doc", pc.utf8_lpad(pc.cast(pa.array(every), pa.string()), 12, "0"), "-")
        which = pa.array((hashed(every, 3) % np.uint64(len(SOURCES))).astype(np.int8))
        document = {
            "doc_id": ids, "doc_key": hashed(every, 5), "n_bytes": np.full(A_SHARD, 1000),
            "source": pa.DictionaryArray.from_arrays(which, SOURCES).dictionary_decode(),
        }  # fmt: skip
        shard.path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(document), shard.path, **PARQUET, use_dictionary=["source"])
        n_tokens = 1 + (hashed(every, 4) % np.uint64(2000)).astype(np.int64)
        publish_part(lake, tokens_column(work).key, shard, row, pa.table({"n_tokens": n_tokens}))
        for name, score in (("distinct", uniform), ("tied", tied)):
            table = {"row": row, "doc_key": hashed(every, 5), "score": score}
            lake.publish_table(scores_of(lake, name, shard), pa.table(table))


def scores_of(lake, name, shard):
    """Return the file of a shard's scores: it is named by the rows that were scored, which are all."""
    return lake.scores(name) / f"{mask_digest(shard, np.ones(shard.rows, np.bool_))}.parquet"


def of_lake(lake):
    tokens = make_tokens("words", lake.root)
    return Work(lake, Config(), lake.root, {}, tokens, Threads(WORKERS), Unrecorded())


def budget(n):
    """Return a fifth of the tokens that are expected: a multiple of 100, so that shares of it are whole."""
    return n * 2 * 100


def scored_step(folder, case, n):
    """Return a step whose scores are there, and its work."""
    lake, (column, entry) = Lake.open(folder / "lake"), CASES[case]
    shards = tuple(shard_of(lake, number) for number in range(n // A_SHARD))
    survivors = Survivors("pool", shards, lambda shard: np.ones(shard.rows, np.bool_))
    recipe = {"selector": "random"}
    scored = Scored(column, recipe, Random(), None, Reader(lake, survivors, ()), lake.scores(column))
    return of_lake(lake), scored, CutEntry.model_validate({**entry, "budget": {"tokens": budget(n)}})


def cut(folder, case, n):
    """Cut as a flow does; return the digest of the choice and what it took."""
    work, scored, step = scored_step(folder, case, n)
    survivors, streams, passes, before = scored.reader.survivors, Streams(work, step, scored), [], resident("VmHWM")

    def parts(name):
        stream = streams.parts(name)
        return lambda: passes.append(1) or stream()

    begin = time.perf_counter()
    rule, _ = resolve_rule(work, step, survivors, survivors)
    found = scored.selector.select(parts, None, rule, work.draw("step")).cuts["score"]
    seconds, digest = time.perf_counter() - begin, hashlib.blake2b(digest_size=16)
    for part in streams.parts("score")():
        digest.update(np.packbits(found.kept(part)).tobytes())
    return {
        "digest": digest.hexdigest(), "kept": found.n_kept, "weight": found.weight_kept, "seconds": seconds,
        "seconds_with_the_choice": time.perf_counter() - begin, "passes": len(passes), "mb_before": before,
    }  # fmt: skip


def whole_step(folder, case, n):
    """Do all that a select step does once its scores are there."""
    work, scored, entry = scored_step(folder, case, n)
    step = SelectStep(name="step", select="random", cut=entry)
    begin, before = time.perf_counter(), resident("VmHWM")
    manifest = cut_step(work, step, scored, scored.reader.survivors, None, f"of {n}", {}, Stage("cut"))
    return {"digest": "", "kept": manifest["kept"], "weight": manifest["tokens_kept"], "mb_before": before,
            "seconds": time.perf_counter() - begin}  # fmt: skip


def columns(folder, case, n):
    """Return score, key, tokens and source of all documents, read from the lake."""
    lake, column = Lake.open(folder / "lake"), CASES[case][0]
    tokens = tokens_column(of_lake(lake)).key
    score, key, weight, source = np.empty(n), np.empty(n, np.uint64), np.empty(n, np.int64), np.empty(n, np.int8)
    for number in range(n // A_SHARD):
        shard, at = shard_of(lake, number), slice(number * A_SHARD, (number + 1) * A_SHARD)
        table = pq.read_table(scores_of(lake, column, shard))
        score[at], key[at] = table["score"], table["doc_key"]
        weight[at] = pq.read_table(next((lake.feature(tokens) / shard.digest).iterdir()))["n_tokens"]
        if case == "groups":
            source[at] = pc.index_in(pq.read_table(shard.path, columns=["source"])["source"], pa.array(SOURCES))
    return score, key, weight, source


def full_sort(folder, case, n):
    """Choose by sorting everything in memory; ids ascend with the rows, so a stable sort breaks ties by them."""
    score, key, weight, source = columns(folder, case, n)
    begin, kept = time.perf_counter(), np.zeros(n, np.bool_)
    if CASES[case][1]["by"] == "gumbel":
        draw = of_lake(Lake.open(folder / "lake")).draw("step")
        score = gumbel_keys(score, key, np.uint64(draw("cut")), CASES[case][1]["temperature"])
    del key
    quotas = {code: budget(n) * round(SHARES[name] * 100) // 100 for code, name in enumerate(SHARES)}
    for code, quota in quotas.items() if case == "groups" else [(None, budget(n))]:
        mine = np.arange(n) if code is None else np.flatnonzero(source == code)
        mine = mine[np.argsort(-score[mine], kind="stable")]
        kept[mine[: np.searchsorted(np.cumsum(weight[mine]), quota, side="right")]] = True
    return chosen(kept, weight, begin)


def polars_sort(folder, case, n):
    """Choose as `full_sort` does, by Polars."""
    import polars as pl

    score, _, weight, _ = columns(folder, case, n)
    begin = time.perf_counter()
    table = pl.LazyFrame({"score": score, "weight": weight}).with_row_index("row")
    ordered = table.sort("score", descending=True, maintain_order=True).with_columns(pl.col("weight").cum_sum())
    rows = ordered.filter(pl.col("weight") <= budget(n)).select("row").collect()["row"].to_numpy()
    kept = np.zeros(n, np.bool_)
    kept[rows] = True
    return chosen(kept, weight, begin)


def chosen(kept, weight, begin):
    digest = hashlib.blake2b(np.packbits(kept.reshape(-1, A_SHARD), axis=1).tobytes(), digest_size=16).hexdigest()
    return {"digest": digest, "kept": int(kept.sum()), "weight": int(weight[kept].sum()),
            "seconds": time.perf_counter() - begin}  # fmt: skip


def resident(name):
    return next(int(s.split()[1]) / 1024 for s in Path("/proc/self/status").read_text().splitlines() if name in s)


WAYS = {
    "make": lambda folder, _, n: make(folder, n) or {},
    "cut": cut,
    "step": whole_step,
    "sort": full_sort,
    "polars": polars_sort,
}


def alone(way, folder, case, n):
    """Do something in a process of its own; return what it found, its peak memory and the time of the whole process."""
    begin = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), "--cases", case, "--rows", str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout) | {"process_s": time.perf_counter() - begin}


def compare(folder, case, n, with_step):
    """Cut and sort; return a row of the table. Raises AssertionError where the choices differ."""
    mine = alone("cut", folder, case, n)
    step = alone("step", folder, case, n) if with_step else {}
    peers = {way: alone(way, folder, case, n) for way in (("sort", "polars") if case == "top" else ("sort",))}
    for way, peer in peers.items():
        differ = [name for name in ("digest", "kept", "weight") if peer[name] != mine[name]]
        assert not differ, f"{case} over {n:,}: {way} chose others: {mine} {peer}"
    row = {
        "rows": n, "case": case, "kept": mine["kept"], "digest": mine["digest"][:12], "passes": mine["passes"],
        "cut s": mine["seconds"], "with the choice s": mine["seconds_with_the_choice"],
        "peak MB": mine["peak_mb"], "of it before MB": mine["mb_before"],
    }  # fmt: skip
    for name, peer in (("NumPy", peers["sort"]), ("Polars", peers.get("polars", {}))):
        row |= {f"{name} peak MB": peer.get("peak_mb"), f"{name} s": peer.get("process_s")}
        row[f"ours / {name}"] = mine["process_s"] / peer["process_s"] if peer else None
    row |= {"step peak MB": step.get("peak_mb"), "step s": step.get("seconds")}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--step", action="store_true")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(n) // A_SHARD * A_SHARD for n in options.rows]
    if options.way:
        found = WAYS[options.way](options.folder, options.cases[0], sizes[0])
        print(json.dumps(found | {"peak_mb": resident("VmHWM")}))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for n in sizes:
            folder = Path(scratch) / str(n)
            folder.mkdir()
            alone("make", folder, options.cases[0], n)
            rows += [compare(folder, case, n, options.step) for case in options.cases]
            shutil.rmtree(folder)
    report("global_cut", rows)


if __name__ == "__main__":
    main()
