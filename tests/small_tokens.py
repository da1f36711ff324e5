"""A flow whose mixture is written as tokens, for tests of what reads them."""

import tamis
from small_flow import documents, make_case
from tamis.features.byte_bpe import train_tokenizer

TWINS = [{"name": "twins", "dedup": "exact"}]


def token_case(folder, forms=("tokens",), n=300, steps=TWINS, shard_bytes=4_000, **changes):
    """Write a case whose outputs are of these formats, in small shards, with a tokenizer of its own texts."""
    folder.mkdir(parents=True, exist_ok=True)
    train_tokenizer((d["text"] for d in documents(n)), 300).save(str(folder / "tokenizer.json"))
    outputs = [{"format": form, "tokenizer": "tokenizer.json", "shard_bytes": shard_bytes} for form in forms]
    flow = {"corpus": "web", "steps": steps, "outputs": outputs}
    small = {"web": {"files": ["raw/*"], "shard_bytes": 6_000}}
    return make_case(folder, n=n, flows={"small": flow}, **{"corpora": small, **changes})


def token_export(folder, **changes):
    """Run it; return the run and the folder of its first output."""
    run = tamis.run(token_case(folder, **changes), "small")
    return run, run.outputs[0]
