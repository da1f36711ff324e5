"""The errors that tamis raises on purpose, in one small tree.

::

    TamisError              exit code 1
    ├── ConfigError         exit code 2: flows.yaml, an option or an expression is wrong
    ├── InputError          a raw file is bad and `on_bad: fail` asked to stop there
    ├── LakeError           the lake is of another format version, damaged or incomplete
    ├── StoreError          an object store cannot be reached, or refuses
    ├── DiskError           a disk is full, read-only, fails or may not be used
    ├── MemoryLackError     an allocation failed
    └── SelectionError      a selector cannot be fitted or cut on what it was given

A message says what is wrong (with the value and the place), what was expected, and what to do.
"""


class TamisError(Exception):
    """Anything that tamis reports without a traceback."""

    exit_code = 1


class ConfigError(TamisError):
    """A configuration, an option or an expression is wrong."""

    exit_code = 2


class InputError(TamisError):
    """A raw file is bad, and the corpus says `on_bad: fail`."""


class LakeError(TamisError):
    """The lake is damaged, incomplete or of another format version."""


class StoreError(TamisError):
    """An object store cannot be reached, or refuses what was asked."""


class DiskError(TamisError):
    """A disk is full, read-only, fails or may not be used."""


class MemoryLackError(TamisError):
    """An allocation failed."""


class SelectionError(TamisError):
    """A selector cannot work with the data that it was given."""
