"""The decontaminate step: what counts as a leak, which evaluation document is named, and that no run misses one."""

import json
import random
import re
import unicodedata
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import tamis
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from reference import reference_data
from small_flow import stages, write_jsonl
from tamis.features.folding import BREAK, SKIP, fold_table
from tamis.features.unicode_tables import KIND, WORD, unicode_tables
from tamis.pipelines.step_entries import SharedWords
from tamis.selectors import decontamination
from tamis.selectors.decontamination import evaluation_runs
from tamis.storage.errors import ConfigError

WORDS = [f"w{i}" for i in range(400)]
PIECES = [
    "a",
    "b",
    "c",
    "A ",
    "b ",
    "ab ",
    " ",
    ", ",
    "_",
    "é ",
    "e\u0301 ",
    "\u200b",
    "\u00ad",
    "ς ",
    "Σ ",
    "İ",
    "字",
    "ß",
    "\n",
]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=20), max_size=6)


def words_of(text):
    """Return the folded words of a text, with `re` and `unicodedata` alone."""
    return re.findall(r"\w+", "".join(map(folded, text)))


def folded(character):
    """Return what a code point counts as: a letter, a space between words, or nothing."""
    if not re.match(r"\w", character):
        return "" if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") else " "
    base = [c for c in unicodedata.normalize("NFKD", character) if not unicodedata.category(c).startswith("M")]
    if not base:
        return ""
    letter = base[0] if len(base) == 1 and re.match(r"\w", base[0]) else character
    upper = letter.upper() if len(letter.upper()) == 1 else letter
    return upper.lower() if len(upper.lower()) == 1 else letter


def runs_of(text, words, least):
    found = words_of(text)
    size = min(words, len(found)) if len(found) >= min(words, least) else 0
    return {tuple(found[i : i + size]) for i in range(len(found) - size + 1)} if size else set()


def reference_pairs(pool, evaluation, words, least):
    readings = [(text, re.sub(r"[^\w\s]", "", text)) for text in evaluation]
    wanted = [runs_of(text, words, least) | runs_of(bare, words, least) for text, bare in readings]
    pairs = {}
    for i, text in enumerate(pool):
        mine = words_of(text)
        here = {tuple(mine[k : k + n]) for n in range(1, len(mine) + 1) for k in range(len(mine) - n + 1)}
        pairs |= {(i, j): len(runs & here) for j, runs in enumerate(wanted) if runs & here}
    return pairs


def column(texts):
    return pa.array(texts, pa.large_string())


def pairs_of(runs, texts):
    return {(i, j): n for i, j, n in zip(*(part.tolist() for part in runs.pairs(column(texts))), strict=True)}


@given(TEXTS, TEXTS, st.integers(1, 4), st.integers(1, 4))
@example(["x a b c d y", "A, b;c"], ["a b c d", "a b c"], 4, 2)
@example(["a b c"], ["a b c"], 4, 4)
@example(["x fa b y", "f a b"], ["f(a, b)"], 2, 1)
def test_the_kernels_find_what_sets_of_tuples_find(pool, evaluation, words, least):
    runs = evaluation_runs(column(evaluation), words, least)
    expected = reference_pairs(pool, evaluation, words, least)
    assert pairs_of(runs, pool) == expected
    best = runs.best(column(pool))
    for i in range(len(pool)):
        mine = {j: n for (doc, j), n in expected.items() if doc == i}
        named = min(mine, key=lambda j: (-mine[j], j), default=-1)
        assert best[i] == named
    assert runs.protected.tolist() == [bool(runs_of(text, words, least)) for text in evaluation]
    assert runs.n_words.tolist() == [len(words_of(text)) for text in evaluation]


@given(TEXTS, st.data())
def test_a_text_is_judged_alone(pool, data):
    runs = evaluation_runs(column(["a b", "ab", *pool[:2]]), 2, 1)
    stop = data.draw(st.integers(0, len(pool)))
    start = data.draw(st.integers(0, stop))
    part = column(["b a b", *pool]).slice(1 + start, stop - start)
    assert runs.best(part).tolist() == runs.best(column(pool)).tolist()[start:stop]


def test_every_code_point_counts_as_what_the_reference_says():
    table = fold_table()
    for code in [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200)]:
        expected = folded(chr(code))
        assert table[code] == (ord(expected) if expected.strip() else BREAK if expected else SKIP), hex(code)
    assert np.array_equal(np.where(table > SKIP, table[table], table), table), "folding twice is folding once"
    word = unicode_tables().classes & KIND == WORD
    assert np.all(word[table[table > SKIP]]) and np.all(word[table > SKIP])


LEAK = "The Éclair's price rose, from 3 to 45; naïve Σίσυφος paid it twice — (said Włodek O'Neil) today."


@pytest.mark.parametrize("copy", [
    LEAK.upper(), LEAK.lower(), re.sub(r"[^\w\s']", "", LEAK), unicodedata.normalize("NFD", LEAK),
    LEAK.replace("e", "e\u00ad").replace("a", "\u200ba"), LEAK.replace(" ", "\n\n\t"), f"before {LEAK} and after",
    "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in LEAK),
])  # fmt: skip
def test_a_disguised_copy_is_found(copy):
    assert evaluation_runs(column([LEAK])).best(column([copy])).tolist() == [0]


def test_other_words_are_not_found():
    runs = evaluation_runs(column([" ".join(WORDS[:13]), " ".join(WORDS[20:29])]))
    texts = [WORDS[:12], WORDS[1:13], WORDS[12::-1], [*WORDS[:6], "x", *WORDS[6:13]], ["".join(WORDS[:13])],
             WORDS[20:28], WORDS[21:29], []]  # fmt: skip
    assert runs.best(column([" ".join(text) for text in texts])).tolist() == [-1] * len(texts)
    assert runs.best(column([" ".join(WORDS[:13]), " ".join(WORDS[19:30])])).tolist() == [0, 1]


def test_a_hit_of_the_hash_alone_is_not_believed():
    text = " ".join(WORDS[100:140])
    runs = evaluation_runs(column([text]))
    assert runs.best(column([text])).tolist() == [0]
    other = np.frombuffer(text.replace("w", "v").encode(), np.uint8)
    forged = replace(runs, table=runs.table._replace(data=other))
    assert forged.best(column([text])).tolist() == [-1]


def test_a_template_does_not_say_which_evaluation_document_it_is():
    template, other = " ".join(WORDS[:30]), " ".join(WORDS[300:315])
    texts = [*(f"{template} {WORDS[i]} {WORDS[i + 100]}" for i in range(100)), other]
    runs = evaluation_runs(column(texts))
    pool = [f"{texts[70]} and more", f"{template} and more", f"{template} and {other}"]
    assert runs.best(column(pool)).tolist() == [70, 0, 100], "most of the last one's runs are the template's"
    assert pairs_of(runs, pool) == {(0, i): 18 for i in range(100)} | {(0, 70): 20} | {
        (n, i): 18 for n in (1, 2) for i in range(100)
    } | {(2, 100): 3}  # fmt: skip


def test_the_defaults_of_the_configuration_are_those_of_the_method():
    entry = SharedWords()
    assert (entry.words, entry.min_words) == (decontamination.WORDS, decontamination.MIN_WORDS) == (13, 8)


def test_more_hits_than_there_is_room_for(monkeypatch):
    texts = [" ".join(WORDS[i : i + 40]) for i in range(30)]
    runs = evaluation_runs(column(texts))
    whole = pairs_of(runs, texts)
    monkeypatch.setattr(decontamination, "_HITS", 3)
    assert pairs_of(runs, texts) == whole and len(whole) > 30


def said(rng, n):
    return " ".join(rng.choices(WORDS, k=n))


def make_flow(folder, with_=None, names="exam", exam=None, quiz=None, pool=None, holdout=0.0, files=3):
    """Write a pool, two evaluation sets and a flow with one step; return the configuration.

    By default every third pool document holds a part of an evaluation document, in upper case.
    """
    rng = random.Random(5)
    exam = exam or [{"id": f"e{i:02d}", "text": said(rng, 60)} for i in range(20)]
    quiz = quiz or [{"id": f"q{i:02d}", "text": said(rng, 60)} for i in range(5)]
    if pool is None:
        pool = [{"id": f"d{i:03d}", "text": said(rng, 30)} for i in range(90)]
        for i in range(0, 90, 3):
            pool[i]["text"] += f" {' '.join(exam[i // 3 % 20]['text'].split()[5:25]).upper()} {said(rng, 10)}"
    for i in range(files):
        write_jsonl(folder / "raw" / f"part-{i}.jsonl", pool[i::files])
    write_jsonl(folder / "exam.jsonl", exam)
    write_jsonl(folder / "quiz.jsonl", quiz)
    step = {"name": "no_leaks", "decontaminate": names, **({"with": with_} if with_ is not None else {})}
    config = {
        "corpora": {"web": {"files": ["raw/*"]}},
        "targets": {n: {"files": [f"{n}.jsonl"], "holdout": holdout} for n in ("exam", "quiz")},
        "flows": {"small": {"corpus": "web", "steps": [step], "outputs": [{"format": "parquet"}]}},
    }
    (folder / "flows.yaml").write_text(yaml.safe_dump(config))
    return folder / "flows.yaml"


def rows(run):
    query = "select doc_id, kept, reason, ref from selections where run = $1 order by doc_id"
    return {row[0]: row[1:] for row in tamis.sql(run.lake, query, [run.id]).fetchall()}


LEAKED = {f"d{i:03d}": f"e{i // 3 % 20:02d}" for i in range(0, 90, 3)}
REASON = "shares 13 words with exam"


def test_leaks_are_dropped_with_reason_and_ref(tmp_path):
    run = tamis.run(make_flow(tmp_path), "small")
    found = rows(run)
    assert {d: ref for d, (kept, _, ref) in found.items() if not kept} == LEAKED
    assert {reason for kept, reason, _ in found.values() if not kept} == {REASON}
    assert {row for d, row in found.items() if d not in LEAKED} == {(True, None, None)}
    (step,) = run.steps
    assert (step["kind"], step["entered"], step["kept"], step["reasons"]) == ("decontaminate", 90, 60, {REASON: 30})
    assert (run.exit_code, run.record.warnings) == (0, [])
    (folder,) = run.outputs
    assert json.loads((folder / "manifest.json").read_text())["rows"] == 60


def test_leaks_are_flagged_and_kept(tmp_path, capsys):
    from tamis.pipelines.summaries import print_run

    run = tamis.run(make_flow(tmp_path, {"action": "flag"}), "small")
    found = rows(run)
    assert {d: (reason, ref) for d, (_, reason, ref) in found.items() if reason} == {
        d: (REASON, ref) for d, ref in LEAKED.items()
    }
    assert all(kept for kept, _, _ in found.values())
    assert (run.steps[0]["kept"], run.steps[0]["reasons"]) == (90, {REASON: 30})
    print_run(run, as_json=False)
    assert f"kept but flagged: 30 {REASON}" in capsys.readouterr().out


def test_a_flag_stays_in_the_step_s_own_rows(tmp_path):
    config = make_flow(tmp_path, {"action": "flag"})
    tree = yaml.safe_load(config.read_text())
    tree["flows"]["small"]["steps"].append({"name": "twins", "dedup": "exact"})
    config.write_text(yaml.safe_dump(tree))
    run = tamis.run(config, "small")
    query = "select count(*) from selection_steps where run = $1 and step = 'no_leaks' and kept and reason is not null"
    assert tamis.sql(run.lake, query, [run.id]).fetchall() == [(30,)]


def test_the_held_out_part_is_protected(tmp_path):
    config = make_flow(tmp_path, holdout=0.95)
    run = tamis.run(config, "small")
    assert run.record.targets["exam"]["visible"] < 10
    assert {d: ref for d, (kept, _, ref) in rows(run).items() if not kept} == LEAKED


def test_the_ref_shares_most_and_is_the_first_of_equals(tmp_path):
    base = " ".join(WORDS[:40])
    short = " ".join(WORDS[:15])
    exam = [{"id": "b", "text": base}, {"id": "c", "text": base}, {"id": "a", "text": short}]
    quiz = [{"id": "0", "text": base}]
    pool = [{"id": "long", "text": base}, {"id": "short", "text": short}]
    for names in (["quiz", "exam"], ["exam", "quiz"]):
        (tmp_path / names[0]).mkdir()
        run = tamis.run(make_flow(tmp_path / names[0], names=names, exam=exam, quiz=quiz, pool=pool), "small")
        assert rows(run) == {"long": (False, REASON, "b"), "short": (False, REASON, "a")}


def test_short_evaluation_documents_are_matched_whole_or_said_to_be_unprotected(tmp_path):
    exam = [{"id": f"e{n:02d}", "text": " ".join(WORDS[20 * n : 20 * n + n])} for n in (0, 1, 7, 8, 12, 13)]
    pool = [{"id": r["id"], "text": f"so {r['text'].upper()}! yes"} for r in exam]
    pool.append({"id": "part", "text": " ".join(exam[4]["text"].split()[:11])})
    config = make_flow(tmp_path, exam=exam, pool=pool)
    whole = "holds all of a document of exam"
    expected = {"e08": (False, whole, "e08"), "e12": (False, whole, "e12"), "e13": (False, REASON, "e13")}
    for _ in range(2):  # a run that computes nothing warns too
        run = tamis.run(config, "small")
        assert {d: row for d, row in rows(run).items() if not row[0]} == expected
        assert run.record.warnings == [
            "step no_leaks: 2 of the 6 documents of exam are not protected: they have fewer than 8 words (`min_words`)"
        ]
        assert run.exit_code == 3
    assert run.record.computed == 0 and run.steps[0]["unprotected"] == {"exam": 2}
    lower = tamis.run(config, "small", overrides=["flows.small.steps.no_leaks.with.min_words=7"])
    assert rows(lower)["e07"] == (False, whole, "e07") and "1 of the 6 documents" in lower.record.warnings[0]


def test_nothing_may_be_dropped(tmp_path):
    pool = [{"id": "a", "text": "nothing of it"}, {"id": "b", "text": ""}]
    run = tamis.run(make_flow(tmp_path, pool=pool), "small")
    assert (run.steps[0]["kept"], run.steps[0]["reasons"], run.exit_code) == (2, {}, 0)


def test_everything_may_be_dropped(tmp_path):
    exam = [{"id": "e", "text": "Nothing of"}, {"id": "f", "text": "a"}]
    pool = [{"id": "a", "text": "nothing of it"}]
    run = tamis.run(make_flow(tmp_path, exam=exam, pool=pool, with_={"words": 2}), "small")
    assert (run.steps[0]["kept"], run.steps[0]["reasons"]) == (0, {"shares 2 words with exam": 1})
    assert "1 of the 2 documents of exam are not protected: they have fewer than 2 words" in run.record.warnings[0]


def test_shards_workers_and_order_change_nothing(tmp_path):
    found, keys = [], []
    for case, (workers, shard_bytes, files) in enumerate([(1, "128MB", 1), (3, 4000, 3), (4, 1500, 5)]):
        config = make_flow(tmp_path, names=[["exam", "quiz"], ["quiz", "exam"]][case % 2], files=files)
        lines = (tmp_path / "exam.jsonl").read_text().splitlines(keepends=True)
        random.Random(case).shuffle(lines)
        (tmp_path / "exam.jsonl").write_text("".join(lines))
        bytes_ = [f"{kind}.shard_bytes={shard_bytes}" for kind in ("corpora.web", "targets.exam")]
        run = tamis.run(config, "small", overrides=[f"lake=lake-{case}", *bytes_], workers=workers)
        found.append(rows(run))
        keys.append(stages(run)["decontaminate no_leaks"][0])
        for old in (tmp_path / "raw").glob("*"):
            old.unlink()
    assert found[0] == found[1] == found[2]
    assert {d: row[2] for d, row in found[0].items() if not row[0]} == LEAKED
    assert keys[0] == 1 < keys[1] < keys[2]


def test_the_same_flow_again_computes_nothing(tmp_path):
    config = make_flow(tmp_path, names=["exam", "quiz"])
    first = tamis.run(config, "small")
    again = tamis.run(config, "small")
    assert first.record.computed > 0 and again.record.computed == 0, stages(again)
    swapped = tamis.run(config, "small", overrides=["flows.small.steps.no_leaks.decontaminate=[quiz, exam, quiz]"])
    assert swapped.record.computed == 0, "the order of the names says nothing"
    assert rows(first) == rows(again) == rows(swapped)


@pytest.mark.parametrize("change", ["words=14", "min_words=9", "action=flag"])
def test_another_parameter_is_another_step(tmp_path, change):
    config = make_flow(tmp_path)
    tamis.run(config, "small")
    other = tamis.run(config, "small", overrides=[f"flows.small.steps.no_leaks.with.{change}"])
    assert stages(other)["decontaminate no_leaks"] == (1, 0)


def test_another_set_of_documents_is_another_step(tmp_path):
    config = make_flow(tmp_path)
    tree = yaml.safe_load(config.read_text())
    tree["features"] = {"stats": {"use": "text_stats"}}
    tree["flows"]["small"]["steps"].insert(0, {"name": "some", "filter": {"long": "stats.n_words > 0"}})
    config.write_text(yaml.safe_dump(tree))
    entered = [
        tamis.run(config, "small", overrides=[f"flows.small.steps.some.filter.long=stats.n_words > {n}"]).steps[1][
            "entered"
        ]
        for n in (0, 40)
    ]
    assert entered == [90, 30]


def test_a_changed_evaluation_file_is_noticed(tmp_path):
    config = make_flow(tmp_path)
    assert not rows(tamis.run(config, "small"))["d000"][0]
    lines = (tmp_path / "exam.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "exam.jsonl").write_text("".join(lines[1:]))
    without = tamis.run(config, "small")
    assert rows(without)["d000"] == (True, None, None)
    assert without.steps[0]["kept"] == 62


def test_records_that_repeat_an_id_are_said_to_be_unprotected(tmp_path):
    exam = [{"id": "same", "text": " ".join(WORDS[i : i + 20])} for i in (0, 50)]
    run = tamis.run(make_flow(tmp_path, exam=exam, pool=[{"id": "a", "text": "a"}]), "small")
    assert run.record.warnings == [
        "step no_leaks: 1 records of exam are not protected: they repeat another record's id"
    ]


def test_an_evaluation_set_without_documents_is_refused(tmp_path):
    config = make_flow(tmp_path)
    (tmp_path / "exam.jsonl").write_text("")
    with pytest.raises(ConfigError, match="target 'exam' has no document to protect"):
        tamis.run(config, "small")


@pytest.mark.parametrize(("override", "expected"), [
    ("decontaminate=exams", "step 'no_leaks': target 'exams' is not in the configuration; did you mean 'exam'?"),
    ("decontaminate=[]", "flows.small.steps.0.decontaminate.decontaminate: List should have at least 1 item"),
    ("with.words=0", "decontaminate.with.words: Input should be greater than or equal to 1, found '0'"),
    ("with.min_words=0", "decontaminate.with.min_words: Input should be greater than or equal to 1, found '0'"),
    ("with.words=1001", "less than or equal to 1000"),
    ("with.action=remove", "Input should be 'drop' or 'flag', found 'remove'"),
    ("with.word=13", "decontaminate.with.word: unknown key; did you mean 'words'?"),
    ("target=exam", "flows.small.steps.0.decontaminate.target: unknown key"),
    ("dedup=exact", "exactly one of `filter`, `dedup`, `select`, `decontaminate`"),
])  # fmt: skip
def test_what_is_wrong_is_said_before_any_work(tmp_path, override, expected):
    config = make_flow(tmp_path)
    with pytest.raises(ConfigError) as caught:
        tamis.run(config, "small", overrides=[f"flows.small.steps.no_leaks.{override}"])
    assert expected in str(caught.value)
    assert not (tmp_path / "lake").exists()


def test_the_planted_leaks_of_a_real_pool_are_found(tmp_path):
    data = reference_data("data")
    leaks = pl.read_parquet(data / "pool-small" / "leaks.parquet").filter(pl.col("split") == "dev")
    names = leaks["target"].unique().sort().to_list()
    (tmp_path / "flows.yaml").write_text(f"""
corpora: {{pool: {{files: ["{data}/pool-small/crawl-0[0-8].*", "{data}/pool-small/crawl-09/*.txt"], id: stem}}}}
targets: {{{", ".join(f"{n}: {{files: '{data}/targets/{n}.dev.jsonl', holdout: 0.5}}" for n in names)}}}
flows: {{all: {{corpus: pool, steps: [{{name: no_leaks, decontaminate: {names}}}]}}}}
""")
    run = tamis.run(tmp_path / "flows.yaml", "all")
    found = rows(run)
    dropped = {d: (ref, reason) for d, (kept, reason, ref) in found.items() if not kept}
    planted = {
        p: (ref, f"shares 13 words with {t}") for p, ref, t in leaks.select("pool_id", "target_id", "target").rows()
    }
    assert leaks["kind"].n_unique() == 3 and len(planted) == leaks.height > 20
    assert {d: dropped.get(d) for d in planted} == planted
    overlap = pl.read_parquet(data / "overlap13.parquet").filter(pl.col("split") == "dev")
    assert set(dropped) == (set(overlap["pool_id"]) & set(found)) | set(planted)
    assert run.record.warnings == []
