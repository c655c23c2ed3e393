"""What is special to S3: requests that are repeated with back-off, and counted; the end of an object in one request.

s3fs repeats a request five times within two seconds, and botocore the same request within that, so an error that lasts
is met with a hundred requests, one of some seconds with an error. Here one place repeats, and botocore does not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any

from fsspec.asyn import sync

from jobs.store import requests
from jobs.store.requests import Counted

LOG = logging.getLogger(__name__)

PROTOCOLS = frozenset({"s3", "s3a"})

# Attempts at a request, unless AWS_MAX_ATTEMPTS says another number; seven pauses of 26 seconds together on average.
ATTEMPTS = 8
# Of that, what a store gets that has never answered: its address may be wrong.
UNKNOWN_ATTEMPTS = 4
# The first pause is at most so long, each next one twice as long; the share of it that is waited is random, so that
# clients that were refused together do not come back together
# (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 20.0

# Answers that another attempt may not get.
PASSING = frozenset({408, 429, 500, 502, 503, 504, 509})
PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})

READ = {"GetObject": "gets", "HeadObject": "heads", "HeadBucket": "heads", "DeleteObject": "deletes"}


# Whether a request may be sent again. A coroutine that is handed to the loop of fsspec keeps the context of its caller.
_MAY_REPEAT: ContextVar[Callable[[], bool]] = ContextVar("_MAY_REPEAT")


@contextmanager
def repeated_only_while(may: Callable[[], bool]) -> Iterator[None]:
    """Send no request of the block again unless `may` says so: a process may have slept since the first attempt."""
    token = _MAY_REPEAT.set(may)
    try:
        yield
    finally:
        _MAY_REPEAT.reset(token)


def is_s3(fs: Any) -> bool:
    """Whether a filesystem is s3fs."""
    return bool(PROTOCOLS & frozenset({fs.protocol} if isinstance(fs.protocol, str) else fs.protocol))


def options(url: str) -> dict[str, Any]:
    """Options of s3fs for the protocols of a URL, as `fsspec.core.url_to_fs` takes them; none for other stores."""
    found = PROTOCOLS & set(re.findall(r"(?:^|::)(s3a?)://", url))
    if not found:
        return {}
    from fsspec.config import conf

    own = {"retries": {"mode": "standard", "total_max_attempts": 1}}
    # What this user has configured for fsspec has precedence; it would be replaced as a whole.
    return {protocol: {"config_kwargs": own | conf.get(protocol, {}).get("config_kwargs", {})} for protocol in found}


def prepare(fs: Any) -> None:
    """Let a filesystem of S3 repeat and count its requests; no effect on others, or for the second time."""
    if not is_s3(fs) or "_call_s3" in vars(fs):
        return
    from botocore.exceptions import IncompleteReadError
    from s3fs.core import S3_RETRYABLE_ERRORS, add_retryable_error

    if IncompleteReadError not in S3_RETRYABLE_ERRORS:
        # An answer that ends too early.
        add_retryable_error(IncompleteReadError)
    fs._call_s3 = _Calls(fs).call


class _Calls:
    """The requests of one filesystem."""

    def __init__(self, fs: Any):
        self.fs = fs
        self.has_answered = False

    async def call(self, method: str, *options: Any, **arguments: Any) -> Any:
        """In place of `S3FileSystem._call_s3`.

        Raises:
            OSError: the store refused the request, as s3fs raises it, or did not answer.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
        from s3fs.errors import translate_boto_error

        await self.fs.set_session()
        client = await self.fs.get_s3(arguments.get("Bucket"))
        client.meta.events.register("before-send.s3", _sent, unique_id="nightscribe-sent")
        client.meta.events.register("after-call.s3.GetObject", _received, unique_id="nightscribe-received")
        function = getattr(client, method)
        words = self.fs._get_s3_method_kwargs(function, *options, **arguments)
        may = _MAY_REPEAT.get(None)
        attempt = 0
        while True:
            attempt += 1
            if attempt > 1 and may is not None and not may():
                raise OSError(f"the connection failed, and {method} was not tried again, because the lease was over")
            try:
                answer = await function(**words)
            except ClientError as error:
                self.has_answered = True
                if not _passes(error) or attempt >= self._attempts():
                    raise translate_boto_error(error) from error
                LOG.info("%s was refused (%s), attempt %d", method, error, attempt)
            except (BotoCoreError, ResponseParserError, OSError) as error:
                if attempt >= self._attempts() or not _is_network(error):
                    raise _unreachable(error, attempt) if _is_network(error) else error from error
                LOG.info("%s got no answer (%s), attempt %d", method, error, attempt)
            else:
                self.has_answered = True
                return answer
            await asyncio.sleep(random.random() * min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** (attempt - 1)))

    def _attempts(self) -> int:
        wanted = os.environ.get("AWS_MAX_ATTEMPTS", "")
        return int(wanted) if wanted.isdigit() else ATTEMPTS if self.has_answered else UNKNOWN_ATTEMPTS


def tail(fs: Any, path: str, count: int) -> tuple[bytes, int, str] | None:
    """The last bytes of an object, its size and its ETag, in one request; None if it is empty."""
    try:
        content, answer = _read(fs, path, Range=f"bytes=-{count}")
    except OSError as error:
        if _code(error) == "InvalidRange":
            return None
        raise
    # A store without ranges sends the whole object.
    size = int(answer["ContentRange"].rsplit("/", 1)[1]) if "ContentRange" in answer else len(content)
    return content, size, answer["ETag"]


def get(fs: Any, path: str) -> tuple[bytes, str]:
    """The content of a small object and its ETag, in one request."""
    content, answer = _read(fs, path)
    return content, answer["ETag"]


def exists(fs: Any, path: str) -> bool:
    """Whether there is an object; without the listing by which s3fs looks for a folder of that name."""
    bucket, key, _ = fs.split_path(path)
    try:
        sync(fs.loop, fs._call_s3, "head_object", Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


def names(fs: Any, folder: str) -> list[str]:
    """Paths of what is in a folder, in one listing also if there is nothing."""
    return [each["name"] for each in sync(fs.loop, fs._lsdir, folder, refresh=True)]


def age_s(fs: Any, path: str) -> float:
    """Seconds since an object was written, as the store's own clock says."""
    bucket, key, _ = fs.split_path(path)
    answer = sync(fs.loop, fs._call_s3, "head_object", Bucket=bucket, Key=key)
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return float((now - answer["LastModified"]).total_seconds())


def _read(fs: Any, path: str, **words: Any) -> tuple[bytes, dict[str, Any]]:
    from s3fs.core import _error_wrapper

    bucket, key, version = fs.split_path(path)
    words |= {} if version is None else {"VersionId": version}

    async def once() -> tuple[bytes, dict[str, Any]]:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, **words)
        try:
            return await answer["Body"].read(), answer
        finally:
            answer["Body"].close()

    async def read() -> tuple[bytes, dict[str, Any]]:
        found: tuple[bytes, dict[str, Any]] = await _error_wrapper(once, retries=fs.retries)
        return found

    found: tuple[bytes, dict[str, Any]] = sync(fs.loop, read)
    return found


def is_lost_upload(error: BaseException) -> bool:
    """Whether an upload in parts had ended when its end was asked for again, because the first answer was lost."""
    return _code(error) == "NoSuchUpload"


def _code(error: BaseException) -> str | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _passes(error: Any) -> bool:
    response = error.response
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in PASSING or response.get("Error", {}).get("Code") in PASSING_CODES


def _is_network(error: BaseException) -> bool:
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    # aiohttp's errors are those of the system or botocore's; certificates that are not trusted do not become so.
    kinds = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, ResponseParserError)
    network = isinstance(error, (*kinds, ConnectionError, TimeoutError))
    return network and not isinstance(error, boto.SSLError)


def _unreachable(error: BaseException, attempts: int) -> OSError:
    """Not an error that s3fs would repeat once more."""
    times = "once" if attempts == 1 else f"{attempts} times"
    return OSError(f"the connection failed {times}: {' '.join(str(error).split())}")


def _sent(request: Any, event_name: str, **_: Any) -> None:
    operation = event_name.rsplit(".", 1)[-1]
    kind = READ.get(operation) or ("lists" if operation.startswith("List") else None)
    if kind is None:
        kind = "deletes" if request.method == "DELETE" or operation == "DeleteObjects" else "puts"
    size = int(request.headers.get("Content-Length") or 0) if operation in ("PutObject", "UploadPart") else 0
    requests.add(Counted(sent=size) + Counted(**{kind: 1}))


def _received(parsed: dict[str, Any], **_: Any) -> None:
    requests.add(Counted(received=int(parsed.get("ContentLength") or 0)))
