"""What a run shows in the Prefect UI: a summary table, a plan, and a report with a picture."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

from jobs.picture import draw
from jobs.plan import Plan
from jobs.progress import Progress
from jobs.report import Report


def as_dict(report: Report) -> dict[str, Any]:
    """A report as a flow result."""
    return asdict(report)


def summary_table(plan: Plan, report: Report) -> list[dict[str, str]]:
    """Rows `what`, `value`: counts, speed, models."""
    speed = report.tokens / report.seconds if report.seconds else 0.0
    padding = report.padded_tokens / report.tokens - 1 if report.tokens else 0.0
    rows = {
        "rows in": f"{report.rows_in:,}",
        "rows out": f"{report.rows_out:,}",
        "rows rejected": f"{report.rows_rejected:,}",
        "shards": f"{report.shards:,} ({report.shards_skipped:,} done before)",
        "tokens a second": f"{speed:,.0f}",
        "padding": f"{padding:.1%}",
        "seconds": f"{report.seconds:,.1f}",
        "output": report.output,
        "run": report.run_id,
    }
    return [{"what": what, "value": value} for what, value in (rows | _models(plan)).items()]


def report_page(plan: Plan, report: Report, samples: list[tuple[float, Progress]]) -> str:
    """Markdown with the numbers and one picture, embedded."""
    table = "\n".join(f"| {row['what']} | {row['value']} |" for row in summary_table(plan, report))
    picture = base64.b64encode(draw(plan, samples)).decode()
    where = f"Rejected rows with their reasons: `{report.output}/_rejected`" if report.rows_rejected else ""
    return f"""# {plan.spec.name}

{report.rows_out:,} rows enriched, {report.rows_rejected:,} rejected, in {report.seconds:,.1f} s.

![throughput, labels and lengths](data:image/png;base64,{picture})

| | |
|---|---|
{table}

Enriched rows: `{report.output}`

{where}
"""


def plan_page(plan: Plan) -> str:
    """Markdown of what a run would do."""
    rows = "unknown until read" if plan.rows_todo is None else f"{plan.rows_todo:,}"
    lines = {"shards": f"{len(plan.shards):,}", "to do": f"{len(plan.todo):,}", "rows to do": rows} | _models(plan)
    table = "\n".join(f"| {what} | {value} |" for what, value in lines.items())
    return f"# {plan.spec.name}: plan\n\n| | |\n|---|---|\n{table}\n"


def _models(plan: Plan) -> dict[str, str]:
    return {
        f"{task.spec.task} into {task.spec.into}": " + ".join(
            [f"{pin.name} at {pin.commit[:12]}" for pin in (task.model, task.adapter) if pin is not None] + [task.dtype]
        )
        for task in plan.tasks
    }
