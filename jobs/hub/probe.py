"""Whether a Hub compares the parent that a commit names with the newest one: some self-hosted ones do not."""

from __future__ import annotations

import time
import uuid

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from jobs.hub import cache, session, xet
from jobs.hub.complaint import HUB_ERRORS, is_passing

# Answers to a commit whose parent is not the newest one; the public Hub gives 412.
REFUSED = frozenset({400, 404, 409, 412, 422})
# Answers of a Hub that has no branches, or does not have the repository yet.
NO_BRANCH = frozenset({400, 404, 405, 501})
# Seconds before a commit that failed for a reason that can pass is tried again.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)


def keeps_parent(api: HfApi, repo_id: str, repo_type: str, remembered: bool = True) -> bool:
    """Try a commit on top of one that is not the newest any more: it must fail, or two writers overwrite each other.

    It is tried on a branch, or in a private repository if there can be no branch; both are deleted afterwards. A Hub
    that passes is not asked again from this machine.

    Args:
        api: a client whose token may write to the repository.
        repo_id: org/name; need not exist.
        repo_type: model or dataset.
        remembered: whether it is enough that this Hub has passed before.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub fails for another reason, so that nothing is known.
    """
    passed = cache.folder("probes", session.endpoint()) / "keeps-parent"
    if remembered and passed.exists():
        return True
    name = f"nightscribe-probe-{uuid.uuid4().hex[:12]}"
    try:
        api.create_branch(repo_id, repo_type=repo_type, branch=name)
    except HfHubHTTPError as error:
        if error.response.status_code not in NO_BRANCH:
            raise
        kept = _in_repository(api, f"{repo_id.split('/')[0]}/{name}", repo_type)
    else:
        try:
            kept = _is_refused(api, repo_id, repo_type, name)
        finally:
            api.delete_branch(repo_id, repo_type=repo_type, branch=name)
    if kept:
        cache.keep(passed, b"")
    return kept


def _in_repository(api: HfApi, repo_id: str, repo_type: str) -> bool:
    api.create_repo(repo_id, repo_type=repo_type, private=True)
    try:
        return _is_refused(api, repo_id, repo_type, "main")
    finally:
        api.delete_repo(repo_id, repo_type=repo_type)


def _is_refused(api: HfApi, repo_id: str, repo_type: str, revision: str) -> bool:
    """Whether a commit is refused that names the commit before the newest one as its parent."""

    def commit(file: str, parent: str | None) -> str:
        add = CommitOperationAdd(f"nightscribe-probe/{file}", file.encode())
        message = "Does this Hub compare the parent of a commit with the newest one?"
        for pause in (*PAUSES_S, None):
            try:
                made = api.create_commit(
                    repo_id, [add], commit_message=message, repo_type=repo_type, revision=revision, parent_commit=parent
                )
                return made.oid
            except HUB_ERRORS as error:
                if pause is None or not is_passing(error):
                    raise
                # A commit that was made and whose answer was lost does no harm on a branch that is deleted.
                time.sleep(pause)
        raise AssertionError("the last attempt raises or returns")

    xet.settle(api, repo_id, repo_type)
    first = commit("first.txt", None)
    commit("second.txt", first)
    try:
        commit("third.txt", first)
    except HfHubHTTPError as error:
        if error.response.status_code not in REFUSED:
            raise
        return True
    return False
