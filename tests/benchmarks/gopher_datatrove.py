"""datatrove's GopherQualityFilter, for `gopher.py`; runs in an environment that has only that package and spaCy.

    python gopher_datatrove.py DOCUMENTS.jsonl OUT.json [words]

Filters documents held in memory, one call each, and writes the verdicts and the CPU seconds of the calls. With `words`
it writes instead what datatrove takes for words: of each document [word, whether it counts as more than punctuation].
"""

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.utils.text import PUNCTUATION_SET, split_into_words


def verdict(quality, document):
    """Return the reason of a drop, None for a document that is kept."""
    try:
        found = quality.filter(document)
    except ZeroDivisionError:  # a document without a word
        return "gopher_short_doc"
    return None if found is True else found[1]


if __name__ == "__main__":
    source, out, *mode = sys.argv[1:]
    documents = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    documents = [Document(text=d["text"], id=d["id"]) for d in documents]
    quality = GopherQualityFilter()
    verdict(quality, Document(text="the words of that model are loaded", id="warm"))
    if mode == ["words"]:
        words = [split_into_words(d.text, "en") for d in documents]
        found = [[[w, any(c not in PUNCTUATION_SET for c in w)] for w in one] for one in words]
    else:
        begin = time.process_time()
        reasons = [verdict(quality, d) for d in documents]
        found = {"cpu_s": time.process_time() - begin, "reasons": reasons}
    Path(out).write_text(json.dumps(found))
