"""Tokens and passwords in texts: how they are found, and taken out."""

from __future__ import annotations

import os
import re

# Tokens of users, as https://huggingface.co/docs/hub/security-tokens describes them, wherever they stand in a text.
TOKEN = re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{16,}")

# A shorter value of HF_TOKEN would be found in words.
MIN_TOKEN = 8


def has_token(text: str) -> bool:
    """Whether a token of the Hub is in a text: one of the public Hub's form, or the one of this process."""
    return TOKEN.search(text) is not None or ((own := _own_token()) is not None and own in text)


def redacted(text: str) -> str:
    """A text without tokens, and without users, passwords and signatures in its URLs."""
    text = TOKEN.sub(r"\1_***", shown(text))
    return text if (own := _own_token()) is None else text.replace(own, "***")


def shown(url: str) -> str:
    """A path or URL, or a text with URLs, as messages show it: without user, password and query."""
    # The name before an @ is a token in some URLs of the web; elsewhere it is a secret only with a password.
    return re.sub(
        r"(https?://|://(?=[^/@\s]*:))[^/@\s]+@", r"\1***@", re.sub(r"(://[^?\s]*)\?[^\s'\")]*", r"\1?***", url)
    )


def _own_token() -> str | None:
    """The token of this process, which at a Hub of one's own may have any form."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return token if len(token) >= MIN_TOKEN else None
