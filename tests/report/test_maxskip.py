"""MaxSkip in a terminal."""

import numpy as np
from rich.console import Console

from exitbench.report.maxskip import maxskip_tables
from exitbench.score.maxskip import Graded, MaxSkipCard, task_skip


def card_of(count):
    def graded(lost):
        return Graded(
            task="sums",
            metric="acc,none",
            documents=tuple(("sums", number, "", "") for number in range(count)),
            scores=tuple([0.0] * lost + [1.0] * (count - lost)),
            tokens=(1,) * count,
        )

    task = task_skip(graded(0), [(3, graded(0)), (2, graded(5))], rho=np.array([1, 0.75, 0.5, 0.25, 0]))
    return MaxSkipCard(
        model="\x1b[31mtoy",
        source="toy",
        weights_sha256="0",
        dtype="float32",
        device="cpu",
        attention="sdpa",
        state="copy",
        num_blocks=4,
        limit=None,
        num_fewshot=None,
        chat_template=False,
        seed=0,
        draws=2000,
        command="",
        libraries={},
        tasks=(task,),
    )


def shown(card):
    console = Console(width=160, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(maxskip_tables(card))
    return capture.get()


def test_table_names_every_depth_and_the_cut():
    """Columns that change places, or a cut of another target."""
    text = shown(card_of(100))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()[:1] in "432" and line.strip()}
    assert rows["4"][:2] == ["4", "0.000"]
    assert rows["3"][:3] == ["3", "0.250", "1.000"]
    assert rows["2"][:3] == ["2", "0.500", "0.950"]
    assert "MaxSkip(1 point): 0.250 at depth 3 as met; n/a (too few documents: in fewer than 368" in text
    assert "MaxSkip(5 points): 0.500 at depth 2 as met; 0.250 at depth 3 by the upper bound" in text
    assert "\x1b" not in text


def test_few_documents_say_so():
    """A bound where there is none."""
    text = shown(card_of(9))
    assert "n/a (too few documents: needs at least 10, got 9)" in text
