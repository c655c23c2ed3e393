"""The Hub of this test session: importing this module starts it and names it in HF_ENDPOINT.

It must be imported before huggingface_hub, which reads the environment when it is imported.
"""

from __future__ import annotations

import os
import tempfile

from tests.hub.hub import Hub

__all__ = ["HOME", "HUB", "Hub"]

HUB = Hub()
HOME = tempfile.TemporaryDirectory(prefix="hub-")
os.environ["HF_ENDPOINT"] = HUB.endpoint
os.environ["HF_HOME"] = HOME.name
# `datasets` reports each load to a fixed address of the public Hub, which cannot be reached from here.
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
# Without Xet, clients upload by git-lfs, whose protocol is public.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ.pop("HF_TOKEN", None)
os.environ.pop("HF_HUB_OFFLINE", None)
