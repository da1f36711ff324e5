"""Hostile files: each costs what is broken in it and nothing else, and says why in words."""

import json
import shutil
import zlib

import pytest
import tamis
from reference import reference_data
from small_flow import make_case
from tamis.storage.inputs import list_inputs

#: Where the manifest leaves open what is right: file -> (good documents, bad records, why).
DECIDED = {
    "truncated.jsonl.zst": (0, 1, "zstd decodes whole blocks, and the first one (58,759 bytes) is cut"),
    "corrupt_middle.jsonl.zst": (0, 1, "the changed byte is in the first block, which is all but the end of the text"),
    "garbage_after_frame.jsonl.zst": (300, 1, "the frame is whole; that something follows is worth an entry"),
    "truncated.jsonl.gz": (181, 1, "every complete line before the cut; the cut line is in the entry"),
    "bad_crc.jsonl.gz": (300, 1, "everything could be decoded; the entry says that it may be wrong"),
    "wrong_type_id.jsonl": (4, 0, "a number becomes text, null and missing ids are made later: nothing is lost"),
    "deep_nesting.jsonl": (1, 1, "the line that no parser can be trusted with costs itself"),
    "surrogates_nul.jsonl": (4, 0, "lone surrogates are repaired, NUL is a character"),
    "array_of_objects.json": (0, 1, "not lines: one entry that says how to convert it, not one a line"),
    "array_named.jsonl": (0, 1, "the same, whatever the name"),
    "utf16.jsonl": (0, 1, "one entry, not one a line"),
    "duplicate_ids.jsonl": (41, 0, "repeated ids are a matter of the corpus, not of a file"),
    "duplicate_ids.parquet": (200, 0, "the same"),
    "binary.jsonl": (0, 1, "one entry, not one a line"),
    "no_text_column.parquet": (0, 1, "one entry for the file, which names the columns"),
    "text_int.parquet": (0, 1, "one entry for the file"),
    "text_binary.parquet": (1, 1, "bytes that are UTF-8 are text; the others cost their row"),
    "truncated.parquet": (0, 1, "without a footer nothing can be found"),
    "footer_only_magic.parquet": (0, 1, "the same"),
    "a_directory.jsonl/": (0, 0, "a folder is no file"),
}


@pytest.fixture(scope="module")
def bad_folder():
    return reference_data("data/bad")


def expectations(folder):
    """Return file -> (good, bad): the manifest's numbers, ours where it has none or leaves the choice to the reader."""
    for entry in json.loads((folder / "MANIFEST.json").read_text()):
        good, bad, _ = DECIDED.get(entry["file"], (entry["good_docs"], entry["bad_records"], ""))
        if entry["file"] != "wrong_type_id.jsonl":
            assert entry["good_docs"] in (None, good) and entry["bad_records"] in (None, bad), entry["file"]
        yield entry["file"], (good, bad)


def test_each_file_costs_what_is_broken_in_it(read, bad_folder):
    expected = dict(expectations(bad_folder))
    assert len(expected) >= 40
    found = {name: (0, 0) for name in expected if name.endswith("/")}
    for name in expected.keys() - found.keys():
        documents, bad = read(bad_folder / name)
        found[name] = len(documents), len(bad)
        assert all(b.file == name and len(b.reason) > 15 and len(b.raw) <= 4096 for b in bad), name
    assert found == expected


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        ("malformed_middle.jsonl", [41, 42, 43, 44, 45, 61], "not JSON: "),
        ("invalid_utf8.jsonl", [21, 22, 23], "invalid UTF-8 at byte "),
        ("invalid_utf8.txt", [None], "invalid UTF-8 at byte 3"),
        ("missing_text.jsonl", list(range(1, 61, 3)), '"text" is missing; the record has "id", "body", "source"'),
        ("wrong_type_text.jsonl", list(range(2, 61, 2)), '"text" is '),
        ("non_object_lines.jsonl", [1, 2, 3, 4], "the line is "),
        ("nan_bigint.jsonl", [1], "not JSON: NaN"),
        ("deep_nesting.jsonl", [1], "nested deeper than "),
        ("truncated.jsonl.gz", [182], "truncated: "),
        ("truncated.jsonl.zst", [1], "truncated: "),
        ("corrupt_middle.jsonl.zst", [1], "corrupt: "),
        ("bad_crc.jsonl.gz", [301], "the checksum (CRC) of a gzip member does not match"),
        ("garbage_after_frame.jsonl.zst", [301], "garbage after the last zstd frame, from byte 67,709"),
        ("text_nulls.parquet", list(range(1, 51, 5)), '"text" is null'),
        ("text_binary.parquet", [2], "invalid UTF-8 at byte 3"),
        ("text_int.parquet", [None], 'column "text" is int64, expected strings'),
        ("no_text_column.parquet", [None], 'no column "text"; the file has "id" (string), "body" (string)'),
        ("truncated.parquet", [None], "damaged or incomplete Parquet"),
        ("array_named.jsonl", [None], "one JSON value over several lines"),
        ("array_of_objects.json", [None], "one JSON value over several lines"),
        ("utf16.jsonl", [None], "UTF-16 or UTF-32"),
        ("binary.jsonl", [None], "binary data"),
    ],
)
def test_the_place_and_the_reason_are_named(read, bad_folder, name, lines, reason):
    _, bad = read(bad_folder / name)
    assert [b.line for b in bad] == lines
    assert all(b.reason.startswith(reason) for b in bad), {b.reason for b in bad}


def test_all_before_the_cut_is_kept(read, bad_folder):
    data = (bad_folder / "truncated.jsonl.gz").read_bytes()
    whole_lines = zlib.decompressobj(wbits=31).decompress(data).split(b"\n")[:-1]
    documents, (bad,) = read(bad_folder / "truncated.jsonl.gz")
    assert [d["text"] for d in documents] == [json.loads(line)["text"] for line in whole_lines]
    assert bad.raw.startswith(b'{"id": "b018')


def test_what_was_repaired_or_converted_is_so(read, bad_folder):
    documents, _ = read(bad_folder / "surrogates_nul.jsonl")
    assert [d["text"] for d in documents] == [
        "lone \ufffd high",
        "lone \ufffd low",
        "pair \U0001f600 fine",
        "nul \0 inside",
    ]
    assert [d["repaired"] for d in documents] == [True, True, False, False]
    assert [d["doc_id"] for d in read(bad_folder / "wrong_type_id.jsonl")[0]] == ["7", None, None, "b0003"]
    assert [d["text"] for d in read(bad_folder / "duplicate_keys.jsonl")[0]] == ["second"]
    assert [d["meta"] for d in read(bad_folder / "nan_bigint.jsonl")[0]] == ['{"n": 123456789012345678901234567890}']
    assert max(len(d["text"].encode()) for d in read(bad_folder / "long_line_5mb.jsonl")[0]) == 5_000_000
    assert not any(d["text"].startswith("\ufeff") for d in read(bad_folder / "crlf_bom.jsonl")[0])


def test_a_folder_is_not_a_file(read, bad_folder):
    names = [file.name for file in list_inputs(["*", "**/*.txt"], bad_folder)]
    assert "a_directory.jsonl" not in names
    assert "a_directory.jsonl/inside.txt" in names


def bad_flow(folder, engine, **options):
    """Run a flow over all of the files; return, file by file, what was counted, its documents and its bad records."""
    bad = reference_data("data/bad")
    if not (folder / "flows.yaml").exists():
        steps = [
            {"name": "once", "dedup": "exact"},
            {"name": "some", "select": "random", "cut": {"budget": {"documents": 50}}},
        ]
        make_case(folder, steps=steps, corpora={"web": {"files": ["bad/*"], "shard_bytes": 60_000}})
        shutil.copytree(bad, folder / "bad", ignore=lambda *_: ["MANIFEST.json"])
    lake = f"lake-{engine}-{options.get('workers')}"
    overrides = [f"lake={lake}", f"flows.small.engine.use={engine}"]
    run = tamis.run(folder / "flows.yaml", "small", overrides=overrides, **options)
    assert run.record.exit_code == 3, "what was put aside is told"
    found = {}
    for name, columns, order in (
        ("files", "file, sha256, documents, quarantined, repaired", "file"),
        ("document_rows", "file, line, doc_id, doc_key, text, source, meta, repaired, shard, row", "file, shard, row"),
        ("excluded", "doc_id, shard, row", "shard, row"),
        ("quarantine", "file, line, reason, raw", "file, line, reason"),
        ("selections", "doc_id, kept, step, reason, ref, score, rank", "doc_id"),
    ):
        found[name] = tamis.sql(run.lake, f"select {columns} from {name} order by {order}").fetchall()
    return found


def test_a_flow_over_all_of_them_costs_what_is_broken_in_them_for_any_number_of_threads(tmp_path, bad_folder, read):
    found = bad_flow(tmp_path, "threads", workers=1)
    expected = {f"bad/{name}": counts for name, counts in expectations(bad_folder) if not name.endswith("/")}
    assert {file: (documents, bad) for file, _, documents, bad, _ in found["files"]} == expected
    for name in expected:
        alone = [(name, b.line, b.reason, b.raw) for b in read(tmp_path / name)[1]]
        of_flow = [row for row in found["quarantine"] if row[0] == name]
        assert sorted(of_flow, key=repr) == sorted(alone, key=repr), name
    rows = [row[0] for row in found["document_rows"]]
    assert {name: rows.count(name) for name in expected} == {name: good for name, (good, _) in expected.items()}
    assert len(found["excluded"]) > 0, "ids that several files have"
    assert bad_flow(tmp_path, "threads", workers=3) == found
