"""Arms that take turns: repeat by repeat, medians and spread, and the table."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable


def cpu_seconds() -> float:
    """CPU seconds of this process and of the processes that it has started and waited for."""
    return sum(os.times()[:4])


def take(
    arms: dict[str, Callable[[int], None]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run every arm once a repeat, in turn.

    Args:
        arms: name -> what to time; it is called with the number of the repeat.
        repeats: how often.
        clock: what is read; `cpu_seconds` or `time.process_time` on a machine that is shared.

    Returns:
        name -> seconds of each repeat.
    """
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats):
        for name, call in arms.items():
            started = clock()
            call(repeat)
            seconds[name].append(clock() - started)
            print(f"{repeat} {name:<28} {seconds[name][-1]:>8.2f} s", flush=True)
    return seconds


def rates(seconds: dict[str, list[float]], amount: int) -> dict[str, float]:
    """Amount a second of each arm, by the median of its repeats."""
    return {name: amount / statistics.median(values) for name, values in seconds.items()}


def show(seconds: dict[str, list[float]], amount: int, unit: str, base: str) -> None:
    """Print a table, fastest first, with each arm's ratio to `base` and its spread."""
    rate = rates(seconds, amount)
    print(f"\n{'arm':<28} {unit:>10} {'x':>7}   spread")
    for name in sorted(rate, key=lambda name: -rate[name]):
        spread = f"{amount / max(seconds[name]):,.0f} to {amount / min(seconds[name]):,.0f}"
        print(f"{name:<28} {rate[name]:>10,.0f} {rate[name] / rate[base]:>7.2f}   {spread}")


def ranking(rate: dict[str, float]) -> dict[str, str | float]:
    """Which arm is first and by how much; for the first job, how it compares with the fastest arm that is no job."""
    order = sorted(rate, key=lambda name: -rate[name])
    jobs, others = ([n for n in order if n.startswith("job") is own] for own in (True, False))
    found: dict[str, str | float] = {"first": order[0]}
    if jobs and others:
        found |= {"best_job": jobs[0], "best_other": others[0]}
        found["job_over_best_other"] = round(rate[jobs[0]] / rate[others[0]], 3)
    return found


def tell(lane: str, rate: dict[str, float]) -> dict[str, str | float]:
    """Print `ranking` as a sentence and return it."""
    found = ranking(rate)
    if "job_over_best_other" in found:
        print(f"{lane}: first is {found['first']}; {found['best_job']} is {found['job_over_best_other']} x "
              f"{found['best_other']}, the fastest of the others")  # fmt: skip
    return found


def over(rate: dict[str, float], rival: str) -> dict[str, float]:
    """The fastest job over the fastest `rival ...`: both in float32, each in any dtype, and any job over float32."""
    best = {
        (name, exact): max(
            (value for arm, value in rate.items() if arm.startswith(name) and (not exact or arm.endswith("float32"))),
            default=0.0,
        )
        for name in ("job", rival)
        for exact in (True, False)
    }
    if not best[rival, True]:
        return {}
    return {
        f"job_fp32_over_best_{rival}_fp32": round(best["job", True] / best[rival, True], 2),
        f"best_job_over_best_{rival}_fp32": round(best["job", False] / best[rival, True], 2),
        f"best_job_over_best_{rival}": round(best["job", False] / best[rival, False], 2),
    }
