"""Turns an error of the system or a filesystem library about a sink into one sentence with the fix."""

from __future__ import annotations

import errno

from jobs.secrets import shown
from transforms.errors import SinkError


def explain(error: Exception, url: str, key: str = "sink.path") -> SinkError:
    """Turns an error of the system or a filesystem library about a folder of a lake into one sentence with the fix.

    Args:
        error: what was raised.
        url: the folder or URL.
        key: the key that names it in the job or training file.
    """
    number = error.errno if isinstance(error, OSError) else None
    remote = "://" in url
    missing = str(getattr(error, "filename", None) or url)
    denied = f"permission denied; make the folder writable for this user, or choose another {key}"
    if remote:
        denied = "access denied; check the credentials of this process and their permission to list, read and write"
    fix = {
        errno.ENOSPC: "the disk is full; free some space and run again, finished shards are kept",
        errno.EDQUOT: "the quota is used up; free some space and run again, finished shards are kept",
        errno.EACCES: denied,
        errno.EPERM: denied,
        errno.EROFS: f"the file system is read-only; choose another {key}",
        errno.ENOTDIR: f"there is a file where a folder is needed; choose another {key}",
        errno.EEXIST: f"there is a file where a folder is needed; choose another {key}",
    }.get(number or 0)
    if fix is None and number == errno.ENOENT and not remote:
        fix = f"{missing!r} is not there, and cannot be made; choose another {key}, or make the folder that it is in"
    if fix is None:
        fix = _library_fix(error, remote)
    return SinkError(f"{key} {shown(url)!r} cannot be {'used' if remote else 'written'}: {fix}")


# Words in the name of a library's exception or in its message -> the fix. Names are those of botocore, aiohttp,
# google-auth and azure-core.
_FIXES = {
    ("credential", "tokenretrieval", "authenticat", "authoriz", "expiredtoken"): (
        "no valid credentials were found; set them as the store's library expects (for S3 AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or a profile)"
    ),
    ("reduce your request rate", "slowdown", "toomanyrequests", "too many requests"): (
        "the store refuses requests because there are too many of them; run again later, or with fewer workers, "
        "finished shards are kept"
    ),
    ("connection", "connector", "timeout", "timed out", "serverdisconnected", "gaierror", "cannot connect"): (
        "the store cannot be reached or does not answer in time; check the network and the endpoint, then run again, "
        "finished shards are kept"
    ),
}


def _library_fix(error: Exception, remote: bool) -> str:
    said = shown(" ".join(str(error).split())[:200])
    if remote and isinstance(error, PermissionError):
        return "access denied; check the credentials of this process and their permission to list, read and write"
    if remote and isinstance(error, FileNotFoundError):
        return "there is no such bucket or container; create it, or correct the URL"
    name = type(error).__name__.lower()
    for words, fix in _FIXES.items():
        if remote and any(word in name or word in said.lower() for word in words):
            return fix
    what = "URL" if remote else "path"
    return f"{said or type(error).__name__}; check the {what} and run again, finished shards are kept"
