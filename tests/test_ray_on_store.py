"""A Ray cluster and a lake in an object store: nothing but the store is shared by the machines."""

import time
from importlib.util import find_spec

import numpy as np
import pytest
import tamis
from object_store import object_store
from small_flow import chosen, make_case
from tamis.pipelines.engine_entry import Engine
from tamis.storage.lake import Lake
from tamis.storage.verify import verify

pytestmark = pytest.mark.skipif(
    not all(find_spec(name) for name in ("ray", "s3fs", "moto")),
    reason="Ray, s3fs or moto is not installed: pip install 'tamis[ray,s3,dev]'",
)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A bucket that the workers of a cluster of our own can reach."""
    from tamis.pipelines.ray_cluster import connect, prepare

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        with object_store(patched.setenv) as new_bucket:
            found = new_bucket()
            prepare("local")
            end = connect("local")
            try:
                yield found
            finally:
                end()


def test_a_flow_is_that_of_threads_and_leaves_nothing(bucket, tmp_path):
    config = make_case(tmp_path, n=200, corpora={"web": {"files": ["raw/*"], "shard_bytes": 20_000}})
    here = tamis.run(config, "small", overrides=["lake=here"])
    there = tamis.run(config, "small", overrides=[f"lake={bucket}/lake", "flows.small.engine.use=ray"])
    assert [o["files"] for o in there.record.outputs] == [o["files"] for o in here.record.outputs]
    assert chosen(there) == chosen(here)
    assert list(verify(there.lake)) == [] and list((there.lake.root / "tmp").glob("**/*")) == []


def test_large_results_go_through_the_store(bucket):
    from tamis.pipelines.ray_engine import Cluster

    lake = Lake.open(f"{bucket}/large", create=True)
    cluster = Cluster(Engine(use="ray"), lake)
    found = cluster.map(np.arange, [200_000, 200_001, 200_002])
    assert len(next(found)) == 200_000
    until = time.monotonic() + 60
    while not list((lake.root / "tmp").glob("*/*")):  # of the next ones, which wait for their turn
        assert time.monotonic() < until, "a worker of another machine could not hand its result over"
        time.sleep(0.1)
    assert [len(rest) for rest in found] == [200_001, 200_002]
    assert list((lake.root / "tmp").glob("**/*")) == []
    cluster.close()
