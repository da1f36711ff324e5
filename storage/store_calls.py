"""What only some commands ask of a store: its clock, a claim that one of two gets, removal of many, leftovers.

fsspec has no words for these, so S3 is asked in its own; other stores get what fsspec can do, and no leftovers are
known of them. A claim is a put under the condition that the object is the version that was seen, or none.
"""

import errno
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from .errors import StoreError
from .store_errors import OTHER_VERSION, asking, code_of
from .store_files import SIZES, Details
from .store_paths import StorePath

REMOVED_AT_ONCE = 1_000
"""As many as S3 takes in one request."""
_LOST = {OTHER_VERSION, "ConditionalRequestConflict", "NoSuchKey"}


class Upload(NamedTuple):
    """A put in parts that was not finished: nobody sees the parts, and they are paid for."""

    name: str
    """Of the object that it would have been, below the place that was asked."""
    upload: str
    n_bytes: int
    seconds: float
    """Of the epoch, when its last part came."""


def now(path: StorePath) -> float:
    """Return the time by the clock of the store, in seconds of the epoch; S3 says whole ones, of an object there is."""
    if path.is_s3:
        bucket, key = _names(path)
        with asking(path):
            answer = path.fs.call_s3("head_object", Bucket=bucket, Key=key)
        if date := answer["ResponseMetadata"]["HTTPHeaders"].get("date"):
            return parsedate_to_datetime(date).timestamp()
    probe = path.with_name(f"{path.name}~{uuid.uuid4().hex[:12]}")
    with asking(probe):
        probe.fs.pipe_file(probe.path, b"")
    try:
        return probe.details().mtime_ns / 1e9
    finally:
        probe.unlink(missing_ok=True)


def claim(path: StorePath, content: bytes, instead_of: str) -> str:
    """Put a small object where there is none, or over the version `instead_of`; return its version.

    Raises FileExistsError where it is another version by now, unless the content is this one: an answer may be lost
    and the put be sent again. Stores other than S3 have no conditions: there the last writer has it.
    """
    SIZES.forget(str(path))
    if not path.is_s3:
        with asking(path):
            path.fs.pipe_file(path.path, content)
        return path.version
    bucket, key = _names(path)
    tag = instead_of.partition(" ")[0]
    refused: Exception | None = None
    for condition in ({"IfMatch": f'"{tag}"'}, {"IfMatch": tag}) if tag else ({"IfNoneMatch": "*"},):
        try:  # Ceph 16 knows a tag without its quotes alone, HTTP with them
            with asking(path):
                answer = path.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
            return Details(len(content), 0, answer["ETag"].strip('"')).version
        except (OSError, StoreError) as error:
            if code_of(error) not in _LOST and not isinstance(error, FileExistsError | FileNotFoundError):
                raise
            refused = error
    with suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return path.version
    raise FileExistsError(errno.EEXIST, "is somebody else's by now", str(path)) from refused


def remove(paths: Sequence[StorePath]) -> None:
    """Remove objects of one store, in no order among them. Raises StoreError that names one which cannot be."""
    for start in range(0, len(paths), REMOVED_AT_ONCE):
        some = paths[start : start + REMOVED_AT_ONCE]
        for path in some:
            SIZES.forget(str(path))
        if some[0].is_s3:
            _remove_of_s3(some)
            continue
        try:
            with asking(some[0]):
                some[0].fs.rm([path.path for path in some])
        except FileNotFoundError:
            for path in some:
                path.unlink(missing_ok=True)


def _remove_of_s3(paths: Sequence[StorePath]) -> None:
    """Remove up to 1,000 objects; s3fs would not say which of them it could not."""
    objects = [{"Key": _names(path)[1]} for path in paths]
    with asking(paths[0]):
        answer = paths[0].fs.call_s3(
            "delete_objects", Bucket=_names(paths[0])[0], Delete={"Objects": objects, "Quiet": True}
        )
    if failed := [error for error in answer.get("Errors") or () if error["Code"] != "NoSuchKey"]:
        raise StoreError(
            f'"{failed[0]["Key"]}" and {len(failed) - 1:,} others cannot be removed ({failed[0]["Code"]}); check that '
            "the credentials may delete there, and that no lock or policy of the bucket holds them"
        )


def uploads(folder: StorePath) -> Iterator[Upload]:
    """Yield the puts in parts below a place that were not finished; none where the store does not say."""
    if not folder.is_s3:
        return
    bucket, below = _names(folder)
    asked: dict[str, str] = {}
    while True:
        try:
            with asking(folder):
                found = folder.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{below}/", **asked)
        except (StoreError, OSError, NotImplementedError):  # a right of its own, which nothing else here needs
            return
        for one in found.get("Uploads") or ():
            n_bytes, last = _parts(folder, bucket, one)
            yield Upload(one["Key"].removeprefix(f"{below}/"), one["UploadId"], n_bytes, last)
        if not found.get("IsTruncated"):
            return
        asked = {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}


def _parts(folder: StorePath, bucket: str, one: dict[str, Any]) -> tuple[int, float]:
    """Return how much of an upload has come, and when the last of it did."""
    n_bytes, last, marker = 0, one["Initiated"].timestamp(), 0
    with suppress(FileNotFoundError), asking(folder):  # it may end meanwhile
        while True:
            found = folder.fs.call_s3(
                "list_parts", Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"], PartNumberMarker=marker
            )
            for part in found.get("Parts") or ():
                n_bytes, last = n_bytes + part["Size"], max(last, part["LastModified"].timestamp())
            if not found.get("IsTruncated"):
                break
            marker = int(found["NextPartNumberMarker"])
    return n_bytes, last


def abandon(folder: StorePath, name: str, upload: str) -> None:
    """Throw the parts of an upload away; one that ended meanwhile needs none of it."""
    bucket, below = _names(folder)
    with suppress(FileNotFoundError), asking(folder):
        folder.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=f"{below}/{name}", UploadId=upload)


def _names(path: StorePath) -> tuple[str, str]:
    bucket, key, _ = path.fs.split_path(path.path)
    return bucket, key
