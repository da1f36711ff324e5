"""Scores of the official ZIP-FIT package, for `zip_fit_speed.py`; runs in an environment that has only that package.

    python official_zip_fit.py SOURCES.jsonl TARGETS.jsonl LEVEL OUT.json

Two processes, whatever the machine has; seconds and CPU seconds are those of the ranking, without imports and reading.
"""

import json
import resource
import sys
import time

from zip_fit import zipfit

PROCESSES = 2


def cpu_s():
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in found)


if __name__ == "__main__":
    sources, targets, level, out = sys.argv[1:]
    zipfit.cpu_count = lambda: PROCESSES
    fit = zipfit.ZIPFIT(sources, targets, k=10**9, compression_algorithm="gzip", compress_level=int(level))
    source, target = fit.load_jsonl(sources), fit.load_jsonl(targets)
    begin, cpu = time.monotonic(), cpu_s()
    ranked = fit.rank_sequences_by_alignment(source, target)
    figures = {"wall_s": time.monotonic() - begin, "cpu_s": cpu_s() - cpu}
    with open(out, "w") as file:
        json.dump({**figures, "texts": [text for text, _ in ranked], "scores": [float(s) for _, s in ranked]}, file)
