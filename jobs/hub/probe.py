"""Whether a Hub keeps its promise about the parent of a commit, on which a registry and a sink depend."""

from __future__ import annotations

import uuid

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from jobs.hub import cache, session

# What a Hub answers to a commit whose parent is not the newest commit: 412; some answer 409 or 400.
REFUSED = frozenset({400, 409, 412})


def keeps_parent(api: HfApi, repository: str, kind: str, remembered: bool = True) -> bool:
    """Whether a commit with a wrong parent fails; found by one such commit, and remembered for this Hub.

    A Hub that ignores the parent has made the commit then; the file that it added is deleted again.

    Args:
        api: with a token that may write.
        repository: org/name.
        kind: model or dataset.
        remembered: whether an answer that this Hub gave before is enough.

    Raises:
        HfHubHTTPError: the token may not write, or there is no such repository.
    """
    known = cache.folder("probes", session.endpoint()) / "keeps-parent"
    if remembered and known.is_file():
        return True
    commits = [each.commit_id for each in api.list_repo_commits(repository, repo_type=kind)]
    # An older commit of this repository is the real case; a repository with one commit has none.
    stale = commits[1] if len(commits) > 1 else uuid.uuid4().hex + "0" * 8
    path = f".nightscribe-probe-{uuid.uuid4().hex[:12]}"
    add = CommitOperationAdd(path, b"a commit with a wrong parent, which must fail\n")
    try:
        api.create_commit(repository, [add], commit_message="probe", repo_type=kind, parent_commit=stale)
    except HfHubHTTPError as error:
        if error.response.status_code not in REFUSED:
            raise
        cache.write(known, b"a commit with a wrong parent has failed\n")
        return True
    api.delete_file(path, repository, repo_type=kind, commit_message="remove the probe")
    return False
