"""The HTML page as a file; what a browser makes of it is in test_browser.py."""

import base64
import hashlib
import re

import pytest

from exitbench.errors import ExitbenchError, ReportError
from exitbench.report import Result, write_report
from exitbench.report.pays import pays
from html_elements import Elements


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    return write_report([result], tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def test_first_words_are_the_verdict(page, card):
    """A page that opens with anything but the result."""
    words = " ".join(" ".join(Elements(page).words).split())
    assert card.verdict in words
    assert words.index(card.verdict) < words.index("0 = nothing, 1 = everything")
    assert words.index("0 = nothing, 1 = everything") < words.index("Does it pay here?") < words.index("Read with care")
    assert " ".join(pays(card)) in words


def test_net_figure_that_is_not_known_says_why(uncounted, tmp_path):
    """An old trace whose missing count is shown as nothing to pay."""
    text = write_report([uncounted], tmp_path / "old.html").read_text(encoding="utf-8")
    words = " ".join(" ".join(Elements(text).words).split())
    assert "not computed; what it costs to skip block 1, 2, 3 and 9 more of 12" in words
    assert "traced before that was counted" in words


def test_chapter_on_policies(with_replay, result, tmp_path):
    """Kinds of saving in one column, a policy without its row, or a chapter about nothing."""
    text = write_report([with_replay], tmp_path / "policies.html").read_text(encoding="utf-8")
    chapter = text[text.index('class="chapter policies"') : text.index('id="r0-explorer"')]
    words = " ".join(" ".join(Elements(chapter).words).split())
    headings = "policy probes blocks skipped +/- changed detected FLOPs, net bytes, net"
    assert words.count(headings) == 2
    for policy in ("margin", "patience", "skipdecode", "gate", "best by blocks"):
        assert words.count(f" {policy} ") >= 4, policy
    assert re.search(r"No figures for [^.]+: a fixed-sequence certificate at 1 %, delta", words)
    assert words.index("(bootstrap)") < words.index("(fixed-sequence")
    assert [attributes["data-spec"] for _, attributes in Elements(chapter).tags if "data-spec" in attributes] == [
        *("r0-policies-0", "r0-policies-1")
    ]
    without = write_report([result], tmp_path / "without.html").read_text(encoding="utf-8")
    assert 'class="chapter policies"' not in without


def test_page_is_self_contained(page):
    """A style sheet, script, font or picture from elsewhere."""
    for tag, attributes in Elements(page).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]


def test_policy_allows_exactly_the_two_scripts(page):
    """A policy with 'unsafe-inline', or hashes that no longer match: the page would be dead."""
    elements = Elements(page)
    policy = next(a["content"] for t, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    running = [text for attributes, text in elements.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    assert rules["script-src"].split() == [f"'sha256-{value}'" for value in hashes]


def test_hostile_text_makes_no_elements(result, hostile, tmp_path):
    """A name, prompt or token that becomes markup."""
    kinds = {tag for tag, _ in Elements(write_report([result], tmp_path / "a.html").read_text()).tags}
    text = write_report([hostile], tmp_path / "b.html").read_text(encoding="utf-8")
    elements = Elements(text)
    assert {tag for tag, _ in elements.tags} - kinds <= {"aside"}
    assert sum("type" not in attributes for attributes, _ in elements.scripts) == 4
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "non-finite logits" in text


def test_several_results_are_compared_first(result, hostile, tmp_path):
    """Two sections whose element ids collide, or a comparison below the fold."""
    text = write_report([result, hostile], tmp_path / "two.html").read_text(encoding="utf-8")
    ids = [attributes["id"] for _, attributes in Elements(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert text.index('id="cells"') < text.index('id="r0"') < text.index('id="r1"')


def test_fast_page_has_no_empty_places(fast, tmp_path):
    """Charts without a curve, tables of nulls, or missing figures without a word on how to get them."""
    text = write_report([fast], tmp_path / "fast.html").read_text(encoding="utf-8")
    elements = Elements(text)
    charts = [attributes["data-spec"] for _, attributes in elements.tags if "data-spec" in attributes]
    assert charts == ["r0-decided", "r0-groups-0", "r0-groups-1"]
    words = " ".join(" ".join(elements.words).split())
    assert words.count("Traced with --fast") == 1
    assert "not recorded" not in words.replace("(not recorded: traced with --fast)", "")
    assert "How the prediction takes shape" not in words
    assert 'id="r0-explorer"' in text


def test_fast_beside_full(result, fast, tmp_path):
    """A comparison that fails, or shows one's figures in the other's columns."""
    text = write_report([fast, result], tmp_path / "two.html").read_text(encoding="utf-8")
    table = text[text.index("<tbody>") : text.index("</tbody>")]
    assert table.count("not recorded") == 3
    assert table.count(f">{result.card.ees.value:.3f}<") == 2
    assert table.count(f">{result.card.aes_1pct.value:.3f}<") == 1


def test_no_trace_no_explorer(result, tmp_path):
    """A page that fails, or shows an empty explorer, when only the card is at hand."""
    text = write_report([Result(result.card, None)], tmp_path / "card.html").read_text(encoding="utf-8")
    assert "r0-explorer" not in text
    assert result.card.verdict.split("'")[0] in text


def test_page_says_when_prompts_are_left_out(result, tmp_path, monkeypatch):
    """Prompts missing from the explorer without a word."""
    monkeypatch.setattr("exitbench.report.page.EXPLORER_BUDGET_BYTES", 20_000)
    text = write_report([result], tmp_path / "small.html").read_text(encoding="utf-8")
    assert re.search(r"shows \d+ of 24\s+prompts", text)


def test_page_stays_below_15_mb(build, tmp_path):
    """A large workload that makes a page no browser opens in reasonable time."""
    large = build(num_prompts=480, tokens_each=64, num_blocks=40, vocabulary=40_000)
    assert write_report([large], tmp_path / "large.html").stat().st_size < 15e6


def test_nothing_to_report_is_a_users_mistake(tmp_path):
    """A traceback, or an empty page, for an empty list."""
    with pytest.raises(ReportError, match="no results"):
        write_report([], tmp_path / "none.html")
    assert not list(tmp_path.iterdir())


def test_unwritable_target_is_one_line(result, tmp_path):
    """A traceback, or half a page, where the folder is a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ExitbenchError, match="cannot write"):
        write_report([result], tmp_path / "file" / "report.html")
