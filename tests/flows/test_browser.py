"""What a person does in the Prefect UI: fill the form, press Submit, watch the progress, read the report."""

import re

import pyarrow.parquet as pq
import pytest
import yaml

from tests import lake, server
from tests.forms import look, submit


@pytest.fixture(scope="module")
def job(tmp_path_factory, models):
    """Forty files that take a third of a second each."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "in").mkdir()
    for i in range(40):
        pq.write_table(lake.rows(60, start=1000 * i, seed=i), folder / "in" / f"{i:02}.parquet")
    (folder / "slow.py").write_text("import time\n\n\ndef prepare(batch):\n    time.sleep(0.3)\n    return batch\n")
    content = lake.job({"path": "in", "prepare": "slow:prepare"}, "out", models)
    ner = {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"}
    content["tasks"].append(ner)
    (folder / "specs").mkdir()
    file = folder / "specs" / "reviews.yaml"
    about = {"name": "reviews", "description": "Sentiment and entities of new reviews, every night."}
    file.write_text(yaml.safe_dump(content | about | {"schedule": {"cron": "15 2 * * *", "timezone": "Europe/Berlin"}}))
    return file


def test_a_person_fills_the_form_watches_the_run_and_reads_its_report(browser, job, tmp_path, shots):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(30_000)
    with server.running(tmp_path) as prefect, prefect.worker():
        prefect.nightscribe("deploy", "--specs", job.parent.name, cwd=job.parent.parent)
        look(page, f"{prefect.ui}/deployments", "reviews", shots / "deployment.png")
        page.get_by_role("link", name="reviews").first.click()
        page.get_by_text("At 02:15 AM").wait_for()
        page.screenshot(path=shots / "deployment.png")

        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        page.get_by_text("Maximum number of rows to enrich; 0 means all rows").wait_for()
        page.get_by_label("Row limit").fill("1500")
        page.get_by_label("Dtype").click()
        page.get_by_role("option", name="float32").click()
        page.screenshot(path=shots / "form.png", full_page=True)
        submit(page.get_by_role("button", name="Submit"))

        run = server.wait_for(prefect.last_run, 300, "the run that the form started")
        assert (run.parameters["limit"], run.parameters["dtype"]) == (1500, "float32")
        page.goto(f"{prefect.ui}/runs/flow-run/{run.id}?tab=Artifacts")
        open_artifact(page, "reviews-progress", timeout_s=120)
        seen = set()
        while 100.0 not in seen:
            progress = page.get_by_text(re.compile(r"Progress: [\d.]+%")).inner_text()
            seen.add(float(progress.removeprefix("Progress: ").removesuffix("%")))
            if len(seen) == 3:
                page.screenshot(path=shots / "progress.png")
            page.wait_for_timeout(1000)
            page.reload()
        assert len(seen) > 2, "the progress stood still"

        server.wait_for(lambda: prefect.state(run.id) == "Completed", 60, "the end of the run")
        look(page, f"{prefect.ui}/runs/flow-run/{run.id}?tab=Artifacts", "reviews-summary", shots / "run.png")
        page.screenshot(path=shots / "run.png")
        open_artifact(page, "reviews-report")
        page.get_by_text("1,500 rows enriched, 0 rejected").first.wait_for()
        picture = page.get_by_alt_text("tokens/s and finished rows, over time").first
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 600
        assert page.get_by_alt_text("share of each label, scores").first.is_visible()
        page.set_viewport_size({"width": 1280, "height": 1500})
        page.screenshot(path=shots / "report.png")


def open_artifact(page, key, timeout_s=30):
    """From the artifacts of a run to one of them; the page does not look for new ones by itself."""
    server.wait_for(lambda: appears(page, key), timeout_s, key)
    page.get_by_text(key).first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()


def appears(page, key):
    page.reload()
    page.get_by_role("tab", name="Artifacts").wait_for()
    page.wait_for_timeout(2000)
    return page.get_by_text(key).count() > 0
