"""In a real browser the file and the live app open, react, save, and complain of nothing."""

import logging
from collections.abc import Iterator

import polars as pl
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from radsweep.dashboards.app import build_app
from radsweep.dashboards.charts import PAGES, charts
from radsweep.dashboards.page import export_html
from radsweep.dashboards.tables import Tables
from tests.dashboards.browser import NARROW, WIDE, Browser, served
from tests.dashboards.toy import LABELS, toy_tables

TABLES = toy_tables()
FIGURES = {page: [chart.name for chart in charts() if chart.page == page] for page in PAGES}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("downloads"))
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return export_html(TABLES, tmp_path_factory.mktemp("page") / "results.html").as_uri()


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with served(build_app(lambda: TABLES)) as address:
        yield address


@pytest.fixture(params=["file", "live"])
def address(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_reached_by_its_link_and_draws_its_charts(
    browser: Browser, address: str, scheme: str
) -> None:
    browser.prefer(scheme)
    browser.open(address)
    browser.wait("the links", lambda: len(browser.all("nav a")) == len(PAGES))
    for place, page in enumerate(PAGES):
        browser.all("nav a")[place].click()
        browser.wait_for_charts(FIGURES[page])
        assert browser.run("return location.hash") == f"#{page}"
        assert [link.text for link in browser.all("nav a.is-open")] == [
            browser.all("nav a")[place].text
        ]
    assert browser.complaints() == []
    browser.prefer("light")


def test_an_address_with_a_page_opens_at_it(browser: Browser, address: str) -> None:
    browser.open(f"{address}#forecast")
    browser.wait_for_charts(FIGURES["forecast"])
    assert browser.complaints() == []


def test_links_are_followed_by_keyboard(browser: Browser, address: str) -> None:
    browser.open(f"{address}#overview")
    browser.wait_for_charts(FIGURES["overview"])
    browser.run("document.querySelectorAll('nav a')[1].focus()")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    browser.wait_for_charts(FIGURES[PAGES[1]])


def _titles(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "return [...document.querySelectorAll('.picture[data-figure=labels] .annotation-text')]"
        ".filter(t => t.getBoundingClientRect().width).map(t => t.textContent)"
    )
    return found


def test_panels_are_filtered_by_what_is_typed(browser: Browser, address: str) -> None:
    browser.open(f"{address}#labels")
    browser.wait_for_charts(FIGURES["labels"])
    panels = sum(map(len, LABELS.values()))
    assert len(_titles(browser)) == panels
    box = browser.wait("the filter", lambda: browser.shown(".filter input"))[0]
    assert box.get_attribute("aria-label") == f"Filter the {panels} panels by their titles"
    tall = browser.run("return document.querySelector('.js-plotly-plot').clientHeight")
    box.send_keys("tube CHEST")
    browser.wait("the filter's effect", lambda: len(_titles(browser)) == 2)
    assert all("Chest tube" in title for title in _titles(browser))
    assert browser.run("return document.querySelector('.js-plotly-plot').clientHeight") < tall
    names = "return [...document.querySelectorAll('.picture .legendtext')].map(t => t.textContent)"
    assert browser.run(names) == ["CLIP", "DINOv2", "UniCL"]
    box.clear()
    box.send_keys("no such label")
    browser.wait("an empty picture", lambda: _titles(browser) == [])
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    browser.wait("all panels again", lambda: len(_titles(browser)) == panels)
    assert browser.complaints() == []


def test_a_click_in_the_legend_hides_a_paradigm(browser: Browser, address: str) -> None:
    browser.open(f"{address}#overview")
    browser.wait_for_charts(FIGURES["overview"])
    count = "return document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length"
    before = browser.run(count)
    entry = browser.shown(".legendtoggle")[0]
    ActionChains(browser.driver).move_to_element(entry).click().perform()
    browser.wait("fewer traces", lambda: browser.run(count) < before)
    assert browser.complaints() == []


def test_the_button_changes_page_and_charts_between_light_and_dark(
    browser: Browser, address: str
) -> None:
    browser.open(f"{address}#overview")
    browser.wait_for_charts(FIGURES["overview"])
    page = "return getComputedStyle(document.body).backgroundColor"
    ink = "return document.querySelector('.js-plotly-plot .xtick text').style.fill"
    light = browser.run(page), browser.run(ink)
    browser.all("button.theme")[0].click()
    browser.wait("dark charts", lambda: browser.run(ink) != light[1])
    assert browser.run(page) != light[0]
    browser.all("button.theme")[0].click()
    browser.wait("light charts", lambda: (browser.run(page), browser.run(ink)) == light)
    assert browser.complaints() == []


def test_a_dragged_slider_shows_another_scale(browser: Browser, address: str) -> None:
    browser.open(f"{address}#forecast")
    browser.wait_for_charts(FIGURES["forecast"])
    heading = "return document.querySelector('[data-figure=at_a_target] .gtitle').textContent"
    before = browser.run(heading)
    grip = browser.all("[data-figure=at_a_target] .slider-grip-rect")[0]
    ActionChains(browser.driver).move_to_element(grip).click_and_hold().move_by_offset(
        -200, 0
    ).release().perform()
    browser.wait("another heading", lambda: browser.run(heading) != before)
    assert browser.complaints() == []


def test_a_telephone_sees_one_panel_per_row_and_scrolls_only_down(
    browser: Browser, address: str
) -> None:
    browser.resize(*NARROW)
    try:
        browser.open(address)
        browser.wait_for_charts(FIGURES["overview"])
        lefts = browser.run(
            "return [...document.querySelectorAll('.js-plotly-plot .bglayer .bg')]"
            ".map(p => Math.round(p.getBoundingClientRect().left))"
        )
        assert len(set(lefts)) == 1
        for place, page in enumerate(PAGES):
            browser.all("nav a")[place].click()
            browser.wait_for_charts(FIGURES[page])
            wide = browser.run("return document.scrollingElement.scrollWidth")
            assert wide <= NARROW[0], page
    finally:
        browser.resize(*WIDE)


def test_charts_and_tables_are_saved_as_files(browser: Browser, address: str) -> None:
    for old in browser.downloads.iterdir():
        old.unlink()
    browser.open(f"{address}#overview")
    browser.wait_for_charts(FIGURES["overview"])
    for kind in ("svg", "png"):
        browser.shown(f".picture [data-save={kind}]")[0].click()
    name = FIGURES["overview"][0]
    assert browser.download(f"{name}.svg").startswith(b"<svg")
    assert browser.download(f"{name}.png").startswith(b"\x89PNG")
    table = browser.shown(".table [data-save=csv]")[0]
    browser.run("arguments[0].scrollIntoView({block: 'center'})", table)
    table.click()
    saved = browser.download(f"{table.get_attribute('data-name')}.csv").decode()
    assert saved.startswith('"Task","Score","CLIP","DINOv2","UniCL"')
    browser.shown(".table [data-save=tex]")[0].click()
    tex = browser.download(f"{table.get_attribute('data-name')}.tex").decode()
    assert tex.startswith("\\begin{table}")
    assert browser.complaints() == []


def test_one_chart_is_printed_by_itself(browser: Browser, address: str) -> None:
    browser.open(f"{address}#overview")
    browser.wait_for_charts(FIGURES["overview"])
    # A headless browser has no print dialog; its printer is asked below for what the page shows it.
    browser.run("window.print = () => { window.asked = true; }")
    browser.shown(".picture [data-save=pdf]")[0].click()
    assert browser.run("return window.asked")
    features = {"media": "print"}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    try:
        assert len(browser.shown(".picture")) == 1
        assert browser.shown("header, nav, footer, .card, .table, .save, .theme") == []
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert len(browser.shown("header")) == 1
    assert browser.complaints() == []


def test_the_whole_file_prints_every_page_in_light(browser: Browser, file: str) -> None:
    browser.prefer("dark")
    browser.open(file)
    browser.wait_for_charts(FIGURES["overview"])
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    every = [name for page in PAGES for name in FIGURES[page]]
    browser.wait_for_charts(every)
    widths = browser.run(
        "return [...document.querySelectorAll('.js-plotly-plot .main-svg')]"
        ".map(s => s.getBoundingClientRect().width)"
    )
    # A sheet on its side is some 960 pixels wide between its margins, and is printed at 82%.
    assert widths and 0.82 * max(widths) <= 960
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    browser.wait_for_charts(FIGURES["overview"])
    browser.prefer("light")
    assert browser.complaints() == []


def test_the_live_app_shows_what_is_new_and_keeps_what_was_typed(browser: Browser) -> None:
    now = [TABLES]
    with served(build_app(lambda: now[0], refresh_seconds=0.5)) as address:
        browser.open(f"{address}#labels")
        browser.wait_for_charts(FIGURES["labels"])
        box = browser.wait("the filter", lambda: browser.shown(".filter input"))[0]
        box.send_keys("chest")
        browser.wait("the filter's effect", lambda: len(_titles(browser)) == 2)
        line = pl.col("label") == "central line"
        scores = TABLES.scores.with_columns(
            label=pl.when(line).then(pl.lit("chest port")).otherwise("label"),
            value=pl.when(line).then(pl.col("value") - 0.01).otherwise("value"),
        )
        now[0] = Tables(scores, TABLES.cells, TABLES.steps, TABLES.sweep)
        browser.wait("the new label", lambda: len(_titles(browser)) == 4)
        assert browser.complaints() == []
