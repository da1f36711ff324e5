"""How a model of the transformers library is read: without its progress bars, with errors that name the folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..storage.errors import ConfigError


@contextmanager
def reading(folder: Path, feature: str, expected: str) -> Iterator[None]:
    """Draw no bar meanwhile, and raise ConfigError, saying what was `expected`, where something is raised."""
    with no_bar():
        try:
            yield
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ConfigError(f'{feature}: "{folder}" is not {expected} ({reason})') from error


@contextmanager
def no_bar() -> Iterator[None]:
    """Let transformers draw no bar meanwhile."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()
