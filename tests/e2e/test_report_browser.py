"""The report in a real browser: it asks for nothing, runs nothing, and fits a phone.

Chromium is driven over its DevTools pipe (messages are JSON, ended by a NUL byte), so that no
further library is needed.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from hornbook.reports import html

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or os.name != "posix", reason="Chromium isn't installed"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-extensions --remote-debugging-pipe"
)
TESTS = Path(__file__).parents[1]
fake_study = runpy.run_path(str(TESTS / "reports" / "fake_study.py"))["fake_study"]
EVIL = (
    "<script>document.documentElement.dataset.planted='script'</script>"
    "<img src='http://127.0.0.1:9/x.png' "
    "onerror=\"document.documentElement.dataset.planted='img'\">"
    "<link rel=stylesheet href='http://127.0.0.1:9/x.css'>"
)


class Browser:
    """One page of a headless Chromium: send commands, collect events."""

    def __init__(self, profile: Path) -> None:
        read_commands, self._out = os.pipe()
        self._in, write_events = os.pipe()

        def connect() -> None:
            # Chromium reads commands from 3 and writes to 4; high copies keep them from clashing.
            commands, events = (fd_above(fd, 10) for fd in (read_commands, write_events))
            os.dup2(commands, 3)
            os.dup2(events, 4)

        self._process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_events)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict] = []
        try:
            target = self.send("Target.createTarget", url="about:blank")["targetId"]
            attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def send(self, method: str, **params: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is loaded and has had time to misbehave."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._receive()
        time.sleep(0.3)
        self.evaluate("1")  # what has been said by now comes before this answer

    def evaluate(self, expression: str) -> object:
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def requests(self) -> list[str]:
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent]

    def complaints(self) -> list[str]:
        """Console output, log entries and exceptions, as JSON."""
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [json.dumps(e["params"]) for e in self.events if e["method"] in kinds]

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def _receive(self, seconds: float = 60.0) -> dict:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], seconds)
            assert ready, f"Chromium has said nothing for {seconds} s"
            piece = os.read(self._in, 1 << 16)
            assert piece, "Chromium has ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


def fd_above(fd: int, least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, least)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def evil_study():
    """A study whose texts, labels, names and messages try to run a script and to fetch."""
    record = fake_study()
    hard = record.hardest[0].model_copy(
        update={"id": EVIL, "text": EVIL * 20, "truth": [EVIL], "predicted": [EVIL]}
    )
    rows = [
        row.model_copy(update={"technique": EVIL}) if row.technique == "majority" else row
        for row in record.summary.leaderboard
    ]
    return record.model_copy(
        update={
            "hardest": [hard],
            "mislabelled": [hard],
            "settings": {EVIL: EVIL},
            "summary": record.summary.model_copy(
                update={"advice": EVIL, "command": EVIL, "leaderboard": rows}
            ),
            "dataset": record.dataset.model_copy(update={"name": EVIL, "notes": [EVIL]}),
        }
    )


def test_nothing_is_fetched_and_nothing_runs(browser, evil_study, tmp_path):
    path = tmp_path / "report.html"
    html.write_report(evil_study, path)
    browser.open(path)
    assert browser.requests() == [path.as_uri()]
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.dataset.planted ?? null") is None
    assert browser.evaluate("document.querySelectorAll('script, img, link').length") == 0
    assert EVIL in browser.evaluate("document.body.textContent")


def test_without_escaping_the_policy_still_holds_and_complains(
    browser, evil_study, tmp_path, monkeypatch
):
    """The test above sees an unescaped report; and the second line of defence is no decoration."""
    made = html.environment()
    made.autoescape = False
    monkeypatch.setattr(html, "environment", lambda: made)
    html.write_report(evil_study, tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert any("Content Security Policy" in said for said in browser.complaints())
    assert browser.evaluate("document.querySelectorAll('script').length") > 0
    assert browser.evaluate("document.documentElement.dataset.planted ?? null") != "script"


def test_without_policy_and_escaping_the_planted_script_would_run(
    browser, evil_study, tmp_path, monkeypatch
):
    made = html.environment()
    made.autoescape = False
    monkeypatch.setattr(html, "environment", lambda: made)
    text = html.render(evil_study).replace("Content-Security-Policy", "nothing")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("document.documentElement.dataset.planted ?? null") is not None
    assert len(browser.requests()) > 1


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, evil_study, tmp_path, width):
    endless = evil_study.hardest[0].model_copy(update={"id": "i" * 900, "text": "x" * 200_000})
    study = evil_study.model_copy(update={"hardest": [endless], "hashes": {"h" * 300: "0" * 64}})
    html.write_report(study, tmp_path / "report.html")
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    browser.open(tmp_path / "report.html")
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.send("Emulation.clearDeviceMetricsOverride")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_stands_out_from_paper(browser, tmp_path, scheme):
    """WCAG AA (4.5) for everything that is read, also inside the charts."""
    html.write_report(fake_study(), tmp_path / "report.html")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.send("Emulation.setEmulatedMedia", features=features)
    browser.open(tmp_path / "report.html")
    paper = _colour(browser, "getComputedStyle(document.body).backgroundColor")
    card = _colour(browser, "getComputedStyle(document.querySelector('.canvas')).backgroundColor")
    assert (sum(paper) < 200) == (scheme == "dark")
    for selector in ("h1", ".note", "thead th", ".badge.leader", ".badge.tie", "nav a"):
        found = f"getComputedStyle(document.querySelector('{selector}')).color"
        assert _contrast(_colour(browser, found), paper) >= 4.5, selector
    n_texts = browser.evaluate("document.querySelectorAll('.chart text').length")
    for i in range(n_texts):
        found = f"getComputedStyle(document.querySelectorAll('.chart text')[{i}]).fill"
        assert _contrast(_colour(browser, found), card) >= 4.5
    browser.send("Emulation.setEmulatedMedia", features=[])


def _colour(browser: Browser, expression: str) -> tuple[int, ...]:
    text = str(browser.evaluate(expression))
    assert text.startswith("rgb("), text
    return tuple(int(part) for part in text[4:-1].split(","))


def _contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2.2, 1 to 21."""

    def luminance(colour: tuple[int, ...]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
