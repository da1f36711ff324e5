"""`memory:`: what a machine or container has, who gets which share of it, and that no result depends on it."""

import pytest
import tamis
from every_stage import manifest_of, rows_of, write_case
from small_flow import chosen, make_case
from tamis.pipelines.cli import main
from tamis.pipelines.loading import load_config
from tamis.pipelines.memory_entry import budget_of, planned
from tamis.pipelines.progress import Reporter
from tamis.storage.errors import ConfigError
from tamis.storage.memory import DRIVER, LEAST_ROOM, MB, ROOMY, WORKER, Budget
from tamis.storage.memory_limits import memory_there, peak_resident
from tamis.storage.usage import resident_bytes

GB = 1 << 30


@pytest.mark.parametrize(("groups", "files", "expected"), [
    ("0::/job\n", {"job/memory.max": "2147483648"}, 2 * GB),
    ("0::/box/job\n", {"box/job/memory.max": "max", "box/memory.max": "1073741824"}, GB),
    ("0::/job\n", {"job/memory.max": "2147483648", "job/memory.high": "1073741824"}, GB),
    ("0::/docker/as-the-host-sees-it\n", {"memory.max": "1073741824"}, GB),
    ("5:cpu:/\n4:memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "1073741824"}, GB),
    ("4:memory:/job\n", {"memory/job/memory.limit_in_bytes": "9223372036854771712"}, None),
    ("0::/job\n", {"job/memory.max": "max"}, None),
    ("nonsense\n0::/j\xf6b\n", {"memory.max": "²\n\xff"}, None),
    (None, {}, None),
], ids=["v2", "around", "high", "container", "v1", "v1-none", "v2-none", "odd", "no-cgroups"])  # fmt: skip
def test_the_smallest_limit_of_all_cgroups_counts(tmp_path, groups, files, expected):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_bytes(groups.encode("latin-1"))
    for name, value in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.encode("latin-1") + b"\n")
    machine = memory_there(tmp_path / "nothing")
    assert machine > 0
    assert memory_there(tmp_path) == min(machine, expected or machine)


def test_shares_grow_with_the_room_up_to_what_is_measured_to_do():
    budgets = [Budget(room) for room in (LEAST_ROOM, GB, 4 * GB, ROOMY)]
    for name in ("row_groups_ahead", "query", "partition_bytes", "partition_rows", "range_bytes"):
        shares = [getattr(budget, name) for budget in budgets]
        assert shares == sorted(shares) and shares[0] > 0, name
        assert shares[-1] == getattr(Budget(), name)
    assert [budget.workers(64) for budget in budgets] == [1, (GB - DRIVER) // WORKER, (4 * GB - DRIVER) // WORKER, 64]
    least = budgets[0]
    assert max(least.query, 3 * least.partition_bytes, 3 * least.range_bytes) <= least.room


def test_memory_is_what_the_process_has_and_a_room_beside_it(tmp_path):
    has = resident_bytes()
    assert peak_resident() >= has > 0
    assert planned(0.5).limit == int(memory_there() * 0.5)
    found = budget_of(has + GB)
    assert 0.5 * GB < found.room < 1.5 * GB
    said = []

    class Teller(Reporter):
        def say(self, message):
            said.append(message)

    config, reporter = make_case(tmp_path, n=60), Teller(quiet=True)
    run = tamis.run(config, "small", workers=50, overrides=[f"memory={has + 2 * GB}"], reporter=reporter)
    record = run.record
    assert record.memory["limit"] == has + 2 * GB
    assert 1 < record.memory["workers"] < 50
    assert f"memory: there is room for {record.memory['workers']} of 50 workers" in said
    assert not any("there is here" in line for line in said)
    tamis.run(config, "small", overrides=["memory=9999TB"], reporter=reporter)
    assert said.count(f"memory: {9999 << 20:,}MB is more than the {memory_there() // MB:,}MB that there is here") == 1
    peaks = [stage.peak_rss for stage in record.stages]
    assert peaks == sorted(peaks) and peaks[0] > 0


@pytest.mark.parametrize("memory", ["50MB", "0%", "0.001%"])
def test_too_little_is_refused_before_any_work(tmp_path, capsys, memory):
    config = make_case(tmp_path, n=10)
    with pytest.raises(SystemExit) as ended:
        main(["run", "small", "-c", str(config), "--no-prefect", "--set", f"memory={memory}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "memory" in said
    if memory != "0%":
        least = int(said.rpartition("at least ")[2].removesuffix("MB\n").replace(",", ""))
        assert least * MB > LEAST_ROOM
        assert budget_of(least * MB + 64 * MB).workers(9) == 1, "what it says does do"
    assert not (tmp_path / "lake").exists()


def test_the_default_is_three_quarters(tmp_path):
    assert load_config(make_case(tmp_path, n=1)).config.memory == 0.75
    assert load_config(make_case(tmp_path, n=1), ["memory=1.5GB"]).config.memory == int(1.5 * GB)
    with pytest.raises(ConfigError, match="memory"):
        load_config(make_case(tmp_path, n=1), ["memory=lots"])


SMALLEST = {"row_groups_ahead": 1, "query": 64 * MB, "partition_rows": 9, "partition_bytes": 700, "range_bytes": 900}


def outcome(config, lake):
    """Everything that a run over shuffles, sorts, queries and a mixture leaves."""
    changes = [f"lake={lake}", "mixtures.mixed.parts=[{flow: again, weight: 0.5}, {corpus: web, weight: 0.5}]"]
    run = tamis.run(config, "again", overrides=changes)
    mixed = tamis.mix(config, "mixed", overrides=changes)
    return {
        "snapshot": run.record.snapshot,
        "selections": [(s["name"], s["selection"], rows_of(run.lake, s["selection"])) for s in run.steps],
        "chosen": chosen(run),
        "files": [manifest_of(folder) | {"config": None} for folder in (*run.outputs, *mixed.outputs)],
    }


def test_no_result_depends_on_the_shares(tmp_path, monkeypatch):
    config = write_case(tmp_path, n=120)
    roomy = outcome(config, "roomy")
    for name, value in SMALLEST.items():
        monkeypatch.setattr(Budget, name, value)
    assert outcome(config, "tight") == roomy
    assert len(roomy["chosen"]) > 5
