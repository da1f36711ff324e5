"""flows.yaml: what is refused and where, amounts as people write them, overrides, and the environment."""

import math
import sysconfig
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tamis.pipelines.amounts import parse_bytes, parse_count, parse_share, parse_size_or_share
from tamis.pipelines.config import Config
from tamis.pipelines.loading import load_config
from tamis.storage.errors import ConfigError

GOOD = """
version: 1
lake: ./lake
seed: 17
tokenizer: words
corpora: {web: {files: ["raw/*.jsonl.zst"], fields: {text: body}, on_bad: quarantine}}
targets: {code: {files: code.jsonl, holdout: 0.2}, prose: {files: [prose.txt]}}
features: {stats: {use: text_stats}, mine: {use: external, files: ["scores/*.parquet"]}}
flows:
  code:
    corpus: web
    steps:
      - {name: clean, filter: {too_short: "stats.n_words >= 20"}}
      - {name: twins, dedup: exact}
      - {name: near, select: dsir, target: code, with: {ngrams: 2}, cut: {by: gumbel, budget: {tokens: 2.5B}}}
    outputs: [{format: parquet, shard_bytes: 128MB}]
    engine: {use: threads, workers: 2}
"""


def load(folder, text, *overrides):
    path = folder / "flows.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(path, list(overrides))


def refused(folder, text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value)


def with_step(step):
    return f"flows: {{f: {{corpus: web, steps: [{step}]}}}}"


def with_cut(cut):
    return with_step(f"{{name: s, select: random, cut: {cut}}}")


def test_a_good_file(tmp_path):
    loaded = load(tmp_path, GOOD)
    clean, twins, near = loaded.config.flows["code"].steps
    assert clean.filter == {"too_short": "stats.n_words >= 20"}
    assert twins.dedup == "exact"
    assert (near.target, near.parameters) == ({"code": None}, {"ngrams": 2})
    assert (near.cut.budget.unit, near.cut.budget.amount) == ("tokens", 2_500_000_000)
    assert loaded.config.flows["code"].outputs[0].shard_bytes == 128 << 20
    assert loaded.config.targets["code"].files == ["code.jsonl"]
    assert loaded.config.features["mine"].parameters == {"files": ["scores/*.parquet"]}
    assert (loaded.root, loaded.lake) == (tmp_path, tmp_path / "lake")
    assert Config.model_validate(yaml.safe_load(loaded.resolved)) == loaded.config


def test_targets_may_have_proportions(tmp_path):
    texts = {"[code, prose]": {"code": None, "prose": None}, "{code: 1, prose: 3}": {"code": 1.0, "prose": 3.0}}
    for text, expected in texts.items():
        step = f"{{name: s, select: dsir, target: {text}, cut: {{budget: {{documents: 1}}}}}}"
        assert load(tmp_path, with_step(step)).config.flows["f"].steps[0].target == expected


@pytest.mark.parametrize(
    ("text", "place", "nearest"),
    [
        ("sead: 1", "sead", "seed"),
        ("alarms: {remove_most: 1%}", "alarms.remove_most", "removes_most"),
        (
            "flows: {f: {corpus: web, alarms: {remove_most: 1%}, steps: []}}",
            "flows.f.alarms.remove_most",
            "removes_most",
        ),
        (
            with_step("{name: a, dedup: e, alarms: {nan_score: 1%}}"),
            "flows.f.steps.0.dedup.alarms.nan_score",
            "nan_scores",
        ),
        ("corpora: {web: {file: [a]}}", "corpora.web.file", "files"),
        ("corpora: {web: {files: [a], fields: {txt: body}}}", "corpora.web.fields.txt", "text"),
        ("corpora: {web: {files: [a], hold_out: 1}}", "corpora.web.hold_out", None),
        ("targets: {code: {files: [a], hold_out: 0.2}}", "targets.code.hold_out", "holdout"),
        ("flows: {f: {corpus: web, step: []}}", "flows.f.step", "steps"),
        ("flows: {f: {corpus: web, steps: [{name: a, dedup: exact}], engin: {}}}", "flows.f.engin", "engine"),
        (
            "flows: {f: {corpus: w, steps: [{name: a, dedup: exact}], engine: {worker: 2}}}",
            "flows.f.engine.worker",
            "workers",
        ),
        (
            "flows: {f: {corpus: w, steps: [{name: a, dedup: e}], outputs: [{fmt: a}]}}",
            "flows.f.outputs.0.fmt",
            "format",
        ),
        (with_step("{name: a, dedup: exact, wit: {}}"), "flows.f.steps.0.dedup.wit", "with"),
        (with_step("{name: a, filter: {r: 'true'}, nam: b}"), "flows.f.steps.0.filter.nam", "name"),
        (with_step("{name: a, select: random, targt: b, cut: {}}"), "flows.f.steps.0.select.targt", "target"),
        (with_cut("{budgt: {tokens: 1}}"), "flows.f.steps.0.select.cut.budgt", "budget"),
        (with_cut("{budget: {token: 1}}"), "flows.f.steps.0.select.cut.budget.token", "tokens"),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest(tmp_path, text, place, nearest):
    message = refused(tmp_path, text)
    assert f"{place}: unknown key" in message
    assert (f"did you mean {nearest!r}?" if nearest else "expected one of: fields, files") in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 2", "version: Input should be 1"),
        ("seed: -1", "seed: Input should be greater than or equal to 0, found '-1'"),
        ("corpora: {web: {files: []}}", "corpora.web.files"),
        ("corpora: {'a b': {files: [a]}}", "corpora.a b"),
        ("corpora: {web: {}}", "corpora.web.files: Field required"),
        ("corpora: {web: {files: [a], on_bad: ignore}}", "'quarantine' or 'fail'"),
        ("targets: {t: {files: [a], holdout: 1}}", "targets.t.holdout"),
        ("targets: {t: {files: [a], holdout: .nan}}", "targets.t.holdout"),
        ("features: {stats: {}}", "features.stats.use: Field required"),
        ("flows: {f: {corpus: web, steps: []}}", "flows.f.steps"),
        ("flows: {f: {corpus: web, steps: [{name: a, dedup: exact}], engine: {workers: 0}}}", "flows.f.engine.workers"),
        (with_step("{name: a}"), "exactly one of `filter`, `dedup`, `select`"),
        (with_step("{name: a, dedup: exact, filter: {r: 'true'}}"), "exactly one of `filter`, `dedup`, `select`"),
        (with_step("7"), "exactly one of `filter`, `dedup`, `select`"),
        (with_step("{dedup: exact}"), "flows.f.steps.0.dedup.name: Field required"),
        (with_step("{name: a, dedup: exact}, {name: a, filter: {r: 'true'}}"), "two steps are named 'a'"),
        (with_step("{name: a, filter: {}}"), "flows.f.steps.0.filter.filter"),
        (with_step("{name: a, filter: {\"it's\": 'true'}}"), "it's"),
        ("alarms: {removes_most: 95}", "alarms.removes_most: 95 is not a share such as 95% or 0.95"),
        ("alarms: {removes_most: 101%}", "alarms.removes_most: '101%' is not between 0% and 100%"),
        ("alarms: {follows_length: .nan}", "alarms.follows_length: nan is not a share"),
        ("alarms: {nan_scores: [1]}", "alarms.nan_scores: [1] is not a share"),
        ("alarms: {budget_not_met: 95%}", "alarms.budget_not_met: '95%' is neither on nor off"),
        ("alarms: on", "alarms: Input should be a valid dictionary or instance of AlarmLimits"),
        (with_cut("{}"), "needs a `budget`"),
        (with_cut("{by: threshold}"), "`by: threshold` needs `min_score`"),
        (with_cut("{by: percentile}"), "`by: percentile` needs `percent`"),
        (with_cut("{by: best, budget: {tokens: 1}}"), "'top', 'gumbel', 'threshold' or 'percentile'"),
        (with_cut("{budget: {}}"), "exactly one of tokens, documents, bytes, fraction; found none"),
        (with_cut("{budget: {tokens: 1, documents: 1}}"), "found ['tokens', 'documents']"),
        (with_cut("{budget: {fraction: 1.5}}"), "budget.fraction"),
        (with_cut("{budget: {tokens: -1}}"), "-1 is not a count"),
        (with_cut("{budget: {tokens: 105%}}"), "'105%' is not between 0% and 100%"),
        (with_cut("{budget: {tokens: 1}, shares: {a: 1}}"), "need `per`"),
        (with_cut("{budget: {tokens: 1}, per: source, shares: {a: 0.9, b: 0.2}}"), "the shares sum to 1.1"),
        (with_cut("{budget: {tokens: 1}, per: source, shares: {a: -0.1}}"), "the share of 'a' is -0.1"),
        (with_cut("{budget: {tokens: 1}, per: source, shares: {a: .nan}}"), "the share of 'a' is nan"),
        (with_cut("{budget: {tokens: 1}, temperature: 0}"), "temperature"),
        (with_cut("{budget: {tokens: 1}, temperature: .inf}"), "temperature is inf"),
        (with_cut("{by: threshold, min_score: .nan}"), "min_score is NaN"),
        (with_cut("{budget: {tokens: 1}, percent: 5}"), "percent belongs to by: percentile"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_place(tmp_path, text, expected):
    message = refused(tmp_path, text)
    assert expected in message
    assert message.startswith("flows.yaml: ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (2_000_000, 2_000_000),
        ("2_000_000", 2_000_000),
        (1e9, 10**9),
        ("1e9", 10**9),
        ("2.5B", 2_500_000_000),
        ("2.5b", 2_500_000_000),
        ("1.5 K", 1500),
        ("3G", 3 * 10**9),
        ("0.25M", 250_000),
        ("1T", 10**12),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_counts(value, expected):
    found = parse_count(value)
    assert found == expected and type(found) is int
    assert parse_share(value) == expected


NO_AMOUNTS = [
    -1, "-1", 0.5, "0.5", math.nan, math.inf, "nan", "inf", True, False, None, [], {}, "", " ", "_", ".", "1.2.3",
    "1e", "2 000", "0x10", "٣", "1K5", 2**63, "1e19", "1e999999999", "1e-999999999", "9" * 5000, "1e" + "9" * 30, "%",
]  # fmt: skip


@pytest.mark.parametrize("value", [*NO_AMOUNTS, "1.0001K", "128MB", "5%"])
def test_no_counts(value):
    with pytest.raises(ValueError, match=r"expected a count such as|is not a count such as"):
        parse_count(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (128, 128),
        ("128MB", 128 << 20),
        ("128 mb", 128 << 20),
        ("1.5KiB", 1536),
        ("10G", 10 << 30),
        ("1e6", 10**6),
        (1e6, 10**6),
        ("7B", 7),
    ],
)
def test_sizes(value, expected):
    assert parse_bytes(value) == expected
    assert parse_size_or_share(value) == expected


@pytest.mark.parametrize("value", [*NO_AMOUNTS, "0.3KB", "5i", "2.5B", "5%"])
def test_no_sizes(value):
    with pytest.raises(ValueError, match=r"expected a size such as|is not a size such as"):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("5%", 0.05), ("0%", 0.0), ("100%", 1.0), (" 12.5 % ", 0.125), ("1e-3%", 1e-5)]
)
def test_percentages(value, expected):
    for found in (parse_share(value), parse_size_or_share(value)):
        assert found == expected and type(found) is float


@pytest.mark.parametrize(
    "value", ["-5%", "100.1%", "nan%", "inf%", "%", "five%", "5%%", "1e999999999%", "1e-999999999%"]
)
def test_no_percentages(value):
    with pytest.raises(ValueError, match="is not between 0% and 100%"):
        parse_share(value)


@pytest.mark.parametrize(("value", "expected"), [
    ("off", None), ("'off'", None), ("false", None), ("~", None), ("on", 0.95), ("true", 0.95), ("99%", 0.99),
    ("0.99", 0.99), ("'0.99'", 0.99), ("1", 1.0), ("0", 0.0), ("1e-3", 0.001),
])  # fmt: skip
def test_the_limit_of_an_alarm_is_a_share_or_off(tmp_path, value, expected):
    assert load(tmp_path, f"alarms: {{removes_most: {value}}}").config.alarms.removes_most == expected
    step = with_step(f"{{name: a, dedup: exact, alarms: {{removes_most: {value}}}}}")
    found = load(tmp_path, step).config.flows["f"].steps[0].alarms
    assert found.removes_most == expected and found.model_fields_set == {"removes_most"}


@pytest.mark.parametrize("value", ["off", "false", "'off'"])
def test_all_alarms_can_be_off(tmp_path, value):
    found = load(tmp_path, f"alarms: {value}").config.alarms
    assert set(dict(found).values()) == {None, False} and found.model_fields_set == set(dict(found))


@given(st.integers(0, 2**63 - 1))
def test_counts_survive_being_written(number):
    for text in (str(number), f"{number:_}", number):
        assert parse_count(text) == parse_bytes(text) == parse_share(text) == number
    for suffix, size in {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}.items():
        assert parse_count(f"{Decimal(number % 10**6) / 1000:f}{suffix}") == number % 10**6 * size // 1000
    assert parse_bytes(f"{number % 2**20}GB") == number % 2**20 << 30


@given(
    st.one_of(
        st.text(max_size=12), st.floats(), st.integers(), st.from_regex(r"[\d_.eE+%KMGTBi -]{1,8}", fullmatch=True)
    )
)
@settings(max_examples=300)
def test_whatever_is_no_amount_is_a_value_error(value):
    for parse, most in ((parse_count, 2**63 - 1), (parse_bytes, 2**63 - 1), (parse_share, 2**63 - 1)):
        try:
            found = parse(value)
        except ValueError:
            continue
        assert 0 <= found <= (1 if isinstance(found, float) else most)


def test_amounts_in_a_budget(tmp_path):
    def budget(text):
        return load(tmp_path, with_cut(f"{{budget: {text}}}")).config.flows["f"].steps[0].cut.budget

    cases = {
        "{tokens: 1e9}": ("tokens", 10**9),
        "{documents: 2_000}": ("documents", 2000),
        "{bytes: 10GB}": ("bytes", 10 << 30),
        "{bytes: 5%}": ("bytes", 0.05),
        "{tokens: 100%}": ("tokens", 1.0),
        "{tokens: 0}": ("tokens", 0),
        "{fraction: 1}": ("documents", 1.0),
        "{documents: 1}": ("documents", 1),
    }
    for text, (unit, amount) in cases.items():
        found = budget(text)
        assert (found.unit, found.amount, type(found.amount)) == (unit, amount, type(amount))


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("seed=3", "seed", 3),
        ("flows.code.steps.near.cut.budget.tokens=1B", "flows.code.steps.2.cut.budget.tokens", 10**9),
        ("flows.code.steps.near.with.ngrams=3", "flows.code.steps.2.parameters", {"ngrams": 3}),
        ("flows.code.steps.near.with.buckets=7", "flows.code.steps.2.parameters", {"ngrams": 2, "buckets": 7}),
        (
            "flows.code.steps.clean.filter.too_short=stats.n_words >= 3",
            "flows.code.steps.0.filter.too_short",
            "stats.n_words >= 3",
        ),
        ("flows.code.steps.clean.filter.web=source = 'a=b'", "flows.code.steps.0.filter.web", "source = 'a=b'"),
        ("corpora.web.files=[a, b]", "corpora.web.files", ["a", "b"]),
        ("corpora.new.files=a", "corpora.new.files", ["a"]),
        ("flows.code.engine.workers=", "flows.code.engine.workers", None),
        ("flows.code.steps.twins.with={}", "flows.code.steps.1.parameters", {}),
    ],
)
def test_an_override_sets_one_key(tmp_path, override, path, expected):
    found = load(tmp_path, GOOD, override).config
    for name in path.split("."):
        found = (
            found[int(name)]
            if isinstance(found, list)
            else found[name]
            if isinstance(found, dict)
            else getattr(found, name)
        )
    assert found == expected


def test_overrides_hold_in_their_order_and_are_in_the_resolved_text(tmp_path):
    loaded = load(tmp_path, GOOD, "seed=3", "seed=4")
    assert loaded.config.seed == 4
    assert yaml.safe_load(loaded.resolved)["seed"] == 4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set 'seed': expected dotted.key=value"),
        ("seed=[1", "--set seed cannot be read as YAML"),
        ("seed=!!bool maybe", "--set seed cannot be read as YAML"),
        ("seed=many", "flows.yaml with --set: seed: Input should be a valid integer"),
        ("seed.deep.er=1", "--set seed.deep.er: 'deep' is below a value"),
        ("seed.deep=1", "--set seed.deep: seed is no mapping"),
        ("sead=1", "sead: unknown key; did you mean 'seed'?"),
        ("flows.code.steps.neer.cut.per=source", "nothing is named 'neer'; did you mean 'near'?"),
        ("flows.code.steps.0.dedup=exact", "nothing is named '0'"),
        ("flows.code.steps.near=1", "flows.code.steps is no mapping"),
        ("flows.code.steps.near.cut.budget.documents=5", "found ['tokens', 'documents']"),
        ("flows.code.steps.twins.filter.a=true", "exactly one of"),
        ("=1", "unknown key"),
    ],
)
def test_a_wrong_override_says_why(tmp_path, override, expected):
    assert expected in refused(tmp_path, GOOD, override)


def test_an_override_changes_one_place_of_what_an_alias_repeats(tmp_path):
    text = "corpora: {a: &raw {files: [x], on_bad: fail}, b: *raw}"
    corpora = load(tmp_path, text, "corpora.b.files=y").config.corpora
    assert (corpora["a"].files, corpora["b"].files) == (["x"], ["y"])
    assert corpora["b"].on_bad == "fail"


def test_the_environment_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_TEST_RAW", "/data/raw")
    monkeypatch.setenv("TAMIS_TEST_SEED", "5")
    files = "['${TAMIS_TEST_RAW}/*.jsonl', '${python.stdlib}/*.py', '$x {y} ${1}']"
    text = f"seed: ${{TAMIS_TEST_SEED}}\ncorpora: {{web: {{files: {files}}}}}"
    config = load(tmp_path, text, "lake=${TAMIS_TEST_RAW}/lake").config
    assert config.seed == 5
    stdlib = sysconfig.get_paths()["stdlib"]
    assert config.corpora["web"].files == ["/data/raw/*.jsonl", f"{stdlib}/*.py", "$x {y} ${1}"]
    assert config.lake == "/data/raw/lake"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lake: ${TAMIS_TEST_NOT_SET}", "${TAMIS_TEST_NOT_SET} is not set in the environment"),
        ("lake: ${python.stdlip}", "did you mean 'stdlib'?"),
        ("lake: ${pythn.stdlib}", "is not set in the environment"),
    ],
)
def test_a_variable_that_is_not_there_is_an_error(tmp_path, text, expected):
    assert expected in refused(tmp_path, text)


def test_a_variable_is_not_expanded_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_TEST_A", "${TAMIS_TEST_A}")
    assert load(tmp_path, "lake: ${TAMIS_TEST_A}").config.lake == "${TAMIS_TEST_A}"


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b", "seed", "7", "null"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    assert "expected a mapping that starts with `version: 1`" in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    ["seed: [1", "seed: 'a", "a: b: c", "\tseed: 1", "seed: *nowhere", "seed: !!python/object:os.system {}",
     "seed: !!bool maybe", "seed: !!int ''", "seed: 2001-99-99", "seed: !!timestamp x", "{? [a] : b}",
     "a: 1\n---\nb: 2", "seed: \0"],
)  # fmt: skip
def test_broken_yaml_is_refused(tmp_path, text):
    assert "cannot be read as YAML" in refused(tmp_path, text)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"lake: \xe9", "lake: a".encode("utf-16")])
def test_what_is_not_utf8_is_refused(tmp_path, data):
    assert "cannot be read as UTF-8" in refused(tmp_path, data)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert load(tmp_path, "\ufeffseed: 3").config.seed == 3


@pytest.mark.parametrize(
    "text", ['lake: "\\ud800"', '"\\ud800": 1', 'features: {a: {use: external, files: ["\\udfff"]}}']
)
def test_a_lone_surrogate_is_refused(tmp_path, text):
    assert "lone surrogates" in refused(tmp_path, text)


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2", "corpora:\n  a: {files: x}\n  a: {files: y}"])
def test_a_key_that_is_given_twice_is_refused_with_its_line(tmp_path, text):
    message = refused(tmp_path, text)
    assert f"line {text.count(chr(10)) + 1}: " in message and "is given twice" in message


@pytest.mark.parametrize(
    "bomb",
    [
        "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        + "".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
        "a: &a {k: 1}\n"
        + "".join(
            f"{y}: &{y} {{<<: [{', '.join([f'*{x}'] * 9)}]}}\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
)
def test_a_billion_laughs_are_refused(tmp_path, bomb):
    assert "values (aliases resolved)" in refused(tmp_path, bomb)


@pytest.mark.parametrize("text", ["seed: &a [*a]", "corpora: &a {web: {files: *a}}", "a: &a {b: &b [*a, *b]}"])
def test_a_value_that_contains_itself_is_refused(tmp_path, text):
    assert "contains itself" in refused(tmp_path, text)


@pytest.mark.parametrize("text", ["seed: " + "[" * 60 + "]" * 60, "[" * 5000, "a: " * 3000])
def test_deep_nesting_is_refused(tmp_path, text):
    message = refused(tmp_path, text)
    assert "50" in message or "cannot be read as YAML" in message


def test_merged_mappings_work(tmp_path):
    text = "corpora: {a: &raw {files: [x], on_bad: fail}, b: {<<: *raw, files: [y]}}"
    corpora = load(tmp_path, text).config.corpora
    assert (corpora["b"].files, corpora["b"].on_bad) == (["y"], "fail")


def test_no_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="name one with --config"):
        load_config(tmp_path / "flows.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


SCRAPS = st.sampled_from(
    [
        "seed:",
        "flows:",
        "{}",
        "[]",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "-",
        "&a",
        "*a",
        "!!int",
        "!!bool",
        "<<",
        "?",
        "|",
        ">",
        "'",
        '"',
        "#",
        "%",
        "@",
        "\n",
        "\n",
        "",
        "\t",
        "1e9",
        "2001-01-01",
        "${HOME}",
        "�",
    ]
)


@given(
    st.one_of(
        st.text(max_size=40), st.lists(SCRAPS, max_size=15).map(" ".join), st.lists(SCRAPS, max_size=15).map("".join)
    )
)
@example("!!omap [a]")
@example("!!set {a, b}")
@example("{seed: !!binary x}")
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_configuration_or_a_configuration_error(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    try:
        load(folder, text)
    except ConfigError as error:
        assert str(error)


def test_the_json_schema_covers_what_the_models_know():
    schema = Config.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"corpora", "targets", "features", "flows"} <= schema["properties"].keys()
    definitions = schema["$defs"]
    assert {"with", "select", "cut"} <= definitions["SelectStep"]["properties"].keys()
    assert definitions["FeatureEntry"]["additionalProperties"] is True
    assert definitions["CutEntry"]["properties"]["temperature"]["description"]


def test_the_repository_s_flows_are_valid():
    path = Path(__file__).parents[1] / "flows.yaml"
    if not path.exists():
        pytest.skip("no flows.yaml yet")
    assert load_config(path).config.flows
