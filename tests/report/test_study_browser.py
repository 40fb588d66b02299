"""The page of a study in headless Chromium: it draws, its choices change what is shown, it stays silent."""

from dataclasses import replace

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from exitbench.report.study import write_study_page
from exitbench.report.study_claims import Claims
from findings import finding
from screens import assert_fits_a_phone
from study_rows import cell_rows, failed, study_rows

pytestmark = pytest.mark.browser

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
CHARTS = 7


@pytest.fixture(scope="module")
def rows():
    """Three models with five checkpoints, one without, and a cell that failed."""
    other = cell_rows(cell="x", model="other", kind="hybrid")
    return [*study_rows(), *other, failed("out of memory", cell="f", model="big")]


@pytest.fixture
def show(open_page, tmp_path):
    """Write rows as a page and open it."""
    return lambda rows, **options: open_page(
        write_study_page(rows, tmp_path / "study.html", **({"title": "A study"} | options))
    )


def cells_of(page, chart):
    """Fill of every cell of a heat map; read in one step, for its elements may be replaced meanwhile."""
    places = f"[data-spec={chart}] svg .role-mark.mark-rect path"
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((place) => place.getAttribute('fill'))", places
    )


def changed(page, read, before):
    WebDriverWait(page, 10).until(lambda _: read() not in (before, []))
    return read()


def test_draws_every_chart_without_errors(show, rows, errors):
    """A chart that stays empty, an expression the interpreter refuses, a script the policy blocks."""
    page = show(rows, claims=Claims(own=(finding(),)))
    charts = page.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(charts) == CHARTS + 1
    for chart in charts:
        marks = "svg .mark-line path, svg .mark-rect path, svg .mark-symbol path"
        assert chart.find_elements(By.CSS_SELECTOR, marks), chart.get_attribute("data-spec")
        assert 150 < chart.size["height"] < 700
    assert not page.find_elements(By.CSS_SELECTOR, "figure.empty")
    assert len(cells_of(page, "study-heat")) == 5 * 13
    assert len(cells_of(page, "study-pairs")) == 13 * 13
    assert errors() == []


def test_slider_moves_through_training(show, rows, errors):
    """A slider that moves and shows the same matrix, or names another checkpoint than it shows."""
    page = show(rows)
    slider = page.find_element(By.CSS_SELECTOR, "input[type=range]")
    assert slider.get_attribute("max") == "4"
    said = page.find_element(By.ID, "checkpoint-shown")
    assert said.text == "step 0, 0 tokens"
    before = cells_of(page, "study-pairs")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    after = changed(page, lambda: cells_of(page, "study-pairs"), before)
    assert len(after) == len(before)
    assert said.text == "step 100, 200 M tokens"
    assert slider.get_attribute("aria-valuetext") == said.text
    figure = slider.find_element(By.XPATH, "ancestor::figure")
    assert "step 100, 200 M tokens" in figure.find_element(By.TAG_NAME, "h3").text
    assert errors() == []


def test_model_and_figure_can_be_chosen(show, rows, errors):
    """A choice that changes the title and not the chart, or the other charts too."""
    page = show(rows)
    before, matrix = cells_of(page, "study-heat"), cells_of(page, "study-pairs")
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=figure]")).select_by_visible_text(
        "Norm of the residual stream"
    )
    after = changed(page, lambda: cells_of(page, "study-heat"), before)
    assert cells_of(page, "study-pairs") == matrix
    title = page.find_element(By.CSS_SELECTOR, "[data-spec=study-heat]").find_element(By.XPATH, "../h3")
    assert title.text.startswith("Norm of the residual stream of model-0")
    assert "log scale" in title.find_element(By.XPATH, "..//figcaption").text
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=figure]")).select_by_value("decided")
    changed(page, lambda: cells_of(page, "study-heat"), after)
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=model]")).select_by_visible_text("model-2")
    changed(page, lambda: cells_of(page, "study-heat"), before)
    assert "model-2" in title.text
    assert errors() == []


def test_colours_mean_the_same_in_every_chart(show, rows, errors):
    """A model that is blue in one chart and orange in the next; a legend of models that its chart has no line of."""
    page = show(rows)
    in_training = ["model-0", "model-1", "model-2"]

    def legends():
        read = """return [...document.querySelectorAll('.chart')].map((chart) => Object.fromEntries(
            [...chart.querySelectorAll('.role-legend-label text')].map((label, index) => [label.textContent,
            chart.querySelectorAll('.role-legend-symbol path')[index]?.getAttribute('stroke')])))"""
        return [found for found in page.execute_script(read) if "model-0" in found or "dense" in found]

    by_model = legends()
    assert [list(found) for found in by_model] == [
        [*in_training, "other"],
        in_training,
        [*in_training, "other"],
        *[in_training] * 2,
    ]
    colours = {pair for found in by_model for pair in found.items()}
    assert len(colours) == len(dict(colours)) == 4
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=group]")).select_by_visible_text("kind")
    by_kind = changed(page, legends, by_model)
    WebDriverWait(page, 10).until(lambda _: all("dense" in found for found in legends()))
    by_kind = legends()
    known, every = ["dense", "moe", "ssm"], ["dense", "hybrid", "moe", "ssm"]
    assert [list(found) for found in by_kind] == [every, known, every, known, known]
    colours = {pair for found in by_kind for pair in found.items()}
    assert len(colours) == len(dict(colours)) == 4
    assert errors() == []


@pytest.mark.parametrize(("scale", "ticks"), [(1, {"0", "20M", "200M", "2B", "20B"}), (1000, {"0", "20B", "20T"})])
def test_axes_have_labels_at_their_ends(show, scale, ticks, errors):
    """A log axis with two labels; shares that end at 90 %."""
    page = show([replace(found, tokens_seen=scale * found.tokens_seen) for found in study_rows()])

    def labels(chart):
        texts = f"[data-spec={chart}] svg .role-axis-label text"
        return [text.text for text in page.find_elements(By.CSS_SELECTOR, texts) if text.text]

    assert ticks <= set(labels("study-progress"))
    assert labels("study-decided").count("100%") == 2
    assert errors() == []


def test_choice_without_numbers_says_so(show, errors):
    """A chart of the choice before under the title of the next one, or an error for want of data."""
    rows = study_rows(models=1, checkpoints=2) + cell_rows(cell="z", model="z", workload="other", matrices=False)
    page = show(rows)
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=context]")).select_by_index(1)
    empty = page.find_elements(By.CSS_SELECTOR, "figure.empty")
    assert len(empty) == 4
    for figure in empty:
        assert figure.find_element(By.CSS_SELECTOR, ".nothing").is_displayed()
        assert not figure.find_element(By.CSS_SELECTOR, ".chart").is_displayed()
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=context]")).select_by_index(0)
    assert not page.find_elements(By.CSS_SELECTOR, "figure.empty")
    assert errors() == []


def test_first_choice_without_numbers(show, errors):
    """Charts that stay empty, or complain, because the first thing measured on has no checkpoints."""
    rows = study_rows(models=1, checkpoints=2) + cell_rows(cell="z", model="a", workload="a", matrices=False)
    page = show(rows)
    assert len(page.find_elements(By.CSS_SELECTOR, "figure.empty")) == 4
    assert cells_of(page, "study-heat") == []
    Select(page.find_element(By.CSS_SELECTOR, "[data-choice=context]")).select_by_index(1)
    assert len(changed(page, lambda: cells_of(page, "study-heat"), [])) == 2 * 13
    assert not page.find_elements(By.CSS_SELECTOR, "figure.empty")
    assert errors() == []


def test_figures_without_intervals_and_nulls(show, errors):
    """A complaint about scales, or an empty chart, where few prompts gave no interval and no untrained models ran."""
    bare = [replace(found, low=None, high=None) for found in study_rows() if "untrained" not in found.figure]
    page = show([found for found in bare if found.figure != "bits_per_character"])
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-spec=study-progress] svg .mark-line path")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "[data-spec=study-loss] svg .mark-line path")) == 3
    assert errors() == []


def test_table_is_sorted_by_a_click(show, rows, errors):
    """Numbers sorted as text, or missing ones first."""
    page = show(rows)
    button = page.find_element(By.XPATH, "//button[@class='sort' and text()='EES']")

    def column():
        return [
            row.find_elements(By.TAG_NAME, "td")[3].get_attribute("data-value")
            for row in page.find_elements(By.CSS_SELECTOR, ".cells tbody tr")
        ]

    button.click()
    assert column() == sorted(column(), key=float)
    button.click()
    assert column() == sorted(column(), key=float, reverse=True)
    assert errors() == []


def test_hostile_labels_are_shown_and_inert(show, errors):
    """A label, tag or reason that runs or becomes an element."""
    names = {"model": HOSTILE, "workload": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    rows = [
        *cell_rows(cell="a", **names, revision="1", step=1),
        *cell_rows(cell="b", **names, revision="2", step=2),
        failed(HOSTILE, cell="c", model="big"),
    ]
    page = show(rows, title=HOSTILE, claims=Claims(own=(finding(claim=HOSTILE, label=HOSTILE),)))
    assert page.title.startswith("exitbench: </script>")
    assert not page.find_elements(By.CSS_SELECTOR, "img, script[src], [onerror]")
    assert HOSTILE in page.find_element(By.CSS_SELECTOR, "[data-spec=study-heat]").find_element(By.XPATH, "../h3").text
    assert errors() == []


def test_findings_of_several_studies(show, rows, errors):
    """A chart drawn from another study's finding, details that stay shut, or a claim that runs."""
    own = (finding(label="first"), finding(label="second", claim=HOSTILE))
    page = show(rows, claims=Claims(own=own, together=own, alone=False))
    for number, label in enumerate(("first", "second"), start=1):
        marks = page.find_elements(By.CSS_SELECTOR, f"[data-spec=finding-models-{number}] svg .mark-symbol path")
        told = [mark.get_attribute("aria-label") for mark in marks]
        assert len(told) == 4
        assert all(f"model: {label}-" in text for text in told)
    together, first, _ = page.find_elements(By.CSS_SELECTOR, ".finding")
    assert HOSTILE in together.text
    details = first.find_element(By.TAG_NAME, "details")
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    assert "two models a group could have shown 0.1" in details.text
    assert not page.find_elements(By.CSS_SELECTOR, "img, script[src], [onerror]")
    assert_fits_a_phone(page)
    assert errors() == []


def test_dark_scheme_and_narrow_screen(show, open_page, rows, errors):
    """Choices lost when the scheme changes, or a table or chart wider than a phone."""
    page = show(rows, claims=Claims(own=(finding(),)))
    slider = page.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT)
    before = cells_of(page, "study-pairs")
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    changed(page, lambda: cells_of(page, "study-pairs"), before)
    assert page.find_element(By.ID, "checkpoint-shown").text == "step 10, 20 M tokens"
    assert_fits_a_phone(page)
    assert errors() == []
