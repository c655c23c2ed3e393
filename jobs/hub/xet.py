"""Uploads to a Hub without Xet: huggingface_hub uses it whenever hf_xet is installed, and does not fall back."""

from __future__ import annotations

import logging

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status
from huggingface_hub.utils._runtime import is_xet_available

from jobs.hub import session

LOG = logging.getLogger(__name__)

# Answers of a Hub that has no such address.
ABSENT = frozenset({404, 405, 501})


def has_xet(repo_id: str, repo_type: str) -> bool:
    """Whether the Hub gives tokens for uploads by Xet: one request.

    Args:
        repo_id: org/name, to which the token of this process may write.
        repo_type: model or dataset.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub fails for another reason.
    """
    answer = get_session().get(
        f"{session.endpoint()}/api/{repo_type}s/{repo_id}/xet-write-token/main",
        headers=build_hf_headers(library_name="nightscribe"),
    )
    if answer.status_code in ABSENT:
        return False
    hf_raise_for_status(answer)
    return True


def settle(api: HfApi, repo_id: str, repo_type: str) -> None:
    """Let this process upload by git-lfs if the Hub has no Xet, as HF_HUB_DISABLE_XET=1 does; call it before uploads.

    Args:
        api: of the Hub.
        repo_id: org/name, to which the token of this process may write; it exists.
        repo_type: model or dataset.

    Raises:
        HfHubHTTPError, httpx.HTTPError: the Hub fails for another reason.
    """
    if is_xet_available() and not has_xet(repo_id, repo_type):
        LOG.info("%s has no Xet; files are uploaded by git-lfs", api.endpoint)
        constants.HF_HUB_DISABLE_XET = True
