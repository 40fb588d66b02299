"""The text that a zoo learns: found on the machine, or any text that exitbench reads.

Found text is there wherever Python and Debian are: sources of the standard library, and what packages say of themselves
in prose (README, NEWS, guides). It differs from machine to machine, so a zoo records what it found, with a hash. A
document is held out, or not, by its own hash, so the same one is never trained on under any seed.

The text becomes one stream of token ids, cut into rows; which rows a step sees follows from seed and step alone, so
training resumes where it stopped, and all families see the same rows in the same order.

Non-goals: cleaning, and near duplicates.
"""

import gzip
import hashlib
import json
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from exitbench.files import replacing, write_json, write_text
from exitbench.workloads import load_workload

__all__ = ["Document", "Text", "found_text", "given_text", "prepare"]

HELD_OUT_SHARE = 10
"""One document of this many is held out."""

_LONGEST = 64 * 1024
_SHORTEST = 400
_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "encodings",
    "site-packages",
    "turtledemo",
    "pydoc_data",
    "ensurepip",
}
_PROSE_NAMES = ("readme", "news", "faq", "howto", "guide", "tutorial")
_PROSE_ENDINGS = (".txt", ".txt.gz", ".rst", ".rst.gz", ".md", ".md.gz")
_DOCUMENTATION = Path("/usr/share/doc")
_MOST_OF_ONE = 30  # git alone has hundreds of release notes that resemble one another


@dataclass(frozen=True, kw_only=True)
class Document:
    """One file or sample, at most 64 KiB of it."""

    id: str
    category: str
    text: str

    @property
    def is_held_out(self) -> bool:
        """Whether it is never trained on."""
        return hashlib.sha256(self.text.encode()).digest()[0] % HELD_OUT_SHARE == 0


def found_text(*, standard_library: Path | None = None, documentation: Path = _DOCUMENTATION) -> list[Document]:
    """Python's standard library as "code" and documentation of installed packages as "prose", in a fixed order."""
    library = standard_library or Path(sysconfig.get_path("stdlib"))
    code = _documents("code", library, _sources(library))
    return _distinct([*code, *_documents("prose", documentation, _prose(documentation))])


def given_text(workload: str) -> list[Document]:
    """The samples of a workload: a file, or `hub:ID`."""
    samples = load_workload(workload).samples
    return _distinct([Document(id=s.id, category=s.category, text="\n\n".join(s.turns)[:_LONGEST]) for s in samples])


def _sources(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*.py")):
        if not file.name.startswith("_sysconfigdata") and _LEFT_OUT.isdisjoint(file.relative_to(folder).parts):
            yield file


def _prose(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        name = file.name.lower()
        if (name.startswith(_PROSE_NAMES) or name.endswith(_PROSE_ENDINGS)) and ".htm" not in name:
            yield file


def _documents(category: str, folder: Path, files: Iterator[Path]) -> Iterator[Document]:
    taken: Counter[str] = Counter()
    for file in files:
        package = file.relative_to(folder).parts[0]
        if file.is_symlink() or not file.is_file() or taken[package] == _MOST_OF_ONE:
            continue
        raw = file.read_bytes()
        try:
            text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
        except (UnicodeDecodeError, OSError, EOFError):
            continue  # another encoding, or no text at all
        if len(text) >= _SHORTEST and "\0" not in text:
            taken[package] += 1
            yield Document(id=f"{category}/{file.relative_to(folder)}", category=category, text=text[:_LONGEST])


def _distinct(documents: list[Document]) -> list[Document]:
    return list({document.text: document for document in reversed(documents)}.values())[::-1]


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of a zoo, prepared in a folder.

    Attributes:
        folder: `tokenizer/`, `train.npy`, `held_out.jsonl` (a workload of texts) and `text.json`.
        row_tokens: T, tokens predicted of each row.
    """

    folder: Path
    row_tokens: int

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Byte-level BPE, trained on the documents that are not held out."""
        return PreTrainedTokenizerFast.from_pretrained(self.folder / "tokenizer")

    @cached_property
    def stream(self) -> NDArray[np.uint16]:
        """Token ids of all documents that are trained on, each followed by an end token."""
        loaded: NDArray[np.uint16] = np.load(self.folder / "train.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    @cached_property
    def record(self) -> dict[str, object]:
        """What the text is: source, counts and hash."""
        read: dict[str, object] = json.loads((self.folder / "text.json").read_text(encoding="utf-8"))
        return read

    @cached_property
    def held_out_rows(self) -> NDArray[np.int64]:
        """(N, T + 1) token ids of held-out documents."""
        lines = (self.folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
        ids: list[int] = []
        for line in lines:
            ids += [*self.tokenizer(json.loads(line)["text"]).input_ids, self.tokenizer.eos_token_id]
        return _rows(np.asarray(ids, dtype=np.int64), self.row_tokens).copy()

    def batch(self, seed: int, step: int, rows: int) -> NDArray[np.int64]:
        """(rows, T + 1) token ids of one step; every row once before any comes again."""
        table = _rows(self.stream, self.row_tokens)
        picked = np.arange(step * rows, (step + 1) * rows)
        epochs, places = np.divmod(picked, len(table))
        order = {epoch: np.random.default_rng([seed, epoch]).permutation(len(table)) for epoch in set(epochs.tolist())}
        return np.stack([table[order[int(e)][p]] for e, p in zip(epochs, places, strict=True)]).astype(np.int64)

    def unigram_loss(self) -> float:
        """Loss on the held-out rows, in nats a token, of what knows only how often each token occurs in training."""
        counts = np.bincount(self.stream, minlength=len(self.tokenizer)) + 1.0
        return float(-np.log(counts / counts.sum())[self.held_out_rows[:, 1:]].mean())


def _rows(ids: NDArray[np.generic], row_tokens: int) -> NDArray[np.generic]:
    """(N, T + 1) of a stream; neighbouring rows share one token, so that every token is predicted once."""
    if len(ids) <= row_tokens:
        raise ValueError(f"{len(ids)} tokens make no row of {row_tokens + 1}")
    return np.lib.stride_tricks.sliding_window_view(ids, row_tokens + 1)[::row_tokens]


def prepare(
    folder: Path, documents: list[Document], *, source: str, vocab_size: int, row_tokens: int, held_out: int
) -> Text:
    """Prepare the text of a zoo in `folder`, or find it there.

    Args:
        folder: made if missing.
        documents: all of them.
        source: where they come from, for people.
        vocab_size: of the tokenizer, end token included.
        row_tokens: T.
        held_out: most documents of each category in `held_out.jsonl`, of at most 4 000 characters.

    Raises:
        ValueError: the folder holds another text.
    """
    settings = {"source": source, "sha256": _hash(documents), "vocab_size": vocab_size, "held_out": held_out}
    text = Text(folder=folder, row_tokens=row_tokens)
    if (folder / "text.json").is_file():
        if {name: text.record[name] for name in settings} != settings:
            raise ValueError(f"{folder} holds another text; delete it, or choose another --out")
        return text
    trained = [document for document in documents if not document.is_held_out]
    tokenizer = _tokenizer(trained, vocab_size)
    tokenizer.save_pretrained(folder / "tokenizer")
    ids: list[int] = []
    for encoded in tokenizer([document.text for document in trained]).input_ids:
        ids += [*encoded, tokenizer.eos_token_id]
    with replacing(folder / "train.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(ids, dtype=np.uint16), allow_pickle=False)
    judged = _judged(documents, held_out)
    lines = [
        json.dumps({"id": d.id, "category": d.category, "text": d.text[:4000]}, ensure_ascii=False) for d in judged
    ]
    write_text(folder / "held_out.jsonl", "\n".join(lines) + "\n")
    counts = {"documents": len(trained), "train_tokens": len(ids), "held_out_documents": len(judged)}
    characters = {"train_characters": sum(len(document.text) for document in trained)}
    write_json(folder / "text.json", settings | counts | characters)
    return text


def _judged(documents: list[Document], most: int) -> list[Document]:
    """Held-out documents, `most` of each category, in the order of their hashes."""
    held = sorted(
        (document for document in documents if document.is_held_out),
        key=lambda document: hashlib.sha256(document.text.encode()).digest(),
    )
    by_category: dict[str, list[Document]] = {}
    for document in held:
        by_category.setdefault(document.category, []).append(document)
    return [document for category in sorted(by_category) for document in by_category[category][:most]]


def _tokenizer(documents: list[Document], vocab_size: int) -> PreTrainedTokenizerFast:
    end = "<|end|>"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator((document.text for document in documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=end)


def _hash(documents: list[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(asdict(document)).encode())
    return digest.hexdigest()
