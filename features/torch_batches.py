"""How batches of a torch model are run: some at once on a CPU, one after the other on a GPU, in halves without memory.

On a CPU each batch has one thread and there are as many batches at once as torch would use threads, which is faster
than threads inside a batch, and shared by all who call. With 256 tokens a batch it is as fast as with more (the decoder
`small` in bf16 7% faster than with 512, in fp32 4% slower; all-MiniLM the same), and has less padding. A GPU is fed by
one thread, which is also its lock, with batches of 8,192 tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

from ..storage.errors import ConfigError
from .canonical_batches import Shape
from .stopping import stop_check

W = TypeVar("W")
R = TypeVar("R")
_TOKENS_CPU = 256
_TOKENS_GPU = 8_192


def tokens_a_batch(device: str) -> int:
    """Return how many tokens a batch has, padding included."""
    return _TOKENS_CPU if device == "cpu" else _TOKENS_GPU


def map_batches(pool: ThreadPoolExecutor, run: Callable[[W], R], jobs: Sequence[W]) -> Iterator[R]:
    """Return what `run` gives for each batch, in their order, from the threads of a pool.

    Raises Stopped between two of them where the work of the thread that asks is not wanted any more.
    """
    check = stop_check()

    def checked(job: W) -> R:
        check()
        return run(job)

    return pool.map(checked, jobs)


def run_in_parts(
    forward: Callable[[Sequence[W], Shape], R],
    windows: Sequence[W],
    shape: Shape,
    device: str,
    feature: str,
    lower: str,
) -> list[R]:
    """Compute one batch; where memory lacks, two of half the rows, whose shape again does not follow the texts.

    Returns what `forward` does for each part, in the order of the windows. Raises ConfigError, which advises to `lower`
    a parameter, where one row is too much.
    """
    import torch

    try:
        return [forward(windows, shape)]
    except torch.OutOfMemoryError as error:
        if shape.rows == 1:
            raise ConfigError(
                f"{feature}: one text of {shape.length} tokens is too much for the memory of {device} "
                f"({str(error).strip().splitlines()[0][:200]}); set a smaller {lower} or device: cpu"
            ) from error
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # outside of the except block, whose traceback holds the tensors
    half = Shape((shape.rows + 1) // 2, shape.length)
    halves = [part for part in (windows[: half.rows], windows[half.rows :]) if part]
    return [one for part in halves for one in run_in_parts(forward, part, half, device, feature, lower)]


@contextmanager
def threads_alone() -> Iterator[Callable[[], None]]:
    """Yield what makes torch compute with one thread in the thread that calls it; afterwards torch is as it was.

    With it results do not follow the number of threads, and as many jobs as there are processors share them better than
    one after the other with all threads.
    """
    import torch

    before = torch.get_num_threads()

    def alone() -> None:
        torch.get_num_threads()  # a thread's first look takes the process's number, and must come first
        torch.set_num_threads(1)

    try:
        yield alone
    finally:
        torch.set_num_threads(before)  # the number is also what threads begin with that come later


def batch_threads(device: str) -> ThreadPoolExecutor:
    """Return a pool whose threads compute alone; other threads of the process find torch as it was."""
    import torch

    n = torch.get_num_threads() if device == "cpu" else 1
    started = Barrier(n + 1)
    with threads_alone() as alone:
        pool = ThreadPoolExecutor(n, thread_name_prefix="tamis-torch", initializer=alone)
        for _ in range(n):
            pool.submit(started.wait)  # makes every thread begin now
        started.wait()
    return pool
