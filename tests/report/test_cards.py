"""The Markdown and the terminal card."""

import io
import re

from rich.console import Console

from exitbench.report import Result, markdown_card, terminal_card, write_report
from exitbench.report.figures import value_text
from exitbench.report.pays import pays
from exitbench.trace.precision import Look, Precision


def printed(card, *, width=100, encoding="utf-8", colour=False):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=stream, width=width, force_terminal=colour, no_color=not colour).print(terminal_card(card))
    stream.flush()
    return raw.getvalue().decode(encoding)


def unescaped(markdown):
    return re.sub(r"\\([^\w\s])", r"\1", markdown)


def test_markdown_has_every_headline_figure(card):
    """A card whose table lacks an interval or the counts."""
    text = unescaped(markdown_card(card))
    assert f"**{card.verdict}**" in text
    ees = card.ees
    row = f"| EES | {ees.value:.3f} | [{ees.low:.3f}, {ees.high:.3f}] | {ees.n_tokens} | {ees.n_prompts} |"
    assert row in text
    assert "| MaxSkip | not computed | n/a | n/a | n/a |" in text
    for name, score in card.categories.items():
        assert f"| {name} | {value_text(score.ees)} |" in text


def test_markdown_tables_are_even(hostile):
    """A pipe or newline in a name that shifts the columns of a table."""
    for block in markdown_card(hostile.card).split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}
            assert len(widths) == 1, block


def test_markdown_of_hostile_names_is_inert(hostile):
    """A workload named like a heading, or a model named like a script."""
    text = markdown_card(hostile.card)
    assert "<" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"^# heading", text, re.MULTILINE)
    assert "\\[red\\]x\\[/red\\]" in text


def test_terminal_card_fits_one_screen(card):
    """A card that scrolls its verdict away, or wraps its table at 80 columns."""
    lines = printed(card, width=80).splitlines()
    assert len(lines) <= 52
    assert max(map(len, lines)) <= 80
    table = next(line for line in lines if line.strip().startswith("EES "))
    assert re.fullmatch(r" EES +0\.\d{3} +\[0\.\d{3}, 0\.\d{3}\] +384 +24 *", table)


def test_terminal_card_names_what_is_missing(card):
    """A missing figure shown as 0, or left out without a word."""
    text = printed(card)
    assert "EES_correct: not computed (only on given text; here the target is the model's own answer)" in text
    assert "decided by depth 0 to 12:" in text


def test_terminal_card_shows_net_figures_and_what_follows(card, uncounted):
    """Gross savings alone on the first screen; or a net figure that is missing without a word."""
    text = printed(card, width=2000)
    net = card.nes_flops_copy_5pct
    assert f"NES(5 %), FLOPs, state copied: {net.value:.3f} [{net.low:.3f}, {net.high:.3f}]" in text
    assert f"Lossless projection: {card.lossless_projection.value:.3f}" in text
    assert " ".join(pays(card)) in text
    old = printed(uncounted.card, width=2000)
    assert "NES(1 %), FLOPs, state copied; NES(5 %), FLOPs, state copied: not computed (what it costs" in old
    assert "traced before that was counted" in old


def test_markdown_has_the_policies(card, replayed):
    """Policies left out, a certificate that does not exist in the table, or a row shifted by one column."""
    text = unescaped(markdown_card(card, replayed))
    assert "### Does it pay here?" in text
    _, target, block, below = text[text.index("### Exit policies") :].split("\n\n")[:4]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()]
    assert len({len(row) for row in rows}) == 1
    point = next(p for p in replayed.points if (p.policy, p.probes, p.eps) == ("margin", "every", 0.05))
    (row,) = (row for row in rows if row[:2] == ["margin", "every"])
    assert row[2] == f"{point.saved_blocks.value:.3f}"
    assert row[6] == f"{point.net_flops_copy.value:.3f}"
    assert target == "Held to at most 5 % of tokens changed (bootstrap)."
    assert "Holm-adjusted" in below
    assert "### Exit policies" not in markdown_card(card)


def test_terminal_text_is_no_markup_and_no_escape(hostile):
    """A model's name that colours, titles or reverses the terminal."""
    text = printed(hostile.card, width=400)
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_terminal_card_in_ascii(card):
    """A crash on a terminal without block characters."""
    assert "decided by depth 0 to 12:" in printed(card, encoding="ascii")


def test_fast_card_in_text(fast):
    """Tables of nulls, or a figure printed as missing twice over."""
    markdown, terminal = unescaped(markdown_card(fast.card)), printed(fast.card)
    for text in (markdown, terminal):
        assert f"{fast.card.ees.value:.3f}" in text
        assert " ".join(text.split()).count("Traced with --fast") == 1
        assert "AES(" not in text
        assert "First-match" not in text
        assert "EAS (" not in text
    assert "decided by depth 0 to 12:" in terminal
    assert "### The paper's own score" not in markdown


def test_small_and_text_cards_render(build):
    """A layout that needs every figure to exist."""
    few = build(num_prompts=3, on="text").card
    assert "none with 3 prompts" in markdown_card(few)
    assert "none with 3 prompts" in printed(few)


def test_no_interval_of_another_level_passes_for_95(card, tmp_path):
    """An interval at 98.75 % under a heading, in a chart or in a tooltip that says 95 %, in any medium."""
    look = Look(n_samples=24, n_prompts=24, level=0.9875, half_width=0.01823)
    precision = Precision(target=0.02, reached=True, n_available=96, n_looks=3, looks=(look,))
    other = card.model_copy(update={"precision": precision})
    page = write_report([Result(other, None), Result(other, None)], tmp_path / "page.html").read_text()
    line = (
        "Precision 0.02 asked: half-width 0.0182 reached at look 1 of 3 with 24 of 96 prompts, 75 % of them saved. "
        "Intervals are at level 98.75 %, so that the stated one holds 95 % over all looks."
    )
    for text in (printed(other, width=400), unescaped(markdown_card(other)), page):
        assert line in text
        assert not re.search(r"95 % (interval|low|high)", text)
        assert "98.75 % interval" in text
    assert page.count("at 98.75 %</span>") == 8
    assert "95 % interval" in printed(card)
    assert "98.75" not in printed(card)
    missed = precision.model_copy(update={"reached": False, "looks": (look, look, look)})
    text = printed(card.model_copy(update={"precision": missed}), width=400)
    assert "half-width 0.0182 is what all 96 prompts give, so it was not reached" in text


def test_a_trained_lens_is_said(card):
    """Figures of a trained readout quoted as those of the model alone."""
    settings = card.settings.model_copy(update={"readout": "tuned:0123456789abcdef"})
    other = card.model_copy(update={"settings": settings})
    for text in (printed(other, width=400), unescaped(markdown_card(other))):
        assert "read out through a trained lens (tuned:0123456789abcdef)" in text
    assert "trained lens" not in printed(card)
