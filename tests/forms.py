"""Forms of the Prefect UI, filled in a real browser."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.server import Server


def answer(prefect: Server, browser: Any, run_id: UUID, choice: str, reason: str, picture: Path) -> str:
    """Approve or refuse a version: open the page of a run, choose Resume in its menu, fill the form, submit it.

    Returns:
        the text of the form.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(30_000)
    look(page, f"{prefect.ui}/runs/flow-run/{run_id}", "Suspended", picture)
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
    submit(form.get_by_role("button", name="Resume"))
    page.close()
    return shown


def look(page: Any, url: str, text: str, picture: Path) -> None:
    """Open a page until it shows a text, as a person reloads a page that stays empty.

    A page does not ask again for what a busy server has not answered.
    """
    from playwright.sync_api import TimeoutError as Missing

    for _ in range(3):
        page.goto(url)
        with suppress(Missing):
            page.get_by_text(text).first.wait_for()
            return
    page.screenshot(path=picture)
    raise AssertionError(f"{url} does not show {text!r} after 3 times; see {picture}")


def submit(button: Any) -> None:
    """Press the button that closes a form, more than once if need be, as a person does.

    A click while a busy page still checks the fields has no effect, and a busy server on SQLite may refuse to write.
    """
    from playwright.sync_api import TimeoutError as Unchanged

    for _ in range(3):
        button.click()
        with suppress(Unchanged):
            button.wait_for(state="hidden", timeout=20_000)
            return
    raise AssertionError("the form is still open after 3 clicks")
