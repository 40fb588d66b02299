"""Tasks of lm-evaluation-harness, answered by a toy: as by its own transformers model, early, and through its commands.

Offline: the tasks' files lie here, their rows are made from what the toy itself says. Slow is what lets the harness
read the thousands of tasks that it ships.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import lm_eval
import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from exitbench.decode.decoder import ExitDecoder
from exitbench.errors import ExitbenchError, UnknownNameError
from exitbench.harness.maxskip import MaxSkipOptions, default_depths, max_skip
from exitbench.harness.model import ExitLM
from exitbench.models.load import load
from exitbench.models.toy import save_toy
from exitbench.policies.static import FixedDepth
from exitbench.progress import SILENT
from exitbench.trace.decided import remaining_costs

NUM_ROWS = 12
CHOICES = ("x", " yes", " no, not at all")
CHOSEN, WRITTEN = "toy_sums_chosen", "toy_sums_written"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    save_toy(folder / "toy")
    return folder


@pytest.fixture(scope="module")
def loaded(place):
    return load(str(place / "toy"))


@pytest.fixture(scope="module")
def hf(loaded):
    return HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=1)


@pytest.fixture(scope="module")
def tasks(place, hf):
    """A folder of task files; the full model is right about all of them but every fourth."""
    folder = place / "tasks"
    folder.mkdir()
    questions = [f"{number} + {number * number} =" for number in range(NUM_ROWS)]
    answers = hf.generate_until(asking(*((text, {"until": ["!"], "max_gen_toks": 6}) for text in questions)))
    given = hf.loglikelihood(following(*((text, choice) for text in questions for choice in CHOICES)))
    best = np.array([logprob for logprob, _ in given]).reshape(NUM_ROWS, len(CHOICES)).argmax(axis=1)
    rows = [
        {
            "question": text,
            "answer": answer if number % 4 else "never said",
            "choices": CHOICES,
            "label": int(label if number % 4 else (label + 1) % len(CHOICES)),
        }
        for number, (text, answer, label) in enumerate(zip(questions, answers, best, strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for file in (Path(__file__).parent / "tasks").glob("*.yaml"):
        (folder / file.name).write_text(file.read_text().replace("FOLDER", str(folder)))
    return folder


def requests(kind, arguments):
    return [
        Instance(request_type=kind, doc={}, arguments=one, idx=0, metadata=("t", number, 1))
        for number, one in enumerate(arguments)
    ]


def following(*pairs):
    return requests("loglikelihood", pairs)


def rolling(*texts):
    return requests("loglikelihood_rolling", [(text,) for text in texts])


def asking(*pairs):
    return requests("generate_until", pairs)


def exit_lm(loaded, **changes):
    return ExitLM(loaded, progress=SILENT, **changes)


# The full model.

PAIRS = (("Hello", " world"), ("", "Nothing before"), ("A trailing space ", " and more"), ("<bos>started", "y"))
LONG = "All work and no play. " * 120


@pytest.mark.parametrize("state", ["deferred", "copy", "lossless"])
def test_never_leaving_gives_the_log_probabilities_of_transformers(loaded, hf, state):
    """A shift by one token, other special tokens, or another cut between context and continuation."""
    lm = exit_lm(loaded, state=state)
    pairs = following(*PAIRS)
    prompt = loaded.tokenizer.encode("Hello")
    said = list(lm.decoder.decode([prompt], max_new_tokens=3).answers[0].ids)
    ids = [(None, prompt, said), (None, prompt, [*said[:-1], said[-1] ^ 1])]
    ours = lm.loglikelihood(pairs) + lm._loglikelihood_tokens(ids, requests=pairs[:2])
    theirs = hf.loglikelihood(pairs) + hf._loglikelihood_tokens(ids)
    np.testing.assert_allclose([one for one, _ in ours], [one for one, _ in theirs], rtol=1e-5)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [greedy for _, greedy in ours[-2:]] == [True, False]


def test_long_contexts_lose_their_beginning(loaded, hf):
    """A prompt longer than the model refused, or cut off at its end."""
    (ours,), (theirs,) = (
        model.loglikelihood(following((LONG, " the end"))) for model in (exit_lm(loaded, max_length=40), hf)
    )
    tail = loaded.tokenizer.decode(loaded.tokenizer.encode(LONG + " the end")[-40:])
    ((expected, _),) = hf.loglikelihood(following((tail.removesuffix(" the end"), " the end")))
    assert ours[0] == pytest.approx(expected, rel=1e-5)
    assert ours[0] != pytest.approx(theirs[0], rel=1e-5)
    (answer,) = exit_lm(loaded, max_length=40).generate_until(asking((LONG, {"max_gen_toks": 8})))
    last = loaded.tokenizer.decode(loaded.tokenizer.encode(LONG)[-32:])
    assert [answer] == hf.generate_until(asking((last, {"max_gen_toks": 8})))


def test_rolling_texts_are_those_of_transformers(loaded):
    """Tokens counted twice or left out where a text is cut into windows; or an empty text that fails."""
    short = HFLM(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=1, max_length=19
    )  # one more position holds its last token, which is never fed
    texts = rolling("Some text of more than twenty tokens, to be cut.", "", "x", "y" * 20)
    ours = exit_lm(loaded, max_length=20).loglikelihood_rolling(texts)
    np.testing.assert_allclose(ours, short.loglikelihood_rolling(texts), rtol=1e-5)
    assert ours[1] == 0


@pytest.mark.parametrize(("state", "batch_size"), [("deferred", 1), ("deferred", "3"), ("copy", 2), ("lossless", 1)])
def test_never_leaving_gives_the_answers_of_transformers(loaded, hf, state, batch_size):
    """Answers of another request, or one that goes on behind its stop string."""
    lm = exit_lm(loaded, state=state, batch_size=batch_size)
    (free,) = hf.generate_until(asking(("Hello", {"max_gen_toks": 20})))
    asked = asking(
        ("Hello", {"max_gen_toks": 20}),
        ("Hello", {"max_gen_toks": 20, "until": [free[7], free[4:6]]}),
        ("Another and longer prompt", {"max_gen_toks": 5, "until": "no such"}),
        ("A third", {"max_gen_toks": 20, "do_sample": False, "temperature": 0.7}),
        ("A fourth one", {}),
    )
    answers = lm.generate_until(asked)
    assert answers == hf.generate_until(asked)
    assert answers[0] == free
    assert answers[1] == free[:4]


def test_only_tokens_up_to_the_stop_string_count(loaded):
    """Savings of tokens that nobody asked for."""
    lm = exit_lm(loaded, policy=FixedDepth(threshold=1.0))
    (free,) = lm.generate_until(asking(("Hello", {"max_gen_toks": 20})))
    assert lm.tallies["t", 0].tokens == 20
    stop = free[-3]
    kept = free.split(stop)[0]
    stopped = exit_lm(loaded, policy=FixedDepth(threshold=1.0))
    assert stopped.generate_until(asking(("Hello", {"max_gen_toks": 20, "until": [stop]}))) == [kept]
    tally = stopped.tallies["t", 0]
    said = loaded.tokenizer.decode(
        stopped.decoder.decode([loaded.tokenizer.encode("Hello")], max_new_tokens=tally.tokens).answers[0].ids
    )
    assert said.startswith(kept + stop)
    assert len(said) <= len(kept + stop) + 1
    assert tally.saved == pytest.approx(tally.tokens * remaining_costs(loaded.shape.block_costs)[1])


# Early exit.


@pytest.mark.parametrize("state", ["deferred", "copy"])
def test_log_probabilities_are_read_where_tokens_leave(loaded, state):
    """Log-probabilities of the full model, or of the depth of another token."""
    policy = FixedDepth(threshold=2.0)
    lm = exit_lm(loaded, policy="fixed-depth", threshold=2, state=state)
    ((ours, greedy),) = lm.loglikelihood(following(("Hello", " world")))
    encode = loaded.tokenizer.encode
    (followed,) = ExitDecoder(loaded, policy, state=state).follow([encode("Hello")], [encode(" world")])
    assert set(followed.depths) == {2}
    assert ours == pytest.approx(sum(followed.logprobs))
    assert greedy is False
    ((full, _),) = exit_lm(loaded).loglikelihood(following(("Hello", " world")))
    assert abs(ours - full) > 0.1


def test_first_token_is_read_at_the_exit_too(loaded):
    """A choice of one token, which the prompt alone decides, given as by the full model."""
    tokenizer = loaded.tokenizer
    ids = tokenizer.encode("Hello")
    hidden = loaded.model(input_ids=tokenizer("Hello", return_tensors="pt").input_ids, output_hidden_states=True)
    logits = loaded.model.lm_head(loaded.model.model.norm(hidden.hidden_states[1][0, -1]))
    expected = logits.log_softmax(-1)[tokenizer.encode("x")[0]]
    ((ours, _),) = exit_lm(loaded, policy="fixed-depth", threshold=1).loglikelihood(following(("Hello", "x")))
    assert len(ids) == 5
    assert ours == pytest.approx(float(expected), rel=1e-5)


def test_said_is_greedy_is_true_of_early_answers(loaded):
    """`is_greedy` by the full model, whatever the early one says."""
    lm = exit_lm(loaded, policy="fixed-depth", threshold=1)
    ids = lm.decoder.decode([loaded.tokenizer.encode("Hello")], max_new_tokens=4).answers[0].ids
    (result,) = lm._loglikelihood_tokens(
        [(None, loaded.tokenizer.encode("Hello"), list(ids))], requests=following(("", ""))
    )
    (full,) = exit_lm(loaded)._loglikelihood_tokens(
        [(None, loaded.tokenizer.encode("Hello"), list(ids))], requests=following(("", ""))
    )
    assert (result[1], full[1]) == (True, False)


def test_what_was_skipped_is_in_the_results(loaded):
    """Results that do not say how the model was left."""
    lm = exit_lm(loaded, policy="top1-prob", threshold=0.9, state="copy")
    lm.loglikelihood(following(("Hello", " world"), ("So", "me")))
    info = json.loads(json.dumps(lm.get_model_info()))
    assert info["exit_policy"]["threshold"] == 0.9
    assert info["exit_state"] == "copy"
    assert info["skipped"]["t"]["n_tokens"] == 8
    assert 0 <= info["skipped"]["t"]["saved_blocks"] < 1


# What is refused.


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"do_sample": True, "temperature": 0.7}, "asks for sampling"),
        ({"temperature": 0.7}, "asks for sampling"),
        ({"repetition_penalty": 1.2}, "asks for repetition_penalty"),
        ({"max_gen_toks": 2048}, "up to 2048 tokens"),
        ({"max_gen_toks": 0}, "up to 0 tokens"),
    ],
)
def test_what_is_not_greedy_is_refused(loaded, asked, words):
    """A figure of another way of decoding than the task asks for."""
    with pytest.raises(ExitbenchError, match=words):
        exit_lm(loaded).generate_until(asking(("Hello", asked)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"polcy": "top1-prob"}, "no argument 'polcy'"),
        ({"state": "frozen"}, "state is 'frozen'"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_arguments_are_refused(loaded, arguments, words):
    """A misspelt policy, so that the full model is measured."""
    with pytest.raises(ExitbenchError, match=words):
        exit_lm(loaded, **arguments)


def test_continuation_without_room_is_refused(loaded):
    """A continuation that pushes its whole context, and itself, out of the window."""
    with pytest.raises(ExitbenchError, match="document 0 of task 't' has a continuation of 12 tokens"):
        exit_lm(loaded, max_length=12).loglikelihood(following(("a", "b" * 12)))
    with pytest.raises(ExitbenchError, match="continuation of 0 tokens"):
        exit_lm(loaded).loglikelihood(following(("a", "")))


# Chat.


def test_chat_template_is_the_models(loaded, hf):
    """Prompts without the turn of the assistant, or a template that is not the tokenizer's."""
    history = [{"role": "user", "content": "Hi"}]
    lm = exit_lm(loaded)
    assert lm.apply_chat_template(history) == hf.apply_chat_template(history) == "<user>Hi</user><assistant>"
    assert lm.chat_template(True) == loaded.tokenizer.chat_template
    assert lm.tokenizer_name == hf.tokenizer_name


def test_model_without_chat_template_says_so(tmp_path):
    """A traceback of transformers for a base model."""
    plain = load(str(save_toy(tmp_path / "base", chat=False)))
    with pytest.raises(ExitbenchError, match="chat template"):
        exit_lm(plain).apply_chat_template([{"role": "user", "content": "Hi"}])


# Through the harness.


def test_evaluation_is_that_of_transformers(loaded, hf, tasks):
    """A part of the interface that the harness uses and the tests above do not."""
    manager = TaskManager(include_path=tasks, include_defaults=False)
    found = {}
    for name, model in (("ours", exit_lm(loaded)), ("theirs", hf)):
        results = lm_eval.simple_evaluate(
            model=model, tasks=[CHOSEN, WRITTEN], task_manager=manager, bootstrap_iters=0, apply_chat_template=False
        )
        found[name] = {
            task: [(row["doc_id"], row["filtered_resps"], row["prompt_hash"]) for row in rows]
            for task, rows in results["samples"].items()
        }
        assert results["results"][CHOSEN]["acc,none"] == 0.75
        assert results["results"][WRITTEN]["exact_match,none"] == 0.75
    assert found["ours"][WRITTEN] == found["theirs"][WRITTEN]
    for ours, theirs in zip(found["ours"][CHOSEN], found["theirs"][CHOSEN], strict=True):
        assert (ours[0], ours[2]) == (theirs[0], theirs[2])
        np.testing.assert_allclose([a for a, _ in ours[1]], [a for a, _ in theirs[1]], rtol=1e-5)


def test_registered_beside_the_harness_own_models():
    """A registry that knows nothing but us, as it fills itself only while it is empty."""
    assert get_model("exitbench") is ExitLM
    assert get_model("dummy") is not ExitLM


def command(*arguments, tasks):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "exitbench", *map(str, arguments), "--include_path", str(tasks)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.mark.slow
def test_command_of_the_harness(place, tasks, tmp_path):
    """A model that only we can find, arguments that do not arrive, or a result that is not written."""
    arguments = f"pretrained={place / 'toy'},policy=top1-prob,threshold=0.5,probes=[1,3],state=copy,dtype=float32"
    done = command(
        *("lm-eval", "--model", "exitbench", "--model_args", arguments, "--tasks", WRITTEN, "--limit", 4),
        *("--output_path", tmp_path),
        tasks=tasks,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert WRITTEN in done.stdout
    (file,) = tmp_path.rglob("results_*.json")
    config = json.loads(file.read_text())["config"]
    assert config["exit_policy"]["schedule"]["depths"] == [1, 3]
    assert config["skipped"][WRITTEN]["n_tokens"] >= 4


@pytest.mark.slow
def test_mistake_in_the_command_of_the_harness(place, tasks):
    """A traceback for a misspelt policy."""
    arguments = f"pretrained={place / 'toy'},policy=top1-prb,threshold=0.5"
    failed = command("lm-eval", "--model", "exitbench", "--model_args", arguments, "--tasks", WRITTEN, tasks=tasks)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("error: unknown policy 'top1-prb'; did you mean")


# MaxSkip.


@pytest.mark.slow
def test_max_skip_compares_documents_in_pairs(loaded, tasks):
    """Scores of another depth, metric or document than is said."""
    options = MaxSkipOptions(depths=(1, 3), include_path=tasks)
    card = max_skip(loaded, [CHOSEN, WRITTEN], options=options)
    assert [(task.task, task.metric, task.n_documents) for task in card.tasks] == [
        (CHOSEN, "acc,none", NUM_ROWS),
        (WRITTEN, "exact_match,none", NUM_ROWS),
    ]
    rho = remaining_costs(loaded.shape.block_costs)
    rows = [json.loads(line) for line in (tasks / "rows.jsonl").read_text().splitlines()]
    for task in card.tasks:
        assert task.full.value == 0.75
        assert [(at.depth, at.saved) for at in task.depths] == [(3, rho[3]), (1, rho[1])]
        for at in task.depths:
            lm = exit_lm(loaded, policy="fixed-depth", threshold=at.depth)
            if task.task == WRITTEN:
                said = lm.generate_until(
                    asking(*((row["question"], {"until": ["!"], "max_gen_toks": 6}) for row in rows))
                )
                right = [text == row["answer"] for text, row in zip(said, rows, strict=True)]
            else:
                pairs = [(row["question"], " " + choice) for row in rows for choice in row["choices"]]
                logprobs = np.array([one for one, _ in lm.loglikelihood(following(*pairs))]).reshape(NUM_ROWS, -1)
                right = logprobs.argmax(axis=1) == [row["label"] for row in rows]
            assert at.score.value == pytest.approx(np.mean(right))
            assert at.drop.value == pytest.approx(100 * (0.75 - np.mean(right)))
    written = card.tasks[1]
    assert written.full.n_tokens <= 6 * NUM_ROWS
    assert written.depths[-1].drop.value > 5  # an untrained toy cut in half says something else
    assert written.max_skip[0].estimated.depth in (3, 4)
    assert "fewer than 368" in written.max_skip[0].reasons["bounded"]


@pytest.mark.slow
def test_max_skip_pools_tasks_of_one_metric(loaded, tasks):
    """Subtasks of a group left apart, each with too few documents for any bound."""
    card = max_skip(loaded, ["toy_sums_group"], options=MaxSkipOptions(depths=(3,), include_path=tasks, limit=5))
    assert [(task.task, task.n_documents) for task in card.tasks] == [(CHOSEN, 5), (f"{CHOSEN}_again", 5), ("all", 10)]
    assert card.tasks[2].full.value == np.mean([task.full.value for task in card.tasks[:2]])
    assert card.tasks[0].max_skip[0].reasons["estimated"].startswith("too few documents")


@pytest.mark.slow
def test_max_skip_command(place, tasks):
    """A JSON document with something else on standard output, or options that do not arrive."""
    arguments = ("maxskip", place / "toy", "--tasks", WRITTEN, "--depths", "2,3", "--limit", 10, "--state", "copy")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "exitbench", *map(str, arguments), "--include-path", str(tasks), "--json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    card = json.loads(done.stdout)
    assert (card["state"], card["limit"], card["tasks"][0]["n_documents"]) == ("copy", 10, 10)
    assert [at["depth"] for at in card["tasks"][0]["depths"]] == [3, 2]
    assert card["tasks"][0]["max_skip"][0]["bounded_reason"].startswith("too few documents")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "changes", "error", "words"),
    [
        (["no_such"], {}, UnknownNameError, "unknown task 'no_such'"),
        ([WRITTEN], {"depths": (4,)}, ExitbenchError, "--depths has 4, expected depths from 1 to 3"),
        ([WRITTEN], {"depths": (0, 2)}, ExitbenchError, "--depths has 2, 0"),
        ([WRITTEN], {"metric": "acc"}, ExitbenchError, "no metric 'acc'.* of exact_match,none exact_match,none can"),
    ],
)
def test_max_skip_refuses(loaded, tasks, names, changes, error, words):
    """Hours of runs before a mistake is found."""
    with pytest.raises(error, match=words):
        max_skip(loaded, names, options=MaxSkipOptions(include_path=tasks, **({"depths": (3,)} | changes)))


@pytest.mark.parametrize(
    "changes", [{"limit": 0}, {"num_fewshot": -1}, {"batch": 0}, {"include_path": Path("nowhere")}]
)
def test_options_are_checked(changes):
    """No documents at all, or a folder that is not there, taken for a result."""
    with pytest.raises(ExitbenchError, match="--" + next(iter(changes)).replace("_", "-")):
        MaxSkipOptions(**changes)


@pytest.mark.parametrize(
    ("num_blocks", "depths"),
    [(30, (29, 28, 27, 26, 24, 21, 18, 15)), (4, (3, 2)), (2, (1,)), (80, (79, 78, 72, 68, 64, 56, 48, 40))],
)
def test_default_depths(num_blocks, depths):
    """A grid with depth 0 or L in it, or with one depth twice."""
    assert default_depths(num_blocks) == depths
