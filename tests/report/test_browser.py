"""The page in headless Chromium: it draws, it reacts, it stays silent, and hostile text stays text."""

import re
import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from exitbench.report import Result, write_report
from screens import assert_fits_a_phone

pytestmark = pytest.mark.browser

HOSTILE_OPENING = '</script><script>document.title="owned"'


@pytest.fixture(scope="module")
def show(open_page, tmp_path_factory):
    """Write results as a page and open it."""
    folder = tmp_path_factory.mktemp("pages")
    return lambda *results, dark=False: open_page(
        write_report(results, folder / f"{time.monotonic_ns()}.html"), dark=dark
    )


def detail(browser):
    return browser.find_element(By.CSS_SELECTOR, ".detail")


def test_draws_every_chart_without_errors(show, result, errors):
    """A chart that stays empty, an expression the interpreter refuses, a script the policy blocks."""
    page = show(result)
    charts = page.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(charts) == 9
    for chart in charts:
        assert chart.find_elements(By.CSS_SELECTOR, "svg .mark-line path, svg .mark-rect path")
        assert chart.size["width"] > 300
    assert errors() == []


def test_fast_page_draws_and_shows_decisions(show, fast, result, errors):
    """A script that stops at the first thing a fast trace lacks."""
    page = show(fast, result)
    assert len(page.find_elements(By.CSS_SELECTOR, "#r0 .chart svg")) == 3
    page.find_elements(By.CSS_SELECTOR, "#r0-explorer button.token")[5].click()
    depth = fast.trace.decision_depth[5]
    said = detail(page).text
    assert f"Decided at depth {depth} of 12" in said or "Decided only by the last block" in said
    assert not detail(page).find_elements(By.CSS_SELECTOR, "table")
    assert errors() == []


def test_policies_draw_and_fit(show, with_replay, errors):
    """A frontier without lines or legend, or a table of policies that widens the page on a phone."""
    page = show(with_replay)
    charts = page.find_elements(By.CSS_SELECTOR, ".policies .chart")
    assert len(charts) == 2
    lines = charts[0].find_elements(By.CSS_SELECTOR, "svg .mark-line path")
    assert len(lines) > 4
    assert len({line.get_attribute("stroke") for line in lines}) == len(lines)
    assert len(charts[0].find_elements(By.CSS_SELECTOR, "svg .role-legend-label text")) == len(lines)
    assert errors() == []
    for width in (390, 1900):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            WebDriverWait(page, 10).until(
                lambda driver, most=width: driver.execute_script("return document.documentElement.scrollWidth") <= most
            )
        finally:
            page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_results_alone_have_a_leaderboard(show, with_replay, fast, errors):
    """Results that cannot be sorted, narrowed or asked what made them unless they are of a study."""
    named = fast.card.model_copy(update={"facts": fast.card.facts.model_copy(update={"kind": "moe"})})
    page = show(with_replay, Result(named, fast.trace))
    assert [row.get_attribute("hidden") for row in page.find_elements(By.CSS_SELECTOR, ".cells tbody tr")] == [None] * 2
    assert page.find_elements(By.CSS_SELECTOR, ".cells tbody a")[1].get_attribute("href").endswith("#r1")
    charts = ["study-models", "study-decided", "study-batch", "study-policies"]
    assert [c.get_attribute("data-spec") for c in page.find_elements(By.CSS_SELECTOR, ".comparison .chart")] == charts
    Select(page.find_element(By.CSS_SELECTOR, "[data-filter=kind]")).select_by_visible_text("moe")
    assert page.find_element(By.ID, "cells-shown").text == "1 of 2 shown"
    assert errors() == []


def test_every_number_of_a_result_tells_its_command(show, with_replay, errors):
    """A headline, a figure of the tables, a policy or a point of a chart without the command that made it."""
    page = show(with_replay)
    dialog = page.find_element(By.ID, "made")
    assert not page.find_elements(By.CSS_SELECTOR, ".cells")  # one result has nothing to be sorted with
    places = (".card.hero", ".aside", ".kinds", ".policies td", ".more td")
    buttons = [page.find_element(By.CSS_SELECTOR, f"{place} button.made") for place in places]
    for shown in (*buttons, page.find_element(By.CSS_SELECTOR, "#r0 .groups .mark-rect path")):
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", shown)
        number = shown.text
        shown.click()
        WebDriverWait(page, 10).until(lambda _: dialog.is_displayed())
        assert dialog.find_element(By.CSS_SELECTOR, ".command").text == with_replay.card.command
        assert number in dialog.find_element(By.TAG_NAME, "h2").text
        dialog.find_element(By.CSS_SELECTOR, ".close").click()
    assert errors() == []


def test_fetches_nothing(show, result):
    """A font or library from the network: the page would tell others that it was opened."""
    page = show(result)
    assert page.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
    blocked = page.execute_async_script(
        "const done = arguments[0]; fetch('https://example.org/').then(() => done(false), () => done(true))"
    )
    assert blocked
    page.get_log("browser")  # the refusal just provoked


def test_click_shows_a_token_by_depth(show, result):
    """A click that shows another row's depths, or none."""
    page = show(result)
    tokens = page.find_elements(By.CSS_SELECTOR, "button.token")
    assert len(tokens) == 16
    tokens[5].click()
    trace, row = result.trace, 5
    rows = detail(page).find_elements(By.CSS_SELECTOR, "tbody tr")
    assert len(rows) == trace.num_blocks + 1
    words = [trace.token_strings[index] for index in trace.signals["top1_id"][row]]
    shown = [line.find_element(By.CSS_SELECTOR, ".guess").get_attribute("textContent") for line in rows]
    assert shown == [re.sub("^ ", "\u2423", word).replace("\n", "\u23ce") for word in words]
    percents = [float(line.find_elements(By.TAG_NAME, "td")[1].text.removesuffix(" %")) for line in rows]
    assert percents == pytest.approx(100 * trace.signals["top1_prob"][row], abs=0.06)
    ids = trace.signals["top1_id"][row]
    decided = max((depth + 1 for depth in range(len(ids)) if ids[depth] != ids[-1]), default=0)
    assert detail(page).find_element(By.CSS_SELECTOR, "tr.decided th").text == str(decided)


def test_keyboard_and_pointer_move_between_tokens(show, result):
    """An explorer that only a mouse can use."""
    page = show(result)
    tokens = page.find_elements(By.CSS_SELECTOR, "button.token")
    tokens[0].click()
    tokens[0].send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element == tokens[1]
    assert tokens[1].get_attribute("aria-current") == "true"
    assert [token.get_attribute("tabindex") for token in tokens].count("0") == 1
    ActionChains(page).move_to_element(tokens[7]).perform()
    assert tokens[7].get_attribute("aria-current") == "true"
    assert tokens[1].get_attribute("aria-current") is None


def test_category_and_prompt_can_be_chosen(show, result, errors):
    """A filter that lists other categories' prompts, or buttons that do nothing."""
    page = show(result)
    Select(page.find_element(By.CSS_SELECTOR, "select.category")).select_by_visible_text("maths")
    prompts = Select(page.find_element(By.CSS_SELECTOR, "select.sample"))
    assert len(prompts.options) == 4
    assert all("(maths)" in option.text for option in prompts.options)
    before = page.find_element(By.CSS_SELECTOR, ".prompt").text
    page.find_element(By.CSS_SELECTOR, "button.next").click()
    assert page.find_element(By.CSS_SELECTOR, ".prompt").text != before
    assert errors() == []


def test_hostile_text_is_shown_and_inert(show, hostile, result, errors):
    """A prompt, token, category or model name that runs or becomes an element."""
    page = show(hostile, result)
    assert page.title.startswith("exitbench: ")
    assert not page.find_elements(By.CSS_SELECTOR, "img, script[src], [onerror]")
    assert HOSTILE_OPENING in page.find_element(By.CSS_SELECTOR, ".prompt").text
    assert HOSTILE_OPENING in page.find_element(By.CSS_SELECTOR, ".subject").text
    for token in page.find_elements(By.CSS_SELECTOR, "#r0-explorer button.token"):
        page.execute_script("arguments[0].click()", token)
    tooltip_source = page.find_element(By.CSS_SELECTOR, "#r0 .groups .mark-rect path")
    ActionChains(page).move_to_element(tooltip_source).perform()
    assert not page.find_elements(By.CSS_SELECTOR, "img, script[src], [onerror]")
    assert errors() == []


def test_charts_follow_a_change_of_scheme(show, result, errors):
    """Dark text on a dark page."""
    page = show(result, dark=True)
    # Read in one step: the element may be replaced between finding it and asking it.
    read = "return document.querySelector('.chart svg .role-axis-label text')?.getAttribute('fill')"
    dark = page.execute_script(read)
    assert dark
    scheme = [{"name": "prefers-color-scheme", "value": "light"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    WebDriverWait(page, 10).until(lambda driver: driver.execute_script(read) not in (None, dark))
    assert errors() == []


def test_narrow_screen_does_not_scroll_sideways(show, result):
    """A table or chart wider than a phone."""
    page = show(result)
    assert_fits_a_phone(page)
