"""The form with which a person approves or refuses a version, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from tests.server import Server


def answer(prefect: Server, browser: Any, run_id: UUID, choice: str, reason: str, picture: Path) -> str:
    """Open the page of a run, choose Resume in its menu, fill the form, and submit it; the text of the form."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(30_000)
    page.goto(f"{prefect.ui}/runs/flow-run/{run_id}")
    page.get_by_text("Suspended").first.wait_for()
    page.locator("button[aria-haspopup=menu]").last.click()
    page.get_by_role("menuitem", name="Resume").click()
    form = page.get_by_role("dialog")
    form.get_by_text("Shall").wait_for()
    form.get_by_label("Decision").click()
    page.get_by_role("option", name=choice).click()
    form.get_by_label("Reason").fill(reason)
    form.get_by_label("Your name").fill("Ada")
    page.set_viewport_size({"width": 1280, "height": 1400})
    page.screenshot(path=picture)
    shown: str = form.inner_text()
    form.get_by_role("button", name="Resume").click()
    form.wait_for(state="hidden")
    page.close()
    return shown
