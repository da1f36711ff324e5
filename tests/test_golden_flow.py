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
        "like_code": (186, 28, 1800, {"below the cut": 158}),
    }
    assert digest(chosen(run)) == "c310086088e7389e"
    (folder,) = run.outputs
    manifest = json.loads((folder / "manifest.json").read_text())
    expected = {"mixture": "small", "corpus": "web", "format": "parquet", "rows": 28, "tokens": 1800, "seed": 17}
    assert {k: manifest[k] for k in expected} == expected
    table = pq.read_table(folder / manifest["files"][0]["file"])
    assert table.column("id").to_pylist() == sorted(table.column("id").to_pylist(), key=lambda i: (int(i[-4:]) % 3, i))
    assert digest(table.drop_columns("score").to_pylist()) == "7b1f7d722cb6ca28"
    assert all(set(text.split()) <= set(CODE) for text in table.column("text").to_pylist())
