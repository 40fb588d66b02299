"""Files of tensors: complete or absent, and read with one line if they are neither."""

import stat

import pytest
import torch
from safetensors.torch import save_file

from exitbench.errors import LensError
from exitbench.lens.tensors import read_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
RECORD = {"name": "x", "steps": 3, "nothing": None, "nested": {"k": "v"}}


def test_what_is_written_is_read(tmp_path):
    """A dtype, a shape or a null lost on the way; a file that nobody else may read."""
    path = tmp_path / "new" / "file.safetensors"
    write_tensors(path, TENSORS, RECORD)
    tensors, record = read_tensors(path)
    assert record == RECORD
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 40])
def test_damaged_file_is_one_line(tmp_path, content):
    """A traceback of a parser."""
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(LensError, match=r"is no file of 'exitbench lens', or a damaged one"):
        read_tensors(path)


def test_cut_file_is_one_line(tmp_path):
    """Half a file taken for a whole one."""
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, RECORD)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(LensError, match="damaged"):
        read_tensors(path)


def test_other_kinds_of_files_are_refused(tmp_path):
    """Weights of a model taken for a lens."""
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(LensError, match="no file of 'exitbench lens'"):
        read_tensors(tmp_path / "model.safetensors")
    with pytest.raises(LensError, match="cannot read"):
        read_tensors(tmp_path / "missing.safetensors")
