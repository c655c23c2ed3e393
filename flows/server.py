"""The Prefect server that is set, and whether it answers; and the one that Prefect starts where none is set."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request

PORT = 4200
# Seconds in which a server must answer.
ANSWER_S = 5


def configured() -> str | None:
    """The server that PREFECT_API_URL or the active Prefect profile names, if any."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def start_temporary() -> None:
    """Start the server that Prefect starts for a flow where none is set, so that Ctrl-C does not reach it.

    Ctrl-C in a terminal reaches every process there. A flow that is asked to stop has to tell the server how it ended,
    and waits for a server that is gone.
    """
    from prefect.settings import get_current_settings

    if configured() or not get_current_settings().server.ephemeral.enabled:
        return
    from prefect.server.api.server import SubprocessASGIServer

    # A new process inherits the blocked signals of the thread that starts it. Prefect ends this one by SIGTERM.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        SubprocessASGIServer().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
