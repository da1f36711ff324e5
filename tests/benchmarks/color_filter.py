"""CoLoR-Filter on a CPU: how long its models take, and whose documents it chooses beside other selectors.

    python tests/benchmarks/color_filter.py DATA [--target math_word]

DATA has `pool/`, `labels.parquet` (id, domain) and `targets/`; `quarter.py` says what is chosen from. One table is the
share of the target's domain in 5% of the tokens, the other where the time went: a row a stage, a column a target, over
all runs in the lake, so that one that was killed counts too and a second run of this says the same. The lake stays, and
with it models and losses; remove build/benchmarks/quarter to measure again.
"""

import argparse
from pathlib import Path

import polars as pl
from quarter import TARGETS, chosen, configuration, domain_shares, pool, run, selectors
from side_by_side import report
from tamis.pipelines.runs import load_runs

LEAST_S = 0.5


def choices(config, data, targets):
    """Run every selector for every target; yield its share of the domain."""
    documents = None
    for target in targets:
        for who in selectors(target):
            done = run(config, who, target)
            documents = pool(done, data).filter(pl.col("in_quarter")) if documents is None else documents
            shares = domain_shares(chosen(done), documents, target)
            yield done, {"5% of the tokens": who, "target": target, **shares}


def times(lake, targets):
    """Return a row a stage: the seconds in which each target's runs computed it, in the order of the work."""
    seconds = {}
    for record in load_runs(lake):
        target = next((t for t in targets if record.flow.endswith(f"-{t}")), None)
        for stage in record.stages if target else ():
            if stage.computed:
                of_stage = seconds.setdefault(stage.name, dict.fromkeys(targets, 0.0))
                of_stage[target] += stage.seconds
    rows = [{"stage": name, **found} for name, found in seconds.items() if max(found.values()) >= LEAST_S]
    total = {target: sum(found[target] for found in seconds.values()) for target in targets}
    return [*rows, {"stage": "all, and what took less", **total}]


def models(runs):
    """Return a row a model: what it was trained on, how fast, and what was held out of that before and after."""
    for model in {m["name"]: m for done in runs for m in done.record.models}.values():
        before, after = model["held_out"] or (None, None)
        yield {
            "model": model["name"], "parameters": model["parameters"], "tokens": model["tokens"],
            "seconds": model["seconds"], "tokens a second": model["tokens"] / max(0.1, model["seconds"]),
            "held-out loss before": before, "after": after,
        }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--target", choices=TARGETS, help="one of them alone")
    options = parser.parse_args()
    data, targets = options.data.resolve(), [options.target] if options.target else list(TARGETS)
    found = list(choices(configuration(data), data, targets))
    report("color_filter_times", times(found[0][0].lake, targets))
    report("color_filter_models", list(models([done for done, _ in found])))
    report("color_filter", [row for _, row in found])


if __name__ == "__main__":
    main()
