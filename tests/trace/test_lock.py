"""One run at a time writes a folder, and the folder holds the trace alone."""

import shutil

import pytest

from exitbench.errors import TraceError
from exitbench.models.cache import CACHE_VARIABLE
from exitbench.trace.collect import collect
from exitbench.trace.lock import sole_writer


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def test_second_run_is_refused(loaded, prompts, options, finished, contents, tmp_path):
    """Two runs that remove and replace each other's files."""
    folder = tmp_path / "trace"
    with sole_writer(folder), pytest.raises(TraceError, match=r"^another run is writing .*trace; wait until it ends"):
        collect(loaded, prompts, folder, options=options)
    assert not folder.exists()
    collect(loaded, prompts, folder, options=options)
    assert contents(folder) == contents(finished)


def test_one_folder_under_two_names(tmp_path, monkeypatch):
    """A folder that is locked under one of its names only, or two folders that share a lock."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "trace")
    with sole_writer(tmp_path / "trace"):
        for name in ("trace", "link", "other/../trace"):
            with pytest.raises(TraceError, match="another run"), sole_writer(type(tmp_path)(name)):
                pytest.fail("two writers")
        with sole_writer(tmp_path / "trace2"):
            pass


def test_lock_of_a_failed_run_is_let_go(tmp_path):
    """A folder that stays locked after an error."""
    with pytest.raises(ZeroDivisionError), sole_writer(tmp_path):
        raise ZeroDivisionError
    with sole_writer(tmp_path):
        pass


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    """A traceback about a folder that the user never named."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(TraceError, match=r"cannot write .*; set EXITBENCH_CACHE"), sole_writer(tmp_path / "trace"):
        pytest.fail("ran without a lock")


def test_rubbish_of_killed_runs_is_removed(loaded, prompts, options, finished, contents, tmp_path):
    """Half-written files that pile up, or the whole ones beside them lost."""
    folder = shutil.copytree(finished, tmp_path / "trace")
    for name in ("part-00001.parquet", "manifest.json"):
        (folder / f".{name}.4711.tmp").write_text("half")
    collect(loaded, prompts, folder, options=options)
    assert contents(folder) == contents(finished)
