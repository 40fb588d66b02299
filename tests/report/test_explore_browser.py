"""The page of many results in headless Chromium: narrowed, asked what made a number, light and dark, and fast."""

import random
import re
from dataclasses import replace

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from exitbench.report.study import write_study_page
from study_rows import cell_rows, study_rows

pytestmark = pytest.mark.browser

KINDS, STAGES = ("dense", "moe", "ssm", "hybrid"), ("base", "instruct")
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
FIRST_PAINT_MS = 3000
MOST_BYTES = 15_000_000


def many_rows(models, workloads=("mini",), depths=13):
    """Models of every kind, stage and size, each on every workload, measured and replayed."""
    rng = random.Random(0)
    rows = []
    for index in range(models):
        facts = {
            "kind": KINDS[index % 4],
            "stage": STAGES[index % 2],
            "release_month": f"{2021 + index % 5}-{1 + index % 12:02d}",
            "active_params_b": 10 ** rng.uniform(-1, 1.9),
            "tokens_seen": None,
            "libraries": "torch 2",
            "weights_sha256": f"{index:064x}",
        }
        rows += [
            found
            for workload in workloads
            for found in cell_rows(
                cell=f"{index}-{workload}",
                model=f"model-{index}",
                source=f"org/model-{index}",
                workload=workload,
                late=rng.random(),
                depths=depths,
                matrices=False,
                replayed=True,
                **facts,
            )
        ]
    return rows


@pytest.fixture
def show(open_page, tmp_path):
    """Write rows as a page and open it."""
    return lambda rows, **options: open_page(write_study_page(rows, tmp_path / "study.html", title="Many"), **options)


def choose(page, name, text):
    Select(page.find_element(By.CSS_SELECTOR, f"[data-{name}]")).select_by_visible_text(text)


def points(page, chart, mark=".mark-symbol"):
    """Marks drawn in a chart; read in one step, for its elements may be replaced meanwhile."""
    places = f"[data-spec={chart}] svg {mark}.role-mark path"
    return page.execute_script("return document.querySelectorAll(arguments[0]).length", places)


def until(page, what):
    WebDriverWait(page, 10).until(lambda _: what())


def test_filters_narrow_table_and_charts(show, errors):
    """A filter that leaves other kinds in the table or in a chart, or that cannot be taken back."""
    page = show(many_rows(8, ("mini", "other")))

    def shown():
        return page.execute_script("return document.querySelectorAll('.cells tbody tr:not([hidden])').length")

    assert (shown(), points(page, "study-models")) == (16, 8)
    choose(page, "filter=kind", "moe")
    until(page, lambda: points(page, "study-models") == 2)
    assert shown() == 4
    choose(page, "filter=workload", "other, on text")
    assert shown() == 2
    assert page.find_element(By.ID, "cells-shown").text == "2 of 16 shown"
    measured = Select(page.find_element(By.CSS_SELECTOR, "[data-choice=context]"))
    assert measured.first_selected_option.text == "other, on text, logit readout"
    assert [option.is_enabled() for option in measured.options] == [False, True]
    choose(page, "filter=stage", "base")
    until(page, lambda: page.find_elements(By.CSS_SELECTOR, "figure.empty"))
    assert shown() == 0
    for name in ("kind", "stage", "workload"):
        choose(page, f"filter={name}", "all")
    until(page, lambda: points(page, "study-models") == 8)
    assert shown() == 16
    assert errors() == []


def test_readout_narrows_every_chart(show, errors):
    """A chart of one readout under a filter of another, in training too, or a model that is offered and has nothing."""
    rows = [
        *study_rows(models=2, checkpoints=2, depths=5),
        *study_rows(models=1, checkpoints=3, depths=5, readout="tuned"),
    ]
    page = show([replace(found, cell=f"{found.cell}-{found.readout}") for found in rows])

    def columns():
        return points(page, "study-heat", ".mark-rect")

    assert columns() == 2 * 5
    models = Select(page.find_element(By.CSS_SELECTOR, "[data-choice=model]"))
    models.select_by_visible_text("model-1")
    choose(page, "filter=readout", "tuned")
    until(page, lambda: columns() == 3 * 5)
    assert models.first_selected_option.text == "model-0"
    until(page, lambda: points(page, "study-progress") == 3)
    until(page, lambda: points(page, "study-models") == 1)
    assert errors() == []


def test_click_on_a_number_tells_what_made_it(show, errors):
    """A number without its command, or with that of another model."""
    page = show(many_rows(3))
    row = page.find_element(By.XPATH, "//tr[.//bdi[text()='model-1']]")
    row.find_element(By.CSS_SELECTOR, "button.made").click()
    dialog = page.find_element(By.ID, "made")
    assert dialog.is_displayed()
    assert dialog.find_element(By.CSS_SELECTOR, ".command").text == "exitbench study example.yaml"
    assert "org/model-1" in dialog.text
    assert f"{1:064x}" in dialog.text
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()
    missing = row.find_element(By.XPATH, ".//button[text()='n/a']")
    missing.send_keys(Keys.ENTER)
    assert "too few prompts" in dialog.text
    dialog.find_element(By.TAG_NAME, "button").click()
    assert not dialog.is_displayed()
    point = page.find_element(By.CSS_SELECTOR, "[data-spec=study-models] svg .mark-symbol.role-mark path")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    point.click()
    until(page, dialog.is_displayed)
    best = point.get_attribute("aria-label") or ""
    assert "model-" in best
    assert next(f"org/model-{i}" for i in range(3) if f"model-{i}" in best) in dialog.text
    assert errors() == []


def test_only_marks_of_one_number_tell(show, errors):
    """A line that tells of its first point, or a null that nobody measured under the pointer or in a label."""
    rows = [found for found in many_rows(2) if not found.figure.startswith("ees_untrained")]
    page = show(rows)
    until(page, lambda: points(page, "study-models") == 2)
    assert not page.find_elements(By.CSS_SELECTOR, "[data-spec=study-models] [aria-label*=untrained]")
    line = page.find_element(By.CSS_SELECTOR, "[data-spec=study-decided] svg .mark-line path")
    page.execute_script(
        "arguments[0].scrollIntoView({block: 'center'});"
        "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))",
        line,
    )
    assert not page.find_element(By.ID, "made").is_displayed()
    symbol = page.find_element(By.CSS_SELECTOR, "[data-spec=study-batch] svg .mark-symbol.role-mark path")
    page.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", symbol)
    until(page, page.find_element(By.ID, "made").is_displayed)
    assert re.match(r"batch with \d+ rows: ", page.find_element(By.ID, "made-title").text)
    assert errors() == []


def test_hostile_names_are_told_and_inert(show, errors):
    """A name, path or command that runs or becomes an element when it is told, or breaks the filters."""
    names = {"model": HOSTILE, "workload": HOSTILE, "source": HOSTILE, "command": HOSTILE}
    rows = [*cell_rows(cell="a", replayed=True, **names), *cell_rows(cell="b", workload="other")]
    page = show(rows)
    choose(page, "filter=workload", f"{HOSTILE}, on text")
    assert page.find_element(By.ID, "cells-shown").text == "1 of 2 shown"
    page.find_element(By.CSS_SELECTOR, "tr:not([hidden]) button.made").click()
    assert page.find_element(By.CSS_SELECTOR, "#made .command").text == HOSTILE
    assert not page.find_elements(By.CSS_SELECTOR, "img, [onerror]")
    assert page.title == "exitbench: Many"
    assert errors() == []


def test_axis_is_chosen(show, errors):
    """A chart over size whose axis still shows dates, or an axis offered on which nothing is known."""
    page = show(many_rows(8))
    axes = Select(page.find_element(By.CSS_SELECTOR, "[data-choice=across]"))
    assert [option.text for option in axes.options] == ["release", "active parameters"]

    def labels():
        texts = "[data-spec=study-across] svg .role-axis-label text"
        return page.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((t) => t.textContent)", texts
        )

    assert any(label.startswith("202") for label in labels())
    axes.select_by_visible_text("active parameters")
    until(page, lambda: any(label in {"1B", "10B"} for label in labels()))
    assert points(page, "study-across") == 8
    assert errors() == []


def test_policies_of_a_chosen_model(show, errors):
    """Policies of the model before, or savings that do not change with what is counted as saved."""
    page = show(many_rows(3))
    title = page.find_element(By.CSS_SELECTOR, "[data-spec=study-policies]").find_element(By.XPATH, "../h3")
    assert title.text.endswith("model-0")
    assert points(page, "study-policies") == 12
    choose(page, "choice=ended", "model-2")
    assert title.text.endswith("model-2")
    choose(page, "choice=saving", "FLOPs, net of probes and of states copied")
    assert points(page, "study-policies") == 12
    assert errors() == []


def test_table_is_sorted_from_the_keyboard(show, errors):
    """Headings that only a mouse can reach."""
    page = show(many_rows(3))
    heading = page.find_element(By.XPATH, "//button[@class='sort' and text()='model']")
    page.execute_script("arguments[0].focus()", heading)
    ActionChains(page).send_keys(Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER).perform()
    (by,) = page.find_elements(By.CSS_SELECTOR, "th[aria-sort=ascending]")
    assert by.text.startswith("EES")
    assert errors() == []


def test_legends_fit_a_phone(show, errors):
    """A legend cut off at the side or below, where names are long."""
    page = show([replace(found, model=f"a-model-with-a-long-name-{found.model}") for found in many_rows(5)])
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.refresh()
        until(page, lambda: page.execute_script("return document.documentElement.dataset.charts") == "drawn")
        outside = """return [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('.role-legend-label text')].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
            });
        }).length"""
        assert page.execute_script(outside) == 0
        assert len(page.find_elements(By.CSS_SELECTOR, ".chart svg .role-legend-label text")) >= 4 * 5
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors() == []


def test_button_turns_light_and_dark(show, errors):
    """A button that changes the page and not its charts, or that cannot go back, whatever the system asks for."""
    page = show(many_rows(3), dark=True)

    def colours():
        return page.execute_script("""const text = document.querySelector(".chart svg .role-axis-label text");
            return [getComputedStyle(document.body).backgroundColor, text?.getAttribute("fill")]""")

    dark = colours()
    page.find_element(By.ID, "scheme").click()
    until(page, lambda: None not in colours() and colours()[1] != dark[1])
    assert colours()[0] != dark[0]
    light = colours()
    page.refresh()
    until(page, lambda: colours() == light)  # remembered
    page.find_element(By.ID, "scheme").click()
    until(page, lambda: colours() == dark)
    page.execute_script("localStorage.clear()")
    assert errors() == []


def test_colours_need_no_memory(show, browser, errors):
    """A page that does not open, or a button that does nothing, where the browser refuses it a memory."""
    refused = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no') } })"
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refused})
    try:
        page = show(many_rows(1))
        before = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        page.find_element(By.ID, "scheme").click()
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != before
        assert errors() == []
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_many_models_are_fast_and_small(open_page, tmp_path, errors):
    """A page of 200 models on 6 workloads that nobody waits for, or that cannot be sent."""
    rows = many_rows(200, [f"workload-{i}" for i in range(6)], depths=33)
    file = write_study_page(rows, tmp_path / "many.html", title="Many")
    size = file.stat().st_size
    page = open_page(file)
    paint = page.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    drawn = page.execute_script("return performance.getEntriesByName('charts')[0].startTime")
    print(f"{size / 1e6:.1f} MB, first paint after {paint:.0f} ms, charts after {drawn:.0f} ms")
    assert size < MOST_BYTES
    assert paint < FIRST_PAINT_MS
    assert len(page.find_elements(By.CSS_SELECTOR, ".cells tbody tr")) == 1200
    assert errors() == []
