"""All signals at once, against the naive reference."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exitbench.errors import UnknownNameError
from exitbench.models.adapter import ModelAdapter
from exitbench.models.discover import probe_ids
from exitbench.models.toy import toy_model
from exitbench.signals import SIGNALS, DepthView, compute, compute_signals, signal
from exitbench.signals.registry import recorded_names
from families import ONE_OF_EACH
from readouts import Given

RECORDED, ALL = recorded_names(), tuple(SIGNALS)
WITH_OPTIONAL = pytest.mark.parametrize("names", [RECORDED, ALL], ids=["recorded", "all"])
SHIFT_SENSITIVE = {"logit_cosine", "hidden_cosine", "hidden_cosine_prev", "hidden_norm"}


def _random_logits(seed, *, depths=4, rows=5, vocabulary=50, scale=4.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(depths, rows, vocabulary, generator=generator)


class _RowByRow:
    """The model's own readout, one row a call, so that a row's logits do not depend on its company."""

    def __init__(self, adapter):
        self._readout = adapter.readout
        self.vocab_size = adapter.paths.vocab_size
        self.dtype = adapter.readout(torch.zeros(1, adapter.hidden_size, dtype=adapter.model.dtype)).dtype

    def __call__(self, hidden):
        return torch.cat([self._readout(row[None]) for row in hidden])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", ONE_OF_EACH)  # logits of every family: tests/models/test_readout.py
def test_toy_models_against_naive(family, dtype, assert_as_exact_as_naive):
    """A wrong formula, a wrong depth, or logits compared before they are rounded to the model's dtype."""
    adapter = ModelAdapter(toy_model(family, dtype=dtype))
    ids = probe_ids(adapter.model)
    hidden, target = adapter.capture(ids, slice(0, 23)), ids[0, 1:]
    readout = _RowByRow(adapter)
    ours = compute_signals(hidden, target, readout, names=ALL)
    logits = torch.stack([readout(at_depth) for at_depth in hidden])
    # Mamba computes in bfloat16 and returns float32; whatever the model returns is what is compared.
    assert logits.dtype in (dtype, torch.float32)
    assert_as_exact_as_naive(ours, logits.float().numpy(), hidden.float().numpy(), target.numpy())


def _logits_strategy():
    """Logits from nearly flat to one-hot, with ties where they are rounded coarsely, on any constant offset."""

    def build(seed, depths, rows, vocabulary, scale, offset, coarse, dtype):
        generator = torch.Generator().manual_seed(seed)
        logits = scale * torch.randn(depths, rows, vocabulary, generator=generator) + offset
        if coarse:
            logits = (logits / scale).round() * scale
        return logits.to(dtype)

    return st.builds(
        build,
        st.integers(0, 2**31),
        st.integers(2, 4),
        st.integers(1, 5),
        st.integers(2, 60),
        st.sampled_from([1e-2, 1.0, 10.0, 1e3]),
        st.sampled_from([0.0, 0.0, -50.0, 1e3, 1e6]),
        st.booleans(),
        st.sampled_from([torch.float32, torch.bfloat16]),
    )


@settings(max_examples=150, deadline=None)
@given(_logits_strategy(), st.sampled_from([RECORDED, ALL]), st.randoms(use_true_random=False))
def test_any_logits_against_naive(of_logits, assert_as_exact_as_naive, logits, names, random):
    """Overflow, cancellation or a tie rule that only unusual logits show."""
    target = np.array([random.randrange(logits.shape[-1]) for _ in range(logits.shape[1])])
    constant = (logits.float() == logits.float()[..., :1]).all(-1).any()
    if constant:  # the centred cosine of equal logits is 0 / 0
        return
    as_numpy = logits.float().numpy()
    assert_as_exact_as_naive(of_logits(logits, target, names=names), as_numpy, as_numpy, target)


def test_one_outlier_among_many(of_logits, assert_as_exact_as_naive):
    """Sums of logits shifted by a far maximum, which lose the digits of all others."""
    logits = _random_logits(1, vocabulary=5000, scale=1.0)
    logits[..., 17] = 200.0
    logits[1, :, 17] = 60.0
    assert_as_exact_as_naive(of_logits(logits, names=ALL), logits.numpy(), logits.numpy(), np.zeros(5, int))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ties_go_to_the_lowest_id(of_logits, dtype):
    """A tie broken by whichever token a kernel meets first: decision depths that change with the machine."""
    logits = torch.zeros(3, 4, 3000)
    logits[:, :, [2999, 1500, 7]] = 5.0
    logits[0, :, 4] = 6.0
    signals = of_logits(logits.to(dtype))
    assert signals["top1_id"].tolist() == [[4, 7, 7]] * 4
    assert signals["final_rank"].tolist() == [[1, 0, 0]] * 4
    assert np.all(signals["margin"][:, 1:] == 0)


def test_ties_that_rounding_makes(of_logits):
    """Two logits that bfloat16 cannot tell apart: compared in float32, the later one would win."""
    fine = torch.zeros(2, 1, 8)
    fine[..., 2], fine[..., 5] = 8.0, 8.01
    assert of_logits(fine)["top1_id"].tolist() == [[5, 5]]
    assert of_logits(fine.bfloat16())["top1_id"].tolist() == [[2, 2]]


@WITH_OPTIONAL
@pytest.mark.parametrize("rows", [0, 1, 2, 4, 5, 6, 7, 12, 13, 30, 77, 78])
def test_chunks_do_not_matter(of_logits, rows, names):
    """Rows or depths mixed up at the border of a chunk; a last, smaller chunk that is lost."""
    logits, target = _random_logits(2, depths=6, rows=13, vocabulary=1000), torch.arange(13)
    at_once = of_logits(logits, target, names=names)
    assert at_once.keys() == set(names)
    for name, values in of_logits(logits, target, names=names, memory=4 * 1000 * rows).items():
        np.testing.assert_allclose(values, at_once[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("rows", [1, 3, 7, 12, 1000])
def test_every_row_is_read_out_once_and_never_more_than_fit(reductions, rows):
    """A readout of all tokens or depths at once: memory that grows with the trace. Or one that is paid for twice."""
    logits = _random_logits(3, depths=5, rows=20, vocabulary=512)
    readout = Given(logits)
    compute_signals(logits, torch.zeros(20, dtype=torch.long), readout, memory=4 * 512 * rows)
    assert max(readout.asked) <= rows
    assert sum(readout.asked) == 5 * 20


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12, 1000])
def test_only_where_a_chunk_begins_a_depth_is_read_out_twice(reductions, rows):
    """A comparison with the depth before that holds more than fits, or reads out every depth twice without need."""
    logits = _random_logits(3, depths=5, rows=20, vocabulary=512)
    readout = Given(logits)
    compute_signals(logits, torch.zeros(20, dtype=torch.long), readout, names=["kl_prev"], memory=4 * 512 * rows)
    assert max(readout.asked) <= max(2, rows)
    chunks_of_token = sum(readout.asked) - 5 * 20
    assert chunks_of_token <= 3 * 20
    if rows == 1000 and reductions == "compiled":
        assert sum(readout.asked) == 5 * 20


def test_depth_before_is_seen_whole_by_other_signals(of_logits, monkeypatch):
    """Another package's signal that is given the wrong depth as the one before, or one at depth 0."""
    monkeypatch.setattr(SIGNALS, "_entries", dict(SIGNALS._entries))

    @signal(unit="logit", low=0, high=np.inf, confidence=0, known_while_running=True, needs_previous=True)
    def top_before(view):
        """Largest logit one block earlier."""
        return torch.full_like(view.top_logit, -1) if view.previous is None else view.previous.top_logit

    logits = _random_logits(10, depths=6, rows=13, vocabulary=1000)
    largest = logits.amax(-1).T.numpy()
    for rows in (1, 4, 1000):
        found = of_logits(logits, names=["top_before", "kl_prev"], memory=4 * 1000 * rows)
        assert (found["top_before"][:, 0] == -1).all()
        assert np.array_equal(found["top_before"][:, 1:], largest[:, :-1])


def test_a_name_that_no_signal_has(of_logits):
    """A misspelt name that is left out of the trace without a word."""
    with pytest.raises(UnknownNameError, match="unknown signal 'kl_prv'; did you mean 'kl_prev'"):
        of_logits(_random_logits(1), names=["kl_prv"])


def test_a_row_does_not_depend_on_its_batch(of_logits):
    """Signals normalised over the batch, or rows that see each other."""
    logits = _random_logits(4, rows=9)
    target = torch.arange(9)
    together = of_logits(logits, target)
    for row in range(9):
        alone = of_logits(logits[:, row : row + 1], target[row : row + 1])
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][row], rtol=2e-6, atol=1e-6, err_msg=name)


def test_a_constant_on_all_logits_changes_nothing_but_the_plain_cosine(of_logits):
    """A signal that softmax would call different; or a plain cosine that is in truth the centred one."""
    logits = (_random_logits(5) * 64).round() / 64  # exact in float32 after the shift
    plain, shifted = of_logits(logits), of_logits(logits + 1024)
    for name in set(plain) - SHIFT_SENSITIVE:
        assert np.array_equal(plain[name], shifted[name]), name
    assert shifted["logit_cosine"].min() > 0.99 > plain["logit_cosine"].min()


def test_renaming_the_tokens_changes_only_their_ids(of_logits):
    """A signal that depends on the order of the vocabulary."""
    logits, target = _random_logits(6), torch.tensor([3, 1, 4, 1, 5])
    generator = torch.Generator().manual_seed(0)
    new_place = torch.randperm(50, generator=generator)  # token i becomes token new_place[i]
    renamed = torch.empty_like(logits)
    renamed[..., new_place] = logits
    before, after = of_logits(logits, target), of_logits(renamed, new_place[target])
    assert np.array_equal(new_place.numpy()[before["top1_id"]], after["top1_id"])
    for name in set(before) - {"top1_id"}:
        np.testing.assert_allclose(before[name], after[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_last_depth_is_at_no_distance_from_itself(of_logits):
    """Distances to the final distribution that rounding keeps from being 0, so that nothing is ever settled."""
    signals = of_logits(_random_logits(7, scale=30.0))
    for name in ("kl_final", "tv_final", "final_rank"):
        assert np.all(signals[name][:, -1] == 0), name
    for name in ("logit_cosine", "logit_cosine_centred", "hidden_cosine"):
        np.testing.assert_allclose(signals[name][:, -1], 1, atol=1e-6)


def test_not_finite_logits_show(of_logits):
    """A NaN turned into a number: a broken sample would be scored."""
    logits = _random_logits(8)
    logits[1, 2, 30] = float("nan")
    logits[2, 3, 30] = float("inf")
    signals = of_logits(logits)
    bad = ~np.isfinite(signals["top1_prob"]) | ~np.isfinite(signals["entropy"])
    assert np.argwhere(bad).tolist() == [[2, 1], [3, 2]]


def test_shapes_and_dtypes(of_logits):
    """A signal stored in another type than the registry says, or with the axes swapped."""
    for name, values in of_logits(_random_logits(9, depths=3, rows=7)).items():
        assert values.shape == (7, 3), name
        assert values.dtype == SIGNALS.get(name).dtype, name


_MEMORY = """
import sys, threading, time
import torch
from exitbench.models.adapter import ModelAdapter
from exitbench.models.readout import Readout
from exitbench.signals import compute, compute_signals
from transformers import LlamaConfig, LlamaForCausalLM
torch.set_num_threads(1)
if sys.argv[3] == "torch":
    compute.native_reductions = lambda *_: None
tokens, blocks, vocabulary = int(sys.argv[1]), int(sys.argv[2]), 262144
config = LlamaConfig(vocab_size=vocabulary, hidden_size=64, intermediate_size=64, num_hidden_layers=blocks,
                     num_attention_heads=4, max_position_embeddings=4096, tie_word_embeddings=True)
model = LlamaForCausalLM(config).eval().requires_grad_(False)
adapter = ModelAdapter(model)
readout = Readout(adapter)
ids = torch.randint(vocabulary, (1, tokens + 1))
hidden = adapter.capture(ids, slice(0, tokens))
def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
before, seen, done = rss_mib(), [], threading.Event()
def sample():
    while not done.is_set():
        seen.append(rss_mib())
        time.sleep(0.002)
sampler = threading.Thread(target=sample)
sampler.start()
signals = compute_signals(hidden, ids[0, 1:], readout)
done.set()
sampler.join()
assert signals["top1_id"].shape == (tokens, blocks + 1) and len(seen) > 20
print(max(seen) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")
@pytest.mark.parametrize("reductions", ["compiled", pytest.param("torch", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    ("tokens", "blocks"), [(300, 1), pytest.param(2048, 3, marks=pytest.mark.slow)], ids=["short", "2048"]
)
def test_memory_stays_bounded_whatever_the_vocabulary(tokens, blocks, reductions):
    """Logits of all depths held at once (2 GiB a depth at 2 048 tokens), or of earlier chunks never let go."""
    command = [sys.executable, "-c", _MEMORY, str(tokens), str(blocks), reductions]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr[-2000:]
    assert float(output.stdout) < 256


def test_nothing_is_kept_of_a_chunk_that_is_done(monkeypatch):
    """A view that refers to itself: its numbers live until the next garbage collection, gigabytes later."""
    views: list[weakref.ref[DepthView]] = []
    alive = []

    class Watched(DepthView):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            views.append(weakref.ref(self))

    class Watching(Given):
        def __call__(self, rows):
            alive.append(sum(view() is not None for view in views))
            return rows

    monkeypatch.setattr(compute, "DepthView", Watched)
    logits = _random_logits(3, depths=3, rows=30, vocabulary=64)
    gc.disable()
    try:
        compute_signals(logits, torch.zeros(30, dtype=torch.long), Watching(logits), memory=4 * 64 * 5)
    finally:
        gc.enable()
    assert len(views) >= 60
    assert max(alive) <= 2, "no more than the last view of the chunk before and its final one"
