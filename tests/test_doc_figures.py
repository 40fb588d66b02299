"""Figures that documents quote: as in the data that is kept, and as on the page that published them."""

import csv
import re

import pytest

from documents import ROOT, name_of, prose_of
from exitbench.api import score as card_of
from exitbench.api import trace
from exitbench.models.toy import save_toy

POLICIES, SCORES = "docs/policies.csv", "docs/zoo/scores.csv"
_NUMBER = re.compile(r"(?<![\w./-])(?<!arXiv )(?<!transformers )-?(?:\d+\.\d+|\d{1,3}(?: \d{3})+|\d+(?= %))(?!\d|\.\d)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)\s]*\)")
QUOTING = ("README.md", "docs/footguns.md", "docs/does-it-pay.md")
MADE_HERE = {  # what a section may have beside what stands behind its links: figures, with the command that made them
    "Results": ("benchmarks/replay_speed.py", "0.7 1.0 4.3 0.74 0.77 1 000 000"),
    "An untrained model does not score zero": (  # held by the last test
        "run(str(save_toy(",
        "0.141 0.134 0.148 4 015 0.281 0.264 0.300 0.136 0.129 0.143 0.239 0.252 0.118 0.112 0.124",
    ),
    "Uncalibrated thresholds are worthless": ("exitbench run", "3 934 0.554 0.540 0.567 0.703 0.689 0.718"),
}


def flat(text):
    """Text as it reads: without line breaks, escapes and commas in numbers."""
    return " ".join(re.sub(r"(?<=\d),(?=\d{3})", " ", text.replace("\\", "")).split())


def read(name):
    return flat((ROOT / name).read_text(encoding="utf-8"))


def row_of(name, **wanted):
    """The one row of a table with these values."""
    with (ROOT / name).open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]
    return row


def shown(row, figure):
    """A figure of the policies' table with its interval, as a phrase."""
    value, low, high = (row[figure + end] for end in ("", "_low", "_high"))
    return f"<{value}> [<{low}>, <{high}>]"


def find(phrase, page):
    """Where a page says a phrase, in which <> marks numbers: rounded there, and to 4 digits here."""
    parts = re.split(r"<(-?[\d.e-]+)>", flat(phrase))
    pattern = r"(-?\d+(?:\.\d+)?)".join(map(re.escape, parts[::2]))
    for match in re.finditer(pattern, read(page)):
        pairs = [
            (text, float(number), 0.1 ** len(text.partition(".")[2]))
            for text, number in zip(match.groups(), parts[1::2], strict=True)
        ]
        if all(abs(float(text) - number) <= 0.5 * unit + 5e-4 * abs(number) for text, number, unit in pairs):
            return match[0]
    return None


def policy(model, policy="top1-prob", probes="every", *, workload="all", eps="0.05", procedure="bootstrap"):
    return row_of(POLICIES, model=model, policy=policy, probes=probes, workload=workload, eps=eps, procedure=procedure)


def score(figure="ees", **wanted):
    """A figure of the zoo's table with its interval, where it has one, as a phrase."""
    row = row_of(SCORES, figure=figure, **wanted)
    return f"<{row['value']}> [<{row['low']}>, <{row['high']}>]" if row["low"] else f"<{row['value']}>"


SMOL, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
CONTROLS = ("smollm2-identity-tail", "smollm2-truncated", "smollm2-untrained")


def skipped(*choice, figure="saved_blocks"):
    """Cells of a table over both models."""
    cells = [shown(row, figure) for row in (policy(SMOL, *choice), policy(GEMMA, *choice))]
    return " | ".join("0: no threshold qualifies" if cell == "<0> [<0>, <0>]" else cell for cell in cells)


def from_policies():
    """Phrases, by page, made from the table of all policies on all workloads."""
    plain = policy(SMOL)
    translation, arithmetic = (policy(SMOL, workload=name) for name in ("translation", "math_reasoning"))
    certified = policy(SMOL, procedure="fixed-sequence")
    best = policy(SMOL, "best by blocks", "any")
    changed = f"<{100 * float(plain['answers_changed'])}> %"
    yield from (
        ("docs/footguns.md", f"skips {shown(translation, 'saved_blocks')} of the blocks' work in translation"),
        ("docs/footguns.md", f"and {shown(arithmetic, 'saved_blocks')} in arithmetic"),
        (
            "docs/footguns.md",
            f"{int(translation['n_tokens']):,} and {int(arithmetic['n_tokens']):,} tokens of 80 prompts",
        ),
        ("docs/footguns.md", f"{changed} of the answers of SmolLM2-135M-Instruct ({shown(plain, 'answers_changed')};"),
        (
            "docs/footguns.md",
            f"{shown(plain, 'saved_blocks')} of SmolLM2's blocks and saves {shown(plain, 'net_flops_copy')}",
        ),
        ("docs/footguns.md", f"{shown(certified, 'saved_blocks')} with one and {shown(plain, 'saved_blocks')} without"),
        ("docs/footguns.md", f"gains {shown(best, 'over_plain')} over the plain threshold on SmolLM2"),
        ("docs/does-it-pay.md", f"{changed} of SmolLM2's answers of 64 tokens"),
        (
            "docs/does-it-pay.md",
            f"({shown(certified, 'saved_blocks')} in place of {shown(plain, 'saved_blocks')} on SmolLM2)",
        ),
    )
    for page in ("README.md", "docs/does-it-pay.md"):
        yield page, skipped()
        yield page, skipped("top1-prob", "every-4")
        yield page, skipped("best by blocks", "any")
        yield page, skipped("best by blocks", "any", figure="net_flops_copy")
        yield page, skipped("best by flops_copy", "any", figure="net_flops_copy")
    for model in (SMOL, GEMMA):
        for name, probes in re.findall(r"\| ([\w-]+) \| (every(?:-4)?) \|", read("docs/policies.md")):
            at_1, at_5 = (policy(model, name, probes, eps=eps) for eps in ("0.01", "0.05"))
            cells = [f"{shown(at, 'saved_blocks')} | <{100 * float(at['disagreement'])}> %" for at in (at_1, at_5)]
            sure = policy(model, name, probes, procedure="fixed-sequence")
            net = [f"<{at_5[figure]}>" for figure in ("net_flops_copy", "net_bytes_deferred")]
            yield "docs/policies.md", " | ".join([name, probes, *cells, shown(sure, "saved_blocks"), *net])


def from_scores():
    """Phrases, by page, made from the scores of the zoo and of the models at hand."""
    for model in (SMOL, GEMMA):
        mini = {"study": "real-models", "model": model}
        own, star = score(**mini, on="answers"), score("ees_star", **mini, on="answers")
        yield "README.md", f"| {own} | {star} |"
        if model == SMOL:  # no threshold qualifies on the other
            yield "README.md", f"| {score('aes_1pct', **mini, on='answers')}, 0.7 % |"
            yield "README.md", f"| {score('aes_5pct', **mini, on='answers')}, 4.3 % |"
    for model in (SMOL, GEMMA, *CONTROLS):
        mini = {"study": "real-models", "model": model}
        own = score(**mini, on="answers")
        text, twins = score(**mini, on="text"), score("ees_untrained_mean", **mini, on="text")
        bits = score("bits_per_character", **mini, on="text").partition(" ")[0]
        yield "docs/zoo.md", f"{text} | {twins} ("
        yield "docs/zoo.md", f"{own} | {bits} |"
    both = " | ".join(score(study="real-models", model=model, on="answers") for model in (SMOL, GEMMA))
    yield "docs/does-it-pay.md", f"| EES | {both} |"
    course = {"study": "zoo-training", "model": "dense"}
    first, last = (score(**course, tokens_seen=seen).partition(" ")[0] for seen in ("76800", "1228800"))
    yield "docs/zoo.md", f"{first} after 77 thousand tokens and {last} after 1.2 million"
    yield "docs/footguns.md", f"{first} after 77 thousand tokens and {last} after 1.2 million"


FROM_DATA = [*from_policies(), *from_scores()]


@pytest.mark.parametrize(("page", "phrase"), FROM_DATA)
def test_phrases_are_those_of_the_data(page, phrase):
    """A figure that was measured again, and is still quoted as it was, or was mistyped."""
    assert find(phrase, page)


def sections():
    for page in QUOTING:
        for section in re.split(r"^(?=##+ )", prose_of(ROOT / page), flags=re.MULTILINE):
            heading = section.partition("\n")[0].lstrip("# ")
            yield pytest.param(page, heading, section, id=f"{page}:{heading}")


@pytest.mark.parametrize(("page", "heading", "section"), [*sections()])
def test_quoted_figures_stand_where_the_section_says(page, heading, section):
    """A figure without a source, or one that its source no longer has."""
    links = {(ROOT / page).parent.joinpath(link).resolve() for link in _LINK.findall(section) if "://" not in link}
    sources = [read(name_of(link)) for link in links if link.suffix == ".md"]
    said = flat(_LINK.sub("", section))
    phrases = [find(phrase, page) for where, phrase in FROM_DATA if where == page]
    known = set(_NUMBER.findall(" ".join([*sources, *(phrase for phrase in phrases if phrase and phrase in said)])))
    known |= {number.removeprefix("-") for number in known} | {"1", "5", "95"}  # "lowers"; targets and levels, in %
    loose = set(_NUMBER.findall(said)) - known
    command, made = MADE_HERE.get(heading, ("", ""))
    assert command in said
    assert loose - set(_NUMBER.findall(made)) == set()


@pytest.mark.parametrize("page", ["README.md", "docs/zoo.md"])
def test_effects_are_those_of_the_findings(page):
    """A verdict whose effect or p-value is not that of the study that was judged."""
    judged = read("docs/zoo/findings.md")
    rows = re.findall(r"^\|.*(?:supported|undecided).*$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 5
    for row in rows:
        figures = re.findall(r"(-?\d\.\d{3}) \[(\S+), (\S+)\]", row)
        assert figures, row
        for value, low, high in figures:
            turned = f"{-float(value):.3f} [{-float(high):.3f}, {-float(low):.3f}]"  # "below", where they say "above"
            assert f"{value} [{low}, {high}]" in judged or turned in judged, row


@pytest.mark.slow
def test_untrained_toys_score_what_is_said(tmp_path):
    """Figures of the page on footguns that the code has left behind."""
    traced = [
        trace(str(save_toy(tmp_path / f"{seed}", seed=seed, num_blocks=8)), "mini", out=tmp_path / f"trace-{seed}")
        for seed in range(5)
    ]
    cards = sorted(map(card_of, traced), key=lambda card: card.ees.value)
    ends = [f"{card.ees.text()} ({card.n_tokens:,} tokens)" for card in (cards[0], cards[-1])]
    stars = sorted((card.ees_star for card in cards), key=lambda figure: figure.value)
    said = f"EES from {' to '.join(ends)}, EES* from {stars[0].text()} to {stars[-1].text()}"
    assert flat(said) in read("docs/footguns.md")
    hidden = [entry.eas.value for card in cards for entry in card.eas if entry.similarity == "hidden_cosine"]
    assert f"{min(hidden):.3f} to {max(hidden):.3f} for the five untrained toys" in read("docs/footguns.md")
