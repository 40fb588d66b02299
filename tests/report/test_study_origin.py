"""What made a cell, and what it is narrowed by."""

import pytest

from exitbench.report.study_cells import cells_of
from exitbench.report.study_origin import in_order, levels_of, origins_of
from exitbench.study.of_result import SINGLE
from study_rows import row


def test_texts_travel_once_and_point_back():
    """The command of another cell, or one copy of it a cell."""
    rows = [row(cell=name, model=name, source=f"org/{name}", command=f"run {name[0]}") for name in ("a1", "a2", "b1")]
    origins = origins_of(cells_of(rows))
    told = [
        {name: origins.texts[at] for name, at in zip(origins.names, cell, strict=True) if at is not None}
        for cell in origins.cells
    ]
    assert [cell["command"] for cell in told] == ["run a", "run a", "run b"]
    assert [cell["model loaded from"] for cell in told] == ["org/a1", "org/a2", "org/b1"]
    assert len(set(origins.texts)) == len(origins.texts)
    assert "revision" not in told[0]


def test_numbers_of_one_cell_from_several_studies_tell_their_own():
    """A figure that another study made, or a policy that another run replayed, under the command of the first."""
    held = {"figure": "policy_savings", "target": "5 %"}
    rows = [
        row("ees", command="first"),
        row("cka", command="second", depth=0, other_depth=1),
        row(**held, variant="margin every", command="first"),
        row(**held, variant="patience every", command="third"),
    ]
    origins = origins_of(cells_of(rows))
    command = origins.names.index("command")
    assert origins.texts[origins.cells[0][command]] == "first"
    others = {name: origins.texts[places[command]] for name, places in origins.others[0].items()}
    assert others == {"cka": "second", "patience every": "third"}


def test_sizes_are_offered_from_small_to_large():
    """Sizes in the order of their letters, or an unknown one among them."""
    assert in_order(["over 20 B", "not known", "7 to 20 B", "up to 1 B", "7 to 20 B"]) == [
        "up to 1 B",
        "7 to 20 B",
        "over 20 B",
        "not known",
    ]
    assert in_order(["b", "not known", "a"]) == ["a", "b", "not known"]


def test_a_cell_can_be_measured_alone():
    """A command that was never run, or a file of another cell; a study and a cell of a result that has neither."""
    origins = origins_of(cells_of([row(cell="a", model="a"), row(cell="b", model="b", study=SINGLE)]))
    told = [
        {name: at for name, at in zip(origins.names, cell, strict=True) if at is not None} for cell in origins.cells
    ]
    assert "delete cells/a.parquet" in origins.texts[told[0]["to measure this cell alone"]]
    assert not {"to measure this cell alone", "study", "cell"} & set(told[1])


def test_escapes_are_shown():
    """A terminal escape or change of direction on its way to the page."""
    origins = origins_of(cells_of([row(command="a\x1b[31m\u202e")]))
    assert not {"\x1b", "\u202e"} & set("".join(origins.texts))


@pytest.mark.parametrize(
    ("active", "total", "size"),
    [
        (None, None, "not known"),
        (None, 1.0, "up to 1 B"),
        (3.0, 30.0, "1 to 7 B"),
        (20.0, 20.0, "7 to 20 B"),
        (20.1, 20.1, "over 20 B"),
    ],
)
def test_size_is_that_of_active_parameters(active, total, size):
    """A mixture of experts under its size in all, or 20 B on the wrong side of the claim's bound."""
    cell = cells_of([row(active_params_b=active, total_params_b=total, kind="moe")])[0]
    assert levels_of(cell) == ("moe", "not known", size, "mini, on text", "logit")
