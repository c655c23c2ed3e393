"""A store that does not answer for some seconds or minutes ends nothing: it is asked again."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import TypeVar

from jobs.parts import PATIENCE_S
from transforms.errors import SinkBusy, SinkError, UserError

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# Errors of a local disk that do not pass by themselves.
LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


class Patience:
    """Asks a store, for PATIENCE_S seconds after its last answer.

    Args:
        clock: seconds; never set back.
    """

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self._failing_since: float | None = None

    def ask(self, do: Callable[[], T]) -> T | None:
        """Read or write; None if the store does not answer, and is to be asked again.

        Raises:
            OSError: it has not answered for too long, or never will.
            SinkError: likewise.
        """
        try:
            return do()
        except (OSError, SinkError) as error:
            now = self.clock()
            if self._failing_since is None:
                self._failing_since = now
            if not _may_pass(error) or now - self._failing_since > PATIENCE_S:
                raise
            LOG.warning("the sink does not answer, and is asked again: %s", error)
            return None

    def renew(self) -> None:
        """Note that the store has answered all that was asked."""
        self._failing_since = None


def _may_pass(error: Exception) -> bool:
    """Whether a store that gave this error may answer again by itself."""
    number = getattr(error if isinstance(error, OSError) else error.__cause__, "errno", None)
    return not isinstance(error, SinkBusy | UserError) and number not in LASTING
