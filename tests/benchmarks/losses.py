"""Tokens a second of `losses` beside a loop over texts, and beside padded batches of 16 in the order of the file.

    python tests/benchmarks/losses.py DATA [--documents 512] [--slice 256] [--sizes small tiny] [--device cpu] [--train]

DATA has `pool/` and the duplicates' lists. The documents are a sample of the pool by keyed hash; the tokenizer, a
byte-level BPE of 8,192, is trained on them; the models are those of `features/decoder.py` with random weights, whose
losses differ less between precisions than those of trained models. Each way is a process of its own with its model
loaded and as many torch threads; they take turns slice by slice, and a ratio is the median of the slices' own. All of
them tokenize in their time, and predict the same tokens from the same ones: those of the windows of `losses`, or
(`first`) of each text's first window alone, which is what truncation leaves. A flow computes 1,024 documents at a
time, which fills batches better than slices of 256. On a machine that others use, threads inside a batch wait for one
another: OMP_NUM_THREADS=1 gives one thread to each way, and tokens a CPU second are to be compared.

On a GPU all ways are in bf16, and training is measured too. Utilisation is the share of the card's peak that a forward
needs at least: 2 N FLOPs a predicted token, N parameters, and 4 x depth x width for each token that it looks at; three
times that for training. Padding does not count."""

import argparse
import json
import statistics
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
from embeddings import sample
from side_by_side import WORK, Worker, by_slices, report
from tamis.features.byte_bpe import train_tokenizer
from tamis.features.causal_loading import load_causal_model
from tamis.features.causal_model import windows
from tamis.features.decoder import SIZES, build, n_parameters
from tamis.features.packing import Packing
from tamis.features.torch_precision import has_bf16
from tamis.features.training import train
from tamis.features.training_settings import Settings
from tokenizers import Tokenizer

FOLDER = WORK / "losses"
VOCABULARY = 8192
ROWS = 16
CPU_WAYS = ("naive fp32", "padded fp32", "losses fp32", "losses bf16")
GPU_WAYS = ("naive bf16", "padded bf16", "losses bf16")
REQUIRED_SPEED = {"losses fp32": 1.9, "losses bf16": 3.5}
REQUIRED_SHARE = {"base": 0.4}
PEAKS = {"H200": 989.4e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989.4e12, "A100": 312e12}
"""Dense bf16 FLOPs a second, from NVIDIA's data sheets, by what a card's name contains."""


def plain(model, tokenizer, cut, rows):
    """Return what gives losses as a padded batch of transformers does; one row has the mean of its window instead."""
    import torch

    def losses(texts):
        encoded = [tokenizer(texts)["input_ids"]] if rows > 1 else ([tokenizer(text)["input_ids"]] for text in texts)
        every = (window.ids for some in encoded for ids in some for window in cut(ids))
        found = []
        while batch := [ids for _, ids in zip(range(rows), every, strict=False)]:
            found.append(mean(batch[0]) if rows == 1 else nats(batch))
        return np.concatenate(found)

    def mean(ids):
        one = torch.from_numpy(ids)[None].to(model.device)
        return np.full(len(ids) - 1, model(input_ids=one, labels=one).loss.item(), np.float32)

    def nats(batch):
        is_read = np.arange(max(map(len, batch))) < np.array([[len(ids)] for ids in batch])
        ids = np.zeros(is_read.shape, np.int64)
        ids[is_read] = np.concatenate(batch)
        ids, mask = torch.from_numpy(ids).to(model.device), torch.from_numpy(is_read).long().to(model.device)
        target = ids.masked_fill(mask == 0, -100)[:, 1:].flatten()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, target, reduction="none").cpu().numpy()[is_read[:, 1:].ravel()]

    return losses


def scorer(way, folder, device, cut):
    """Return a function from texts to the nats of all their predicted tokens."""
    kind, precision = way.split()
    if kind == "losses":
        model = load_causal_model(folder, device, precision, None, None)
        return lambda texts: model.losses([limited(ids, cut) for ids in model.tokens(texts)])[0]
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    return torch.inference_mode()(plain(model, tokenizer, cut, 1 if kind == "naive" else ROWS))


def cutter(size, texts):
    """Return a function from token ids to their windows: those of `losses`, or the first of them."""
    context = SIZES[size].context
    return lambda ids: windows(np.array(ids, np.int64), 0, context, context)[: None if texts == "whole" else 1]


def limited(ids, cut):
    """Return the tokens that the windows have."""
    return ids[: sum(len(window.ids) - 1 for window in cut(ids)) + 1]


def work(way, size, device, texts):
    """Be a worker of one way."""
    documents = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    losses = scorer(way, FOLDER / size, device, cutter(size, texts))
    losses(documents[:32])
    by_slices(lambda start, stop: losses(documents[start:stop]), FOLDER / f"{way}.npy", **_peak(device))


def _peak(device):
    import torch

    return {} if device == "cpu" else {"peak": lambda: torch.cuda.max_memory_allocated() / 2**20}


def measured(options, ways, size, texts, n_documents):
    """Return a row a way."""
    arguments = (options.data, "--device", options.device, "--sizes", size, "--texts", texts, "--work")
    workers = {way: Worker(__file__, *arguments, way) for way in ways}
    times = {way: [] for way in ways}
    for start in range(0, n_documents, options.slice):
        stop = min(start + options.slice, n_documents)
        for way, worker in workers.items():
            times[way].append(worker.seconds(start, stop))
        print(f"{size}, {texts}: {stop:,}", file=sys.stderr, flush=True)
    seconds, cpu = ({way: [one[i] for one in found] for way, found in times.items()} for i in range(2))
    peaks = {way: worker.peak_mb() for way, worker in workers.items()}
    nats = {way: np.load(FOLDER / f"{way}.npy") for way in ways}
    per_token = flops(size, [len(window.ids) - 1 for window in read_windows(size, texts)])
    naive, padded = ways[:2]
    rows = []
    for way in ways:
        speed = len(nats[way]) / sum(seconds[way])
        row = {"model": size, "texts": texts, "way": way, "tokens/s": speed}
        row["tokens/CPU-s"] = len(nats[way]) / sum(cpu[way])
        row |= {f"x {peer.split()[0]}": ratio(seconds[peer], seconds[way]) for peer in (naive, padded)}
        row |= {"peak MB": peaks[way], "nats a token": float(nats[way].mean(dtype=np.float64))}
        off = float(np.abs(nats[way] - nats[padded]).mean(dtype=np.float64))
        rows.append(row | {"difference": None if way == naive else off} | share(options.device, speed * per_token))
    return rows


def ratio(peer, product):
    """Return how many times faster the product is: the median over the slices."""
    return statistics.median(p / q for p, q in zip(peer, product, strict=True))


def read_windows(size, texts):
    """Yield every window of the sample."""
    tokenizer, cut = Tokenizer.from_file(str(FOLDER / size / "tokenizer.json")), cutter(size, texts)
    documents = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    return chain.from_iterable(cut(one.ids) for one in tokenizer.encode_batch_fast(documents))


def flops(size, lengths):
    """Return what a forward needs a token, of windows of these lengths."""
    shape, n = SIZES[size], np.array(lengths, np.float64)
    attended = float((n * (n + 1) / 2).sum() / n.sum())
    return 2 * n_parameters(build(shape, VOCABULARY, 0)) + 4 * shape.depth * shape.width * attended


def share(device, flops_a_second):
    """Return the utilisation of a card whose peak is known; nothing on a CPU."""
    if device == "cpu":
        return {}
    import torch

    card = torch.cuda.get_device_name(device)
    peak = next((peak for name, peak in PEAKS.items() if name in card), None)
    return {"utilisation": flops_a_second / peak if peak else None}


def trained(options, size):
    """Return a row: tokens a second of training on packed sequences, over all steps but the first of them."""
    shape, on_gpu = SIZES[size], options.device != "cpu"
    tokenizer = Tokenizer.from_file(str(FOLDER / size / "tokenizer.json"))
    documents = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
    ids = [one.ids for one in tokenizer.encode_batch_fast(documents)] * 100
    batch, steps, first = (64, 60, 20) if on_gpu else (8, 6, 1)
    settings = Settings(steps, batch=batch, accumulation=1, precision="bf16" if on_gpu else "auto")
    ends = []
    model = build(shape, VOCABULARY, 0).to(options.device)
    packing = Packing(lambda start: ids[start:], shape.context)
    history = train(model, packing, settings, on_progress=lambda _: ends.append(time.perf_counter()))
    speed = (steps - first) * batch * (shape.context - 1) / (ends[-1] - ends[first - 1])
    row = {"model": size, "texts": "packed", "way": "training", "tokens/s": speed}
    row |= dict.fromkeys(("tokens/CPU-s", "x naive", "x padded"))
    row |= {"peak MB": _peak(options.device).get("peak", lambda: None)(), "nats a token": history.losses[-1]}
    return row | {"difference": None} | share(options.device, 3 * speed * flops(size, [shape.context - 1]))


def prepare(options, sizes):
    """Write the sample, its tokenizer and the models; return how many documents there are."""
    texts = [text for _, text in sample(options.data.resolve(), options.documents)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    tokenizer = train_tokenizer(texts, VOCABULARY)
    for size in sizes:
        build(SIZES[size], VOCABULARY, 0).save_pretrained(FOLDER / size)
        tokenizer.save(str(FOLDER / size / "tokenizer.json"))
    return len(texts)


def shortfalls(rows):
    """Return what is less than required, in words."""
    short = [
        f"{r['way']}, {r['texts']} texts: {r['x padded']:.2f} times padded batches, required {needed}"
        for r in rows
        if r["model"] == "small" and (needed := REQUIRED_SPEED.get(r["way"], 0)) > (r["x padded"] or 0)
    ]
    return short + [
        f"{r['way']} of {r['model']}: {r['utilisation']:.2f} of the card's peak, required {needed}"
        for r in rows
        if r["way"] in ("losses bf16", "training")
        and (needed := REQUIRED_SHARE.get(r["model"], 0)) > (r.get("utilisation") or needed)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--slice", type=int, default=256)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="default: small tiny; on a GPU small base")
    parser.add_argument("--texts", nargs="+", choices=("whole", "first"), default=["whole", "first"])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--train", action="store_true", help="measure training on a CPU too")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    sizes = options.sizes or (["small", "tiny"] if on_cpu else ["small", "base"])
    if options.work:
        work(options.work, *sizes, options.device, *options.texts)
        return 0
    n_documents = prepare(options, sizes)
    ways = GPU_WAYS if not on_cpu else CPU_WAYS if has_bf16() else CPU_WAYS[:-1]
    rows = [
        row for size in sizes for texts in options.texts for row in measured(options, ways, size, texts, n_documents)
    ]
    if options.train or not on_cpu:
        rows += [trained(options, size) for size in sizes]
    short = shortfalls(rows)
    report("losses", rows, documents=n_documents, slice=options.slice, device=options.device, short=short)
    print("\n".join(short) or "all that is required is reached")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
