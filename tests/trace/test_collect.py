"""Tracing real (tiny) models: which tokens count, what is recorded of them, and what happens when something breaks."""

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from exitbench.config import TraceOptions
from exitbench.errors import ExitbenchError, TraceError, WorkloadError
from exitbench.models.load import load
from exitbench.models.toy import byte_tokenizer, save_toy, toy_model
from exitbench.trace import collect as collect_module
from exitbench.trace import sequences as sequences_module
from exitbench.trace.collect import collect
from exitbench.trace.record import Recorder
from exitbench.trace.store import read_trace
from exitbench.workloads import Sample, Workload

FAST = TraceOptions(max_new_tokens=6, generation_batch=2, fast=True)


def _traced(loaded, workload, folder, options=None):
    collect(loaded, workload, folder, options=options or TraceOptions(max_new_tokens=6, generation_batch=2))
    return read_trace(folder)


def _alone(loaded, ids, max_new_tokens):
    """What the model answers to one prompt, one token after the other, without batch and without cache."""
    said = list(ids)
    for _ in range(max_new_tokens):
        with torch.inference_mode():
            said.append(int(loaded.model(input_ids=torch.tensor([said]), use_cache=False).logits[0, -1].argmax()))
        if said[-1] == 0:
            break
    return said[len(ids) :]


def _expected_rows(loaded, workload, max_new_tokens, *, chat):
    """(sample, turn, position, input id, target id) of every counted token, by the definition."""
    tokenizer, rows = loaded.tokenizer, []
    for index, sample in enumerate(workload.samples):
        said = ""
        for turn, words in enumerate(sample.turns):
            if chat:
                said += f"<user>{words}</user>"
                prompt = tokenizer(said + "<assistant>").input_ids
            else:
                said += f"\n\n{words}" if said else words
                prompt = tokenizer(said).input_ids
            answer = _alone(loaded, prompt, max_new_tokens)
            ids = prompt + answer
            counted = range(len(prompt) - 1, len(ids) - 1)
            rows += [(index, turn, position, ids[position], ids[position + 1]) for position in counted]
            words = tokenizer.decode(answer, skip_special_tokens=True)
            said += f"<assistant>{words}</assistant>" if chat else f"\n\n{words}"
    return rows


def _recorded_rows(trace):
    columns = (trace.sample_index, trace.turn, trace.position, trace.input_id, trace.target_id)
    return [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("chat", [True, False], ids=["chat template", "plain"])
def test_counted_tokens_of_answers(loaded, prompts, tmp_path, chat):
    """Rows of the prompt counted, the first or last token of an answer left out, turns joined in another way."""
    options = TraceOptions(max_new_tokens=5, generation_batch=2, chat_template=chat)
    trace = _traced(loaded, prompts, tmp_path / "trace", options)
    assert _recorded_rows(trace) == _expected_rows(loaded, prompts, 5, chat=chat)
    assert trace.manifest.settings.chat_template is chat
    assert len(trace.samples) == 5
    assert trace.samples[1].reference == "4"


def test_model_without_chat_template(prompts, tmp_path):
    """A base model's trace that claims a template, or that puts one in."""
    base = load(str(save_toy(tmp_path / "base", num_blocks=2, chat=False)))
    trace = _traced(base, prompts, tmp_path / "trace", TraceOptions(max_new_tokens=3, generation_batch=4))
    assert _recorded_rows(trace) == _expected_rows(base, prompts, 3, chat=False)
    assert trace.manifest.settings.chat_template is False


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox", "opt"])
def test_every_family_answers_as_alone(family, prompts, tmp_path):
    """Padding on the left, batches or the cache that change what a model says."""
    loaded = load(str(save_toy(tmp_path / family, family, num_blocks=2)))
    trace = _traced(loaded, prompts, tmp_path / "trace", TraceOptions(max_new_tokens=4, generation_batch=3))
    assert _recorded_rows(trace) == _expected_rows(loaded, prompts, 4, chat=True)
    assert np.array_equal(trace.signals["top1_id"][:, -1], trace.target_id)


def test_end_token_is_counted_and_ends(loaded, prompts, tmp_path, monkeypatch):
    """An end token left out of the counted ones, or padding after it counted as an answer."""
    ids = loaded.tokenizer("<user>Hi?</user><assistant>").input_ids
    third = _alone(loaded, ids, 3)[2]
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", third)
    trace = _traced(loaded, prompts, tmp_path / "trace")
    first_answer = trace.target_id[trace.sample_index == 0]
    assert first_answer[-1] == third
    assert list(first_answer).index(third) == len(first_answer) - 1 <= 2


def test_recorded_signals_are_those_of_the_parallel_pass(loaded, prompts, finished):
    """Signals of another row or turn than the one they are stored with."""
    trace = read_trace(finished)
    by_sequence = {}
    for row in range(trace.num_tokens):
        by_sequence.setdefault((trace.sample_index[row], trace.turn[row]), []).append(row)
    assert len(by_sequence) == 8
    ids_of = {}
    for index, turn, position, input_id, target_id in _recorded_rows(trace):
        ids_of.setdefault((index, turn), {})[position] = input_id
        ids_of[index, turn][position + 1] = target_id
    for (index, turn), rows in by_sequence.items():
        if turn > 0:
            continue
        prompt = loaded.tokenizer(f"<user>{prompts.samples[index].turns[0]}</user><assistant>").input_ids
        sequence = prompt + [ids_of[index, turn][p] for p in sorted(ids_of[index, turn]) if p >= len(prompt)]
        with torch.inference_mode():
            output = loaded.model(input_ids=torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
            positions = trace.position[rows]
            logits = torch.stack(
                [loaded.model.lm_head(loaded.model.model.norm(h[0, positions])) for h in output.hidden_states[:-1]]
                + [output.logits[0, positions]]
            )
        assert np.array_equal(trace.signals["top1_id"][rows], logits.argmax(-1).T.numpy())
        logprob = logits.log_softmax(-1).gather(-1, torch.tensor(trace.target_id[rows]).long().expand(4, -1)[..., None])
        np.testing.assert_allclose(trace.signals["target_logprob"][rows], logprob[..., 0].T, rtol=1e-4, atol=1e-4)


def test_batches_do_not_change_the_rows(loaded, prompts, finished, tmp_path):
    """Rows that depend on what else was in the batch."""
    trace = _traced(loaded, prompts, tmp_path / "trace", TraceOptions(max_new_tokens=6, generation_batch=5))
    expected = read_trace(finished)
    assert _recorded_rows(trace) == _recorded_rows(expected)
    for name, values in expected.signals.items():
        assert np.array_equal(trace.signals[name], values, equal_nan=True), name


# Given text.


def _adding_start_token(folder):
    """A checkpoint whose tokenizer puts a start token before every text, as Llama's does."""
    save_toy(folder, num_blocks=2)
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 2)]
    )
    tokenizer.save_pretrained(folder)
    return load(str(folder))


@pytest.mark.parametrize("start", [False, True], ids=["no start token", "start token"])
def test_counted_tokens_of_text(loaded, text, tmp_path, start):
    """A token lost or counted twice where documents meet; a document without start token; a last one of one token."""
    model = _adding_start_token(tmp_path / "bos") if start else loaded
    assert (model.tokenizer("a").input_ids[0] == 2) is start
    trace = _traced(model, text, tmp_path / "trace", TraceOptions(document_tokens=41))
    expected, documents = [], []
    room = 40 if start else 41
    for sample in text.samples:
        ids = byte_tokenizer()(sample.turns[0]).input_ids
        for begin in range(0, len(ids), room):
            document = [2] * start + ids[begin : begin + room]
            if len(document) < 2:
                continue
            expected += [(len(documents), 0, p, document[p], document[p + 1]) for p in range(len(document) - 1)]
            documents.append((sample.category, byte_tokenizer().decode(ids[begin : begin + room])))
    assert _recorded_rows(trace) == expected
    assert [(s.category, s.turns[0]) for s in trace.samples] == documents
    assert trace.samples[0].id == "long/00000"
    assert len({sample.id for sample in trace.samples}) == len(documents)
    settings = trace.manifest.settings
    assert (settings.on, settings.document_tokens, settings.max_new_tokens) == ("text", 41, None)
    assert settings.chat_template is False


def test_text_lasts_no_longer_than_the_context(text, tmp_path, make_toy):
    """Documents longer than the positions that a model knows."""
    make_toy("gpt2", num_blocks=1, n_positions=32).save_pretrained(tmp_path / "short")
    byte_tokenizer().save_pretrained(tmp_path / "short")
    trace = _traced(load(str(tmp_path / "short")), text, tmp_path / "trace", TraceOptions(document_tokens=512))
    assert trace.position.max() == 30
    assert trace.num_tokens == (246 - 8) + (83 - 3)


def test_prompts_can_be_read_as_text(loaded, prompts, tmp_path):
    """A workload of prompts refused, or answered, where its text was to be scored."""
    trace = _traced(loaded, prompts, tmp_path / "trace", TraceOptions(on="text"))
    assert trace.manifest.settings.on == "text"
    assert trace.samples[3].turns == ("A\n\nB\n\nC",)
    assert (trace.sample_index == 3).sum() == len("A\n\nB\n\nC") - 1


def test_text_cannot_be_answered(loaded, text, tmp_path):
    """A book taken for one long question."""
    with pytest.raises(WorkloadError, match=r"'bees' is plain text and asks nothing.*use --on text"):
        _traced(loaded, text, tmp_path / "trace", TraceOptions(on="answers"))
    assert not (tmp_path / "trace").exists()


# Limits.


def test_limit_on_answers_spreads_over_categories(loaded, prompts, tmp_path):
    """The first prompts of the file, all of one category."""
    trace = _traced(loaded, prompts, tmp_path / "trace", TraceOptions(limit=2, max_new_tokens=2, generation_batch=2))
    assert [sample.id for sample in trace.samples] == ["s0", "s1"]
    assert {sample.category for sample in trace.samples} == {"chat", "maths"}
    assert trace.manifest.settings.limit == 2


def test_limit_on_text_spreads_over_categories(loaded, text, tmp_path):
    """A limit that counts texts where documents are the prompts, or that takes the first text's alone."""
    options = TraceOptions(limit=3, document_tokens=50)
    trace = _traced(loaded, text, tmp_path / "trace", options)
    assert [sample.id for sample in trace.samples] == ["long/00000", "long/00001", "short/00000"]
    assert [sample.category for sample in trace.samples] == ["bees", "bees", "a"]
    for index, sample in enumerate(trace.samples):
        ids = loaded.tokenizer(sample.turns[0], add_special_tokens=False).input_ids
        assert trace.target_id[trace.sample_index == index].tolist() == ids[1:]


def test_limit_beyond_the_workload_takes_all(loaded, prompts, tmp_path):
    """A limit larger than the workload that ends in an error."""
    trace = _traced(loaded, prompts, tmp_path / "trace", TraceOptions(limit=99, max_new_tokens=1))
    assert len(trace.samples) == 5


def _one(*turns, name="one"):
    samples = (Sample(id="fits", category="a", turns=("Hi",)), Sample(id="other", category="a", turns=turns))
    return Workload(name=name, version="1", licence=None, kind="prompts", samples=samples)


def test_too_long_prompt_is_refused_before_anything_is_traced(loaded, tmp_path):
    """A prompt cut off in silence, or found too long after an hour of work."""
    long = _one("x" * 2100)
    with pytest.raises(
        WorkloadError, match=r"1 prompts do not fit the context of 2048 tokens with 6 new ones.*'other'"
    ):
        _traced(loaded, long, tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


def test_longest_prompt_that_fits(loaded, tmp_path):
    """A prompt refused, or positions run out of, at the very length of the context."""
    template = len(loaded.tokenizer("<user></user><assistant>").input_ids)
    options = TraceOptions(max_new_tokens=4)
    trace = _traced(loaded, _one("x" * (2048 - 4 - template)), tmp_path / "trace", options)
    assert trace.position.max() == 2046
    with pytest.raises(WorkloadError, match="do not fit"):
        _traced(loaded, _one("x" * (2048 - 3 - template)), tmp_path / "longer", options)


def test_conversation_that_outgrows_the_context_fails_alone(loaded, tmp_path):
    """A later turn that does not fit: cut off in silence, or the end of the whole run."""
    trace = _traced(loaded, _one("x" * 1500, "y" * 600), tmp_path / "trace")
    assert [failure.sample_id for failure in trace.failures] == ["other"]
    assert "turn 2 and its answer are longer than the model's context of 2048 tokens" in trace.failures[0].reason
    assert set(trace.sample_index) == {0}


# Failures of single samples.


def _poisoned(folder, letter="z"):
    """A GPT-NeoX (embedding and head are not tied) that gives NaN for every prompt with a certain letter."""
    model = toy_model("gpt_neox", num_blocks=2)
    model.gpt_neox.embed_in.weight[byte_tokenizer().convert_tokens_to_ids(letter)] = float("nan")
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return load(str(folder))


def _with_letter(*places):
    samples = tuple(Sample(id=f"s{i}", category="a", turns=("zoo",) if i in places else ("Moo",)) for i in range(4))
    return Workload(name="zoo", version="1", licence=None, kind="prompts", samples=samples)


def test_non_finite_logits_fail_their_sample_alone(tmp_path):
    """A NaN that ends the run, is recorded as a number, or spoils the others of its batch."""
    model = _poisoned(tmp_path / "model")
    folder = tmp_path / "trace"
    trace = _traced(model, _with_letter(1), folder)
    assert [(f.sample_id, f.reason.split(",")[0]) for f in trace.failures] == [
        ("s1", "logits are not finite at depth 1")
    ]
    assert sorted(set(trace.sample_index)) == [0, 2, 3]
    assert all(np.isfinite(v).all() for name, v in trace.signals.items() if name != "hidden_cosine_prev")
    clean = _traced(model, _with_letter(), tmp_path / "clean")
    kept = trace.sample_index != 1
    same = clean.sample_index != 1
    assert np.array_equal(trace.signals["entropy"][kept], clean.signals["entropy"][same])
    assert json.loads((folder / "failed-00001.json").read_text())["sample_id"] == "s1"


def test_non_finite_logits_fail_a_fast_sample_too(tmp_path):
    """A NaN taken for the most probable token, and the sample for one that is decided early."""
    trace = _traced(_poisoned(tmp_path / "model"), _with_letter(1), tmp_path / "trace", FAST)
    assert [(f.sample_id, f.reason) for f in trace.failures] == [
        ("s1", "logits are not finite, turn 1; trace without --fast to see where")
    ]
    assert sorted(set(trace.sample_index)) == [0, 2, 3]


def test_failed_samples_are_tried_again(tmp_path, contents, monkeypatch):
    """A failure kept for ever although its cause is gone, or lost on the second run."""
    model, folder = _poisoned(tmp_path / "model"), tmp_path / "trace"
    _traced(model, _with_letter(1), folder)
    first = contents(folder)
    assert len(_traced(model, _with_letter(1), folder).failures) == 1
    assert contents(folder) == first
    row = byte_tokenizer().convert_tokens_to_ids("z")
    model.model.gpt_neox.embed_in.weight[row] = 0.1
    assert _traced(model, _with_letter(1), folder).failures == ()
    assert not (folder / "failed-00001.json").exists()


def test_every_sample_failed(tmp_path):
    """An empty trace taken for a result: means over nothing."""
    model = _poisoned(tmp_path / "model")
    with pytest.raises(TraceError, match="has no traced sample: all 4 failed, first: logits are not finite"):
        _traced(model, _with_letter(0, 1, 2, 3), tmp_path / "trace")


# Interruptions.


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_resumed_run_ends_with_the_same_bytes(
    loaded, prompts, options, finished, contents, tmp_path, monkeypatch, after
):
    """Rows that depend on where a run was cut, or samples traced twice or never."""
    calls = []
    real = Recorder.rows

    def stop(*args, **named):
        calls.append(0)
        if len(calls) > after:
            raise _StoppedError
        return real(*args, **named)

    folder = tmp_path / "trace"
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "rows", stop)
        with pytest.raises(_StoppedError):
            collect(loaded, prompts, folder, options=options)
    assert len(list(folder.glob("part-*"))) == after
    with pytest.raises(TraceError, match=f"not finished: {5 - after} of 5 samples are missing.*it resumes"):
        read_trace(folder)
    collect(loaded, prompts, folder, options=options)
    assert contents(folder) == contents(finished)


def test_fast_trace_holds_the_same_decisions(loaded, prompts, finished, tmp_path):
    """Answers, rows or depths that depend on how much is recorded of them; signals nobody asked for."""
    full, fast = read_trace(finished), _traced(loaded, prompts, tmp_path / "trace", FAST)
    for name in ("sample_index", "turn", "position", "input_id", "target_id", "final_id", "decision_depth"):
        assert np.array_equal(getattr(fast, name), getattr(full, name)), name
        assert getattr(fast, name).dtype == getattr(full, name).dtype, name
    assert fast.signals == {}
    assert fast.manifest.settings == full.manifest.settings.model_copy(update={"recorded": "decisions"})
    assert fast.token_strings.keys() == {*fast.input_id.tolist(), *fast.target_id.tolist(), *fast.final_id.tolist()}


def test_fast_trace_resumes(loaded, prompts, contents, tmp_path):
    """A fast trace that cannot be finished, or ends with other rows."""
    whole, folder = tmp_path / "whole", tmp_path / "trace"
    _traced(loaded, prompts, whole, FAST)
    shutil.copytree(whole, folder)
    for name in ("part-00001.parquet", "part-00004.parquet", "tokens.parquet"):
        (folder / name).unlink()
    _traced(loaded, prompts, folder, FAST)
    assert contents(folder) == contents(whole)


def test_full_into_a_fast_folder_is_refused(loaded, prompts, options, tmp_path):
    """Samples with and without signals in one trace."""
    _traced(loaded, prompts, tmp_path / "trace", FAST)
    with pytest.raises(TraceError, match=r"settings\.recorded \(decisions there, signals now\)"):
        collect(loaded, prompts, tmp_path / "trace", options=options)


def test_finished_trace_is_not_traced_again(loaded, prompts, options, copied, contents, monkeypatch):
    """A second run that costs as much as the first, or that changes something."""
    before = contents(copied)

    def never(*args, **named):
        raise AssertionError("traced again")

    monkeypatch.setattr(Recorder, "rows", never)
    monkeypatch.setattr(sequences_module, "greedy_answers", never)
    collect(loaded, prompts, copied, options=options)
    assert contents(copied) == before


def test_answers_are_not_generated_again(loaded, prompts, options, copied, finished, contents, monkeypatch):
    """A part lost, and hours of generation with it."""
    (copied / "part-00002.parquet").unlink()
    monkeypatch.setattr(sequences_module, "greedy_answers", None)
    collect(loaded, prompts, copied, options=options)
    assert contents(copied) == contents(finished)


@pytest.mark.parametrize("num_writes", range(11))
def test_full_disk(loaded, prompts, options, finished, contents, tmp_path, monkeypatch, num_writes):
    """A full disk that ends in a traceback, a half-written file that is later taken for whole, or litter."""
    done = []

    def full(_):
        if len(done) >= num_writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(0)

    folder = tmp_path / "trace"
    with monkeypatch.context() as patch:
        patch.setattr("exitbench.files.os.fsync", full)
        with pytest.raises(ExitbenchError, match=r"^cannot write .*No space left on device; free some space") as said:
            collect(loaded, prompts, folder, options=options)
        assert "\n" not in str(said.value)
    assert not list(folder.glob(".*"))
    assert len(list(folder.iterdir())) == num_writes  # 11 in all: manifest, samples, 3 batches, 5 parts, tokens
    collect(loaded, prompts, folder, options=options)
    assert contents(folder) == contents(finished)


# Identity.


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"max_new_tokens": 7}, "settings.max_new_tokens (6 there, 7 now)"),
        ({"generation_batch": 3}, "settings.generation_batch (2 there, 3 now)"),
        ({"chat_template": False}, "settings.chat_template (True there, False now)"),
        ({"limit": 4}, "settings.limit (None there, 4 now)"),
        ({"seed": 1}, "settings.seed (0 there, 1 now)"),
        ({"fast": True}, "settings.recorded (signals there, decisions now)"),
        ({"on": "text"}, "settings.chat_template (True there, False now); settings.document_tokens"),
    ],
)
def test_other_settings_are_refused(loaded, prompts, options, copied, contents, changes, difference):
    """Rows of two measurements mixed in one folder."""
    before = contents(copied)
    with pytest.raises(TraceError, match="holds another trace") as said:
        collect(loaded, prompts, copied, options=dataclasses.replace(options, **changes))
    assert difference in str(said.value)
    assert contents(copied) == before


def test_other_weights_are_refused(prompts, options, copied, contents, tmp_path):
    """A fine-tuned model of the same name and shape resumed as if it were the first one."""
    other = load(str(save_toy(tmp_path / "toy", seed=1, num_blocks=3)))
    before = contents(copied)
    with pytest.raises(TraceError, match=r"model\.weights_sha256"):
        collect(other, prompts, copied, options=options)
    assert contents(copied) == before


def test_other_template_is_refused(loaded, prompts, options, copied, contents, toy_folder, tmp_path):
    """Answers to prompts in two templates mixed in one trace, since the weights are the same."""
    shutil.copytree(toy_folder, tmp_path / "toy")
    with (tmp_path / "toy" / "chat_template.jinja").open("a") as template:
        template.write("again")
    before = contents(copied)
    with pytest.raises(TraceError, match=r"model\.config_sha256") as said:
        collect(load(str(tmp_path / "toy")), prompts, copied, options=options)
    assert "weights_sha256" not in str(said.value)
    assert contents(copied) == before


def test_other_prompts_are_refused(loaded, prompts, options, copied):
    """A workload edited between two runs."""
    edited = dataclasses.replace(prompts.samples[4], turns=("Why is it not so?",))
    other = dataclasses.replace(prompts, samples=(*prompts.samples[:4], edited))
    with pytest.raises(TraceError, match=r"workload\.sha256"):
        collect(loaded, other, copied, options=options)


@pytest.mark.parametrize("name", ["notes.txt", "samples.jsonl", ".hidden"])
def test_folder_of_something_else_is_refused(loaded, prompts, options, tmp_path, name):
    """A trace written among somebody's own files, or over them."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(TraceError, match="exists and holds no trace; give an empty or new folder"):
        collect(loaded, prompts, tmp_path, options=options)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_file_in_place_of_the_folder_is_refused(loaded, prompts, options, tmp_path):
    """A traceback, or a file that is replaced."""
    (tmp_path / "trace").write_text("mine")
    with pytest.raises(ExitbenchError, match="exists and holds no trace"):
        collect(loaded, prompts, tmp_path / "trace", options=options)
    assert (tmp_path / "trace").read_text() == "mine"


def test_manifest_says_what_was_measured(loaded, prompts, finished, toy_folder):
    """An identity with something missing or wrong: two measurements that look the same."""
    manifest = read_trace(finished).manifest
    assert manifest.model.model_type == "llama"
    assert manifest.model.weights_sha256 == loaded.source.weights_sha256
    assert manifest.model.config_sha256 == loaded.source.config_sha256 is not None
    assert manifest.workload.sha256 == prompts.sha256
    assert manifest.workload.categories == {"chat": 3, "maths": 2}
    assert manifest.shape == loaded.shape
    settings = manifest.settings
    assert (settings.dtype, settings.output_dtype, settings.device) == ("float32", "float32", "cpu")
    assert (settings.attention, settings.readout, settings.generation_batch) == ("sdpa", "logit", 2)
    assert manifest.libraries.keys() == {"exitbench", "torch", "transformers"}


def test_facts_are_of_the_model_and_do_not_bind(loaded, prompts, options, copied, contents, monkeypatch):
    """A trace without facts of its model, or one that cannot be resumed once they are known better."""
    facts = read_trace(copied).manifest.facts
    assert (facts.origin, facts.family, facts.kind, facts.num_blocks) == ("counted", "llama", "dense", 3)
    assert (facts.stage, facts.generation, facts.release_month, facts.unverified) == (None, None, None, ())
    before = contents(copied)
    monkeypatch.setattr(collect_module, "facts_of", lambda *_: facts.model_copy(update={"family": "corrected"}))
    collect(loaded, prompts, copied, options=options)
    assert contents(copied) == before


def test_facts_of_a_listed_model(loaded, prompts, options, tmp_path):
    """A model of the catalogue whose trace says only what was counted."""
    source = dataclasses.replace(loaded.source, hub_id="EleutherAI/pythia-70m")
    facts = _traced(dataclasses.replace(loaded, source=source), prompts, tmp_path / "t", options).manifest.facts
    assert (facts.origin, facts.family, facts.release_month) == ("catalogue", "Pythia", "2023-04")
    assert facts.unverified == ("release_month",)
    assert facts.verified_only().release_month is None


def test_token_strings_cover_every_id(finished, loaded):
    """A report that shows ids where it has no text."""
    trace = read_trace(finished)
    shown = {*trace.input_id.tolist(), *trace.target_id.tolist(), *trace.signals["top1_id"].ravel().tolist()}
    assert trace.token_strings.keys() == shown
    letter = loaded.tokenizer.convert_tokens_to_ids(">")
    assert trace.token_strings[letter] == ">"
