"""The page of a study as a file; what a browser makes of it is in test_study_browser.py."""

import json
import math
import time
from dataclasses import replace

import pytest

from exitbench.errors import ReportError
from exitbench.report.study import write_study_page
from exitbench.report.study_claims import Claims
from exitbench.report.study_folders import report_studies
from exitbench.study.rows import write_rows
from findings import finding
from html_elements import Elements
from study_rows import cell_rows, failed, row, study_rows

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">\u202e\x1b[31m'


def written(rows, tmp_path, **options):
    """The text of a page."""
    options = {"title": "A study"} | options
    return write_study_page(rows, tmp_path / "study.html", **options).read_text(encoding="utf-8")


def words(text):
    return " ".join(" ".join(Elements(text).words).split())


def charts(text):
    return [attributes["data-spec"] for _, attributes in Elements(text).tags if "data-spec" in attributes]


def data(text):
    """The block of numbers."""
    scripts = Elements(text).scripts
    return json.loads(next(content for attributes, content in scripts if attributes.get("id") == "study-data"))


def test_every_chapter_with_its_numbers(tmp_path):
    """A chapter left out although its rows are there, or charts without data."""
    text = written(
        study_rows(replayed=True), tmp_path, claims=Claims(own=(finding(),)), command="exitbench study kinds.yaml"
    )
    assert charts(text) == [
        *("finding-models", "study-models", "study-across", "study-decided", "study-batch", "study-policies"),
        *("study-heat", "study-pairs", "study-progress", "study-characters"),
    ]
    there = data(text)
    assert len(there["cells"]) == 15
    assert [figure[0] for figure in there["by_pair"]] == ["cka"]
    assert {"decided", "entropy", "top1_churn"} < {figure[0] for figure in there["by_depth"]}
    for heading in ("The finding", "Every cell", "Models compared", "In training"):
        assert heading in words(text)
    assert "exitbench study kinds.yaml" in words(text)


def test_numbers_travel_whole(tmp_path):
    """A value at another depth than its own, another interval, or a matrix whose halves are swapped."""
    rows = cell_rows(cell="a", step=1, tokens_seen=5)
    there = data(written(rows, tmp_path))["cells"][0]
    by_depth = {found.depth: found.value for found in rows if found.figure == "entropy"}
    assert there["by_depth"]["entropy"] == [pytest.approx(by_depth[d], rel=1e-3) for d in range(13)]
    ees = next(found for found in rows if found.figure == "ees")
    assert there["plain"]["ees"] == pytest.approx([ees.value, ees.low, ees.high], rel=1e-3)
    pairs = {(f.depth, f.other_depth): f.value for f in rows if f.figure == "cka"}
    expected = [pairs[low, high] for high in range(13) for low in range(high + 1)]
    assert there["by_pair"]["cka"]["values"] == pytest.approx(expected, rel=1e-3)
    assert there["loss"] == 2.5
    assert there["null"] == [0.02, 0.01, 0.03]


def test_figure_from_depth_one_keeps_its_place(tmp_path):
    """A figure that has no depth 0 shown one depth too early."""
    rows = [row("block_influence", 0.1 * d, depth=d, step=s, cell=f"c{s}") for s in (0, 1) for d in (1, 2)]
    cells = data(written(rows, tmp_path))["cells"]
    assert cells[0]["by_depth"]["block_influence"] == [None, 0.1, 0.2]


def test_depth_against_itself_is_filled(tmp_path):
    """A matrix with a white diagonal, because what holds by definition is not measured."""
    rows = [row("cka", 0.5, depth=0, other_depth=1), row("angular_distance", 0.4, depth=0, other_depth=1)]
    by_pair = data(written(rows, tmp_path))["cells"][0]["by_pair"]
    assert by_pair["cka"]["values"] == [1, 0.5, 1]
    assert by_pair["angular_distance"]["values"] == [0, 0.4, 0]


def test_missing_is_no_number(tmp_path):
    """NaN in the data, or a missing figure as 0 and without its reason."""
    rows = [
        row("ees", math.nan),
        row("ees_star", 0.1, low=math.inf),
        row("aes_1pct", None, reason="too few prompts"),
        row("entropy", math.nan, depth=1),
        row("cka", math.nan, depth=0, other_depth=1),
    ]
    text = written(rows, tmp_path)
    there = data(text)["cells"][0]
    assert there["plain"] == {"ees_star": [0.1, None, None]}
    assert there["by_depth"] == {}
    assert there["by_pair"] == {}
    assert 'title="too few prompts"' in text
    assert text.count(">n/a</button>") == 3


def test_hostile_text_makes_no_elements(tmp_path):
    """A label, tag, reason or finding that becomes markup or reorders what stands around it."""
    kinds = {tag for tag, _ in Elements(written(study_rows(), tmp_path, claims=Claims(own=(finding(),)))).tags}
    names = {"model": HOSTILE, "workload": HOSTILE, "readout": HOSTILE, "revision": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    rows = cell_rows(cell="a", **names) + cell_rows(cell="b", model="other", tags={HOSTILE: "x"}, step=3)
    rows += [failed(HOSTILE, cell="c", **names), row(HOSTILE, 1.0, depth=2, cell="b", model="other", step=3)]
    text = written(
        rows, tmp_path, title=HOSTILE, command=HOSTILE, claims=Claims(own=(finding(claim=HOSTILE, label=HOSTILE),))
    )
    elements = Elements(text)
    assert {tag for tag, _ in elements.tags} <= kinds
    assert sum("type" not in attributes for attributes, _ in elements.scripts) == 4
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_page_is_self_contained(tmp_path):
    """A style sheet, script, font or picture from elsewhere."""
    elements = Elements(written(study_rows(models=1), tmp_path, claims=Claims(own=(finding(),))))
    for tag, attributes in elements.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "a"}
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    for attributes, content in elements.scripts:
        if attributes.get("type") == "application/json":
            assert '"url"' not in content


def test_failed_cells_alone(tmp_path):
    """A page that needs a measured cell, or hides that none was measured."""
    text = written([failed("out of memory", cell="a"), failed("no such model", cell="b", model="m1")], tmp_path)
    assert charts(text) == []
    assert "out of memory" in words(text)
    assert "2 failed" in words(text)
    assert "study-data" not in {attributes.get("id") for attributes, _ in Elements(text).scripts}


def test_failed_cell_beside_measured_ones_is_in_no_figure(tmp_path):
    """A failed cell as a model without figures."""
    text = written([*cell_rows(cell="a"), failed("out of memory", cell="b", model="big")], tmp_path)
    assert data(text)["models"] == ["m0"]
    assert words(text).index("Failed cells") < words(text).index("out of memory")


def test_without_checkpoints_no_training(tmp_path):
    """An empty chapter on training."""
    text = written(cell_rows(cell="a") + cell_rows(cell="b", model="m1"), tmp_path)
    assert "In training" not in words(text)
    assert charts(text) == ["study-models", "study-decided"]
    assert "In training" not in words(written(cell_rows(cell="a", step=1), tmp_path))


def test_single_figure(tmp_path):
    """A page that needs all the figures it can show."""
    assert charts(written([row()], tmp_path)) == ["study-models"]


def test_models_are_compared_as_they_ended(tmp_path):
    """An early checkpoint in the comparison, or a model without a step left out of it."""
    rows = study_rows(models=1, checkpoints=3) + cell_rows(cell="x", model="x", revision="main")
    rows += cell_rows(cell="y", model="x", revision="other")
    ended = [(cell["name"], cell["when"]) for cell in data(written(rows, tmp_path))["cells"] if cell["ended"]]
    assert ended == [("model-0", ["step 100", "200 M tokens"]), ("x, main", []), ("x, other", [])]


def test_settings_that_differ_are_told_apart(tmp_path):
    """Two measurements of one model on different amounts of text joined into one line."""
    rows = [row(revision=str(step), limit=limit, step=step) for limit in (8, 64) for step in (1, 2)]
    there = data(written(rows, tmp_path))
    assert there["contexts"] == ["mini, on text, logit readout, limit 64", "mini, on text, logit readout, limit 8"]
    assert sorted((cell["context"], cell["place"]) for cell in there["cells"]) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_many_models_are_coloured_by_what_they_share(tmp_path):
    """Thirty colours that nobody can tell apart."""
    groups = data(written(study_rows(models=30, checkpoints=1, matrices=False), tmp_path))["groups"]
    assert "model" not in groups
    assert set(groups["kind"]) == {"dense", "moe", "ssm"}
    assert set(groups["tag seed"]) == {"0", "1"}
    rows = [row(cell=str(i), model=str(i), tags={"name": str(i)}) for i in range(12)]
    assert len(set(data(written(rows, tmp_path))["groups"]["tag name"])) == 8


def test_big_study_stays_small_and_quick(tmp_path):
    """A page that takes a minute to make, or that no browser opens in reasonable time."""
    rows = study_rows(models=30, checkpoints=8, depths=31)
    start = time.process_time()
    page = write_study_page(rows, tmp_path / "big.html", title="Big")
    assert time.process_time() - start < 3  # 0.7 s on an idle machine
    assert page.stat().st_size < 5e6


def test_matrices_of_deep_models_are_thinned_and_it_is_said(tmp_path, monkeypatch):
    """Matrices that make the page large, or depths that are missing without a word."""
    monkeypatch.setattr("exitbench.report.study_payload.MATRIX_BUDGET", 300)
    text = written(study_rows(models=2, checkpoints=2), tmp_path)
    there = data(text)["cells"][0]["by_pair"]["cka"]
    assert there["depths"] == [0, 2, 4, 6, 8, 10, 12]
    assert len(there["values"]) == 7 * 8 / 2
    assert "of the depths, one in 2 is shown" in words(text)


def test_finding_is_told_in_full(tmp_path):
    """A verdict without its reasons, its tests, or the models that were left out."""
    said = words(written([row()], tmp_path, claims=Claims(own=(finding(),))))
    for part in (
        "opposite",
        "Claim, fixed beforehand: dense keeps more",
        "-0.050 [-0.080, -0.020] ees",
        "permutation (decides)",
        "exchangeable models",
        "other sign",
        "no: not trained",
        "two models a group could have shown 0.1",
        "read with care few models",
    ):
        assert part.lower() in said.lower(), part


def test_trend_is_drawn_over_its_axis(tmp_path):
    """Release months as unordered groups, or sizes on a linear axis."""
    for question, places, kind in (("generations", ["2023-01", "2024-07"], "temporal"), ("size", ["0.1", "7"], "log")):
        text = written([row()], tmp_path, claims=Claims(own=(finding(question=question, places=places),)))
        spec = next(
            content for attributes, content in Elements(text).scripts if attributes.get("id") == "finding-models"
        )
        assert f'"{kind}"' in spec


def test_study_folder_gives_its_page(tmp_path):
    """A title, finding or failed cell that lies in the folder and is not on the page."""
    write_rows(tmp_path / "s" / "cells" / "a.parquet", cell_rows(cell="a"))
    write_rows(tmp_path / "s" / "cells" / "b.parquet", [failed("out of memory", cell="b", model="m1")])
    (tmp_path / "s" / "spec.yaml").write_text("name: kinds\ntitle: Three kinds\nworkloads: [mini]\nmodels: [smollm2]\n")
    (tmp_path / "s" / "finding.json").write_text(json.dumps(finding().to_json()))
    assert report_studies([tmp_path / "s"], tmp_path / "page.html") == 1
    said = words((tmp_path / "page.html").read_text())
    assert "Three kinds" in said
    assert "The finding" in said
    (tmp_path / "s" / "finding.json").write_text("{")
    with pytest.raises(ReportError, match=r"finding.json is no JSON"):
        report_studies([tmp_path / "s"], tmp_path / "page.html")


def test_order_of_rows_changes_nothing(tmp_path):
    """A page that depends on the order in which cells were written."""
    rows = study_rows(models=2, checkpoints=3, matrices=False)
    assert written(rows[::-1], tmp_path) == written(rows, tmp_path)


def test_no_rows_is_a_users_mistake(tmp_path):
    """A traceback, or an empty page."""
    with pytest.raises(ReportError, match="no rows"):
        written([], tmp_path)
    assert not list(tmp_path.iterdir())


def test_given_rows_are_not_changed(tmp_path):
    """A page that writes into what it reads."""
    rows = cell_rows(cell="a")
    before = [replace(found) for found in rows]
    written(rows, tmp_path)
    assert rows == before
