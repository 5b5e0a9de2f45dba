"""The page in a real browser, over a server with canned answers: it works, and it keeps to itself.

Every test also checks that the page asked nobody but its server for anything, that its policy was
never violated, and that no script failed.
"""

from __future__ import annotations

import itertools
import runpy
import shutil
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")
pytest.importorskip("fastapi", reason="fastapi isn't installed: pip install 'hornbook[serve]'")
expect = playwright_api.expect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = {"width": 1280, "height": 800}
NUMBERS = itertools.count()
fakes = runpy.run_path(str(Path(__file__).with_name("fake_openai.py")))
EVIL, POEM = fakes["EVIL"], fakes["POEM"]
WATCH = """
addEventListener('securitypolicyviolation', event => violation(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def tab(browser):
    """One tab for all tests, as opening one takes longer than most tests do."""
    page = browser.new_page(viewport=DESK, reduced_motion="reduce")
    page.set_default_timeout(10_000)
    page.requests, page.faults = [], []
    page.expose_function("violation", lambda what: page.faults.append(f"policy: {what}"))
    page.add_init_script(WATCH)
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    return page


@pytest.fixture(scope="module")
def server():
    with fakes["serving"](fakes["Fake"]()) as fake:
        yield fake


@pytest.fixture
def fake(server):
    """The server, as if nobody had asked it anything."""
    server.models, server.key, server.left = dict(fakes["MODELS"]), "", 0
    server.asked.clear()
    return server


@pytest.fixture
def open_page(tab, fake):
    """Open the page as if for the first time; what it did wrong is found out at the end."""

    def open_page(panel="chat", *, ready=True, viewport=DESK, url=fake.url):
        tab.requests.clear()
        tab.faults.clear()
        tab.set_viewport_size(viewport)
        tab.emulate_media(color_scheme="light")
        if tab.url.startswith("http"):
            tab.evaluate("sessionStorage.clear()")
        # The query makes it another document, so that the browser doesn't just look for #panel.
        tab.goto(f"{url}?{next(NUMBERS)}" + (f"#{panel}" if panel else ""))
        if ready:
            tab.wait_for_selector("#model:not([disabled])")
        return tab

    yield open_page
    strange = [u for u in tab.requests if not u.startswith((fake.url, f"blob:{fake.url}"))]
    assert strange == []
    assert tab.faults == []


def ask(page, text):
    """Ask, and wait until the answer has ended."""
    n = page.locator(".turn.assistant").count()
    page.fill("#question", text)
    page.press("#question", "Enter")
    page.locator(".turn.assistant").nth(n).locator(".facts").wait_for()


def test_an_answer_comes_and_is_set_as_text_lists_and_code(open_page, fake):
    page = open_page()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Temperature").fill("0.5")
    ask(page, "What was a hornbook?")
    body = page.locator(".turn.assistant .body")
    assert body.locator("ol li").count() == 3
    assert body.locator("strong").inner_text() == "alphabet"
    assert body.locator("pre code").inner_text() == 'for letter in "abc":\n    print(letter)'
    n = len(range(0, len(POEM), 9))
    assert f"{n} tokens" in page.locator(".turn.assistant .facts").inner_text()
    asked = fake.last("chat")
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What was a hornbook?"},
    ]
    chosen = {name: asked[name] for name in ("seed", "temperature", "top_p", "max_tokens")}
    assert chosen == {"seed": 7, "temperature": 0.5, "top_p": 0.9, "max_tokens": 512}
    ask(page, "Go on.")
    assert [m["role"] for m in fake.last("chat")["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert fake.last("chat")["messages"][2]["content"] == POEM
    page.reload()  # a tab keeps what was said
    expect(page.locator(".turn")).to_have_count(4)
    page.get_by_role("button", name="New").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#primer")).to_be_visible()


def test_what_the_model_writes_stays_text(open_page):
    page = open_page()
    ask(page, "something evil <img src=x onerror=alert(3)>")
    turns = page.locator("#turns")
    assert turns.locator("img, script, svg, a, i, b").count() == 0
    assert page.evaluate("document.body.dataset.planted ?? null") is None
    shown = page.locator(".turn.assistant .body").inner_text()
    for piece in ("<img src=x onerror=", "<script>document", "<b onmouseover=alert(1)>bold</b>"):
        assert piece in shown
    assert "[a](javascript:alert(1))" in shown
    assert page.locator(".turn.user .body").inner_text().endswith("<img src=x onerror=alert(3)>")


def test_the_policy_stops_a_planted_script_and_the_test_would_see_it(open_page):
    page = open_page()
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'document.body.dataset.planted = 1'}))"
    )
    page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    page.wait_for_timeout(50)
    assert page.evaluate("document.body.dataset.planted ?? null") is None
    assert {fault.split("-src")[0] for fault in page.faults} == {
        "policy: script",
        "policy: connect",
    }
    page.faults.clear()


def test_stopping_keeps_what_has_come_and_lets_go_of_the_server(open_page, fake):
    page = open_page()
    for n, by in enumerate(["button", "escape"]):
        page.fill("#question", "Count slowly")
        page.press("#question", "Enter")
        answer = page.locator(".turn.assistant").nth(n)
        expect(answer.locator(".body")).to_contain_text("word2")
        expect(page.locator("#send")).to_be_hidden()
        if by == "button":
            page.get_by_role("button", name="Stop").click()
        else:
            page.keyboard.press("Escape")
        expect(answer.locator(".facts")).to_contain_text("stopped")
        assert "word2" in answer.locator(".body").inner_text()
        assert "word400" not in answer.locator(".body").inner_text()
        assert page.evaluate("document.activeElement.id") == "question"
        for _ in range(100):
            if fake.left == n + 1:
                break
            page.wait_for_timeout(20)
        assert fake.left == n + 1
    ask(page, "Now another")  # the page is not stuck
    assert page.locator(".turn").count() == 6


def test_editing_a_message_drops_what_came_after_it(open_page, fake):
    page = open_page()
    ask(page, "First")
    ask(page, "Second")
    first = page.locator(".turn").first
    first.get_by_role("button", name="Edit").click()
    page.keyboard.press("Escape")  # leaves it as it was
    expect(page.locator(".turn")).to_have_count(4)
    assert first.locator(".body").inner_text() == "First"
    first.get_by_role("button", name="Edit").click()
    page.locator(".rewrite").fill("Changed")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant .facts")).to_have_count(1)
    assert fake.last("chat")["messages"] == [{"role": "user", "content": "Changed"}]


def test_asking_again_replaces_the_last_answer(open_page, fake):
    page = open_page()
    ask(page, "First")
    page.get_by_role("button", name="Answer again").click()
    page.wait_for_selector(".turn.assistant .facts")
    assert page.locator(".turn").count() == 2
    assert len(fake.asked) == 2 and fake.asked[0] == fake.asked[1]


def test_what_goes_wrong_is_said_and_can_be_tried_again(open_page, fake):
    page = open_page()
    for question, said in [
        ("busy", "Too many requests. Try again in 7 s."),
        ("break off", "The connection ended before the answer did."),
        ("overload", "The server is shutting down."),
    ]:
        fake.asked.clear()
        ask(page, question)
        assert page.locator(".turn .error").inner_text() == said
        page.get_by_role("button", name="Try again").click()
        page.wait_for_selector(".turn.assistant .facts")
        assert len(fake.asked) == 2
        assert fake.last("chat")["messages"] == [{"role": "user", "content": question}]
        page.get_by_role("button", name="New").click()


def test_all_of_it_by_keyboard(open_page, fake):
    """No mouse: every stop shows that it has the focus, and leads on."""
    page = open_page()
    press = page.keyboard.press
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("What was it?")
    press("Shift+Enter")
    page.keyboard.type("Be brief.")
    press("Enter")
    page.wait_for_selector(".facts")
    assert fake.last("chat")["messages"][-1]["content"] == "What was it?\nBe brief."
    press("ArrowUp")  # the last message, to change it
    assert page.evaluate("document.activeElement.className") == "rewrite"
    press("Escape")
    assert page.evaluate("document.activeElement.id") == "question"
    seen = []
    for _ in range(40):
        press("Tab")
        stop = page.evaluate(
            "(e => [e.id || e.textContent, getComputedStyle(e).outlineStyle])"
            "(document.activeElement)"
        )
        if stop[0] == "question":
            break
        seen.append(stop)
    names = [name for name, _ in seen]
    assert {"tab-chat", "model", "toggle-settings", "system", "seed", "Edit"} <= set(names)
    assert "tab-write" not in names  # one stop for all tabs: arrows move among them
    bare = [name for name, style in seen if style == "none" and name.strip()[:2] != "To"]
    assert [name for name in bare if len(name) < 40] == []  # the body itself is a stop on the way
    page.locator("#tab-chat").focus()
    for expected in ("write", "tokens", "classify", "chat"):
        press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{expected}"
        expect(page.locator(f"#{expected}")).to_be_visible()
    press("End")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "Classify"


def test_everything_has_a_name_and_news_is_announced(open_page):
    page = open_page()
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, textarea, button, dialog, section')]
        .filter(e => !(e.labels?.length || e.ariaLabel || e.getAttribute('aria-labelledby')
                       || e.textContent.trim())).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    ask(page, "What was a hornbook?")
    said = page.locator("#spoken[aria-live=polite] span").all_inner_texts()
    assert said[0].strip() == "The model is answering."
    assert said[-1].strip() == "End of the answer."
    letters = "".join(set(POEM) - set("*`# \n"))
    assert [c for c in "".join(said[1:-1]) if c in letters] == [c for c in POEM if c in letters]
    assert 4 <= len(said) <= 14  # sentences and lines, not tokens


def test_a_suggestion_is_taken_undone_and_sent_away(open_page, fake):
    page = open_page("write")
    text, ghost = page.locator("#text"), page.locator(".ghost")
    page.keyboard.type("Once")
    expect(ghost).to_have_text(" upon a time there was")
    assert text.input_value() == "Once"  # a suggestion is no text yet
    assert fake.last("completions")["prompt"] == "Once"
    page.keyboard.press("Tab")
    assert text.input_value() == "Once upon a time there was"
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.press("Control+z")
    assert text.input_value() == "Once"
    page.keyboard.press("Control+Space")
    expect(ghost).to_have_text(" upon a time there was")
    n = len(fake.asked)
    page.keyboard.type(" up")  # along the suggestion: the rest stays, and nobody is asked
    expect(ghost).to_have_text("on a time there was")
    page.keyboard.press("Control+ArrowRight")
    assert text.input_value() == "Once upon"
    expect(ghost).to_have_text(" a time there was")
    assert len(fake.asked) == n
    page.keyboard.press("Escape")
    expect(ghost).to_have_text("")
    assert text.input_value() == "Once upon"
    page.keyboard.press("Tab")  # no suggestion: Tab goes on, and nobody is trapped
    assert page.evaluate("document.activeElement.id") != "text"


def test_the_suggestion_stands_where_the_text_will_be(open_page, fake):
    page = open_page("write", viewport={"width": 480, "height": 700})
    long = "A text that is long enough to be broken into several lines. "
    page.keyboard.insert_text(long * 12 + "Once")
    expect(page.locator(".ghost")).to_have_text(" upon a time there was")
    asked = fake.last("completions")
    assert (long * 12 + "Once").endswith(asked["prompt"]) and len(asked["prompt"]) == 600
    assert asked["slide"] is True  # a text longer than the model reads is no mistake
    shape = """id => {
      const element = document.getElementById(id), style = getComputedStyle(element);
      const names = ['font', 'letterSpacing', 'padding', 'whiteSpace', 'overflowWrap', 'wordBreak',
                     'tabSize', 'textIndent', 'borderWidth', 'width', 'height', 'lineHeight'];
      return names.map(name => style[name]).concat(element.clientWidth, element.scrollHeight);
    }"""
    assert page.evaluate(shape, "mirror") == page.evaluate(shape, "text")
    before = page.evaluate("document.querySelector('.ghost').getBoundingClientRect().bottom")
    page.keyboard.press("Tab")
    last = "document.querySelector('#mirror').firstChild.getClientRects()"
    after = page.evaluate(f"(rects => rects[rects.length - 1].bottom)({last})")
    assert abs(before - after) < 1


def test_the_text_is_kept_saved_and_cleared(open_page):
    page = open_page("write")
    page.locator("#length").select_option("0")
    page.locator("#text").focus()
    page.keyboard.insert_text("Zwölf Boxkämpfer\n")
    page.reload()
    page.wait_for_selector("#model:not([disabled])")
    assert page.locator("#text").input_value() == "Zwölf Boxkämpfer\n"
    page.locator("#text").focus()
    for save in (page.locator("#save-text").click, lambda: page.keyboard.press("Control+s")):
        with page.expect_download() as download:
            save()
        assert download.value.suggested_filename == "text.txt"
        assert Path(download.value.path()).read_text(encoding="utf-8") == "Zwölf Boxkämpfer\n"
    page.locator("#clear-text").click()
    assert page.locator("#text").input_value() == ""
    page.keyboard.press("Control+z")
    assert page.locator("#text").input_value() == "Zwölf Boxkämpfer\n"


def test_tokens_are_coloured_and_tell_what_else_there_was(open_page, fake):
    page = open_page("tokens")
    page.locator("#token-text").fill("The horn was thin.")
    page.locator("#token-more").fill("2")
    page.get_by_role("button", name="Read").click()
    tokens = page.locator(".token")
    expect(tokens).to_have_count(6)
    asked = fake.last("completions")
    assert (asked["echo"], asked["logprobs"], asked["max_tokens"]) == (True, 5, 2)
    assert page.locator("#token-view").inner_text() == "The horn was thin. Children learnt"
    assert page.locator(".token.made").all_inner_texts() == [" Children", " learnt"]
    shades = page.evaluate(
        "[...document.querySelectorAll('.shade')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(shades)) > 3
    tokens.nth(1).hover()
    assert page.locator("#token-card h3").inner_text() == "␣horn"
    rows = page.locator("#token-card li")
    assert rows.count() == 4
    values = [float(row.split()[1]) for row in rows.all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert page.locator("#token-card li.mine code").inner_text() == "␣horn"
    tokens.nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#token-card h3").inner_text() == "␣was"
    page.keyboard.press("Home")
    assert "nothing stands before it" in page.locator("#token-card").inner_text()
    assert page.locator(".token[tabindex='0']").count() == 1


def test_labels_come_with_bars_as_long_as_their_scores(open_page, fake):
    page = open_page("classify")
    page.keyboard.type("Charged twice\n\nand nobody answers")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#classify-note")).to_have_text("Labelled billing.")
    assert fake.last("classify") == {
        "model": "runs/tickets",
        "input": ["Charged twice\n\nand nobody answers"],
    }
    rows = page.locator(".result li")
    assert rows.count() == 5
    assert "billing predicted" in rows.first.inner_text() and "0.710" in rows.first.inner_text()
    shares = page.evaluate(
        "[...document.querySelectorAll('.bar-line')].map(e => parseFloat("
        "getComputedStyle(e).backgroundSize.split(' ')[0].replace('calc(', '')))"
    )
    assert shares == pytest.approx([71, 18, 6, 3, 2], abs=0.1)
    page.get_by_label("each line is a text of its own").check()
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".result")).to_have_count(2)
    assert fake.last("classify")["input"] == ["Charged twice", "and nobody answers"]


def test_a_tab_without_a_model_says_what_to_serve(open_page, fake):
    fake.models = {"runs/sherlock": ["completions"]}
    page = open_page("")
    assert (
        page.locator("[role=tab][aria-selected=true]").inner_text() == "Write"
    )  # the first with one
    page.locator("#tab-classify").click()
    expect(page.locator("#classify .unserved")).to_contain_text("hornbook serve runs/my-comparison")
    expect(page.locator("#classify .served")).to_be_hidden()
    page.locator("#tab-write").click()
    expect(page.locator("#write .served")).to_be_visible()
    assert page.locator("#model option").all_inner_texts() == ["runs/sherlock"]


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(open_page, fake):
    fake.key = "sk-right-and-long-enough"
    page = open_page(ready=False)
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-note")).to_have_text("The key was refused.")
    expect(dialog).to_be_visible()
    page.keyboard.type(fake.key)
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_be_enabled()
    expect(page.locator("#notice")).to_be_hidden()
    ask(page, "Hello")
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    assert page.context.cookies() == []
    assert fake.key in page.evaluate("JSON.stringify(sessionStorage)")
    assert fake.key not in page.content() and fake.key not in page.url
    assert page.locator("#key").input_value() == ""


def test_no_width_makes_it_scroll_sideways(open_page):
    page = open_page()
    ask(page, "x" * 400 + " evil")
    page.locator("#tab-write").click()
    page.locator("#text").fill("y" * 500)
    page.locator("#tab-tokens").click()
    page.locator("#token-text").fill("z" * 300 + " and more")
    page.get_by_role("button", name="Read").click()
    page.wait_for_selector(".token")
    for width in (360, 768, 1280):
        page.set_viewport_size({"width": width, "height": 740})
        for panel in ("chat", "write", "tokens", "classify"):
            page.locator(f"#tab-{panel}").click()
            for _ in ("with settings", "without"):
                if panel != "classify":
                    page.locator("#toggle-settings").click()
                assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
            heights = "[...document.querySelectorAll('[role=tab], .main')].map(e => e.offsetHeight)"
            found = [height for height in page.evaluate(heights) if height]
            assert min(found) >= 36  # a thumb finds what it aims at


def test_ink_stands_out_from_paper(open_page):
    """WCAG AA (4.5) for what is read, in both schemes, also on the reddest token."""
    page = open_page()
    ask(page, "evil")
    page.locator("#tab-tokens").click()
    page.get_by_role("button", name="Read").click()
    page.wait_for_selector(".token")
    reddest = "document.querySelector('.legend i:last-of-type')"
    page.evaluate(f"{reddest}.style.setProperty('--doubt', '55%')")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        paper = luminance(page, "document.body", "backgroundColor")
        assert (paper < 0.1) == (scheme == "dark")
        for selector in (
            ".user .body p",
            ".assistant .body p",
            ".speaker",
            ".facts",
            ".acts button",
        ):
            ink = luminance(page, f"document.querySelector('{selector}')", "color")
            assert contrast(ink, paper) >= 4.5, selector
        ink, ground = (luminance(page, reddest, kind) for kind in ("color", "backgroundColor"))
        assert contrast(ink, ground) >= 4.5


def test_a_streamed_answer_ends_up_as_one_that_came_whole(open_page):
    """Whatever prefix was shown before: kept blocks are the blocks that a fresh rendering makes."""
    page = open_page()
    differing = page.evaluate(
        """async (texts) => {
          const { render } = await import('/web/render.js');
          const wrong = [];
          for (const text of texts) {
            const grown = document.createElement('div');
            for (let i = 0; i <= text.length; i += 1) {
              render(grown, text.slice(0, i));
              const fresh = document.createElement('div');
              render(fresh, text.slice(0, i));
              if (grown.innerHTML !== fresh.innerHTML) wrong.push([text, i]);
            }
          }
          return wrong;
        }""",
        [POEM, EVIL, "# T\ntext\n- a\n- b\n  c\n1) x\n\n~~~\n```\n~~~\nend **not", "```js\nopen"],
    )
    assert differing == []


def test_the_real_server_speaks_as_the_canned_one(open_page, tab, monkeypatch):
    """Routes, events, limits and headers of ours, over a batch and a classifier without a model."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serving"))
    small = runpy.run_path(str(Path(__file__).parents[1] / "serving" / "small_server.py"))
    with small["serving"]() as server:
        url = f"{server.url}/"
        page = open_page(url=url)
        page.get_by_label("Longest answer").fill("40")
        ask(page, "hello")
        assert "user: hello" in page.locator(".turn.assistant .body").inner_text()
        assert page.locator(".facts").inner_text().startswith("40 tokens")
        assert "cut at the longest answer" in page.locator(".facts").inner_text()
        page.locator("#tab-tokens").click()
        page.locator("#token-text").fill("abc")
        page.locator("#token-more").fill("2")
        page.get_by_role("button", name="Read").click()
        expect(page.locator(".token")).to_have_count(5)
        assert page.locator(".token.made").count() == 2
        page.locator("#tab-write").click()
        page.locator("#text").fill("and so on")
        expect(page.locator(".ghost")).not_to_be_empty()
        page.locator("#tab-classify").click()
        page.locator("#classify-text").fill("HELP!")
        page.get_by_role("button", name="Classify").click()
        expect(page.locator(".result li.mine")).to_contain_text("loud")
        assert {u for u in tab.requests if not u.startswith(url)} == set()
        tab.requests.clear()
        page.goto("about:blank")


def test_texts_are_kept_opened_renamed_and_never_written_over(
    open_page, tab, monkeypatch, tmp_path
):
    """Over the real server and a file; what the page asks its user is answered yes."""
    from hornbook.serving.texts import Texts

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serving"))
    small = runpy.run_path(str(Path(__file__).parents[1] / "serving" / "small_server.py"))
    asked = []

    def agree(dialog):
        asked.append(dialog.message)
        dialog.accept("<b>Renamed</b>")

    tab.on("dialog", agree)
    try:
        with small["serving"](texts=Texts(tmp_path / "texts.sqlite")) as server:
            url = f"{server.url}/"
            page = open_page("write", url=url)
            expect(page.locator("#titled")).to_be_visible()
            page.keyboard.type("Once")
            expect(page.locator(".ghost")).not_to_be_empty()
            page.keyboard.press("Tab")
            page.locator("#title").fill("Mine")
            page.keyboard.press("Control+s")
            expect(page.locator("#write-note")).to_contain_text("Saved as version 1")
            at = f"/v1/texts/{server.client.get('/v1/texts').json()['data'][0]['id']}"
            kept = server.client.get(at).json()
            assert kept["text"] == page.locator("#text").input_value() != "Once"
            assert kept["model"] == "tiny" and kept["settings"]["max_tokens"] == 24
            server.client.post(at, json={"version": 1, "text": "another tab's"})
            page.keyboard.press("Control+s")
            for _ in range(200):
                if len(server.client.get("/v1/texts").json()["data"]) == 2:
                    break
                page.wait_for_timeout(20)
            assert "has been saved since" in asked[0]
            assert server.client.get(at).json()["text"] == "another tab's"
            page.locator("#show-texts").click()
            expect(page.locator("#text-list li")).to_have_count(2)
            page.get_by_role("button", name="Rename").last.click()
            expect(page.locator("#text-list li").first).to_contain_text("<b>Renamed</b>")
            page.get_by_role("button", name="<b>Renamed</b>").click()
            expect(page.locator("#text")).to_have_value("another tab's")
            page.locator("#show-texts").click()
            page.get_by_role("button", name="Delete").last.click()
            expect(page.locator("#text-list li")).to_have_count(1)
            (left,) = server.client.get("/v1/texts").json()["data"]
            assert at.endswith(f"/{left['id']}")
            page.evaluate("document.querySelector('#texts').close()")
            page.locator("#new-text").click()  # a save that is under way is of the text before
            page.keyboard.insert_text("The first")
            page.keyboard.press("Control+s")
            page.evaluate("document.querySelector('#new-text').click()")
            page.keyboard.insert_text("The second")
            page.keyboard.press("Control+s")
            for _ in range(200):
                rows = server.client.get("/v1/texts").json()["data"]
                if len(rows) == 3:
                    break
                page.wait_for_timeout(20)
            assert [r["title"] for r in rows][:2] == ["The second", "The first"]
            assert {r["version"] for r in rows[:2]} == {1} and {r["model"] for r in rows[:2]} == {
                None
            }
            assert {u for u in tab.requests if not u.startswith(url)} == set()
            tab.requests.clear()
            page.goto("about:blank")
    finally:
        tab.remove_listener("dialog", agree)


def luminance(page, element, property) -> float:
    """Relative luminance by WCAG 2.2, of a colour in whatever notation, as it is painted."""
    red, green, blue = page.evaluate(
        f"""(() => {{
          const context = document.createElement('canvas').getContext('2d');
          context.fillStyle = getComputedStyle({element}).{property};
          context.fillRect(0, 0, 1, 1);
          return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        }})()"""
    )
    parts = [c / 255 for c in (red, green, blue)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
