"""What is being computed ends soon after a run was interrupted or failed, and nothing else does."""

import time
from threading import Event, Thread

import pytest
from tamis.features.embeddings import Embeddings
from tamis.features.stopping import Stopped, end_with, stop_check
from tamis.pipelines.engine import Threads
from tiny_model import write_transformer


def until_stopped(stopped):
    check, deadline = stop_check(), time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            check()
        except Stopped:
            stopped.set()
            raise
        time.sleep(0.001)


def test_the_others_are_asked_to_stop_when_one_fails():
    running, stopped = Event(), Event()

    def work(item):
        if item == 0:
            running.wait(60)
            raise ValueError("first")
        running.set()
        until_stopped(stopped)

    with pytest.raises(ValueError, match="first"):
        list(Threads(2).map(work, [0, 1]))
    assert stopped.is_set()


def test_who_looks_at_the_results_may_be_interrupted():
    running, stopped = Event(), Event()

    def work(item):
        if item:
            running.set()
            until_stopped(stopped)
        return item

    results = Threads(2).map(work, [0, 1])
    assert next(results) == 0
    assert running.wait(60)
    results.close()  # as an exception in the loop over the results does
    assert stopped.is_set()


def test_nobody_else_is_stopped():
    with pytest.raises(ZeroDivisionError):
        list(Threads(2).map(lambda item: 1 // item, [0, 1]))
    stop_check()()
    assert list(Threads(2).map(lambda item: stop_check()() or item, [1, 2])) == [1, 2]


def test_embeddings_look_between_batches(tmp_path):
    write_transformer(tmp_path / "tiny")
    model = Embeddings(model=str(tmp_path / "tiny"), precision="fp32", device="cpu").load()
    windows, _ = model.tokens(["the river"], 1)
    found = []

    def interrupted():
        event = Event()
        end_with(event)
        found.append(model.vectors(windows, 4).shape)
        event.set()
        with pytest.raises(Stopped):
            model.vectors(windows, 4)
        found.append("stopped")

    thread = Thread(target=interrupted)
    thread.start()
    thread.join(60)
    assert found == [(1, 4), "stopped"]
