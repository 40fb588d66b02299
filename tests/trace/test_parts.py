"""One part file: what is written comes back, and what cannot be right is refused by name."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from exitbench.errors import CorruptTraceError, ExitbenchError
from exitbench.trace.parts import Rows, read_part, write_part
from exitbench.trace.table import SampleInfo

SAMPLE = SampleInfo(id="s1", category="chat", turns=("Hi",))


def _rows(num_rows=3, num_blocks=2, *, entropy=None):
    shape = (num_rows, num_blocks + 1)
    ids = np.arange(num_rows * (num_blocks + 1), dtype=np.int32).reshape(shape)
    cosine = np.full(shape, 0.5, np.float32)
    cosine[:, 0] = np.nan
    entropy = np.linspace(0, 1, ids.size, dtype=np.float32).reshape(shape) if entropy is None else entropy
    return Rows(
        turn=np.zeros(num_rows, np.int16),
        position=np.arange(10, 10 + num_rows, dtype=np.int32),
        input_id=np.arange(num_rows, dtype=np.int32),
        target_id=np.arange(1, num_rows + 1, dtype=np.int32),
        final_id=ids[:, -1],
        decision_depth=np.full(num_rows, num_blocks, np.int32),
        signals={"top1_id": ids, "entropy": entropy, "hidden_cosine_prev": cosine},
    )


def _assert_same(got, want):
    for name in ("turn", "position", "input_id", "target_id", "final_id", "decision_depth"):
        assert np.array_equal(getattr(got, name), getattr(want, name)), name
        assert getattr(got, name).dtype == getattr(want, name).dtype, name
    assert list(got.signals) == list(want.signals)
    for name, values in want.signals.items():
        assert got.signals[name].dtype == values.dtype, name
        assert np.array_equal(got.signals[name], values, equal_nan=True), name


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(2, 5)),
        elements=st.floats(width=32, allow_infinity=True, allow_nan=True),
    )
)
def test_written_rows_come_back(tmp_path_factory, entropy):
    """A number rounded, an order changed, an infinity or a NaN lost on the way through the file."""
    path = tmp_path_factory.mktemp("part") / "part.parquet"
    rows = _rows(len(entropy), entropy.shape[1] - 1, entropy=entropy)
    write_part(path, SAMPLE, rows)
    _assert_same(read_part(path, SAMPLE, entropy.shape[1] - 1), rows)


def test_same_rows_same_bytes(tmp_path):
    """A date or a random order in the file: no two runs could be compared."""
    for name in ("a", "b"):
        write_part(tmp_path / name, SAMPLE, _rows())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_readable_without_exitbench(tmp_path):
    """A file that only its own reader understands; a number where a signal does not exist."""
    write_part(tmp_path / "part.parquet", SAMPLE, _rows())
    table = pq.read_table(tmp_path / "part.parquet")
    assert table.column_names == [
        *("sample_id", "category", "turn", "position", "input_id", "target_id", "final_id", "decision_depth"),
        *("top1_id", "entropy", "hidden_cosine_prev"),
    ]
    first = table.to_pylist()[0]
    assert first["sample_id"] == "s1"
    assert (first["final_id"], first["decision_depth"]) == (2, 2)
    assert first["top1_id"] == [0, 1, 2]
    assert first["hidden_cosine_prev"] == [None, 0.5, 0.5]
    assert table.schema.field("top1_id").type == pa.list_(pa.int32())
    assert table.schema.field("entropy").type == pa.list_(pa.float32())


def test_folder_names_are_no_data(tmp_path):
    """A folder called `turn=3` taken for a column of the table."""
    path = tmp_path / "turn=3" / "part.parquet"
    write_part(path, SAMPLE, _rows())
    assert read_part(path, SAMPLE, 2).turn.tolist() == [0, 0, 0]


def _damage(path, kind):
    content = path.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "garbage":
        path.write_bytes(b"\x00\xff" * 500)
    elif kind == "overwritten at the end":
        path.write_bytes(content[:-50] + bytes(50))
    elif kind == "overwritten at the start":
        path.write_bytes(bytes(200) + content[200:])
    else:
        table = pq.read_table(path)
        if kind == "column missing":
            table = table.drop_columns(["position"])
        elif kind == "lists too short":
            short = pa.ListArray.from_arrays([0, 2, 4, 6], pa.array(range(6), pa.int32()))
            table = table.set_column(table.column_names.index("top1_id"), "top1_id", short)
        elif kind == "numbers missing":
            table = table.set_column(table.column_names.index("turn"), "turn", pa.array([0, None, 0], pa.int16()))
        pq.write_table(table, path)


DAMAGES = (
    *("empty", "cut off", "garbage", "overwritten at the end", "overwritten at the start"),
    *("column missing", "lists too short", "numbers missing"),
)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_part_is_named(tmp_path, kind):
    """A traceback of the Parquet library, or damage that is read as numbers."""
    path = tmp_path / "part-00003.parquet"
    write_part(path, SAMPLE, _rows())
    _damage(path, kind)
    with pytest.raises(CorruptTraceError, match=r"part-00003\.parquet cannot be read \(.+\); delete it") as said:
        read_part(path, SAMPLE, 2)
    assert "\n" not in str(said.value)


def test_rows_without_signals_come_back(tmp_path):
    """A fast trace that cannot be read, or that comes back with signals nobody recorded."""
    path = tmp_path / "part.parquet"
    rows = replace(_rows(), signals={}, decision_depth=np.array([0, 1, 2], np.int32))
    write_part(path, SAMPLE, rows)
    _assert_same(read_part(path, SAMPLE, 2), rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"final_id": np.zeros(3, np.int32)}, "final_id is not the last top1_id"),
        ({"decision_depth": np.array([2, 1, 2], np.int32)}, "decision_depth is not that of top1_id"),
        ({"decision_depth": np.array([2, 3, 2], np.int32), "signals": {}}, "decision_depth is not within 0 to 2"),
        ({"decision_depth": np.array([-1, 2, 2], np.int32), "signals": {}}, "decision_depth is not within 0 to 2"),
    ],
)
def test_decisions_that_contradict_are_refused(tmp_path, changes, said):
    """EES of depths that are not those of the recorded ids, or of depths that the model does not have."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, replace(_rows(), **changes))
    with pytest.raises(CorruptTraceError, match=said):
        read_part(path, SAMPLE, 2)


def test_trace_of_another_depth_is_refused(tmp_path):
    """Rows of a model with another number of blocks, cut into the wrong lists."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, _rows(num_rows=4, num_blocks=2))
    for num_blocks in (1, 3, 5):
        with pytest.raises(CorruptTraceError):
            read_part(path, SAMPLE, num_blocks)


def test_lists_of_unequal_length_are_refused(tmp_path):
    """Lists that add up to the right number of entries but not row by row: all depths shifted."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, _rows())
    table = pq.read_table(path)
    uneven = pa.ListArray.from_arrays([0, 2, 6, 9], pa.array(range(9), pa.int32()))
    pq.write_table(table.set_column(table.column_names.index("top1_id"), "top1_id", uneven), path)
    with pytest.raises(CorruptTraceError):
        read_part(path, SAMPLE, 2)


@pytest.mark.parametrize("changes", [{"id": "s2"}, {"category": "maths"}], ids=["id", "category"])
def test_part_of_another_sample_is_refused(tmp_path, changes):
    """Rows counted for a prompt or a category that they do not belong to, where a file was renamed or copied."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, _rows())
    with pytest.raises(CorruptTraceError, match=r"part\.parquet cannot be read \(its \w+ is not '\w+' throughout\)"):
        read_part(path, replace(SAMPLE, **changes), 2)


@pytest.mark.parametrize("ids", [["s1", "s2", "s1"], ["s1", None, "s1"]])
def test_part_of_several_samples_is_refused(tmp_path, ids):
    """A part whose first row alone is checked."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, _rows())
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "sample_id", pa.array(ids, pa.string())), path)
    with pytest.raises(CorruptTraceError, match="sample_id"):
        read_part(path, SAMPLE, 2)


def test_part_without_rows_is_refused(tmp_path):
    """A sample that is neither traced nor failed, and that no count shows."""
    path = tmp_path / "part.parquet"
    write_part(path, SAMPLE, _rows(num_rows=0))
    with pytest.raises(CorruptTraceError, match="it has no rows"):
        read_part(path, SAMPLE, 2)


def test_folder_that_cannot_be_written(tmp_path):
    """A traceback where a path is in the way."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExitbenchError, match="cannot write"):
        write_part(tmp_path / "file" / "part.parquet", SAMPLE, _rows())
