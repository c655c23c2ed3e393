"""The Prefect server that is set: its address, and whether it answers."""

from __future__ import annotations

import urllib.error
import urllib.request

PORT = 4200
# Seconds in which a server must answer.
ANSWER_S = 5


def configured() -> str | None:
    """The server that PREFECT_API_URL or the active Prefect profile names, if any."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def silent(url: str) -> str | None:
    """The reason why a server does not answer; None if it answers, whatever the answer is."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def no_answer(url: str, why: str) -> str:
    """The complaint about a server that does not answer."""
    return (
        f"the Prefect server at {url!r} does not answer ({why}); start it, or set PREFECT_API_URL to the address of "
        f"one that runs, such as http://127.0.0.1:{PORT}/api"
    )
