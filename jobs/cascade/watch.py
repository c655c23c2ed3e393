"""A test that runs along with a job: do the models still agree on the checked answers as often as was certified?

The hypothesis is that they agree with a probability of at least `agree`. A check is one row, as in the certificate, and
rows are chosen by their place, so a text that many rows have counts in both as often as they do. Against it, for a rate
of disagreement q above 1 - agree, the ratio of likelihoods

    E_n = prod_i (q / (1 - agree)) if they disagree on row i else ((1 - q) / agree)

is a nonnegative supermartingale that starts at 1, and so is the mean over several q; it ever reaches 1 / level with
probability at most `level`, however often it is looked at (Ville 1939; Waudby-Smith and Ramdas 2024, arXiv:2010.09686).
That takes rows in no special order: neighbours on which the models disagree are stronger evidence than they should be.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.cascade.kept import Refuted

# Checked rows that a process takes note of, some 60 bytes each; with so many it knows.
MOST_SEEN = 500_000
# The probability with which one process stops a small model that keeps the promise.
LEVEL = 0.01
# Alternatives, as multiples of the rate of disagreement that is allowed; those above ONE are left out.
TIMES = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0])
ONE = 0.95


def log_e_value(checked: int, agreed: int, agree: float) -> float:
    """The logarithm of the evidence that the models agree less often than `agree`.

    Args:
        checked: rows that both computed.
        agreed: those on which they agree.
        agree: the agreement of the hypothesis, below 1.
    """
    rates = np.minimum(TIMES * (1 - agree), (1 - agree) + ONE * agree)
    won = (checked - agreed) * np.log(rates / (1 - agree)) + agreed * np.log((1 - rates) / agree)
    return float(np.logaddexp.reduce(won) - np.log(len(won)))


@dataclass
class AgreementWatch:
    """The checks of one process, and whether they, or those of another process, have refuted the promise.

    Attributes:
        agree: the promised agreement.
        checked: rows so far.
        agreed: those of them on which the models agree.
        is_over: whether the small model is not to be asked any more.
        refuted: why this process has found so; None if it has not.
        is_told: whether the other processes can know that.
        looked_at: when this process last looked for what others have found.
        seen: names of the rows so far. A row that is computed again, by another attempt or by an equal task, is one
            observation.
    """

    agree: float
    checked: int = 0
    agreed: int = 0
    is_over: bool = False
    refuted: Refuted | None = None
    is_told: bool = False
    looked_at: float = -np.inf
    seen: set[int] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def see(self, rows: NDArray[np.uint64], agreed: NDArray[np.bool_]) -> None:
        """Take note of checked rows.

        Args:
            rows: their names, which are equal for the same row of the source.
            agreed: whether the models agree on each.
        """
        with self._lock:
            for row, same in zip(rows.tolist(), agreed.tolist(), strict=True):
                if row not in self.seen and len(self.seen) < MOST_SEEN:
                    self.seen.add(row)
                    self.checked += 1
                    self.agreed += same
            if not self.is_over and log_e_value(self.checked, self.agreed, self.agree) >= -np.log(LEVEL):
                self.is_over = True
                self.refuted = Refuted(self.checked, self.agreed)

    def stop(self) -> None:
        """Ask the small model no more, because another process has refuted the promise."""
        self.is_over = True
