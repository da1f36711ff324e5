"""What is being computed ends soon after a run was interrupted or failed."""

import time
from threading import Event

import pytest
from tamis.features.embeddings import Embeddings
from tamis.features.stopping import STOPPING, Stopped, stop_if_asked
from tamis.pipelines.engine import Threads
from tiny_model import write_transformer


def test_the_others_are_asked_to_stop_when_one_fails():
    running, stopped = Event(), Event()

    def work(item):
        if item == 0:
            running.wait(60)
            raise ValueError("first")
        running.set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                stop_if_asked()
            except Stopped:
                stopped.set()
                raise
            time.sleep(0.001)

    with pytest.raises(ValueError, match="first"):
        list(Threads(2).map(work, [0, 1]))
    assert stopped.is_set()


def test_who_looks_at_the_results_may_be_interrupted():
    def work(item):
        while item:
            stop_if_asked()
            time.sleep(0.001)

    results = Threads(2).map(work, [0, 1, 1])
    next(results)
    results.close()  # as an exception in the loop over the results does
    assert STOPPING.is_set()


def test_the_next_map_begins_anew():
    STOPPING.set()
    assert list(Threads(2).map(lambda item: stop_if_asked() or item, [1, 2])) == [1, 2]


def test_embeddings_look_between_batches(tmp_path):
    write_transformer(tmp_path / "tiny")
    model = Embeddings(model=str(tmp_path / "tiny"), precision="fp32", device="cpu").load()
    windows, _ = model.tokens(["the river"], 1)
    model.vectors(windows, 4)
    STOPPING.set()
    try:
        with pytest.raises(Stopped):
            model.vectors(windows, 4)
    finally:
        STOPPING.clear()
