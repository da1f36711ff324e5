"""What was measured with small models for comparisons, in the lake: curves of trainings, and sizes of choices.

`proxies/<key>.json` is published when all of it is known, and is all of it: the models themselves are not kept. It
holds its own digest, so that damage is found.
"""

from pathlib import Path
from typing import Any

from .errors import LakeError
from .fingerprint import fingerprint
from .lake import Lake, read_json
from .publish import json_ready

REPAIR = "`tamis repair` removes it, and the next `tamis compare --proxy` measures it again"


def publish_proxy(lake: Lake, key: str, record: dict[str, Any]) -> dict[str, Any]:
    """Publish a record of JSON types and return it."""
    content = {**json_ready(record), "key": key}
    lake.publish_json(lake.proxy(key), {**content, "digest": fingerprint(content)})
    return content


def proxy_record(lake: Lake, key: str) -> dict[str, Any] | None:
    """Return a record, None where there is none. Raises LakeError where it is damaged."""
    path = lake.proxy(key)
    return read_proxy(path) if path.exists() else None


def read_proxy(path: Path) -> dict[str, Any]:
    """Return the record of a file. Raises LakeError where it is not what was published."""
    content: dict[str, Any] = read_json(path)
    digest = content.pop("digest", None)
    if digest != fingerprint(content) or content.get("key") != path.stem:
        raise LakeError(f'"{path}" does not have the digest that it names; {REPAIR}')
    return content
