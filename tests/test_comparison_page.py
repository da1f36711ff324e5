"""The page of a comparison in a browser: it opens from disk, asks for nothing, and answers to mouse and keyboard."""

import json
import os
import re
import shutil

import pytest
import tamis
from small_flow import make_case
from tamis.pipelines.comparison_page import comparison_page
from tamis.storage.errors import ConfigError
from typer.testing import CliRunner

CUT = {"budget": {"tokens": "30%"}}
FLOWS = {
    "near_code": {"corpus": "web", "steps": [{"name": "best", "select": "dsir", "target": "code", "cut": CUT}]},
    "lot": {"corpus": "web", "steps": [{"name": "some", "select": "random", "cut": CUT}]},
    "corpus": {"corpus": "web", "steps": [{"name": "zip", "select": "zip_fit", "target": "code", "cut": CUT}]},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    config = make_case(folder, n=300, flows=FLOWS)
    for name in FLOWS:
        tamis.run(config, name)
    from tamis.pipelines.cli import app

    page = folder / "compared.html"
    done = CliRunner().invoke(app, ["compare", *FLOWS, "--html", str(page), "-c", str(config), "-q"])
    assert done.exit_code == 0, done.output
    assert f"page      {page}" in done.stdout and "KL reduction, unseen part" in done.stdout
    return page


@pytest.mark.parametrize(("name", "message"), [
    ("pipe", "is no regular file"), ("new/page.html", "there is no folder"), ("lake/page.html", "is in the lake"),
])  # fmt: skip
def test_a_page_that_cannot_be_written_is_said_before_the_work(path, monkeypatch, name, message):
    if name == "pipe":
        os.mkfifo(path.parent / name)
    monkeypatch.setattr("tamis.pipelines.comparing.compare", lambda *_, **__: pytest.fail("it compares"))
    from tamis.pipelines.cli import app

    asked = ["compare", *FLOWS, "--html", str(path.parent / name), "-c", str(path.parent / "flows.yaml"), "-q"]
    done = CliRunner().invoke(app, asked)
    assert isinstance(done.exception, ConfigError) and message in str(done.exception)


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield found
        found.close()


@pytest.fixture(params=[("light", 1280), ("dark", 400)], ids=["light-1280", "dark-400"])
def page(request, browser, path):
    scheme, width = request.param
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.asked, opened.said = [], []
    opened.on("request", lambda r: opened.asked.append(r.url))
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto(f"file://{path}")
    opened.wait_for_selector("#scores svg")
    yield opened
    opened.close()


def quiet(page, path):
    loaded = [url for url in page.asked if not url.startswith("data:")]
    return loaded == [f"file://{path}"] and page.said == []


def test_it_opens_from_disk_and_asks_for_nothing(page, path):
    assert page.locator("h1").text_content() == "3 choices from web, compared"
    assert page.locator("svg[role=img][aria-label]").count() >= 8
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0, "nothing is wider than the window"
    assert quiet(page, path)


def names(page):
    return page.locator("#glance tbody th").all_inner_texts()


def test_a_table_is_sorted_by_keyboard(page, path):
    button = page.locator("#glance thead button", has_text="documents").first
    before = names(page)
    button.focus()
    page.keyboard.press("Enter")
    head = page.locator("#glance th[aria-sort=descending]")
    assert head.count() == 1 and "documents" in head.inner_text()
    cells = page.locator("#glance tbody tr td:nth-child(3)").all_inner_texts()
    found = [int(cell.replace(",", "")) for cell in cells if cell != "–"]
    assert found == sorted(found, reverse=True) and cells[-1] == "–", "what has none comes last"
    page.keyboard.press("Enter")
    assert page.locator("#glance th[aria-sort=ascending]").count() == 1
    assert sorted(names(page)) == sorted(before) and quiet(page, path)


def test_a_series_is_hidden_and_shown_again(page, path):
    dots = page.locator("#composition figure svg [aria-label=dot] path")
    before = dots.count()
    assert before > 0
    button = page.locator("nav button", has_text="near_code")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert dots.count() == before * 3 // 4, "of three choices and the draw one is gone"
    assert page.locator("#glance tr.off").count() == 1
    assert page.locator("#scores [data-name=near_code]").first.is_hidden()
    button.click()
    assert dots.count() == before and page.locator("#scores [data-name=near_code]").first.is_visible()
    assert quiet(page, path)


def test_a_measure_is_chosen_and_the_theme_changed(page, path):
    select = page.locator("#measures select")
    words = page.locator("#measures p[aria-live]").inner_text()
    select.select_option(index=2)
    assert page.locator("#measures p[aria-live]").inner_text() != words
    assert page.locator("#measures svg").count() == 1
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true }")
    shown = page.locator("main").inner_text()
    assert "[object" not in shown and "undefined" not in shown and "NaN" not in shown
    theme = page.evaluate("document.documentElement.dataset.theme")
    page.locator("#theme").click()
    assert {theme, page.evaluate("document.documentElement.dataset.theme")} == {"light", "dark"}
    assert page.locator("#samples mark").count() > 0 and quiet(page, path)


def test_the_numbers_shown_are_those_of_the_json(page, path):
    data = re.search(r'id="comparison">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1]
    found = json.loads(data)
    (kl,) = (m for m in found["measures"] if m["key"] == "kl_reduction_unseen")
    rows = page.locator("#glance tbody tr").all()
    shown = {row.get_attribute("data-name"): row.inner_text() for row in rows}
    for choice in found["choices"]:
        assert f"{choice['documents']:,}" in shown[choice["name"]] and f"{choice['tokens']:,}" in shown[choice["name"]]
        assert f"{kl['values'][choice['name']]:.3f}" in shown[choice["name"]]


def test_texts_cannot_break_out_of_the_page():
    evil = "</script><script>alert(1)</script>\u2028<!--"
    page = comparison_page({"choices": [{"name": evil}], "text": evil})
    assert page.count("</script>") == 4 and "alert(1)</script>" not in page
    assert "&lt;/script&gt;" in page[page.index("<title>") : page.index("</title>")]
    data = re.search(r'id="comparison">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(data)["text"] == evil


def test_what_the_page_carries_is_what_was_released():
    """Observable Plot 0.6.17 and D3 7.9.2, as npm has them."""
    from hashlib import sha256
    from importlib.resources import files

    kept = {name: sha256((files("tamis.pipelines") / name).read_bytes()).hexdigest() for name in RELEASED}
    assert kept == RELEASED


RELEASED = {
    "d3.min.js": "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1",
    "plot.min.js": "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
}


def test_a_flow_that_is_called_like_something_of_the_page(page, path):
    found = json.loads(re.search(r'id="comparison">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])
    page.locator("#composition details").evaluate("d => { d.open = true }")
    heads = page.locator("#composition thead th").all_inner_texts()
    column = [head.split(" ↕")[0].strip() for head in heads].index("corpus")
    (code,) = (v for v in found["compositions"][0]["values"] if v["value"] == "code")
    row = page.locator("#composition tbody tr", has_text="code").first
    shown = row.locator("th, td").nth(column).inner_text()
    assert shown == f"{100 * code['choices']['corpus']['share']:.0f}%" != f"{100 * code['corpus']['share']:.0f}%"


def test_choosing_again_and_again_leaves_nothing_behind(page, path):
    n = page.evaluate("plots.length")
    select = page.locator("#measures select")
    for i in range(6):
        select.select_option(index=i % 3)
    page.locator("nav button").first.click()
    assert page.evaluate("plots.length") <= n + 2
    assert quiet(page, path)
