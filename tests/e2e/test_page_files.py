"""The page's files as they are sent: whole, under the policy, and nothing beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hornbook.serving.web as web

fastapi = pytest.importorskip("fastapi", reason="fastapi isn't installed")
from fastapi.testclient import TestClient  # noqa: E402

FOLDER = Path(web.__file__).parent
SCRIPTS = sorted(FOLDER.glob("*.js"))


@pytest.fixture(scope="module")
def client():
    app = fastapi.FastAPI()
    web.mount(app)
    with TestClient(app) as made:
        yield made


def test_every_answer_carries_the_policy(client):
    for path in ("/", "/web/app.js", "/web/app.css", "/web/wordmark.svg", "/web/none.js"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == web.POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in web.POLICY and "http" not in web.POLICY
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        "__init__.py",
        "..%2fapp.py",
        "../app.py",
        "%2e%2e/app.py",
        "",
        "a/b.js",
        "app.js%00",
        "..\\x",
    ],
)
def test_nothing_but_the_pages_files_is_reached(client, name):
    answer = client.get(f"/web/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_a_file_that_has_not_changed_is_not_sent_again(client):
    first = client.get("/web/app.js")
    again = client.get("/web/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405


def test_the_page_is_no_part_of_the_apis_document(client):
    assert client.get("/openapi.json").json()["paths"] == {}


def test_no_file_asks_elsewhere_or_puts_markup_together():
    """What the policy forbids isn't tried either; text goes in as text."""
    for path in [*SCRIPTS, FOLDER / "index.html", FOLDER / "app.css"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        )
        assert not re.search(r"<script>|<style|\sstyle=|\son[a-z]+=\"", text), path


def test_what_the_page_names_is_there():
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:href|src)="web/([^"]+)"', page))
    for path in SCRIPTS:
        named |= set(re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")))
    named |= set(re.findall(r"url\(([^)]+)\)", (FOLDER / "app.css").read_text(encoding="utf-8")))
    assert named == {path.name for path in FOLDER.iterdir() if path.suffix[1:] in web.TYPES} - {
        "index.html"
    }
    asked = set()
    for path in SCRIPTS:
        asked |= set(re.findall(r'byId\("([\w-]+)"\)', path.read_text(encoding="utf-8")))
    assert asked <= set(re.findall(r'\bid="([\w-]+)"', page))
