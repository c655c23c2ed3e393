"""A Hub without Xet, such as a self-hosted one: large files are uploaded by git-lfs, although hf_xet is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from tests.hub.local import Hub

PUSH = """
import sys
from huggingface_hub import CommitOperationAdd
from jobs.hub.commits import Commits
commits = Commits("model", sys.argv[1], "the repository")
add = CommitOperationAdd("model.safetensors", b"weights" * 1000)
assert commits.add("weights", lambda seen, again: [add])
"""


def test_large_files_are_uploaded_by_git_lfs_to_a_hub_without_xet(hub: Hub):
    name = f"org/{uuid.uuid4().hex[:12]}"
    # huggingface_hub reads this variable when it is imported; without it, it uses Xet.
    environment = {**os.environ, "HF_TOKEN": hub.token("ada"), "HF_HUB_DISABLE_XET": "0"}
    subprocess.run([sys.executable, "-c", PUSH, name], check=True, env=environment)
    assert hub.seen("xet-write-token")
    assert hub.repositories["model", name].files()["model.safetensors"] == b"weights" * 1000
