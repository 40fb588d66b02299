"""What a folder of decoded answers shows, against numbers worked out by hand."""

import pytest
from pydantic import ValidationError

from exitbench.decode.record import Batch, Manifest, Settings, Side, Turn
from exitbench.decode.result import summarise
from exitbench.decode.store import begin, read_batches, write_batch
from exitbench.errors import DecodeError
from exitbench.report.decoding import decoding_verdict
from exitbench.trace.manifest import ModelIdentity, WorkloadIdentity

COUNTS = {"block_tokens": 8, "drafts": 4, "accepted": 1, "rounds": 2}


@pytest.fixture
def folder(tmp_path):
    """A folder of a lossless run, begun."""
    settings = Settings(
        **{"policy": {"policy": "fixed-depth", "threshold": 1.0, "schedule": {}}, "state": "lossless"},
        **{"rows": "regroup", "draft": 4, "most_waiting": None, "batch": 1, "max_new_tokens": 4, "readout": "logit"},
        **{"dtype": "float32", "attention": "sdpa", "device": "cpu", "chat_template": False, "limit": None},
    )
    model = ModelIdentity(
        **{"source": "toy", "name": "toy", "model_type": "llama", "revision": None, "weights_sha256": "0"},
        **{"config_sha256": None, "quantisation": None, "licence": None},
    )
    workload = WorkloadIdentity(name="w", version="1", sha256="0", num_samples=2, categories={"a": 2})
    record = {"libraries": {}, "environment": {}, "command": "exitbench decode", "created": "now"}
    begin(tmp_path / "out", Manifest(model=model, workload=workload, settings=settings, rho=(1.0, 0.5, 0.0), **record))
    return tmp_path / "out"


def batch(number, ids=(5, 6, 7), depths=(2, 1, 2), full_ids=(5, 6, 7), seconds=(2.0, 4.0), **changes):
    texts = {"full_text": "a", "text": "a", "full_nll": 1.0, "nll": 1.0, "reference": None, "num_prompt_tokens": 3}
    turn = {"sample_id": f"s{number}", "category": "a", "turn": 0, "ids": ids, "depths": depths, "full_ids": full_ids}
    full, early = (Side(prefill_s=1.0, total_s=1.0 + s, counts=COUNTS) for s in seconds)
    return Batch(number=number, turns=(Turn(**(turn | texts | changes)),), full=full, exit=early)


def test_figures_by_hand(folder):
    """First tokens that count as saved, seconds of prompts in a token's, drafts counted as tokens."""
    write_batch(folder, batch(0))
    write_batch(folder, batch(1, ids=(5, 9), depths=(1, 1), seconds=(2.0, 1.0)))
    result = summarise(folder)
    assert result.gross_savings.value == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert result.full_ms_per_token.value == pytest.approx(1000 * 4.0 / 4)
    assert result.exit_ms_per_token.value == pytest.approx(1000 * 5.0 / 3)
    assert result.time_ratio.value == pytest.approx((5 / 3) / 1)
    assert (result.accepted, result.tokens_per_round) == (2 / 8, 3 / 4)
    assert (result.n_batches, result.time_ratio.n_prompts, result.time_ratio.low) == (2, 2, None)
    assert result.identical_tokens.value == pytest.approx(4 / 6)
    assert "33% of the positions" in decoding_verdict(result)


def test_one_token_is_no_time(folder):
    """A division by no later token, after everything was decoded."""
    write_batch(folder, batch(0, ids=(5,), depths=(1,), full_ids=(5,)))
    result = summarise(folder)
    assert result.time_ratio is result.gross_savings is None
    assert "second token" in result.reasons["time_ratio"]
    assert "changes no token" in decoding_verdict(result)


def test_an_answer_that_failed_is_named(folder):
    write_batch(folder, batch(0, ids=(), depths=(), full_ids=(), nll=None, full_nll=None, failure="too long"))
    write_batch(folder, batch(1))
    result = summarise(folder)
    assert [(failure.sample_id, failure.failure) for failure in result.failures] == [("s0", "too long")]
    assert result.perplexity.value == pytest.approx(2.718281828 ** (1 / 3))


@pytest.mark.parametrize("rest", ['{"number": 1, "tur', '{"text": "\u00e4', "\n{"])
def test_what_a_kill_left_is_passed_by_and_written_over(folder, rest):
    """Half a line, or half a character, that ends every later run."""
    write_batch(folder, batch(0))
    with (folder / "batches.jsonl").open("ab") as file:
        file.write(rest.encode()[: len(rest.encode()) - (0 if rest.isascii() else 1)].lstrip(b"\n"))
    assert [each.number for each in read_batches(folder)] == [0]
    write_batch(folder, batch(1))
    assert [each.number for each in read_batches(folder)] == [0, 1]


def test_damage_and_strangers_are_refused(folder, tmp_path):
    """A damaged line read as an end; a folder of something else written into."""
    (folder / "batches.jsonl").write_text('{"number": 0}\n')
    with pytest.raises(DecodeError, match="line 1 is damaged"):
        list(read_batches(folder))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("{}")
    with pytest.raises(DecodeError, match="something else"):
        begin(tmp_path / "other", None)
    (folder / "decode.json").write_text("{")
    with pytest.raises(DecodeError, match="no JSON"):
        summarise(folder)
    with pytest.raises(DecodeError, match="holds no decoded answers"):
        summarise(tmp_path / "none")
    with pytest.raises(ValidationError):
        batch(0, unknown=1)
