"""What object stores refuse, as one error that says which place and what to do.

Each client library has exceptions of its own; they are told by their names and by the code that S3 gives, so that
neither has to be imported, or even installed. What concerns one object alone (not there, there already) passes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import StoreError

OTHER_VERSION = "PreconditionFailed"
"""S3's code where an object is not the version that was asked for, or is there and should not be."""
_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError"}
_UNREACHED = {"BotoCoreError", "ClientError", "TimeoutError", "ConnectionError", "gaierror"}


@contextmanager
def asking(place: Any) -> Iterator[None]:
    """Turn what a store refuses into a StoreError that says which place and what to do."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if (found := _trouble(error)) is None:
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise StoreError(f'"{place}" {found[0]} ({said}); {found[1]}') from error


def _trouble(error: Exception) -> tuple[str, str] | None:
    """Return what is wrong between us and a store, and what to do; None where the object alone is meant."""
    kinds, code = {kind.__name__ for kind in type(error).__mro__}, code_of(error)
    if kinds & _CREDENTIALS:
        return "needs credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if code == "NoSuchBucket":
        return "is in a bucket that is not there", "make the bucket, or check its name and AWS_ENDPOINT_URL"
    if isinstance(error, PermissionError):
        return "is refused", "check the credentials, and that they may list, read and write there"
    if kinds & _UNREACHED:
        return "cannot be reached", "check the network and AWS_ENDPOINT_URL; what was finished is kept"
    of_object = (FileNotFoundError, FileExistsError, IsADirectoryError)
    if code not in ("", OTHER_VERSION) and not isinstance(error, of_object):
        return f"failed with {code}", "try again, or ask who runs the store; what was finished is kept"
    return None


def code_of(error: BaseException) -> str:
    """Return the code that S3 gave an error, or nothing."""
    seen: BaseException | None = error
    while seen is not None:
        answer = getattr(seen, "response", None)
        if isinstance(answer, dict) and "Error" in answer:
            return str(answer["Error"].get("Code", ""))
        seen = seen.__cause__ or seen.__context__
    return ""
