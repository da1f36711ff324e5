"""One process at a time trains a model, in a folder of the lake that is removed when it is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .errors import LakeError
from .lake import Lake, read_json
from .locks import only_one
from .places import is_local
from .processes import this_process

HOLDER = "holder.json"


@contextmanager
def training_alone(lake: Lake, key: str, name: str, say: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the folder of a training; wait while another process has it, and say which.

    Who has waited looks first whether the model is there now. In a store nobody waits: there both train it.
    """
    folder = lake.training(key)
    if not is_local(folder):
        yield
        return

    def waiting() -> None:
        if say is None:
            return
        who = "another process"
        with suppress(LakeError, KeyError):
            found = read_json(folder / HOLDER)
            who = f"process {found['pid']} of {found['host']}"
        say(f"waiting for {who}, which trains {name}")

    with only_one(folder, waiting):
        lake.publish_json(folder / HOLDER, this_process().record())
        try:
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)
