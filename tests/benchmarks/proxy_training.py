"""What a selection is worth: how many times fewer tokens than a random one a small model needs for the same loss.

    python tests/benchmarks/proxy_training.py DATA [--target math_word] [--fresh] [--seeds 3] [--random-times 20]

Each selector's choice (`quarter.py`) is trained on once, in pieces in an order keyed by the seed, from the weights of
the prior, and every choice for as many tokens as the smallest has. Random documents go on for `--random-times` as many:
those of the quarter, then of the rest of the pool, of which the quarter is a random sample. The learning rate is the
prior's highest, constant after a warm-up that is as long for all. So one training is a whole learning curve, where a
cosine would want one training a point; every loss is higher than with a rate that falls at the end, and the first ones
may be higher than the prior's, whose rate fell.

The loss is that of the target's documents which nothing but the decontamination has seen. The table has each choice's
loss after its last token, how many tokens of random documents bring the same, and the ratio: mean and range over the
seeds; and the other way round, how many of its tokens bring the loss that random documents have in the end. `general`
is the loss of other documents of the pool: what a narrow choice costs. `--fresh` starts from new weights instead of the
prior's, `--rate` changes the learning rate.

Every finished training is a file, and one that goes on has a checkpoint each minute; the same command continues.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from learning_curves import draw_curves, ratios_said, spread, times_fewer
from quarter import PRIOR, TARGETS, chosen, configuration, domain_shares, held_out_texts, pool, run, selectors
from side_by_side import WORK, report
from tamis.features.byte_bpe import END_ID
from tamis.features.causal_loading import read_causal_model
from tamis.features.decoder import SIZES, build
from tamis.features.packing import Packing, Position
from tamis.features.training_settings import Settings
from tamis.pipelines.learning_curves import log_spaced, tokens_to
from tamis.pipelines.proxy_training import train_with_losses
from tamis.pipelines.resuming import Resuming
from tamis.selectors.keyed import stream_key, uniform
from tamis.storage.fingerprint import fingerprint
from tamis.storage.model_files import model_digest
from tamis.storage.publish import publish_bytes, publish_json
from tokenizers import Tokenizer

FOLDER = WORK / "proxy_training"
BASELINE = "random"
COMPARED = ("color_filter", "conditional only", "dsir", "zip_fit")
BATCH, WARMUP = 8, 20
FIRST_STEP, A_DOUBLING = 8, 3
N_GENERAL = 64
ENCODED_AT_ONCE = 2048
PIECE = 1024


class Case:
    """What all trainings for a target share."""

    def __init__(self, data, target, start, rate, random_times):
        config = configuration(data)
        runs = {who: run(config, who, target) for who in selectors(target) if who in (BASELINE, *COMPARED)}
        done = runs["color_filter"]
        (self.prior,) = (Path(m["folder"]) for m in done.record.models if m["name"] == "prior")
        self.target, self.start, self.rate = target, start, rate
        self.context = SIZES[PRIOR["size"]].context
        self.tokenizer = Tokenizer.from_file(str(self.prior / "tokenizer.json"))
        documents = pool(done, data)
        rest = documents.filter(~pl.col("in_quarter"))
        general = rest[keyed(rest, "general", 0)[:N_GENERAL]]
        self.documents = documents.join(general, on="id", how="anti", maintain_order="left")
        self.ids = dict.fromkeys(self.documents["id"])
        self.general = [np.append(END_ID, ids)[: self.context] for ids in self.encoded(general["text"]) if len(ids)]
        held_out = self.encoded(held_out_texts(done, config, target))
        self.held_out = [ids for ids, _ in Packing(lambda first: held_out[first:], self.context)(Position())]
        self.choices = {who: self.documents.join(chosen(runs[who]), on="id", how="semi") for who in COMPARED}
        self.shares = {who: domain_shares(chosen(one), documents, target) for who, one in runs.items()}
        update = BATCH * self.context
        self.sizes = {who: sum(len(ids) + 1 for ids in self.of(choice)) for who, choice in self.choices.items()}
        self.budget = min(self.sizes.values()) // update * update
        self.budgets = {who: self.budget for who in COMPARED} | {BASELINE: self.budget * random_times}

    def encoded(self, texts):
        """Return the token ids of texts."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in found]

    def of(self, documents):
        """Return the token ids of documents, each encoded once."""
        new = [row for row in documents.select("id", "text").iter_rows() if self.ids[row[0]] is None]
        self.ids |= zip((i for i, _ in new), self.encoded(text for _, text in new), strict=True)
        return [self.ids[i] for i in documents["id"]]

    def in_order(self, who, seed):
        """Return the names of the documents that a training sees, and their pieces in its order."""
        documents = self.choices.get(who, self.documents)
        documents = documents[keyed(documents, "order", seed)]
        if who == BASELINE:
            documents = pl.concat([documents.filter("in_quarter"), documents.filter(~pl.col("in_quarter"))])
        found, n_tokens = [], 0
        for part in documents.iter_slices(ENCODED_AT_ONCE):
            found += self.of(part)
            n_tokens += sum(len(ids) + 1 for ids in found[-part.height :])
            if n_tokens >= self.budgets[who]:
                return documents["id"][: len(found)].to_list(), pieces(found, seed)
        raise SystemExit(f"the pool has {n_tokens:,} tokens, not {self.budgets[who]:,}: give fewer --random-times")

    def model(self, seed):
        """Return a model before its training."""
        model = read_causal_model(self.prior, "fp32")
        if self.start == "prior":
            return model
        return build(SIZES[PRIOR["size"]], model.config.vocab_size, seed)

    def settings(self, who):
        """Return settings whose rate is constant after the warm-up, which is as long for every budget."""
        steps = -(-self.budgets[who] // (BATCH * self.context))
        return Settings(
            steps, batch=BATCH, accumulation=1, peak_rate=self.rate, final_share=1.0,
            warmup_share=min(1.0, WARMUP / steps),
        )  # fmt: skip


def keyed(documents, purpose, seed):
    """Return the places of documents in a random order that follows their keys and a seed."""
    keys = documents["key"].to_numpy()
    return np.lexsort((keys, uniform(keys, stream_key(seed, "proxy_training", purpose))))


def pieces(documents, seed):
    """Return the pieces of documents in a random order, or a model would learn from one long document for a while."""
    whole = (np.append(END_ID, ids) for ids in documents)
    found = [ids[start : start + PIECE] for ids in whole for start in range(0, len(ids), PIECE)]
    numbers = uniform(np.arange(len(found), dtype=np.uint64), stream_key(seed, "proxy_training", "pieces"))
    return [found[place] for place in np.argsort(numbers, kind="stable")]


def curve(case, who, seed):
    """Return a training's result, from its file where it was finished; else train, from a checkpoint where one is."""
    names, parts = case.in_order(who, seed)
    settings = case.settings(who)
    recipe = [model_digest(case.prior), case.start, seed, asdict(settings), case.budgets[who], PIECE, names]
    held = [[ids.tolist() for ids in part] for part in (case.held_out, case.general)]
    name = f"{case.target}-{case.start}-{who.replace(' ', '_')}-{seed}-{fingerprint([recipe, held])[:12]}"
    path = FOLDER / f"{name}.json"
    if not path.exists():
        points, seconds = _trained(case, who, seed, settings, parts, FOLDER / "checkpoints" / name)
        found = {"seconds": seconds, "points": points, "documents": len(names), "settings": asdict(settings)}
        publish_json(path, found, FOLDER / "tmp")
        print(f"{name}: loss {points[0][1]:.4f} to {points[-1][1]:.4f} in {seconds:.0f} s", flush=True)
    return json.loads(path.read_text())


def _trained(case, who, seed, settings, parts, folder):
    """Return (tokens, loss, general loss) at every point of the grid, and how long it took."""
    update, budget = BATCH * case.context, case.budgets[who]
    grid = {*log_spaced(FIRST_STEP, settings.steps, A_DOUBLING), case.budget // update}
    run = Resuming(folder, FOLDER / "tmp")
    sequences = Packing(lambda first: parts[first:], case.context, budget, begin=())
    held = (case.held_out, case.general)
    points = train_with_losses(
        case.model(seed), sequences, settings, held, grid, update, run, told(folder.name, settings)
    )
    shutil.rmtree(folder, ignore_errors=True)
    return [[min(tokens, budget), *losses] for tokens, *losses in points], run.seconds


def told(name, settings):
    """Return what says now and then how far a training is."""

    def after(step, loss):
        if step % 200 == 0:
            print(f"{name}: step {step:,} of {settings.steps:,}, loss {loss:.4f}", flush=True)

    return after


def table(case, curves):
    """Return a row a choice: its losses after the budget, and the tokens of random documents for the same."""
    baseline = [[point[:2] for point in found] for found in curves[BASELINE]]
    most = baseline[0][-1][0] / case.budget
    rows = []
    for who, found in curves.items():
        last = [next(point for point in points if point[0] == case.budget) for points in found]
        pairs = [] if who == BASELINE else list(zip(baseline, (loss for _, loss, _ in last), strict=True))
        needed = [tokens_to(random, loss) for random, loss in pairs]
        ratios = [times_fewer(random, case.budget, loss) for random, loss in pairs]
        rows.append({
            f"{case.budget:,} tokens of": who,
            "share of the domain": case.shares[who]["tokens"],
            **_losses(last),
            "the same by random tokens": ", ".join("more" if n is None else f"{n:,.0f}" for n in needed),
            "times fewer than random": ratios_said(ratios, most) if ratios else "",
            **_tokens_to_the_same(found, baseline),
        })  # fmt: skip
    longest = rows[0] | {next(iter(rows[0])): f"{BASELINE}, {most:g} times as many"}
    return [*rows, longest | _losses([points[-1] for points in curves[BASELINE]])]


def _tokens_to_the_same(found, baseline):
    """Return how many tokens of a choice bring the loss that random documents have in the end, and the ratio."""
    ends = [random[-1] for random in baseline]
    pairs = zip(found, ends, strict=True)
    needed = [tokens_to([point[:2] for point in points], loss) for points, (_, loss) in pairs]
    pairs = zip(needed, ends, strict=True)
    reached = [tokens / n for n, (tokens, _) in pairs if n]
    return {
        f"tokens to random's loss after {ends[0][0]:,}": spread(needed, 0) if all(needed) else "more",
        "times fewer there": spread(reached, 1) if all(needed) else "not reached",
    }


def _losses(points):
    return {
        "loss": spread([loss for _, loss, _ in points]),
        "general loss": spread([general for *_, general in points]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    parser.add_argument("--fresh", action="store_true", help="from new weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, help="learning rate; default: the highest of the prior's training")
    parser.add_argument("--random-times", type=int, default=20, help="tokens of random documents, in budgets")
    options = parser.parse_args()
    start = "fresh" if options.fresh else "prior"
    rate = options.rate or Settings(steps=1).peak_rate
    case = Case(options.data.resolve(), options.target, start, rate, options.random_times)
    found = {(seed, who): curve(case, who, seed) for seed in range(options.seeds) for who in (*COMPARED, BASELINE)}
    curves = {who: [found[seed, who]["points"] for seed in range(options.seeds)] for who in (BASELINE, *COMPARED)}
    name = f"proxy_training-{options.target}-{start}{f'-{rate:g}' if options.rate else ''}"
    words = "from new weights" if options.fresh else "continued from the prior"
    shown = {who: [[point[:2] for point in points] for points in seeds] for who, seeds in curves.items()}
    picture = draw_curves(shown, BASELINE, f"{options.target}: a model of {SIZES[PRIOR['size']].depth} layers {words}")
    publish_bytes(WORK / f"{name}.png", picture, FOLDER / "tmp")
    report(
        name, table(case, curves), curves=curves, choice_tokens=case.sizes, loss_at_start=curves[BASELINE][0][0][1],
        seconds={f"{who} {seed}": one["seconds"] for (seed, who), one in found.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
