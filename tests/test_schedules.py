"""When flows are due: what `schedule` may say, what is made up for, and what `tamis serve` refuses before any work."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import tamis
from small_flow import STEPS, make_case
from tamis.pipelines.loading import load_config
from tamis.pipelines.runs import RunRecord
from tamis.pipelines.schedule_entry import Schedule
from tamis.pipelines.serving import api_url, served_flows
from tamis.storage.errors import ConfigError, TamisError
from tamis.storage.locks import held

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def configured(folder, schedule):
    flow = {"corpus": "web", "steps": STEPS, "schedule": schedule}
    return make_case(folder, n=3, flows={"small": flow, "by_hand": {"corpus": "web", "steps": STEPS}})


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"cron": "61 * * * *"}, "'61 * * * *' is no cron expression: bad minute"),
        ({"cron": "0 3 * *"}, "has 4 fields, expected five"),
        ({"cron": "0 3 30 2 *"}, "is no cron expression"),
        ({"cron": "0 9 LW * *"}, "not known to Prefect"),
        ({"cron": "0 9 * * 5L"}, "not known to Prefect"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
        ({"every": "6 hours"}, "'6 hours' is no time such as 30s"),
        ({"every": 30}, "30 is no time such as 30s"),
        ({"every": "0s"}, "is not between 1s and 366d"),
        ({"every": "6h", "timezone": "UTC"}, "`timezone` belongs to `cron`"),
        ({"every": "6h", "cron": "0 3 * * *"}, "expected either `cron` or `every`"),
        ({"missed": "once"}, "expected either `cron` or `every`"),
        ({"every": "6h", "missed": "all"}, "flows.small.schedule.missed"),
        ({"evry": "6h"}, "flows.small.schedule.evry: unknown key; did you mean 'every'"),
    ],
)
def test_a_wrong_schedule_is_an_error_with_its_place(tmp_path, schedule, message):
    with pytest.raises(ConfigError, match=r"flows\.yaml: flows\.small\.schedule") as error:
        load_config(configured(tmp_path, schedule))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, "cron 0 3 * * * Europe/Berlin"),
        ({"cron": "*/15 2-4 * jan mon"}, "cron */15 2-4 * jan mon UTC"),
        ({"every": "90m"}, "every 1h 30m"),
        ({"every": "1w 1s"}, "every 1w 1s"),
    ],
)
def test_a_schedule_is_said_as_people_read_it(schedule, text):
    assert Schedule(**schedule).text == text


def test_another_schedule_computes_nothing_again(tmp_path):
    config = configured(tmp_path, {"every": "6h"})
    assert tamis.run(config, "small").record.computed > 0
    again = tamis.run(config, "small", overrides=["flows.small.schedule.every=1h"])
    assert again.record.computed == 0 and again.record.fingerprint


def test_an_interval_counts_from_midnight_whenever_it_is_asked():
    from tamis.pipelines.deployments import next_due

    for minutes in (0, 7, 359):
        due = asyncio.run(next_due(Schedule(every="6h"), NOON + timedelta(minutes=minutes)))
        assert due == NOON + timedelta(hours=6)
    assert asyncio.run(next_due(Schedule(every="1d"), NOON)) == NOON.replace(day=2, hour=0)
    in_berlin = Schedule(cron="0 3 * * *", timezone="Europe/Berlin")  # two hours ahead in summer
    assert asyncio.run(next_due(in_berlin, NOON)) == NOON.replace(day=2, hour=1)


def record(started, status="done", served=True):
    prefect = {"deployment": "x"} if served else {}
    return RunRecord("r1", "small", "", status=status, started=started.isoformat(), prefect=prefect)


@pytest.mark.parametrize(
    ("last", "policy", "made_up"),
    [
        (None, "once", None),  # it never ran
        (record(NOON - timedelta(hours=1)), "once", None),  # it was due at noon
        (record(NOON - timedelta(hours=30)), "once", "it was due at"),  # five times, and run once
        (record(NOON - timedelta(hours=30)), "skip", None),
        (record(NOON - timedelta(hours=1), "interrupted"), "once", "run r1 was interrupted"),
        (record(NOON - timedelta(hours=1), "interrupted"), "skip", None),
        (record(NOON - timedelta(hours=1), "interrupted", served=False), "once", None),  # whoever did it by hand knows
        (record(NOON - timedelta(hours=1), "failed"), "once", None),
    ],
)
def test_what_was_missed_is_made_up_by_one_run_or_none(last, policy, made_up):
    from tamis.pipelines.deployments import missed

    now = NOON - timedelta(minutes=1)
    said = asyncio.run(missed(Schedule(every="6h", missed=policy), last, now))
    assert said is None if made_up is None else said.startswith(made_up)


def test_a_deployment_has_a_form_and_runs_one_at_a_time(tmp_path):
    from tamis.pipelines.deployments import deployment

    config = configured(tmp_path, {"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    (served,) = served_flows(load_config(config), config, [], ["seed=3"], "nightly")
    found = asyncio.run(deployment(served))
    assert found.full_name == "tamis small/nightly"
    assert (found.concurrency_limit, found.concurrency_options.collision_strategy) == (1, "CANCEL_NEW")
    assert found.parameters == {"flow": "small", "config": str(config), "set": ["seed=3"], "workers": None}
    form = found._parameter_openapi_schema.properties
    assert form["flow"]["readOnly"] and form["config"]["readOnly"] and "readOnly" not in form["set"]
    assert all(form[name]["description"] for name in ("flow", "config", "set", "workers"))
    assert form["workers"]["anyOf"][0] == {"minimum": 1, "type": "integer"}
    (schedule,) = found.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * *", "Europe/Berlin")
    module, _, name = found.entrypoint.rpartition(".")
    assert callable(getattr(sys.modules[module], name)), "the process of a run imports it by this name"


def test_only_flows_with_a_schedule_are_served(tmp_path):
    config = configured(tmp_path, {"every": "6h"})
    loaded = load_config(config)
    assert [s.flow for s in served_flows(loaded, config, [], [], None)] == ["small"]
    with pytest.raises(ConfigError, match=r"flows\.by_hand has no schedule"):
        served_flows(loaded, config, ["by_hand"], [], None)
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        served_flows(loaded, config, ["smal"], [], None)


def test_what_cannot_be_served_is_refused_before_a_server_is_started(tmp_path):
    config = configured(tmp_path, {"cron": "0 25 * * *"})
    command = [sys.executable, "-m", "tamis.pipelines.cli", "serve", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "flows.small.schedule.cron" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "lake").exists()
    config = configured(tmp_path, {"every": "6h"})
    ended = subprocess.run([*command, "--server", "http://127.0.0.1:9"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "no Prefect server answers at http://127.0.0.1:9/api" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://h:4200", "http://h:4200/api"),
        ("http://h:4200/api/", "http://h:4200/api"),
        ("https://x/api/accounts/1", "https://x/api/accounts/1"),
    ],
)
def test_a_server_is_named_by_its_pages_or_its_api(given, expected):
    assert api_url(given) == expected
    with pytest.raises(ConfigError, match="expected an address"):
        api_url("127.0.0.1:4200")


def test_one_process_holds_a_lock(tmp_path):
    code = """
import sys
from pathlib import Path
from tamis.storage.locks import held
with held(Path(sys.argv[1]), "taken"):
    pass
"""
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with held(tmp_path / "lock", "taken"):
        with pytest.raises(TamisError, match="taken"), held(tmp_path / "lock", "taken"):
            pass
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
