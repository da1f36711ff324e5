"""One small flow, pinned: what it chooses and writes changes only where somebody meant to."""

import hashlib
import json

import pyarrow.parquet as pq
import tamis
from small_flow import CODE, chosen, make_case


def digest(values):
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def test_the_flow_chooses_and_writes_what_it_always_did(tmp_path):
    run = tamis.run(make_case(tmp_path), "small")
    steps = {s["name"]: (s["entered"], s["kept"], s["tokens_kept"], s["reasons"]) for s in run.steps}
    assert steps == {
        "clean": (300, 198, 9700, {"has_url": 20, "too_short": 82}),
        "twins": (198, 186, 9060, {"exact duplicate": 12}),
        "like_code": (186, 26, 1740, {"below the cut": 160}),
    }
    assert digest(chosen(run)) == "c9b940454394a4e9"
    (folder,) = run.outputs
    manifest = json.loads((folder / "manifest.json").read_text())
    expected = {"mixture": "small", "corpus": "web", "format": "parquet", "rows": 26, "tokens": 1740, "seed": 17}
    assert {k: manifest[k] for k in expected} == expected
    table = pq.read_table(folder / manifest["files"][0]["file"])
    assert table.column("id").to_pylist() == sorted(table.column("id").to_pylist(), key=lambda i: (int(i[-4:]) % 3, i))
    assert digest(table.drop_columns("score").to_pylist()) == "14727ec07cb9273e"
    assert all(set(text.split()) <= set(CODE) for text in table.column("text").to_pylist())
