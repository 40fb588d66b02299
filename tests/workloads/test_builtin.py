"""`mini`: frozen content and the properties that make it a fair set of prompts."""

import itertools
import re

from exitbench.workloads import load_workload

MINI = load_workload("mini")


def five_grams(text):
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def test_frozen():
    """A prompt edited under the same version: results of two machines would no longer be comparable."""
    assert (MINI.version, MINI.licence, MINI.kind) == ("1.0", "Apache-2.0", "prompts")
    assert MINI.sha256 == "147563243e789ab4824b2830b8155c7c544ad1f0501a7ec5b7a278e8e52e0d52"


def test_categories():
    """A category lost or grown: means over the workload would weigh the categories differently."""
    assert MINI.categories == {
        "chat": 21,
        "summarise": 21,
        "translate": 21,
        "qa": 21,
        "maths": 21,
        "code": 21,
    }


def test_ids_name_category_and_place():
    """Ids that do not tell where a prompt is found."""
    for category in MINI.categories:
        ids = [sample.id for sample in MINI.samples if sample.category == category]
        assert ids == [f"{category}-{number:02d}" for number in range(1, 22)]


def test_lengths():
    """A prompt cut short, or one that does not leave a small context room for an answer."""
    for sample in MINI.samples:
        (prompt,) = sample.turns
        num_words = len(prompt.split())
        low = 100 if sample.category in ("summarise", "qa") else 20
        assert low <= num_words <= 180, sample.id
        assert prompt == prompt.strip(), sample.id


def test_references_where_there_is_one_answer():
    """A missing reference: accuracy would be computed over fewer prompts than it says."""
    with_reference = {sample.category for sample in MINI.samples if sample.reference is not None}
    assert with_reference == {"translate", "qa", "maths", "code"}
    for sample in MINI.samples:
        if sample.category in ("translate", "qa", "maths"):
            assert sample.reference, sample.id


def test_no_near_duplicates():
    """Copies of one template, which would count as independent prompts in every interval."""
    grams = [(sample.id, five_grams(sample.turns[0])) for sample in MINI.samples]
    for (id_a, a), (id_b, b) in itertools.combinations(grams, 2):
        assert len(a & b) <= 0.1 * min(len(a), len(b)), (id_a, id_b)


def test_openings_vary():
    """Prompts that all begin with the same words, as filled-in templates do."""
    openings = [tuple(sample.turns[0].split()[:4]) for sample in MINI.samples]
    assert max(openings.count(opening) for opening in openings) <= 3
