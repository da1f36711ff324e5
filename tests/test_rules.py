"""Filter rules: what they say about documents, and everything that is refused before any work."""

import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tamis.features.text_stats import TextStats
from tamis.pipelines.expressions import meta_values
from tamis.pipelines.pure_sql import connect
from tamis.pipelines.rules import compile_rules, first_failing
from tamis.pipelines.step_entries import FilterStep
from tamis.storage.errors import ConfigError

FEATURES = {
    "stats": TextStats().columns,
    "mine": pa.schema([("quality", pa.float64()), ("label", pa.large_string()), ("tags", pa.list_(pa.string()))]),
}
NULL = None


def batch_of(rows):
    """Rows as the filter step reads them: dictionaries by column, what is not given is null."""
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {f"{alias}.{f.name}": f.type for alias, schema in FEATURES.items() for f in schema}
    kinds |= {"text": pa.large_string(), "n_bytes": pa.int64(), "repaired": pa.bool_()}
    arrays = {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names}
    return pa.RecordBatch.from_pydict({"row": pa.array(range(len(rows)), pa.int64()), **arrays})


def reasons(rules, rows):
    with connect() as connection:
        return first_failing(compile_rules(rules, FEATURES), batch_of(rows), connection).to_pylist()


def passing(expression, rows):
    return [reason is None for reason in reasons({"rule": expression}, rows)]


def metas(*values):
    return [
        {"meta": NULL if value is NULL else value if isinstance(value, str) else json.dumps(value)} for value in values
    ]


@pytest.mark.parametrize(
    ("expression", "rows", "expected"),
    [
        ("stats.n_words >= 20", [{"stats.n_words": 19}, {"stats.n_words": 20}], [False, True]),
        ("stats.n_words between 2 and 3", [{"stats.n_words": n} for n in (1, 2, 3, 4)], [False, True, True, False]),
        ("6 / nullif(stats.n_words, 0) > 2.5", [{"stats.n_words": n} for n in (3, 2, 0)], [False, True, False]),
        ("not stats.has_lorem_ipsum", [{"stats.has_lorem_ipsum": v} for v in (True, False)], [False, True]),
        ("source = 'web'", [{"source": "web"}, {"source": "books"}, {"source": NULL}], [True, False, False]),
        ("source is null or source in ('a', 'b')", [{"source": v} for v in (NULL, "a", "c")], [True, True, False]),
        ("source <> ''", [{"source": "x"}, {"source": ""}], [True, False]),
        ("text not like '%lorem%'", [{"text": "Lorem"}, {"text": "a lorem"}], [True, False]),
        ("length(text) > 1 and not repaired", [{"text": "né", "repaired": v} for v in (True, False)], [False, True]),
        ("regexp_matches(text, '^\\d+$')", [{"text": "12"}, {"text": "a12"}], [True, False]),
        ("split_part(source, '/', 1) = 'a'", [{"source": "a/b"}, {"source": "b/a"}], [True, False]),
        ("nullif(source, '') is not null", [{"source": ""}, {"source": "b"}], [False, True]),
        ("coalesce(mine.quality, 1) > 0.5", [{"mine.quality": v} for v in (0.4, 0.6, NULL)], [False, True, True]),
        ("list_contains(mine.tags, 'x')", [{"mine.tags": ["x", "y"]}, {"mine.tags": []}], [True, False]),
        ("len(mine.tags) = 1 and mine.tags[1] = 'x'", [{"mine.tags": ["x"]}, {"mine.tags": ["y"]}], [True, False]),
        ("case when mine.label = 'it''s' then true end", [{"mine.label": v} for v in ("it's", "b")], [True, False]),
        ("true -- */ or nothing", [{"source": "a"}], [True]),
        ("/* comment; */ false;", [{"source": "a"}], [False]),
    ],
)  # fmt: skip
def test_a_rule_over_columns(expression, rows, expected):
    assert passing(expression, rows) == expected


@pytest.mark.parametrize(
    ("expression", "metas_given", "expected"),
    [
        ("meta.licence = 'mit'", [{"licence": "mit"}, {"licence": "gpl"}, {}, NULL], [True, False, False, False]),
        ("meta.licence is not null", [{"licence": "mit"}, {"licence": NULL}, {}, NULL], [True, False, False, False]),
        ("meta.n > 3", [{"n": 4}, {"n": "10"}, {"n": 3}, {"n": "many"}, {"n": [4]}], [True, True, False, False, False]),
        ("meta.n > -1.5", [{"n": -1}, {"n": -2}], [True, False]),
        ("3 < meta.n", [{"n": 10}, {"n": 2}], [True, False]),
        ("meta.n * 2 >= 20", [{"n": 10}, {"n": 9}], [True, False]),
        ("meta.n in (1, 10)", [{"n": 10}, {"n": 1.0}, {"n": "x"}, {"n": 2}], [True, True, False, False]),
        ("(meta.n) between 2 and 10", [{"n": 10}, {"n": 1}], [True, False]),
        ("meta.ok", [{"ok": v} for v in (True, False, "true", "perhaps", NULL)], [True, False, True, False, False]),
        ("meta.ok = true", [{"ok": True}, {"ok": False}, {"ok": "perhaps"}], [True, False, False]),
        ("meta.ok is true", [{"ok": True}, {"ok": "perhaps"}], [True, False]),
        ("not meta.ok", [{"ok": False}, {"ok": True}, {"ok": "perhaps"}, {}], [True, False, False, False]),
        ("meta.ok and meta.a.b = 'c'", [{"ok": True, "a": {"b": "c"}}, {"ok": "?", "a": {"b": "c"}}], [True, False]),
        ("meta.a.b.c.d.e.f > 1", [{"a": {"b": {"c": {"d": {"e": {"f": 2}}}}}}, {"a": 3}], [True, False]),
        ("meta.\"a b\" = 'c'", [{"a b": "c"}], [True]),
        ("meta.\"a/b~c\" = 'd'", [{"a/b~c": "d"}], [True]),
        ("try_cast(meta.date as date) > date '2020-01-01'", [{"date": "2020-01-02"}, {"date": "soon"}], [True, False]),
        ("meta.t::timestamptz >= timestamptz '2020-01-01 00:00:00+00'", [{"t": "2020-01-01 00:00:00"}], [True]),
        ("meta is null", [{}, NULL], [False, True]),
    ],
)  # fmt: skip
def test_a_rule_over_meta(expression, metas_given, expected):
    assert passing(expression, metas(*metas_given)) == expected


@pytest.mark.parametrize("lists", [pa.list_, pa.large_list, lambda number: pa.list_(number, 2)])
@pytest.mark.parametrize(("number", "near"), [(pa.float16(), 0.0999755859375), (pa.float64(), 0.1)])
def test_a_rule_over_vectors_sees_their_numbers(number, lists, near):
    made = np.float16 if number == pa.float16() else float
    vectors = pa.array([[made(0.1), made(2)], None], lists(number))
    batch = pa.RecordBatch.from_pydict({"row": pa.array([0, 1], pa.int64()), "mine.vector": vectors})
    features = {"mine": pa.schema([("vector", vectors.type)])}
    with connect() as connection:
        rules = compile_rules({"rule": f"mine.vector[1]::double = {near}"}, features)
        assert first_failing(rules, batch, connection).to_pylist() == [None, "rule"]


def test_meta_is_compared_with_a_column_as_that_column_is():
    rows = [{"meta": json.dumps({"n": "10", "ok": "true"}), "stats.n_words": n, "repaired": n > 5} for n in (9, 2, 11)]
    assert passing("meta.n > stats.n_words", rows) == [True, True, False]
    assert passing("meta.ok = repaired", rows) == [True, False, True]


def test_malformed_meta_is_null_and_costs_no_other_document():
    rows = metas({"a": "b"}, '{"a": "\\ud800"}', "not json", '{"a": "b"}')
    assert passing("meta.a = 'b'", rows) == [True, False, False, True]
    assert meta_values(pa.array([row["meta"] for row in rows]), "meta.a").to_pylist() == ["b", NULL, NULL, "b"]


def test_the_reason_is_the_first_rule_that_is_not_true():
    rules = {"long": "stats.n_words > 5", "web": "source = 'web'", "never": "source is not null"}
    rows = [
        {"stats.n_words": 1, "source": "books"},
        {"stats.n_words": 9, "source": "books"},
        {"stats.n_words": 9, "source": "web"},
        {"stats.n_words": NULL, "source": "web"},
        {"stats.n_words": 9, "source": NULL},
    ]
    assert reasons(rules, rows) == ["long", "web", NULL, "long", "web"]
    assert reasons(dict(reversed(rules.items())), rows) == ["web", "web", NULL, "long", "never"]


def test_reasons_come_in_the_order_of_the_rows():
    rows = [{"stats.n_words": n} for n in range(5000)]
    assert passing("stats.n_words % 3 = 0", rows) == [n % 3 == 0 for n in range(5000)]


def test_an_empty_batch_has_no_reasons():
    batch = batch_of([{"stats.n_words": 1}]).slice(1)
    with connect() as connection:
        found = first_failing(compile_rules({"long": "stats.n_words > 1"}, FEATURES), batch, connection)
    assert (found.type, len(found)) == (pa.string(), 0)


def test_a_rule_names_the_columns_that_it_reads():
    (rule,) = compile_rules({"r": "stats.n_words > 1 and meta.a.b = source or stats.n_words > mine.quality"}, FEATURES)
    assert rule.columns == (("stats", "n_words"), (None, "meta"), (None, "source"), ("mine", "quality"))


def refused(expression):
    with pytest.raises(ConfigError) as caught:
        compile_rules({"my_rule": expression}, FEATURES)
    message = str(caught.value)
    assert "'my_rule'" in message and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("expression", "nearest"),
    [
        ("stats.nwords > 1", "stats.n_words"),
        ("stat.n_words > 1", "stats.n_words"),
        ("mine.Quality > 1", "mine.quality"),
        ("sauce = 'web'", "source"),
        ("stats.n_words > 1 and nbytes > 3", "n_bytes"),
    ],
)
def test_an_unknown_column_is_refused_with_the_nearest(expression, nearest):
    message = refused(expression)
    assert "unknown column" in message and f"did you mean '{nearest}'?" in message


@pytest.mark.parametrize(
    "expression",
    [
        "(select 1) = 1",
        "exists (select 1)",
        "source in (select source from batch)",
        "select true",
        "from batch",
        "true union select false",
        "row_number() over () > 1",
        "sum(stats.n_words) over () > 1",
        "sum(stats.n_words) > 1",
        "count(*) > 1",
        "*",
        "stats.*",
        "columns('n_.*') > 1",
        "{'a': 1} = {'a': 1}",
        "$1",
        "?",
        "#1 > 1",
        "list_filter(mine.tags, x -> true) = []",
        "list_filter(mine.tags, lambda x: true) = []",
        "true, false",
        "true as x",
        "true; drop table batch",
        "true) as ok from batch; copy batch to '/tmp/x'; select (true",
        "copy batch to '/tmp/x'",
        "attach '/tmp/x'",
        "install httpfs",
        "load httpfs",
        "pragma version",
        "set threads = 1",
        "values (1)",
        "stats.n_words >",
        "/* open",
        "'open",
        "((true)",
    ],
)
def test_what_is_no_scalar_expression_is_refused(expression):
    assert "expected one scalar expression" in refused(expression)


@pytest.mark.parametrize("expression", ["", "  ", "--", "/* nothing */", ";", "true; false"])
def test_no_rule_and_two_are_refused(expression):
    assert "expected one SQL expression" in refused(expression)


@pytest.mark.parametrize(
    "function",
    [
        "random() < 0.5",
        "now() is null",
        "current_timestamp is null",
        "current_timestamp() is null",
        "current_date is null",
        "current_time is null",
        "localtimestamp is null",
        "current_localtimestamp() is null",
        "today() is null",
        "ago(interval 1 day) is null",
        "age(timestamp '2020-01-01') is null",
        "uuid() is null",
        "gen_random_uuid() is null",
        "getenv('HOME') is null",
        "getvariable('x') is null",
        "current_setting('threads') = '1'",
        "current_database() = 'x'",
        "current_user = 'x'",
        "version() = 'x'",
        "nextval('x') = 1",
        "hash(source) % 2 = 0",
        "sleep_ms(1) is null",
        "error('x') is null",
        "write_log('x') is null",
        "read_text('/etc/hostname') is null",
        "read_csv('/etc/hostname') is null",
        "read_blob('/etc/hostname') is null",
        "read_parquet('/etc/hostname') is null",
        "glob('/etc/*') is null",
        "duckdb_secrets() is null",
        "json_execute_serialized_sql('{}') is null",
        "query('select 1') is null",
        "unnest([1]) = 1",
        "unnest(mine.tags) = 'x'",
        "\"read_text\"('/etc/hostname') is null",
        "system.main.now() is null",
        "main.length(source) > 1",
        "source.upper() = 'A'",
    ],
)
def test_what_is_no_pure_function_of_a_document_is_refused(function):
    message = refused(f"source = 'a' or {function}")
    expected = ("may not be used", "there is no function", "dot in its name", "scalar expression", "unknown column")
    assert any(part in message for part in expected)


def test_a_misspelt_function_is_refused_with_the_nearest():
    assert "there is no function 'lenght'; did you mean 'length'?" in refused("lenght(text) > 1")


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("stats.n_words", "BIGINT"),
        ("'x'", "VARCHAR"),
        ("stats.n_words + 1", "BIGINT"),
        ("mine.tags", "VARCHAR[]"),
        ("null", "NULL"),
    ],
)
def test_a_rule_that_is_neither_true_nor_false_is_refused(expression, kind):
    message = refused(expression)
    assert kind in message and message.endswith("expected true or false")


@pytest.mark.parametrize(
    "expression", ["stats.n_words > 'many'", "mine.tags > 3", "length() > 1", "stats.n_words and true = 'x'"]
)
def test_types_that_do_not_fit_are_refused_before_any_work(expression):
    assert expression in refused(expression)


def test_deep_nesting_is_refused():
    assert "nested too deeply" in refused("(" * 5000 + "true" + ")" * 5000)


@pytest.mark.parametrize(
    "expression", ["cast(source as integer) > 1", "source::date > date '2020-01-01'", "meta.n::int > 1"]
)
def test_a_cast_that_fails_on_a_document_says_what_to_do(expression):
    with pytest.raises(ConfigError, match=r"failed on a document: Conversion Error.*; try_cast gives NULL instead"):
        reasons({"cast": expression}, [{"source": "x", "meta": '{"n": "x"}'}])
    good = {"source": "2020-01-02" if "date" in expression else "2", "meta": '{"n": 2}'}
    assert passing(expression, [good]) == [True]


@pytest.mark.parametrize("name", ["it's", 'a"b', "a b", "", "1a", "a;b", "a\n", "é"])
def test_a_rule_s_name_cannot_hold_a_quote(name):
    with pytest.raises(ValidationError):
        FilterStep.model_validate({"name": "clean", "filter": {name: "true"}})


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "select * from glob('{folder}/*')",
        "copy (select 1) to '{folder}/out.csv'",
        "attach '{folder}/other.duckdb'",
        "export database '{folder}/out'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set threads = 2",
        "set timezone = 'Asia/Tokyo'",
        "pragma memory_limit = '1MB'",
    ],
)
def test_the_connection_reads_no_files_and_keeps_its_settings(statement, tmp_path):
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    with connect() as connection, pytest.raises(duckdb.Error):
        connection.execute(statement.format(file=file, folder=tmp_path)).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


SCRAPS = (
    "true false null and or not ( ) [ ] { } , ; . * -- /* */ ' \" $$ $1 ? : :: -> => + - / % = <> < > ~ @ # select from"
    " where batch read_text read_csv copy to as case when then end in between is like cast interval date meta meta.a"
    " stats.n_words source text mine.tags now() random() 1 -1 1e999 'a' x lambda over with union \\ \0 é \ud800"
)
WORDS = st.sampled_from(SCRAPS.split(" "))


@given(
    st.one_of(
        st.text(max_size=30), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS, max_size=12).map("".join)
    )
)
@example("'" * 7)
@example("true -- ')")
@example("true \0")
@example("1e400000 > 1")
@example("source = '\ud800'")
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_rule_or_a_configuration_error(text):
    """And whatever gets through is a pure expression: the connection that it runs on can open nothing."""
    try:
        rules = compile_rules({"rule": text}, FEATURES)
        with connect() as connection:
            names = dict.fromkeys(f"{alias}.{name}" if alias else name for alias, name in rules[0].columns)
            first_failing(rules, batch_of([dict.fromkeys(names)] * 2), connection)
    except ConfigError:
        return
    assert "read_" not in rules[0].sql.lower() or "'" in rules[0].sql
