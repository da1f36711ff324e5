"""Files of a lake damaged on purpose, and the lake compared with what it was."""

import random


def all_files(lake):
    """Return the files of a lake but scratch and the marker."""
    every = sorted(path for path in lake.root.rglob("*") if path.is_file())
    return [path for path in every if path.relative_to(lake.root).parts[0] not in ("tmp", "lake.json")]


def files_of(lake):
    """Return the files of a lake, of several names of one file the first."""
    found = {}
    for path in all_files(lake):
        found.setdefault(path.stat().st_ino, path)
    return list(found.values())


def contents(lake):
    """Return the bytes of every file that is no journal, by its path."""
    return {path: path.read_bytes() for path in all_files(lake) if path.parent.name != "sums"}


def flip(path, rng):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    place = rng.randrange(8 * len(data))
    data[place >> 3] ^= 1 << (place & 7)
    path.write_bytes(data)


def flip_all(lake, seed):
    """Flip one bit in every file; return the files."""
    files = files_of(lake)
    rng = random.Random(seed)
    for path in files:
        flip(path, rng)
    return files


def told_once(path):
    """Say whether a file tells of a run what nothing else does."""
    return path.name in ("run.json", "log.jsonl") or "inputs" in path.parts


def remove_some(lake, share, seed, cut=0):
    """Remove that share of the files that can be made again, or cut so many bytes from their ends; return them."""
    rng = random.Random(seed)
    files = [path for path in files_of(lake) if path.parent.name != "sums" and not told_once(path)]
    chosen = [path for path in files if rng.random() < share]
    for path in chosen:
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        else:
            path.unlink()
    return chosen
