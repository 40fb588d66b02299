"""The token explorer's payload against the trace it came from."""

import base64

import numpy as np

from exitbench.report.explorer import PROBABILITY_STEPS, explorer_payload
from exitbench.trace.decided import first_match_depths


def unpack(payload, name):
    wide = payload["wide"] and name in {"top1", "target", "final"}
    packed = payload[name] if name in payload else payload["by_depth"][name]
    return np.frombuffer(base64.b64decode(packed), dtype="<u4" if wide else "<u2").astype(int)


def strings(payload, name):
    return [payload["strings"][index] for index in unpack(payload, name)]


def test_payload_says_what_the_trace_says(result):
    """A row shifted by one, or a token shown under another's depth."""
    trace = result.trace
    payload = explorer_payload(trace, budget_bytes=10**7)
    shown = {index: text.replace("\n", "\u23ce") for index, text in trace.token_strings.items()}
    assert strings(payload, "top1") == [shown[i] for i in trace.signals["top1_id"].ravel()]
    assert strings(payload, "target") == [shown[i] for i in trace.target_id]
    assert strings(payload, "final") == [shown[i] for i in trace.final_id]
    np.testing.assert_array_equal(unpack(payload, "decided"), trace.decision_depth)
    np.testing.assert_array_equal(unpack(payload, "first"), first_match_depths(trace.signals["top1_id"]))
    probability = unpack(payload, "probability") / PROBABILITY_STEPS
    np.testing.assert_allclose(probability, trace.signals["top1_prob"].ravel(), atol=0.51 / PROBABILITY_STEPS)
    assert [sample["rows"] for sample in payload["samples"]] == [[16 * k, 16 * k + 16] for k in range(24)]
    assert payload["num_shown"] == payload["num_traced"] == 24


def test_what_does_not_fit_is_left_out_evenly(result):
    """A budget that keeps one category and loses the others, or rows that no longer match their prompts."""
    full = explorer_payload(result.trace, budget_bytes=10**7)
    payload = explorer_payload(result.trace, budget_bytes=8 * (16 * 13 * 8 + 40))
    assert payload["num_shown"] == 8
    assert payload["num_traced"] == 24
    categories = [sample["category"] for sample in payload["samples"]]
    assert set(categories) == {sample["category"] for sample in full["samples"]}
    assert [sample["id"] for sample in payload["samples"]] == [f"sample-{k}" for k in range(8)]
    assert strings(payload, "top1") == strings(full, "top1")[: 8 * 16 * 13]


def test_fast_trace_shows_its_decisions_alone(fast):
    """Depths without top-1 tokens shown as if they had some; or tokens without their decision."""
    trace = fast.trace
    payload = explorer_payload(trace, budget_bytes=10**7)
    shown = {index: text.replace("\n", "\u23ce") for index, text in trace.token_strings.items()}
    assert payload["by_depth"] is None
    assert strings(payload, "target") == [shown[i] for i in trace.target_id]
    assert strings(payload, "final") == [shown[i] for i in trace.final_id]
    np.testing.assert_array_equal(unpack(payload, "decided"), trace.decision_depth)


def test_failed_samples_are_not_offered(make_trace):
    """A prompt without tokens in the list."""
    trace = make_trace([[1, 2], [2, 2]], prompts=[0, 2], categories=["a", "a", "a"], failed=[1])
    payload = explorer_payload(trace, budget_bytes=10**6)
    assert [sample["id"] for sample in payload["samples"]] == ["sample-0", "sample-2"]
    assert [sample["rows"] for sample in payload["samples"]] == [[0, 1], [1, 2]]


def test_missing_probability_stays_missing(make_trace):
    """NaN turned into 0 %."""
    payload = explorer_payload(make_trace([[1, 2]], prob=[[np.nan, 1.0]]), budget_bytes=10**6)
    assert unpack(payload, "probability").tolist() == [65_535, PROBABILITY_STEPS]


def test_large_vocabularies_need_wide_indices(make_trace):
    """More than 65 535 distinct tokens folded onto each other."""
    top1 = np.arange(70_000).reshape(-1, 2)
    trace = make_trace(top1, prompts=np.zeros(35_000, dtype=int))
    payload = explorer_payload(trace, budget_bytes=10**8)
    assert payload["wide"]
    assert strings(payload, "top1") == [f"t{index}" for index in range(70_000)]


def test_long_prompts_are_clipped_and_say_so(make_trace):
    """One enormous document that eats the page's budget."""
    payload = explorer_payload(make_trace([[1, 1]], prompt_texts=["x" * 10_000]), budget_bytes=10**6)
    assert payload["samples"][0]["turns"][0].endswith("[... 4000 more characters]")
