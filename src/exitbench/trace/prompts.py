"""From text to token ids: conversations for answers, documents for given text."""

from collections.abc import Sequence

import jinja2
from transformers import PreTrainedTokenizerBase

from exitbench.errors import WorkloadError
from exitbench.trace.table import SampleInfo
from exitbench.workloads import Workload

__all__ = ["conversation_ids", "cut_into_documents", "has_chat_template"]


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the model was tuned for chat and says how."""
    return getattr(tokenizer, "chat_template", None) is not None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special, verbose=False).input_ids
    eos = tokenizer.eos_token_id
    # An end token after the prompt would ask for a new text, not for an answer; alone it may be a start token too.
    ended = bool(ids) and ids[-1] == eos and (len(ids) > 1 or eos != tokenizer.bos_token_id)
    return ids[:-1] if special and ended else ids


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], answers: Sequence[str], *, chat: bool
) -> list[int]:
    """Token ids up to where the model is to answer the last turn.

    Args:
        tokenizer: the model's.
        turns: what the user said so far.
        answers: what the model answered to all turns but the last.
        chat: through the chat template; else turns and answers separated by blank lines.

    Raises:
        WorkloadError: the chat template refuses the conversation.
    """
    if not chat:
        said = [text for pair in zip(turns, [*answers, ""], strict=True) for text in pair if text]
        return _ids(tokenizer, "\n\n".join(said), special=True)
    messages = []
    for turn, answer in zip(turns, [*answers, None], strict=True):
        messages.append({"role": "user", "content": turn})
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError as error:
        raise WorkloadError(
            f"the model's chat template refuses the conversation ({error}); try --no-chat-template"
        ) from error
    return _ids(tokenizer, str(text), special=False)


def cut_into_documents(
    tokenizer: PreTrainedTokenizerBase, workload: Workload, length: int
) -> tuple[list[SampleInfo], list[list[int]]]:
    """Cut every sample's text into documents of at most `length` tokens; each counts as one prompt.

    Each document starts with the tokenizer's start token if it has the habit of adding one. A rest of a single token
    has no next token and is left out.

    Returns:
        The documents as samples, and their token ids.
    """
    start = _ids(tokenizer, "", special=True)
    samples, documents = [], []
    for sample in workload.samples:
        ids = _ids(tokenizer, "\n\n".join(sample.turns), special=False)
        step = length - len(start)
        pieces = [start + ids[i : i + step] for i in range(0, len(ids), step)]
        for number, piece in enumerate(p for p in pieces if len(p) >= 2):
            text = tokenizer.decode(piece[len(start) :])
            samples.append(SampleInfo(id=f"{sample.id}/{number:05d}", category=sample.category, turns=(str(text),)))
            documents.append(piece)
    if not documents:
        raise WorkloadError(f"workload {workload.name!r} has no text of at least two tokens; give a longer one")
    return samples, documents
