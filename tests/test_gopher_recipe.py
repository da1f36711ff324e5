"""The flow `gopher` of the example flows.yaml, as people copy it: each of its rules drops what it is there for."""

from pathlib import Path

import pyarrow as pa
import pytest
from tamis.features.text_stats import TextStats
from tamis.pipelines.loading import load_config
from tamis.pipelines.pure_sql import connect
from tamis.pipelines.rules import compile_rules, first_failing

SENTENCE = "The people of the valley would rather be left alone than have to go with that man, it's true. "
GOOD = SENTENCE * 4


@pytest.fixture(scope="module")
def rules():
    loaded = load_config(Path(__file__).parents[1] / "flows.yaml")
    (step,) = loaded.config.flows["gopher"].steps
    return compile_rules(step.filter, {"stats": TextStats().columns})


def reason(rules, text):
    numbers = TextStats().compute(pa.record_batch({"text": pa.array([text], pa.large_string())}))
    names = [f"stats.{name}" for name in numbers.schema.names]
    with connect() as connection:
        batch = pa.RecordBatch.from_arrays([pa.array([0]), *numbers.columns], ["row", *names])
        return first_failing(rules, batch, connection).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, None),
        ("", "short"),
        (SENTENCE * 2, "short"),
        ("of the be to " * 25_001, "long"),
        ("a b of to " * 20, "short_words"),
        (GOOD + "incomprehensibilities " * 80, "long_words"),
        (GOOD + "# " * 9, "hashes"),
        (GOOD + "wait... " * 12 + "now", "ellipses"),
        ("\n".join(f"- {SENTENCE}" for _ in range(10)), "bullets"),
        ("\n".join(f"- {SENTENCE}" for _ in range(9)) + f"\n{SENTENCE}", None),
        ("\n".join(f"{SENTENCE}..." for _ in range(4)) + f"\n{SENTENCE}", "ellipsis_ends"),
        (GOOD + "100 " * 25, "no_letters"),
        (GOOD + "- " * 25, "no_letters"),
        (GOOD + "well-known " * 25, None),
        ("these words show nothing common " * 10, "no_stop_words"),
    ],
)
def test_what_a_rule_drops(rules, text, expected):
    assert reason(rules, text) == expected
