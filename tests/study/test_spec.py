"""The spec of a study: strict, with a line that says what to do, and allowed to grow."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exitbench.errors import StudyError
from exitbench.study.spec import ModelEntry, Settings, StudySpec, parse_spec, why_another_study
from toy_study import spec_of


def parsed(**changes):
    return parse_spec(spec_of(**changes), "spec.yaml")


def test_short_and_long_forms():
    """`mini` and `{workload: mini}` as two things, a tag 0 refused because it is a number, a default lost."""
    short = parsed(workloads=["mini"], policies=["margin"], models=["a"])
    long = parsed(workloads=[{"workload": "mini"}], policies=[{"policy": "margin"}], models=[{"model": "a"}])
    assert (short.workloads, short.policies, short.models) == (long.workloads, long.policies, long.models)
    assert (short.measure, short.readouts, short.seed, short.keep_traces) == (("score",), ("logit",), 0, False)
    entry = parsed(models=[{"model": "a", "tags": {"seed": 0, "pair": "x"}}]).models[0]
    assert entry.tags == {"seed": "0", "pair": "x"}
    assert parsed(policies=[{"policy": "margin", "probes": "every-4"}]).policies[0].probes == ("every-4",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workload": []}, ("unknown key 'workload' in study", "did you mean 'workloads'?")),
        ({"settings": {"limmit": 3}}, ("unknown key 'limmit' in settings", "did you mean 'limit'?")),
        ({"settings": {"on": "texts"}}, ("settings.on", "'answers' or 'text'", "got 'texts'")),
        ({"settings": {"limit": 10**12}}, ("settings.limit", "1000000", "got 1000000000000")),
        ({"settings": {"limit": True}}, ("settings.limit", "valid integer")),
        ({"settings": {"memory": "2"}}, ("settings.memory", "at least 1MiB")),
        ({"settings": []}, ("settings is a list, expected a mapping",)),
        ({"measure": ["scor"]}, ("unknown measure 'scor'", "did you mean 'score'?")),
        ({"measure": []}, ("nothing would be measured",)),
        ({"policies": ["margn"]}, ("unknown policy 'margn'", "did you mean 'margin'?")),
        ({"policies": [{"policy": "margin", "probes": "evry"}]}, ("policies[0].probes[0]", "'evry'")),
        ({"readouts": ["logits"]}, ("readouts[0]", "did you mean 'logit'?")),
        ({"readouts": ["tuned:"]}, ("readouts[0]", "tuned:FILE")),
        ({"name": "../../x"}, ("name", "cannot be used as a name here")),
        ({"name": "a\n"}, ("name", "cannot be used as a name here")),
        ({"title": "\x1b[31mred"}, ("title", "control characters")),
        ({"seed": -1}, ("seed", "got -1")),
        ({"seed": 2**63}, ("seed",)),
        ({"models": []}, ("models", "at least 1")),
        ({"models": None}, ("models", "required")),
        ({"models": [3]}, ("models[0]", "model is 3, expected a word or a mapping with the key 'model'")),
        ({"models": [{"model": "x", "label": "a/b"}]}, ("models[0].label", "'a/b'")),
        ({"models": [{"model": "x", "label": "..\u202e"}]}, ("models[0].label",)),
        ({"models": [{"model": "x", "checkpoints": "y"}]}, ("models[0]", "one of the keys 'model' and 'checkpoints'")),
        ({"models": [{"label": "y"}]}, ("models[0]", "one of the keys 'model' and 'checkpoints'")),
        ({"models": [{"model": "x", "count": 3}]}, ("models[0]", "'count' does not go with 'model'")),
        ({"models": [{"checkpoints": "x", "revision": "y"}]}, ("'revision' does not go with 'checkpoints'",)),
        ({"models": [{"checkpoints": "x", "revisions": "log", "count": 10**9}]}, ("models[0].count", "10000")),
        ({"models": [{"model": "x", "facts": {"kindd": "moe"}}]}, ("unknown key 'kindd' in facts", "'kind'")),
        ({"models": [{"model": "x", "facts": {"kind": "mo"}}]}, ("models[0].facts.kind", "got 'mo'")),
        ({"models": [{"model": "x", "facts": {"release_month": "2025-13"}}]}, ("facts.release_month", "YYYY-MM")),
        ({"models": [{"model": "x", "tags": {"a": [1]}}]}, ("models[0].tags.a",)),
        ({"finding": {"question": "kind"}}, ("finding", "'kind'", "kinds")),
    ],
)
def test_what_is_refused(changes, words):
    """A slip of the pen measured as something else, or told in a paragraph."""
    with pytest.raises(StudyError) as error:
        parsed(**changes)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("spec.yaml: ")
    assert all(word in message for word in words), message


KEYS = st.sampled_from([*StudySpec.model_fields, *Settings.model_fields, *ModelEntry.model_fields, "question", "else"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KEYS
ANYTHING = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(KEYS | st.integers(), inside, max_size=4)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(StudySpec.model_fields, ANYTHING)))
def test_whatever_a_spec_says(changes):
    """A traceback, or two lines, for a spec that nobody thought of."""
    message = ""
    try:
        parsed(**changes)
    except StudyError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("data", [None, [1], "words", 3])
def test_a_spec_is_a_mapping(data):
    """An empty file or a list, with a traceback."""
    with pytest.raises(StudyError, match=r"study is .*, expected a mapping"):
        parse_spec(data, "spec.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"models": ["toy-0", "toy-1", "toy-2"]},
        {"workloads": ["prompts.jsonl", "text.txt", "mini"]},
        {"readouts": ["logit", "tuned:a.safetensors"]},
        {"title": "Other words", "keep_traces": True},
        {"models": [{"model": "toy-1", "label": "b", "tags": {"a": "b"}, "facts": {"kind": "moe"}}, "toy-0"]},
        {"settings": spec_of()["settings"] | {"memory": "1GiB"}},
    ],
)
def test_a_study_may_grow_and_change_its_words(changes):
    """Results of days refused because a model was added, or a label was mended."""
    assert why_another_study(parsed(), parsed(**changes)) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "others"}, "name is toys there and others now"),
        ({"seed": 1}, "seed is 0 there and 1 now"),
        ({"measure": ["representation"]}, "measure is [score] there and [representation] now"),
        ({"policies": ["margin"]}, "policies is [] there and [policy: margin] now"),
        ({"settings": {"limit": 3}}, "settings.limit is 4 there and 3 now"),
        ({"models": ["toy-0"]}, "models has toy-1 there and not now"),
        ({"models": ["toy-0", {"model": "toy-1", "revision": "b"}]}, "models has toy-1 there and not now"),
        ({"workloads": ["text.txt"]}, "workloads has workload: prompts.jsonl there and not now"),
        ({"readouts": ["tuned:a"]}, "readouts has logit there and not now"),
    ],
)
def test_what_makes_it_another_study(changes, words):
    """Results of two studies mixed in one folder, or a finding fixed after its results."""
    assert words in why_another_study(parsed(), parsed(**changes))


def test_a_finding_is_fixed_before_there_are_results():
    """A claim fitted to what came out; a message of two whole findings that leaves the difference to be found."""
    finding = {"question": "kinds", "claim": "dense is best", "smallest_effect": 0.02}
    with_finding = parsed(finding=finding)
    assert with_finding.finding.question == "kinds"
    fixed = ", and a finding is fixed before there are results"
    for there, now, words in (
        (parsed(), with_finding, "finding is added now"),
        (with_finding, parsed(), "finding is taken out now"),
        (
            with_finding,
            parsed(finding=finding | {"smallest_effect": 0.01}),
            "finding.smallest_effect is 0.02 there and 0.01 now",
        ),
        (with_finding, parsed(finding=finding | {"question": "size"}), "finding.question is kinds there and size now"),
    ):
        assert why_another_study(there, now) == words + fixed
    assert why_another_study(with_finding, parsed(finding=finding)) == ""


def test_a_rule_that_is_broken_is_told_plainly():
    """The words of the library that checks, before our own."""
    finding = {"question": "kinds", "claim": "dense is best", "smallest_effect": 0.02, "against": ["dense"]}
    with pytest.raises(StudyError, match=r"^spec\.yaml: finding: kinds: reference and against must differ"):
        parsed(finding=finding)
