"""Lists in the lake: as bytes, by row group, and the same for a selector as if they were made again."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tamis
from hypothesis import given
from hypothesis import strategies as st
from small_flow import chosen, make_case, stages
from tamis.features.ngrams import NGrams
from tamis.storage.feature_store import parts, publish_part, read_values
from tamis.storage.lake import Lake
from tamis.storage.list_bytes import pack_lists, unpack_lists
from tamis.storage.shards import Shard


def lists(rows, type_=None):
    return pa.array(rows, pa.large_list(type_ or pa.uint16()))


@given(st.lists(st.lists(st.integers(0, 65_535), max_size=5), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_packing_changes_nothing(rows, start, length):
    for type_ in (pa.uint16(), pa.uint32()):
        whole = pa.table({"ids": lists(rows, type_), "n": pa.array(range(len(rows)), pa.int64())})
        table = pa.concat_tables([whole, whole.slice(start, length)])
        packed = pack_lists(table)
        assert packed.schema.field("ids").type == pa.large_binary()
        found = unpack_lists(packed, table.schema)
        found.validate(full=True)
        assert found.equals(table)
        assert unpack_lists(packed.slice(1, 2), table.schema).equals(table.slice(1, 2))


@pytest.fixture
def shard(tmp_path):
    return Shard("s", 10, 0, (), tmp_path / "s.parquet")


def test_rows_come_from_the_parts_and_row_groups_that_have_them(tmp_path, shard):
    lake = Lake.open(tmp_path / "lake", create=True)
    schema = pa.schema([pa.field("ids", pa.large_list(pa.uint16()), nullable=False)])
    value = {row: [row] * (row % 4) for row in range(10)}

    def publish(*groups):
        batches = [pa.record_batch([lists([value[row] for row in rows])], schema=schema) for rows in groups]
        rows = np.concatenate(groups)
        publish_part(lake, "key", shard, rows, pa.Table.from_batches(batches))

    publish([0, 2, 4], [5, 9])
    publish([1], [3, 6])
    files = parts(lake, "key", shard)
    assert sorted(pq.read_metadata(file).num_row_groups for file in files) == [2, 2]
    for rows in ([0], [9], [0, 1, 2, 3], [4, 5], [0, 2, 4], [0, 1, 2, 3, 4, 5, 6, 9], []):
        found = read_values(lake, "key", shard, np.array(rows, np.int64), schema)
        assert found.schema.equals(schema)
        assert found.column("ids").to_pylist() == [value[row] for row in rows]
    with pytest.raises(LookupError):
        read_values(lake, "key", shard, np.array([0, 7]), schema)


def near(name, **parameters):
    steps = [{"name": "words", "filter": {"short": "stats.n_words >= 5"}},
             {"name": "near", "select": "dsir", "target": name, "with": parameters,
              "cut": {"budget": {"documents": 30}}}]  # fmt: skip
    return {"corpus": "web", "steps": steps}


@pytest.mark.parametrize("hash", ["fast", "sha256"])
def test_kept_ids_choose_the_same_and_serve_another_target(tmp_path, hash):
    targets = {name: {"files": [f"{name}.jsonl"]} for name in ("code", "other")}
    flows = {"kept": near("code", hash=hash, keep_ids="always"), "again": near("other", hash=hash, keep_ids="always"),
             "made": near("code", hash=hash, keep_ids="never")}  # fmt: skip
    path = make_case(tmp_path, targets=targets, flows=flows)
    (tmp_path / "other.jsonl").write_text('{"id": "o", "text": "the river was in the mountain"}\n')
    kept, again, made = (tamis.run(path, name) for name in ("kept", "again", "made"))
    assert chosen(kept) == chosen(made)
    assert stages(kept)["feature ngrams"][0] > 0
    assert stages(again)["feature ngrams"] == (1, stages(kept)["feature ngrams"][0])  # the other target alone is new
    assert "feature ngrams" not in stages(made)


def test_ids_are_kept_where_they_cost_more_to_make():
    assert [NGrams(hash=hash).stored for hash in ("fast", "sha256")] == [False, True]
    assert [NGrams(keep_ids=keep).stored for keep in ("always", "never")] == [True, False]
    assert not NGrams(hash="sha256", keep_ids="never").stored
