"""Which files are listed and under which names, what happens to those that change, and files that are one document."""

import gzip
import os

import pytest
from tamis.storage.errors import ConfigError
from tamis.storage.inputs import list_inputs
from tamis.storage.readers import BadRecord, ReadOptions, read_records


@pytest.fixture
def tree(tmp_path):
    for name in ["raw/b.jsonl", "raw/a.jsonl", "raw/sub/deep/c.txt", "raw/[x].txt", "other/a.jsonl", "raw/.hidden"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "a"}\n')
    (tmp_path / "raw" / "folder.jsonl").mkdir()
    (tmp_path / "raw" / "broken.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "raw" / "link.jsonl").symlink_to(tmp_path / "raw" / "a.jsonl")
    return tmp_path


def names(files):
    return [(file.name, file.below) for file in files]


def test_patterns_list_regular_files_once_sorted(tree):
    assert names(list_inputs(["raw/*.jsonl"], tree)) == [("raw/a.jsonl", "a.jsonl"), ("raw/b.jsonl", "b.jsonl")]
    assert names(list_inputs(["raw/**/*.txt"], tree)) == [
        ("raw/[x].txt", "[x].txt"),
        ("raw/sub/deep/c.txt", "sub/deep/c.txt"),
    ]
    both = list_inputs(["other/a.jsonl", "*/a.jsonl", "./raw/b*"], tree)
    assert names(both) == [("./raw/b.jsonl", "b.jsonl"), ("other/a.jsonl", "a.jsonl"), ("raw/a.jsonl", "raw/a.jsonl")]


def test_the_first_pattern_names_a_file_and_links_are_their_targets(tree):
    assert names(list_inputs(["raw/link.jsonl", "raw/a.jsonl"], tree)) == [("raw/link.jsonl", "link.jsonl")]


def test_an_existing_path_is_literal_and_absolute_patterns_are_kept(tree):
    assert names(list_inputs(["raw/[x].txt"], tree)) == [("raw/[x].txt", "[x].txt")]
    (found,) = list_inputs([f"{tree}/other/*"], tree / "raw")
    assert (found.name, found.below, found.path) == (f"{tree}/other/a.jsonl", "a.jsonl", tree / "other" / "a.jsonl")


def test_what_is_known_of_a_file(tree):
    (found,) = list_inputs(["raw/b.jsonl"], tree)
    status = (tree / "raw" / "b.jsonl").stat()
    assert (found.size, found.mtime_ns, found.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)


@pytest.mark.parametrize("pattern", ["raw/*.parquet", "nothing.jsonl", "raw/folder.*", "raw/broken.jsonl"])
def test_a_pattern_without_files_is_an_error_that_names_it(tree, pattern):
    with pytest.raises(ConfigError, match="matches no file below") as error:
        list_inputs(["raw/a.jsonl", pattern], tree)
    assert f'"{pattern}"' in str(error.value)


def test_a_folder_is_not_a_pattern(tree):
    with pytest.raises(ConfigError, match=r'"raw/" is a folder, expected files: write "raw/\*\*/\*"'):
        list_inputs(["raw/"], tree)


def test_a_name_that_is_not_utf8_can_be_read_and_stored(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("a")
    except OSError:
        pytest.skip("the file system takes only UTF-8 names")
    (found,) = list_inputs(["*.txt"], tmp_path)
    (batch,) = read_records(found, ReadOptions())
    assert found.name == "caf\\xe9.txt" and batch.column("doc_id").to_pylist() == ["caf\\xe9"]


def test_a_file_that_vanished(tree):
    (file,) = list_inputs(["raw/a.jsonl"], tree)
    file.path.unlink()
    assert list(read_records(file, ReadOptions())) == [
        BadRecord("raw/a.jsonl", None, "vanished between listing and reading", b"")
    ]


def test_a_file_that_is_a_folder_now(tree):
    (file,) = list_inputs(["raw/a.jsonl"], tree)
    file.path.unlink()
    file.path.mkdir()
    (bad,) = read_records(file, ReadOptions())
    assert bad.line is None and bad.reason == "cannot be read: Is a directory"


@pytest.mark.parametrize("change", ["append", "touch"])
def test_a_file_that_changed_before_or_during_the_reading(tree, change):
    (file,) = list_inputs(["raw/a.jsonl"], tree)
    items = [next(reading := read_records(file, ReadOptions()))]
    if change == "append":
        file.path.write_text('{"text": "a"}\n{"text": "b"}\n')
    os.utime(file.path, ns=(1, file.mtime_ns + (change == "touch")))
    items += reading
    assert items[0].num_rows == 1 and items[1].reason.startswith("changed while being read: ")
    (bad,) = read_records(file, ReadOptions())
    assert bad.line is None and bad.reason == items[1].reason


def test_a_file_that_vanished_during_the_reading(tree):
    (file,) = list_inputs(["raw/a.jsonl"], tree)
    batch, bad = (item for item in read_records(file, ReadOptions()) if [file.path.unlink(missing_ok=True)])
    assert batch.num_rows == 1 and bad.reason.startswith("changed while being read: it is gone")


@pytest.mark.parametrize(
    ("name", "content", "doc_id", "stem", "text"),
    [
        ("sub/a.b.txt", b"one\r\ntwo\n", "sub/a.b", "a.b", "one\r\ntwo\n"),
        ("METADATA", b"\xef\xbb\xbfmarked", "METADATA", "METADATA", "marked"),
        ("sub/x.py.gz", gzip.compress(b" \n", mtime=0), "sub/x.py", "x", " \n"),  # x.h and x.c are two documents
        (".rc", b"a", ".rc", ".rc", "a"),
    ],
)
def test_a_file_may_be_one_document(read, tmp_path, name, content, doc_id, stem, text):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    for option, expected in [("path", doc_id), ("stem", stem)]:
        (file,) = list_inputs(["sub/../*/*" if "/" in name else name], tmp_path)
        (batch,) = read_records(file, ReadOptions(file_id=option))
        assert batch.to_pylist() == [
            {"doc_id": expected, "text": text, "source": None, "meta": None, "line": None, "repaired": False}
        ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\0b", "binary data (NUL bytes), expected text in UTF-8"),
        (b"caf\xe9", "invalid UTF-8 at byte 3"),
        ("a".encode("utf-16"), "UTF-16 or UTF-32"),
        (b"0123456789a", "the file is longer than max_record_bytes (10)"),
        (gzip.compress(b"half", mtime=0)[:-9], "truncated: "),
    ],
)
def test_a_bad_document_costs_its_file(read, tmp_path, content, reason):
    (tmp_path / "a.txt").write_bytes(content)
    documents, (bad,) = read(tmp_path / "a.txt", max_record_bytes=10)
    assert not documents and bad.line is None and bad.reason.startswith(reason)
