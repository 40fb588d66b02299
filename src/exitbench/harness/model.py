"""exitbench as a model of lm-evaluation-harness: every task it has, answered with early exit.

Importing this module registers the model "exitbench". The harness (0.4.13) looks at no entry points and has no option
that imports a module before it looks for its model, so its own command cannot find one that it does not ship;
`exitbench lm-eval` is that command with this module imported first (see `program`).

Prompts, truncation, stop strings and what is compared follow the harness's own transformers model, so that a policy
that never leaves has its figures. A log-probability is read where the token before would have left: with a fixed depth,
at that depth, whatever later depths would have said. Given continuations are fed token by token, with the state that
the strategy gives to skipped blocks, as generation would have had it.

Non-goals: sampling (answers are greedy), several processes, sharing the prompt between the choices of a question.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, get_args

import jinja2
import lm_eval.models  # noqa: F401  before our own: the harness fills its registry only while that is empty
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from rich.console import Console

from exitbench import __version__
from exitbench.config import StateMode
from exitbench.decode.abilities import Abilities
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Answer
from exitbench.errors import DecodeError, ExitbenchError
from exitbench.harness.arguments import exit_policy
from exitbench.lens import translators_for
from exitbench.models.load import LoadedModel, load
from exitbench.policies import ExitPolicy
from exitbench.progress import Progressor
from exitbench.trace.decided import remaining_costs

__all__ = ["ExitLM", "Tally"]

DEFAULT_CONTEXT = 2048
"""Positions used where a model does not say how many it knows; the harness's own number."""
DEFAULT_ANSWER = 256
"""Longest answer of a task that does not say; the harness's own number."""
FIRST_GPU = "cuda:0"
_GREEDY_KNOWS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "min_p"}


@dataclass(kw_only=True)
class Tally:
    """Tokens that were decided, and what they left out."""

    tokens: int = 0
    saved: float = 0.0
    """Sum over the tokens of the share of the blocks' work behind the depth at which each left."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One request for an answer."""

    prompt: list[int]
    most: int
    """Longest answer, in tokens."""
    stops: list[str]


@register_model("exitbench")
class ExitLM(TemplateLM):  # type: ignore[misc]  # lm_eval has no types
    """A model that leaves early, for `lm_eval`.

    Args:
        pretrained: loaded, or what `exitbench.models.load.load` takes.
        policy: when tokens leave: itself, NAME or FILE.json; None for never.
        threshold: of a policy by name.
        probes: probe depths of the policy: "every", "every-2", or the depths themselves.
        state: how skipped blocks get their state: "deferred", "copy", or "lossless".
        draft: most tokens drafted at once with the state "lossless".
        readout: "logit", or "tuned:FILE".
        dtype: of the weights; "auto" is the checkpoint's own.
        device: torch device; None for a GPU where there is one, and so is "cuda:0", the harness's default.
        revision: of a hub model.
        attention: attention implementation; None for transformers' choice.
        max_memory: with the device "auto", most bytes by device.
        trust_remote_code: run Python code that comes with the model.
        batch_size: prompts answered at once. Given continuations are followed one by one.
        max_batch_size: ignored; the harness passes it to every model.
        max_length: positions to use; None for as many as the model knows.
        abilities: of the model, if they are known from another decoder.
        progress: where to show bars; None for standard error.
        unknown: an argument that does not exist.

    Raises:
        ExitbenchError: one of its kinds, each with one line for people.
    """

    def __init__(
        self,
        pretrained: str | LoadedModel,
        *,
        policy: str | ExitPolicy | None = None,
        threshold: float | str | None = None,
        probes: str | int | Sequence[int] | None = None,
        state: StateMode = "deferred",
        draft: int = 4,
        readout: str = "logit",
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        attention: str | None = None,
        max_memory: str | None = None,
        trust_remote_code: bool = False,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        abilities: Abilities | None = None,
        progress: Progressor | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ExitbenchError(
                f"model 'exitbench' has no argument {', '.join(map(repr, unknown))}; it has pretrained, policy, "
                "threshold, probes, state, draft, readout, dtype, device, revision, attention, max_memory, "
                "trust_remote_code, batch_size and max_length"
            )
        if state not in get_args(StateMode):
            raise ExitbenchError(f"state is {state!r}, expected one of {', '.join(get_args(StateMode))}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ExitbenchError(f"batch_size is {batch_size!r}, expected a whole number from 1 on")
        self._progress = Progressor(Console(stderr=True)) if progress is None else progress
        self.loaded = (
            pretrained
            if isinstance(pretrained, LoadedModel)
            else load(
                pretrained,
                dtype=dtype,
                device=_device(device),
                revision=revision,
                attention=attention,
                max_memory=max_memory,
                trust_remote_code=trust_remote_code,
                progress=self._progress,
            )
        )
        shape = self.loaded.shape
        self.decoder = ExitDecoder(
            self.loaded,
            exit_policy(policy, num_blocks=shape.num_blocks, threshold=threshold, probes=probes),
            state=state,
            draft=draft,
            translators=translators_for(self.loaded, readout),
            abilities=abilities,
        )
        self.tokenizer = self.loaded.tokenizer
        self._device = self.loaded.model.device
        self._batch_size = int(batch_size)
        known = self.loaded.context_length or DEFAULT_CONTEXT
        self.max_length = known if max_length is None else min(max_length, known)
        self._rho = remaining_costs(shape.block_costs)
        self.tallies: defaultdict[tuple[str, int], Tally] = defaultdict(Tally)
        """What was decided so far, by task and document."""

    @property
    def eot_token_id(self) -> int:
        """Id of the end token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Id that stands for an empty context: of the start token, or of the end token where there is none."""
        start = self.tokenizer.bos_token_id
        return self.eot_token_id if start is None else int(start)

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness keeps prompts that it made with the chat template."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds unless the text begins with the first of them."""
        if add_special_tokens is None and string.startswith(str(self.tokenizer.decode(self.prefix_token_id))):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **options))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the model's chat template.

        Raises:
            ExitbenchError: there is none, or it refuses the conversation.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        except (jinja2.TemplateError, ValueError) as error:
            raise ExitbenchError(f"the model's chat template refuses the conversation: {error}") from error
        return str(text)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation behind its context, and whether it is what would have been said."""
        pairs = []
        for request in requests:
            context, continuation = request.args
            if context:
                context_ids, ids = self._encode_pair(context, continuation)
            else:
                ids = self.tok_encode(continuation, add_special_tokens=False)
                context_ids = [self.prefix_token_id]
                if ids[:1] == context_ids:
                    ids = ids[1:]
            pairs.append(((context, continuation), context_ids, ids))
        return self._loglikelihood_tokens(pairs, requests=requests)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text, in windows as long as the model allows, every token in one of them."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            parts = [(None, *make_disjoint_window(window)) for window in rolling]
            windows += parts
            owners += [number] * len(parts)
        followed = self._loglikelihood_tokens(windows, requests=[requests[owner] for owner in owners])
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, followed, strict=True):
            totals[owner] += logprob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _loglikelihood_tokens(
        self,
        pairs: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        *,
        requests: Sequence[Any] = (),
    ) -> list[tuple[float, bool]]:
        """The same of token ids.

        Args:
            pairs: what the request is cached under, if it is; ids of context and continuation.
            disable_tqdm: ignored; part of the harness's interface.
            requests: what each pair belongs to, for the tally.
        """
        results = []
        with self._progress.bar("Following given answers", len(pairs)) as step:
            for (key, context, continuation), request in zip(pairs, requests, strict=True):
                if not continuation or len(continuation) >= self.max_length:
                    raise DecodeError(
                        f"{_where(request)} has a continuation of {len(continuation)} tokens, expected at least 1 and "
                        f"fewer than the {self.max_length} positions of the model"
                    )
                kept = (context + continuation)[-self.max_length :]
                (followed,) = self.decoder.follow([kept[: -len(continuation)]], [continuation])
                result = math.fsum(followed.logprobs), followed.ids == tuple(continuation)
                if math.isnan(result[0]):
                    raise DecodeError(f"{_where(request)}: logits are not finite; try another dtype")
                results.append(result)
                self._count(request, followed.depths)
                if key is not None:
                    self.cache_hook.add_partial("loglikelihood", key, result)
                step(1)
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, cut off before the first stop string."""
        asked = [self._asked(request) for request in requests]
        texts = [""] * len(requests)
        with self._progress.bar("Answering", len(requests)) as step:
            for numbers in self._batches(asked):
                prompts = [asked[number].prompt for number in numbers]
                decoded = self.decoder.decode(prompts, max_new_tokens=asked[numbers[0]].most)
                for number, answer in zip(numbers, decoded.answers, strict=True):
                    texts[number] = self._text(requests[number], answer, asked[number].stops)
                step(len(numbers))
        return texts

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results: the model, how it was left early, and what that skipped."""
        tasks = sorted({task for task, _ in self.tallies})
        skipped = {}
        for name in tasks:
            of_task = [tally for (task, _), tally in self.tallies.items() if task == name]
            tokens = sum(tally.tokens for tally in of_task)
            skipped[name] = {"n_tokens": tokens, "saved_blocks": sum(tally.saved for tally in of_task) / tokens}
        return {
            "model_dtype": str(self.loaded.model.dtype),
            "model_num_parameters": self.loaded.shape.num_parameters,
            "weights_sha256": self.loaded.source.weights_sha256,
            "exitbench": __version__,
            "exit_policy": self.decoder.policy.to_json(),
            "exit_state": self.decoder.state,
            "skipped": skipped,
        }

    def _asked(self, request: Any) -> _Asked:
        """What a request asks for.

        Raises:
            ExitbenchError: for something else than a greedy answer, or a longer one than the model has positions for.
        """
        context, given = request.args
        wanted = normalize_gen_kwargs(given, DEFAULT_ANSWER)
        other = sorted(set(wanted) - _GREEDY_KNOWS)
        if other or wanted["do_sample"]:
            raise ExitbenchError(
                f"{_where(request)} asks for {', '.join(other) or 'sampling'}, and answers here are plain greedy ones; "
                "run it with --gen_kwargs do_sample=False, or choose another task"
            )
        most = wanted["max_gen_toks"]
        room = self.max_length - most
        if most < 1 or room < 1:
            raise ExitbenchError(
                f"{_where(request)} asks for answers of up to {most} tokens, expected at least 1 and fewer than the "
                f"{self.max_length} positions of the model; set --gen_kwargs max_gen_toks"
            )
        end = self.tokenizer.decode(self.eot_token_id)
        stops = handle_stop_sequences(wanted["until"], eos=end)
        return _Asked(prompt=self.tok_encode(context)[-room:], most=most, stops=stops)

    def _batches(self, asked: Sequence[_Asked]) -> Iterator[list[int]]:
        """Numbers of requests that are answered together: of the same longest answer, similar prompts first to last."""
        order = sorted(range(len(asked)), key=lambda number: (asked[number].most, len(asked[number].prompt)))
        for _, same in groupby(order, key=lambda number: asked[number].most):
            numbers = list(same)
            for start in range(0, len(numbers), self._batch_size):
                yield numbers[start : start + self._batch_size]

    def _text(self, request: Any, answer: Answer, stops: list[str]) -> str:
        """An answer as text up to the first stop string; tokens that come later are not counted."""
        if answer.failure is not None:
            raise DecodeError(f"{_where(request)}: {answer.failure}; try another dtype")

        def said(count: int) -> str:
            return str(self.tokenizer.decode(list(answer.ids[:count]), skip_special_tokens=True))

        def stopped(count: int) -> bool:
            return any(stop in said(count) for stop in stops if stop)

        text = said(len(answer.ids))
        kept = str(postprocess_generated_text(text, stops, None))
        count = len(answer.ids)
        if kept != text:
            count = 1 + bisect_left(range(1, count + 1), True, key=stopped)
        assert answer.depths is not None
        self._count(request, answer.depths[:count])
        self.cache_hook.add_partial("generate_until", request.args, kept)
        return kept

    def _count(self, request: Any, depths: Sequence[int]) -> None:
        tally = self.tallies[request.task_name or "", request.doc_id or 0]
        tally.tokens += len(depths)
        tally.saved += float(self._rho[list(depths)].sum())


def _device(asked: str | None) -> str:
    """The device to load on.

    The harness's command names the first GPU to every model, whether or not it was asked for and there is one.
    """
    if torch.cuda.is_available():
        return asked or "cuda"
    return "cpu" if asked is None or asked == FIRST_GPU else asked


def _where(request: Any) -> str:
    return f"document {request.doc_id} of task {request.task_name!r}"
