"""A lake from a stranger: paths that climb out, manifests of another shape, links; markup in what is written."""

import contextlib
import json
import os
import re
import shutil
from functools import partial

import pyarrow.parquet as pq
import pytest
import tamis
from small_flow import make_case
from tamis.pipelines.cleaning import clean
from tamis.pipelines.comparison_page import comparison_page
from tamis.pipelines.keep_entry import Keep
from tamis.pipelines.repairing import repair
from tamis.pipelines.runs import load_runs
from tamis.pipelines.setting_aside import put_back_left
from tamis.storage.catalog import build_catalog
from tamis.storage.errors import LakeError
from tamis.storage.exported_tokens import ExportedTokens
from tamis.storage.lake import SET_ASIDE, Lake, remove_stale
from tamis.storage.manifest_shapes import Below, Key
from tamis.storage.markdown import markdown_table, plain
from tamis.storage.processes import HOST
from tamis.storage.snapshots import newest
from tamis.storage.sweeping import being_cleaned, lease_of
from tamis.storage.verify import verify

STEPS = [{"name": "clean", "filter": {"too_short": "stats.n_words >= 5"}}]
SCRIPT = "</script><script>alert(1)</script>"
MARKUP = [
    SCRIPT,
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "|a|b|",
    "`code`",
    "# head\n\n- a",
    "\\",
    "&lt;",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tamis.run(make_case(tmp_path_factory.mktemp("made"), n=20, files=1, steps=STEPS), "small").lake


@pytest.fixture
def lake(made, tmp_path):
    lake = Lake.open(shutil.copytree(made.root, tmp_path / "lake"))
    shutil.rmtree(lake.root / "sums")  # who forges a file forges its line too
    return lake


def rewritten(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def manifest_of(lake, kind):
    return next((lake.root / kind).glob("**/manifest.json"))


@pytest.mark.parametrize("name", ["../../../../secret", "/dev/zero", "/etc/passwd", "a/../../b", "..", "", "a\0b"])
def test_names_in_manifests_do_not_climb_out(lake, name):
    path = manifest_of(lake, "mixtures")
    rewritten(path, lambda m: m["files"][0].update(file=name))
    found = list(verify(lake))  # /dev/zero would be read for ever
    assert [d.file for d in found] == [str(path)] and "cannot be read" in found[0].problem
    with pytest.raises(LakeError, match=r"no manifest of tamis|cannot be read"):
        rewritten(path, lambda m: m.update(dtype="uint16", end=0))
        ExportedTokens(path.parent)


def test_keys_of_snapshots_and_shards_do_not_climb_out(lake):
    for change in ({"snapshot": "../../../x"}, {"snapshot": "/x"}):
        pointer = lake.corpus("web") / "newest.json"
        before = pointer.read_bytes()
        rewritten(pointer, lambda m, change=change: m.update(change))
        with pytest.raises(LakeError, match=re.escape(str(pointer))):
            newest(lake, "web")
        pointer.write_bytes(before)
    path = manifest_of(lake, "corpora/web")
    rewritten(path, lambda m: m["shards"][0].update(digest="../../../../etc/passwd"))
    with pytest.raises(LakeError, match=re.escape(str(path))):
        newest(lake, "web")


def test_a_mixture_of_objects_is_none(tmp_path):
    manifest = {
        "mixture": "m",
        "key": "k",
        "run": "r",
        "format": "tokens",
        "rows": 1,
        "tokens": 1,
        "bytes": 1,
        "end": 0,
    }
    files = [{"file": "tokens-0.bin", "sha256": "", "tokens": 1}]
    for dtype in ("O", "object", "V8", "float64", ["uint16"]):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "end": 0, "files": files, "dtype": dtype}))
        with pytest.raises(LakeError):
            ExportedTokens(tmp_path)


CONTENTS = ["null", "[]", "{}", '{"a": 1}', "[" * 100_000, "1e999", '"x"', "\xff"]


@pytest.mark.parametrize("kind", ["newest.json", "manifest.json", "run.json", "feature.json", "uses.json"])
def test_manifests_of_another_shape_are_a_lake_error(lake, kind):
    for content in CONTENTS:
        for path in lake.root.rglob(kind):
            path.write_bytes(content.encode("latin-1"))
        with contextlib.suppress(LakeError):
            assert all(damage.file for damage in verify(lake))
        list(load_runs(lake))
        try:
            build_catalog(lake)
        except LakeError as error:
            assert "cannot be read" in str(error)


def test_links_in_scratch_space_are_removed_and_not_followed(lake, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("x")
    dead = 2**22 + 1  # above the largest number of a process
    for name in ("link", SET_ASIDE):
        (lake.scratch / f"{HOST}~{dead}~x~{name}").symlink_to(tmp_path / "mine")
    remove_stale(lake.scratch)
    assert (tmp_path / "mine" / "kept").exists() and not any(path.is_symlink() for path in lake.scratch.iterdir())


def test_what_seems_set_aside_reaches_nothing_outside_the_lake(lake, tmp_path):
    """A lake from somebody else, in whose scratch space lies what a killed repair might have left."""
    mine = tmp_path / "mine"
    (mine / "plans").mkdir(parents=True)
    (mine / "plans" / "kept").write_text("x")
    dead = 2**22 + 1
    (lake.scratch / f"{HOST}~{dead}~x~{SET_ASIDE}").symlink_to(mine)
    aside = lake.scratch / f"{HOST}~{dead}~y~{SET_ASIDE}"
    (aside / "plans" / "out").mkdir(parents=True)
    (aside / "plans" / "out" / "planted").write_text("y")
    (aside / "plans" / "link").symlink_to(mine / "plans" / "kept")
    (aside / "plans" / "back").write_text("z")
    (lake.root / "plans").mkdir(exist_ok=True)
    (lake.root / "plans" / "out").symlink_to(mine)
    assert put_back_left(lake) == ["plans/back"]
    assert [path.name for path in mine.rglob("*")] == ["plans", "kept"] and not aside.exists()
    assert sorted(path.name for path in (lake.root / "plans").iterdir()) == ["back", "out"]


@pytest.mark.parametrize("kind", ["runs", "selections", "plans"])
def test_nothing_is_removed_behind_a_link_in_a_lake(lake, tmp_path, kind):
    (tmp_path / "mine" / "0").mkdir(parents=True)
    (tmp_path / "mine" / "0" / "kept").write_text("x")
    shutil.rmtree(lake.root / kind, ignore_errors=True)
    (lake.root / kind).symlink_to(tmp_path / "mine")
    for remove in (partial(clean, lake, Keep(runs=1, days=0, hours=0)), partial(repair, lake)):
        with pytest.raises(LakeError, match="is a link"):
            remove()
    assert (tmp_path / "mine" / "0" / "kept").exists()


@pytest.mark.parametrize("content", [*CONTENTS, '{"pid": "1"}', '{"pid": 1, "process": []}', '{"pid": 1e99}'])
def test_a_lease_of_any_content_keeps_nobody_out_for_long(lake, content):
    lease_of(lake).write_bytes(content.encode("latin-1"))
    os.utime(lease_of(lake), (0, 0))
    assert not being_cleaned(lake)


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_among_raw_files_is_the_file_that_it_names(tmp_path, read):
    """A pattern is written by the user, and so are links below it: they are followed, as the shell does."""
    (tmp_path / "secret").write_text("text")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").symlink_to(tmp_path / "secret")
    (tmp_path / "raw" / "loop.txt").symlink_to(tmp_path / "raw" / "loop.txt")
    from tamis.storage.inputs import list_inputs

    (file,) = list_inputs(["raw/*"], tmp_path)
    assert file.name == "raw/a.txt" and file.path.resolve() == tmp_path / "secret"


def test_ids_and_sources_are_data_and_never_become_paths(tmp_path):
    names = ["../../x", "/etc/passwd", "..", ".", "CON", "nul.txt", "null", "a\0b", "~", "C:\\x", "*", "x" * 5_000]
    config = make_case(tmp_path / "here", n=4, files=1, steps=STEPS)
    outputs = [{"format": name} for name in ("parquet", "jsonl.zst", "mds", "ids")]
    lines = [{"id": n, "source": n, "text": f"one two three four five six {i}", "meta": {n: n}}
             for i, n in enumerate(names)]  # fmt: skip
    (tmp_path / "here" / "raw" / "part-0.jsonl").write_text(
        "\n".join(map(json.dumps, lines)) + '\n{"id": "", "text": "a"}'
    )
    run = tamis.export(config, tamis.run(config, "small").id, outputs)
    (ids,) = (run.lake.root / "mixtures").glob("*/*/ids.parquet")
    assert run.exit_code == 0 and {*pq.read_table(ids).column("doc_id").to_pylist()} == {*names}
    assert {path.name for path in tmp_path.iterdir()} == {"here"}
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"raw", "code.jsonl", "flows.yaml", "lake"}
    inside = [path.relative_to(run.lake.root).as_posix() for path in run.lake.root.rglob("*")]
    assert not any(name in path for path in inside for name in ("CON", "nul.txt", "passwd", "xxxxx", "C:"))


def test_markup_in_ids_sources_and_files_is_text_everywhere(tmp_path):
    config = make_case(tmp_path, n=20, files=1, steps=STEPS)
    lines = [{"id": f"{m}{i}", "source": m, "text": f"one two three four five six {m}", "meta": {"url": m}}
             for i, m in enumerate(MARKUP)]  # fmt: skip
    (tmp_path / "raw" / "<b>x<").write_text("a", encoding="utf-8")
    (tmp_path / "raw" / "<script>.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{bad\n", encoding="utf-8")
    run = tamis.run(config, "small")
    report = (run.lake.run(run.id) / "report.html").read_text(encoding="utf-8")
    card = next((run.lake.root / "mixtures").glob("*/*/card.md")).read_text(encoding="utf-8")
    assert "<script>alert" not in report and "<img" not in report and "Content-Security-Policy" in report
    assert not re.search(r"(?<!\\)[<\[`]", re.sub(r"`[\w.: -]*`", "", card)), card
    described = json.loads(next((run.lake.root / "mixtures").glob("*/*/croissant.json")).read_bytes())
    assert described["@type"] == "sc:Dataset"
    page = comparison_page(tamis.compare(run.lake, [run.id, run.id], samples=3))
    data = page[page.index("application/json") :]
    assert "<img" not in data.partition("</script>")[0] and page.count("</script>") == page.count("<script")


def test_markdown_shows_texts_as_they_are():
    assert plain("a_b c_ <b> [x](y) `z` \\ | #\n\x1b") == "a_b c\\_ \\<b\\> \\[x\\](y) \\`z\\` \\\\ \\|" + " \\#  "
    table = markdown_table(["name", "n"], [[MARKUP[5], 1], ["flow `near_code`", 2], ["|x", 3]])
    assert table.count("\n") == 4 and "flow `near_code`" in table and "\\|x" in table


@pytest.mark.parametrize("good", ["a", "part-00000.parquet", "x/y.json", "..a", "a..b"])
def test_names_that_are_allowed(good):
    import msgspec

    assert msgspec.convert(good, Below) == good
    assert "/" in good or good.startswith(".") or msgspec.convert(good, Key) == good


def test_what_a_newer_tamis_put_into_a_record_is_passed_over(lake):
    """Found by fuzzing: a stage with a key of another name was a TypeError."""
    for path in lake.root.glob("runs/*/run.json"):
        rewritten(path, lambda r: r.update(more=1, stages=[{**s, "sec": 1} for s in r["stages"]]))
    for path in lake.root.glob("corpora/web/**/*.json"):
        if path.name != "newest.json":
            rewritten(path, lambda m: m.update(files=[{**f, "more": 1} for f in m["files"]]))
    assert list(load_runs(lake)) and newest(lake, "web").files
