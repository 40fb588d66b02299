"""Sample and Workload: checks, hash, categories, limit."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.errors import WorkloadError
from exitbench.workloads import Sample, Workload
from exitbench.workloads.workload import stratified_order


def make_workload(categories: str, **changes) -> Workload:
    """One sample for each letter, which is its category."""
    samples = tuple(
        Sample(id=str(index), category=category, turns=(f"prompt {index}",))
        for index, category in enumerate(categories)
    )
    fields = {"name": "made", "version": "1", "licence": None, "kind": "prompts", "samples": samples}
    return Workload(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": ()}, "'turns' is empty"),
        ({"turns": "hello"}, "no tuple"),
        ({"turns": (" \n\t",)}, "'prompt' is empty"),
        ({"turns": ("one", "")}, r"'turns\[1\]' is empty"),
        ({"turns": ("half a pair \ud83d",)}, "surrogate pair at character 13"),
        ({"turns": (7,)}, "'prompt' is int"),
        ({"id": ""}, "'id' is empty"),
        ({"category": " "}, "'category' is empty"),
        ({"reference": ""}, "'reference' is empty"),
    ],
)
def test_sample_refuses(changes, message):
    """Empty prompts or broken Unicode that only fail deep inside a tokenizer, hours later."""
    fields = {"id": "a", "category": "b", "turns": ("c",)}
    with pytest.raises(WorkloadError, match=message):
        Sample(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": ()}, "no samples"),
        ({"name": ""}, "'name' is empty"),
        ({"kind": "prompt"}, "kind 'prompt' is unknown"),
    ],
)
def test_workload_refuses(changes, message):
    """An empty workload whose means are all NaN; a kind that no stage knows."""
    with pytest.raises(WorkloadError, match=message):
        make_workload("ab", **changes)


def test_workload_refuses_a_repeated_id():
    """Two samples under one id: a resumed trace would take the second for done."""
    workload = make_workload("ab")
    with pytest.raises(WorkloadError, match="id '0' twice"):
        replace(workload, samples=workload.samples + workload.samples[:1])


def test_text_has_one_turn():
    """A text of several turns, of which all but the first would be dropped."""
    talk = Sample(id="a", category="b", turns=("one", "two"))
    with pytest.raises(WorkloadError, match="one turn"):
        make_workload("", kind="text", samples=(talk,))


def test_hash_is_known():
    """A change of the canonical form: every recorded workload hash would stop matching."""
    canonical = (
        '[{"category":"a","id":"0","reference":null,"turns":["prompt 0"]},'
        '{"category":"b","id":"1","reference":null,"turns":["prompt 1"]}]'
    )
    assert make_workload("ab").sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_hash_ignores_where_the_samples_come_from():
    """A hash over name or version: the same prompts from a copied file could not be compared."""
    workload = make_workload("ab")
    assert replace(workload, name="other", version="2", licence="MIT").sha256 == workload.sha256


@pytest.mark.parametrize(
    "change",
    [{"id": "x"}, {"category": "x"}, {"turns": ("x",)}, {"turns": ("prompt 0", "x")}, {"reference": "x"}],
)
def test_hash_sees_every_field(change):
    """A field left out of the hash: two different workloads would pass for one."""
    workload = make_workload("ab")
    first, second = workload.samples
    assert replace(workload, samples=(replace(first, **change), second)).sha256 != workload.sha256


def test_hash_sees_the_order():
    """A hash over a set of samples: resumption relies on the order."""
    workload = make_workload("ab")
    assert replace(workload, samples=workload.samples[::-1]).sha256 != workload.sha256


def test_hash_keeps_turns_apart():
    """Turns joined before hashing: one turn of two lines is not two turns."""
    two = Sample(id="a", category="b", turns=("one", "two"))
    one = replace(two, turns=("one\ntwo",))
    assert make_workload("", samples=(two,)).sha256 != make_workload("", samples=(one,)).sha256


def test_categories_in_order_of_appearance():
    """Categories sorted by name or by count: tables would not follow the file."""
    assert list(make_workload("bbacb").categories.items()) == [("b", 3), ("a", 1), ("c", 1)]


@pytest.mark.parametrize(
    ("categories", "n", "expected"),
    [
        ("aaaabbbb", 2, "ab"),
        ("aaaabbbb", 4, "aabb"),
        ("abababab", 4, "abab"),
        ("aaaaaaaabbbbc", 3, "abc"),
        ("aaaaaaaabbbbc", 7, "aaaabbc"),
        ("aaaa", 3, "aaa"),
        ("abcd", 2, "ab"),
    ],
)
def test_limited_spreads(categories, n, expected):
    """The first n of the file: a small limit would measure the first category only."""
    limited = make_workload(categories).limited(n)
    assert "".join(sample.category for sample in limited.samples) == expected


def test_limited_below_one():
    """A limit of 0 or -1 that slices instead of complaining."""
    for n in (0, -1):
        with pytest.raises(WorkloadError, match=f"limit is {n}"):
            make_workload("ab").limited(n)


@given(st.text(alphabet="abcd", min_size=1, max_size=40), st.data())
def test_limited_laws(categories, data):
    """Wrong counts, a changed order, uncovered categories, a share far from proportional."""
    workload = make_workload(categories)
    n = data.draw(st.integers(1, len(categories)))
    limited = workload.limited(n)
    positions = [int(sample.id) for sample in limited.samples]
    assert len(positions) == n
    assert positions == sorted(set(positions))
    assert len(limited.categories) == min(n, len(workload.categories))
    assert set(positions) <= {int(sample.id) for sample in workload.limited(n + 1).samples}
    for category, count in limited.categories.items():
        fair = n * workload.categories[category] / len(categories)
        assert abs(count - fair) <= len(workload.categories)


@given(st.integers(1, 21))
def test_limited_treats_equal_categories_alike(n):
    """Categories of one size that differ by more than one sample."""
    counts = make_workload("aaaaaaabbbbbbbccccccc").limited(n).categories
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("n", [3, 4, 1000])
def test_limited_beyond_the_end(n):
    """A limit above the size that changes the workload's identity."""
    workload = make_workload("aba")
    assert workload.limited(n) is workload


@given(st.text(alphabet="abcd", min_size=1, max_size=40), st.integers(0, 5))
def test_stratified_order_laws(categories, seed):
    """A sample lost, or a beginning in which a category has more or less than its share, rounded."""
    order = stratified_order(categories, seed)
    assert sorted(order) == list(range(len(categories)))
    for n in range(1, len(categories) + 1):
        beginning = [categories[index] for index in order[:n]]
        for category in set(categories):
            share = n * categories.count(category) / len(categories)
            # Where the others' rounding adds up, it takes a category at most one more sample off its share.
            assert abs(beginning.count(category) - share) < 2


def test_stratified_order_is_drawn():
    """The first of a file before the others, or the first category before the others: no sample of the whole."""
    orders = [stratified_order("ab" * 20, seed) for seed in range(200)]
    assert stratified_order("ab" * 20, 0) == orders[0]
    first = [order[0] for order in orders]
    assert len(set(first)) > 30
    assert 70 <= sum(index % 2 for index in first) <= 130
