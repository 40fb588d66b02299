"""The whole card from constructed traces: hand-computed cases, laws, and what is null."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from exitbench.errors import TraceError
from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.score import ScoreCard, score
from exitbench.score.scorecard import NOT_RECORDED

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
DRAWS = 100
AES_PARTS = ("", "_disagreement", "_oracle", "_detectability", "_thresholds")


def figures(card):
    """Every single figure of a card by name, without its interval."""
    return {name: value["value"] for name, value in card.to_json().items() if is_figure(value)}


def is_figure(value):
    return isinstance(value, dict) and "n_prompts" in value


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_hand_computed_case(path, make_trace):
    """Any figure or curve that is not what its definition says."""
    case = json.loads(path.read_text())
    strings = {int(index): text for index, text in case["trace"].pop("token_strings", {}).items()}
    card = score(make_trace(**case["trace"], token_strings=strings), draws=DRAWS).to_json()
    for name, expected in case["figures"].items():
        got = card[name]["value"] if card[name] else None
        assert got == (expected if expected is None else pytest.approx(expected, rel=1e-6)), name
    for name, expected in case["curves"].items():
        assert card[name]["value"] == pytest.approx(expected, rel=1e-5), name


def test_there_are_cases():
    """An empty folder of cases passing silently."""
    assert len(CASES) >= 2


def test_card_survives_json(typical_trace):
    """A field lost, renamed or widened on the way through a file; NaN in the JSON."""
    card = score(typical_trace, draws=DRAWS)
    text = json.dumps(card.to_json(), allow_nan=False)
    assert ScoreCard.from_json(json.loads(text)) == card


def test_facts_are_flat_columns_of_the_card(typical_trace):
    """A study that has to open traces for the family of a model, or that does not see which facts are unverified."""
    facts = catalogue().find("allenai/OLMo-1B-hf")
    manifest = typical_trace.manifest.model_copy(update={"facts": facts})
    card = score(dataclasses.replace(typical_trace, manifest=manifest), draws=DRAWS)
    assert card.facts == facts
    columns = card.to_json()["facts"]
    assert (columns["family"], columns["stage"], columns["kind"]) == ("OLMo", "base", "dense")
    assert columns["base"] is None
    assert set(columns["unverified"]) == {"release_month", "total_params_b", "active_params_b"}
    assert ScoreCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_card_older_than_facts(typical_trace):
    """Saved scores that can no longer be read since cards carry facts."""
    old = score(typical_trace, draws=DRAWS).to_json()
    del old["facts"]
    assert ScoreCard.from_json(old).facts == ModelFacts()


def test_every_null_has_its_reason_beside_it(typical_trace, make_trace):
    """A null without an explanation, or an explanation beside a figure that exists."""
    few = make_trace([[1, 2, 2], [2, 2, 2]], on="text")
    for trace in (typical_trace, few):
        card = score(trace, draws=DRAWS).to_json()
        for name, value in card.items():
            if not name.endswith("_reason"):
                assert (f"{name}_reason" in card) == (value is None), name
        assert card["max_skip_reason"].startswith("not computed")


def test_what_is_null_in_each_mode(make_trace, make_top1):
    """Quality of an answer against itself published as correctness, or loops of a given text."""
    top1 = make_top1([1, 2, 3] * 10, 3)
    answers = score(make_trace(top1), draws=DRAWS)
    assert answers.ees_correct is None
    assert answers.target == "own answer"
    assert answers.loop_share.value == 0
    text = score(make_trace(top1, on="text"), draws=DRAWS)
    assert text.ees_correct is not None
    assert text.target == "text"
    assert (text.loop_share, text.generated_mismatch, text.ees_without_loops) == (None, None, None)


def test_per_character_figures_weigh_tokens_by_their_text(make_trace, make_top1):
    """A mean over tokens under the name of one over characters, or its interval."""
    long = np.arange(120) % 2 == 0  # settled at depth 0; the others at the end
    top1 = np.where(long, 0, 1)[:, None] * [0, 1, 0] + np.where(long, 7, 8)[:, None]
    documents = np.repeat(np.arange(12), 10)
    options = {"prompts": documents, "on": "text", "target": top1[:, -1], "prompt_texts": ["a" + 5 * "longa"] * 12}
    card = score(make_trace(top1, token_strings={7: "long", 8: "a"}, **options), draws=DRAWS)
    assert card.ees.value == pytest.approx(0.5)
    assert card.ees_per_character.value == pytest.approx(0.8)
    assert card.ees_per_character.low == pytest.approx(0.8)
    assert (card.ees_per_character.n_tokens, card.ees_per_character.n_prompts) == (120, 12)
    nats = -card.loss.value[-1]
    assert card.bits_per_character.value == pytest.approx(-nats / np.log(2) * 120 / 300)
    unknown = score(make_trace(top1, **options), draws=DRAWS)
    for name in ("ees_per_character", "bits_per_character"):
        assert getattr(unknown, name) is None
        assert unknown.reasons[name].startswith("the texts of single tokens do not add up")


def test_fewer_than_ten_prompts(make_trace, make_top1):
    """AES cross-fitted, or an interval drawn, on a handful of prompts."""
    rows = make_top1(np.tile([0, 1, 2], 9), 3)
    card = score(make_trace(rows, prompts=np.repeat(np.arange(9), 3)), draws=DRAWS)
    assert card.ees.value is not None
    assert (card.ees.low, card.ees.high) == (None, None)
    assert card.aes_1pct is None
    assert card.aes_1pct_thresholds is None
    assert "at least 10 prompts, got 9" in card.reasons["aes_1pct"]
    for name in (
        "aes_5pct_thresholds",
        "nes_flops_copy_1pct",
        "lossless_projection",
        "lossless_drafts",
        "aes_ltt_5pct",
    ):
        assert "at least 10 prompts, got 9" in card.reasons[name], name
    assert card.decided.low == [None] * 4


def test_equal_seeds_give_equal_cards(typical_trace):
    """A draw from unseeded randomness; or a seed that nothing listens to."""
    first, again, other = (score(typical_trace, seed=seed, draws=DRAWS) for seed in (3, 3, 4))
    assert first == again
    assert first.ees.low != other.ees.low
    assert first.ees.value == other.ees.value


def test_intervals_hold_their_values(typical_trace):
    """Bounds swapped, or resamples of another figure."""
    card = score(typical_trace, draws=DRAWS).to_json()
    checked = 0
    for name, value in card.items():
        if is_figure(value) and value["low"] is not None:
            assert value["low"] <= value["value"] <= value["high"], name
            checked += 1
    assert checked >= 15


def test_ordering_of_the_family(typical_trace):
    """Bounds that do not bound: first match below EES, oracle below first match."""
    card = score(typical_trace, draws=DRAWS)
    assert card.ees.value <= card.ees_first_match.value <= card.aes_1pct_oracle.value
    assert card.aes_1pct_oracle.value <= card.aes_5pct_oracle.value
    assert card.ees_tv_10.value <= card.ees_tv_30.value
    assert card.ees_star.value < card.ees.value


def test_batch_one_is_ees_and_batches_only_lose(typical_trace):
    """Lockstep rows that wait for the luckiest row instead of the slowest."""
    card = score(typical_trace, draws=DRAWS)
    assert card.batch.at == [1, 4, 16, 64]
    assert card.batch.value[0] == pytest.approx(card.ees.value)
    assert card.batch.low[0] == pytest.approx(card.ees.low)
    assert card.batch.value == sorted(card.batch.value, reverse=True)


def test_batch_curve_equals_a_simulation(make_trace, make_top1):
    """F^B is the law of the latest decision depth among B independent rows."""
    depths = np.array([0, 1, 1, 2, 3, 4] * 5)
    costs = (0.1, 0.2, 0.3, 0.4)
    card = score(make_trace(make_top1(depths, 4), block_costs=costs), draws=DRAWS)
    rows = np.random.default_rng(0).choice(depths, size=(200_000, 4)).max(axis=1)
    rho = 1 - np.concatenate([[0], np.cumsum(costs)])
    assert card.batch.value[1] == pytest.approx(rho[rows].mean(), abs=0.003)


def test_renaming_the_vocabulary_changes_no_figure(typical_trace, make_trace):
    """A figure that depends on the order of token ids."""
    top1 = typical_trace.signals["top1_id"]
    names = np.random.default_rng(1).permutation(top1.max() + 1)
    categories = [sample.category for sample in typical_trace.samples]
    renamed = make_trace(names[top1], prompts=typical_trace.sample_index, categories=categories)
    before, after = (figures(score(trace, draws=DRAWS)) for trace in (typical_trace, renamed))
    assert before == pytest.approx(after, abs=1e-12)


def test_cost_of_blocks_separates_ees_from_ees_blocks(make_trace, make_top1):
    """Costs ignored, or given to the wrong end of the stack."""
    heavy_last = (0.1, 0.1, 0.8)
    card = score(make_trace(make_top1([2] * 12, 3), block_costs=heavy_last), draws=DRAWS)
    assert card.ees.value == pytest.approx(0.8)
    assert card.ees_blocks.value == pytest.approx(1 / 3)


def test_attainable_figures_stand_under_their_names(make_trace):
    """Savings and disagreement exchanged, detectability upside down, or an exit before the first block."""
    top1 = [[4, 4, 4, 4], [1, 2, 3, 4]] * 500
    prob = [[0.9] * 4, [0.1] * 4] * 500
    card = score(make_trace(top1, prob=prob, prompts=np.repeat(np.arange(20), 50)), draws=DRAWS)
    for name, eps in (("aes_1pct", 0.01), ("aes_5pct", 0.05)):
        got = {key: value for key, value in figures(card).items() if key.startswith(name)}
        assert got == pytest.approx(
            {
                name: 1 / 3,
                f"{name}_disagreement": 0,
                f"{name}_oracle": 0.5 + eps,
                f"{name}_detectability": 1 / 3 / (0.5 + eps),
            }
        )
    # The next grid point above float32's 0.1: the loosest that leaves the undecided tokens alone.
    assert card.aes_1pct_thresholds == [0.11] * 5


def test_eas_uses_the_similarity_it_names(make_trace):
    """One similarity printed three times, or the value of another alpha."""
    similarities = {"logit_cosine": 0.25, "logit_cosine_centred": 0.49, "hidden_cosine": 0.81}
    signals = {name: np.full((12, 3), value) for name, value in similarities.items()}
    card = score(make_trace([[1, 1, 1]] * 12, signals=signals), draws=DRAWS)
    assert [row.similarity for row in card.eas] == list(similarities)
    for row in card.eas:
        # L = 2: A_1 = sqrt(S / 2) and A_2 = 0.
        assert row.eas.value == pytest.approx(np.sqrt(similarities[row.similarity] / 2) / 2, rel=1e-6)
        assert row.alpha == 0.5
        assert row.by_alpha.value[row.by_alpha.at.index(0.5)] == row.eas.value


def test_ees_without_loops(make_trace, make_top1):
    """Looped tokens kept and the others dropped."""
    depths = [4] * 8 + [0] * 8
    trace = make_trace(make_top1(depths * 10, 4), prompts=np.repeat(np.arange(10), 16), target=[*range(8)] * 20)
    card = score(trace, draws=DRAWS)
    assert card.ees.value == pytest.approx(0.5)
    assert card.loop_share.value == pytest.approx(0.5)
    assert card.ees_without_loops.value == 0
    assert card.ees_without_loops.n_tokens == 80


def test_all_tokens_in_loops_is_null(make_trace, monkeypatch):
    """An average over no tokens published as 0."""
    monkeypatch.setattr(
        "exitbench.score.from_decisions.looped_tokens", lambda trace: np.ones(trace.num_tokens, dtype=bool)
    )
    card = score(make_trace([[1, 1]] * 12), draws=DRAWS)
    assert card.ees_without_loops is None
    assert card.reasons["ees_without_loops"] == "every token lies in a loop"


def test_generated_mismatch(make_trace):
    """The share that agrees, in place of the share that differs."""
    card = score(make_trace([[1, 1]] * 12, target=[1] * 9 + [2] * 3), draws=DRAWS)
    assert card.generated_mismatch.value == pytest.approx(0.25)


def test_categories_count_their_failures_and_stay_visible(make_trace, make_top1):
    """A category whose samples all failed dropped from the card, or scored 0."""
    trace = make_trace(
        make_top1([0, 0, 4, 4], 4),
        prompts=[0, 0, 1, 1],
        categories=["easy", "hard", "lost"],
        failed=[2],
    )
    categories = score(trace, draws=DRAWS).categories
    assert list(categories) == ["easy", "hard", "lost"]
    assert (categories["easy"].ees.value, categories["hard"].ees.value) == (1.0, 0.0)
    assert (categories["lost"].n_failed, categories["lost"].n_tokens) == (1, 0)
    assert categories["lost"].ees is None


def test_counts(typical_trace):
    """Samples counted as prompts, or tokens per turn."""
    card = score(typical_trace, draws=DRAWS)
    assert (card.n_tokens, card.n_prompts, card.n_failed) == (240, 12, 0)
    assert (card.ees.n_tokens, card.ees.n_prompts) == (240, 12)


def test_frontier_ends(typical_trace):
    """Thresholds against outcomes in opposite order: 0 leaves after one block, 1 hardly ever."""
    frontier = score(typical_trace, draws=DRAWS).frontier
    assert frontier.savings.at == frontier.disagreement.at
    assert frontier.savings.value[0] == pytest.approx(1 - 1 / typical_trace.num_blocks)
    assert frontier.savings.value[-1] == 0
    assert frontier.savings.value == sorted(frontier.savings.value, reverse=True)


def test_a_model_of_one_block(make_trace):
    """Indexing below depth L - 1 in a model that has only depth 0 there."""
    card = score(make_trace([[1, 1]] * 6 + [[2, 1]] * 6), draws=DRAWS)
    assert card.ees.value == pytest.approx(0.5)
    assert card.decided.value == [0.5, 1.0]


def test_no_tokens_is_the_users_error(make_trace):
    """A division by zero in place of one clear line."""
    empty = make_trace(np.zeros((0, 4), dtype=int), prompts=[], categories=["chat"], failed=[0])
    with pytest.raises(TraceError, match=r"no tokens: 1 of 1 samples failed"):
        score(empty)


def test_too_few_draws_are_refused(typical_trace):
    """Percentiles of ten resamples."""
    with pytest.raises(TraceError, match=r"at least 100 .*, got 10"):
        score(typical_trace, draws=10)


def test_a_missing_signal_is_named(typical_trace):
    """A KeyError for a trace recorded without a signal."""
    signals = {name: values for name, values in typical_trace.signals.items() if name != "tv_final"}
    lacking = type(typical_trace)(**{**vars(typical_trace), "signals": signals})
    with pytest.raises(TraceError, match="tv_final"):
        score(lacking)


def test_fast_trace_has_what_needs_no_signals(make_trace, make_top1):
    """A null without its reason, a 0 in place of a null, or another figure than the full trace has."""
    top1, options = make_top1(np.arange(60) % 5, 4), {"prompts": np.repeat(np.arange(12), 5)}
    for on in ("answers", "text"):
        full = score(make_trace(top1, on=on, **options), draws=DRAWS).to_json()
        fast = score(make_trace(top1, on=on, fast=True, **options), draws=DRAWS).to_json()
        same = ("ees", "ees_blocks", "decided", "batch", "n_tokens", "n_prompts")
        of_mode = ("ees_correct", "ees_per_character", "generated_mismatch", "loop_share", "ees_without_loops")
        for name in (*same, *of_mode):
            assert fast[name] == full[name], name
        unrecorded = {name.removesuffix("_reason") for name, said in fast.items() if said == NOT_RECORDED}
        nulls = {name for name, value in fast.items() if value is None}
        assert nulls == unrecorded | {name for name, value in full.items() if value is None}
        assert unrecorded == {
            *("ees_null", "ees_star", "ees_first_match", "ees_tv_10", "ees_tv_30", "eas", "frontier"),
            *("agreement", "entropy", "loss", "accuracy", "top1_churn", "bits_per_character"),
            *(f"aes_{eps}pct{part}" for eps in (1, 5) for part in AES_PARTS),
            *(f"{name}_{eps}pct" for eps in (1, 5) for name in ("nes_flops_copy", "nes_bytes_deferred", "aes_ltt")),
            *("lossless_projection", "lossless_drafts"),
        }
        chat = fast["categories"]["chat"]
        assert (chat["ees"], chat["ees_first_match"]) == (full["categories"]["chat"]["ees"], None)
        assert "not known (not recorded: traced with --fast)" in fast["verdict"]


def test_fast_card_survives_json(make_trace, make_top1):
    """A missing curve or list that cannot be read back."""
    card = score(make_trace(make_top1([0, 1, 2] * 4, 3), fast=True), draws=DRAWS)
    assert ScoreCard.from_json(json.loads(json.dumps(card.to_json(), allow_nan=False))) == card
    assert card.settings.recorded == "decisions"
