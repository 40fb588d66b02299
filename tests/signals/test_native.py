"""Building the compiled reductions, and doing without."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from exitbench.signals import native as native_module
from exitbench.signals.decision import top_ids
from exitbench.signals.native import native_reductions, why_not_native

pytestmark = pytest.mark.parametrize("reductions", ["compiled"], indirect=True)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing built or remembered yet."""
    monkeypatch.setenv("EXITBENCH_CACHE", str(tmp_path / "cache"))
    native_module._attempt.cache_clear()
    yield tmp_path / "cache" / "native"
    native_module._attempt.cache_clear()


def test_built_once_and_kept(fresh, monkeypatch):
    """A compiler run at every start."""
    assert native_reductions(torch.bfloat16) is not None
    (library,) = fresh.glob("*/reductions.so")
    native_module._attempt.cache_clear()
    real = subprocess.run
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, **named: ran.append(command) or real(command, **named))
    assert native_reductions(torch.bfloat16) is not None
    assert [library] == list(fresh.glob("*/reductions.so"))
    assert all("--version" in command for command in ran)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", "there is no C compiler 'no-such-compiler' (CC names another)"),
        ("false", "compiling with 'false' failed: "),
        ("cc --no-such-flag", "compiling with 'cc --no-such-flag' failed: "),
    ],
)
def test_without_a_compiler_there_is_none(fresh, monkeypatch, compiler, reason):
    """An installation without a compiler that cannot trace at all, or is slow and does not say why."""
    monkeypatch.setenv("CC", compiler)
    assert native_reductions(torch.float32) is None
    assert why_not_native(torch.float32).startswith(reason)


@pytest.mark.parametrize("compiler", ["", "cc -DMORE"])
def test_a_compiler_with_arguments(fresh, monkeypatch, compiler):
    """CC as build scripts set it, taken for the name of a program."""
    monkeypatch.setenv("CC", compiler)
    assert native_reductions(torch.float32) is not None
    assert why_not_native(torch.float32) is None


@pytest.mark.parametrize("content", [b"", b"\x7fELF damaged"])
def test_a_damaged_library_is_built_again(fresh, monkeypatch, content):
    """One bad write, and torch does all the work for ever."""
    monkeypatch.setenv("CC", "cc")
    library = native_module._folder(["cc"], "-DFLOAT32") / "reductions.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(content)
    assert native_reductions(torch.float32) is not None
    assert library.stat().st_size > 1000


def test_many_at_once(fresh):
    """Builders that take each other's half-written files."""
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: native_module._attempt.__wrapped__(torch.float32), range(6)))
    assert not any(isinstance(attempt, str) for attempt in found), found


def test_code_that_is_wrong_is_not_used(fresh, monkeypatch, tmp_path):
    """A miscompiled library, by whose numbers everything is then measured."""
    source = native_module._SOURCE.read_text()
    wrong = source.replace("variation / 2", "variation")
    assert wrong != source
    (tmp_path / "wrong.c").write_text(wrong)
    monkeypatch.setattr(native_module, "_SOURCE", tmp_path / "wrong.c")
    assert native_reductions(torch.float32) is None


def test_a_cache_that_cannot_be_written(fresh, monkeypatch):
    """A read-only home that ends the run."""
    fresh.parent.parent.mkdir(exist_ok=True)
    fresh.parent.write_text("a file where the folder should be")
    assert native_reductions(torch.float32) is None


def test_no_compiled_code_for_half_precision():
    """float16 read as if it were bfloat16."""
    assert native_reductions(torch.float16) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 2, 63, 64, 65, 4095, 4096, 4097, 9000])
def test_top_ids(dtype, vocabulary):
    """The last entries lost where the vocabulary is no multiple of a vector or a block; ties to a later id."""
    rng = np.random.default_rng(vocabulary)
    logits = torch.from_numpy(rng.integers(-3, 4, (200, vocabulary)).astype(np.float32)).to(dtype)
    logits[0] = -7.0
    logits[1, -1] = 50.0
    logits[2, 0] = float("nan")
    logits[3, -1] = float("inf")
    logits[4, vocabulary // 2] = -float("inf")
    logits[5] = -float("inf")
    native = native_reductions(dtype)
    assert native is not None
    assert torch.equal(native.top_ids(logits), top_ids(logits))


def test_more_threads_than_rows():
    """Rows left out, or done twice, where they are shared out."""
    native = native_reductions(torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(7)
        for rows in (0, 1, 3, 7, 8, 50):
            logits = torch.randn(rows, 40, generator=torch.Generator().manual_seed(rows))
            assert torch.equal(native.top_ids(logits), logits.argmax(-1))
    finally:
        torch.set_num_threads(before)
