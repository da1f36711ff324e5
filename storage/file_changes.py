"""What became of the raw files of a corpus between two snapshots, and how each was recognised.

Read from the lists of files of both. A file with the size, time and inode that it had is trusted, one with others but
the same bytes was digested, and any other was read.
"""

from collections import Counter
from typing import Any

from .snapshots import Snapshot

FILES_NAMED = 1_000
STAT = ("size", "mtime_ns", "inode", "etag")


def file_changes(before: Snapshot | None, now: Snapshot) -> dict[str, Any]:
    """Return how many files are new, changed, gone, touched or trusted, with their bytes, and the names of the first.

    A touched file was written again with the same bytes, or moved to another inode. `bytes_digested` are those of all
    files that were not trusted; `bytes_unchanged` of the touched ones among them.
    """
    old = {file.name: file for file in before.files} if before and before.reader == now.reader else {}
    counts, sizes, named = Counter[str](), Counter[str](), []
    for file in now.files:
        last = old.get(file.name)
        if last is None or not last.usable:
            change = "new"
        elif last.sha256 != file.sha256 or last.below != file.below:
            change = "changed"
        else:
            moved = any(getattr(file, name) != getattr(last, name) for name in STAT)
            change = "touched" if moved else "trusted"
        counts[change] += 1
        sizes[change] += file.size
        if change != "trusted":
            named.append({"file": file.name, "change": change, "size": file.size})
    gone = sorted(old.keys() - {file.name for file in now.files})
    named += [{"file": name, "change": "gone", "size": old[name].size} for name in gone]
    kinds = ("new", "changed", "touched", "trusted")
    return {
        **{kind: counts[kind] for kind in kinds}, "gone": len(gone),
        "bytes_read": sizes["new"] + sizes["changed"], "bytes_unchanged": sizes["touched"],
        "bytes_digested": sum(sizes[kind] for kind in kinds[:3]), "bytes_trusted": sizes["trusted"],
        "named": named[:FILES_NAMED],
    }  # fmt: skip
