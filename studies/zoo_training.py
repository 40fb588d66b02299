"""Train one member of a zoo: a plain loop whose every step follows from seed and step alone.

Weights are float32, passes are cast to bfloat16. At log-spaced steps the model is left as an ordinary checkpoint; in
the newest one lies the state of the optimiser, so a training that was killed goes on from there and ends with the same
weights as one that was not. What was asked for is recorded before the first step: a folder is gone on with, or taken as
it is, only if the same is asked for again.

Non-goals: several devices, mixed precision other than autocast.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from tqdm import tqdm
from transformers import AutoModelForCausalLM, PreTrainedModel

from early_exit_training import active_depths, dropout_rates, exit_weights, losses_by_depth
from exitbench.files import write_json
from twin_corpus import generated
from whole_folders import whole_folder
from zoo_families import FAMILIES, Family, Preset
from zoo_text import Text

__all__ = ["CHECKPOINT", "RECORD", "Member", "checkpoint_steps", "train"]

CHECKPOINT = "checkpoint.json"
RECORD = "training.json"
_ENDED = "held_out_loss"
"""In the record of a training that ended, and of no other."""
_OPTIMISER = "optimiser.safetensors"
_IGNORED = -100  # what cross-entropy leaves out
_HALVINGS = 8


def checkpoint_steps(steps: int) -> list[int]:
    """Steps after which a checkpoint is left: 0, and the last step halved time and again."""
    return sorted({0, *(round(steps / 2**k) for k in range(_HALVINGS))})


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of a zoo: a family and a seed."""

    family_name: str
    seed: int
    preset: Preset
    zoo: Path
    """Folder of the zoo; the member's own is `FAMILY-SEED` in it."""
    device: str

    @property
    def name(self) -> str:
        """FAMILY-SEED."""
        return f"{self.family_name}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its checkpoints `step-N` and its record lie."""
        return self.zoo / self.name

    @property
    def family(self) -> Family:
        """What it is."""
        return FAMILIES[self.family_name]

    @property
    def steps(self) -> int:
        """Of its training."""
        return self.preset.steps_of(self.family)

    @cached_property
    def text(self) -> Text:
        """What it learns from and is judged on."""
        return Text(folder=self.zoo / "text", row_tokens=self.preset.row_tokens)

    @property
    def base(self) -> "Member | None":
        """The member whose last checkpoint it is trained on from."""
        return replace(self, family_name=self.family.tuned_from) if self.family.tuned_from else None

    @property
    def asked(self) -> dict[str, Any]:
        """All that decides its weights and how they are judged, as it is recorded."""
        others = ("families", "seeds")
        preset = {name: value for name, value in asdict(self.preset).items() if name not in others}
        return {"family": self.family_name, "seed": self.seed, "preset": preset, "text": self.text.record}

    def tokens_seen(self, step: int) -> int:
        """Tokens learnt from by the end of a step, those of its base among them."""
        before = self.base.tokens_seen(self.base.steps) if self.base else 0
        return before + step * self.preset.rows * self.preset.row_tokens

    def new_model(self) -> PreTrainedModel:
        """The model before its first step."""
        if self.base is not None:
            _check_asked(self.base)
            return AutoModelForCausalLM.from_pretrained(_folder(self.base, self.base.steps), dtype=torch.float32)
        torch.manual_seed(self.seed)
        sizes = self.preset.sizes(self.family, self.text.tokenizer.eos_token_id)
        return AutoModelForCausalLM.from_config(self.family.config(sizes), dtype=torch.float32)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T + 1) token ids of a step, and the same with what is not learnt replaced by -100."""
        if self.base is None:
            rows = torch.from_numpy(self.text.batch(self.seed, step, self.preset.rows))
            return rows, rows
        half = self.preset.rows // 2
        before = 2 * self.base.steps  # where its base left the text
        rows = torch.from_numpy(self.text.batch(self.seed, before + step, half))
        asked, learnt = self._tasks(step, half)
        return torch.cat([asked, rows]), torch.cat([learnt, rows])

    def _tasks(self, step: int, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows packed with questions and answers from templates, of which the answers are learnt."""
        documents = generated(random.Random(f"{self.seed} {step}").getrandbits(32))
        length, tokenizer = self.preset.row_tokens + 1, self.text.tokenizer
        ids: list[int] = []
        learnt: list[int] = []
        while len(ids) < num_rows * length:
            document = next(documents)
            prompt = tokenizer(f"Question: {document.prompt}Answer: ").input_ids
            answer = [*tokenizer(document.answer).input_ids, tokenizer.eos_token_id]
            ids += [*prompt, *answer]
            learnt += [*[_IGNORED] * len(prompt), *answer]
        cut = num_rows * length
        shape = (num_rows, length)
        return torch.tensor(ids[:cut]).reshape(shape), torch.tensor(learnt[:cut]).reshape(shape)

    def pace(self, step: int) -> float:
        """Learning rate of a step."""
        warm, done = max(self.steps // 12, 1), step / self.steps
        highest = self.preset.learning_rate * (0.2 if self.base else 1.0)
        if step < warm:
            return highest * (step + 1) / warm
        if self.family.schedule == "annealed":
            return highest * min(1.0, (1 - done) / 0.2)
        return highest * (0.55 + 0.45 * math.cos(math.pi * (step - warm) / max(self.steps - warm, 1)))


def loss_of(member: Member, model: PreTrainedModel, step: int) -> torch.Tensor:
    """What a step minimises."""
    rows_BT, learnt_BT = (part.to(model.device) for part in member.batch(step))
    torch.manual_seed(1_000_003 * member.seed + step)  # of dropout, alike in a resumed run
    recipe, blocks = member.family.recipe, model.config.num_hidden_layers
    if recipe.exit_scale is None:
        experts = {"output_router_logits": True} if hasattr(model.config, "router_aux_loss_coef") else {}
        outputs = model(input_ids=rows_BT[:, :-1], use_cache=False, **experts)
        loss = functional.cross_entropy(outputs.logits.float().flatten(0, 1), learnt_BT[:, 1:].flatten())
        return loss + model.config.router_aux_loss_coef * outputs.aux_loss if experts else loss
    rates_L = torch.tensor(dropout_rates(blocks, recipe, step / max(member.steps - 1, 1)))
    kept_LB = (torch.rand(blocks, len(rows_BT)) >= rates_L[:, None]).to(model.device)
    depths = active_depths(blocks, recipe, step)
    weights = exit_weights(blocks, recipe, depths)
    losses = losses_by_depth(model, rows_BT, depths, kept_LB)
    return torch.stack([weights[depth] * losses[depth] for depth in depths]).sum()


@torch.no_grad()
def held_out_loss(member: Member, model: PreTrainedModel) -> tuple[float, int]:
    """Mean loss on held-out rows in nats a token, and their number of tokens."""
    model.eval()
    total, rows = 0.0, torch.from_numpy(member.text.held_out_rows)
    for part in rows.split(member.preset.rows):
        logits = model(input_ids=part[:, :-1].to(model.device), use_cache=False).logits
        targets = part[:, 1:].flatten().to(model.device)
        total += float(functional.cross_entropy(logits.float().flatten(0, 1), targets, reduction="sum"))
    model.train()
    tokens = rows[:, 1:].numel()
    return total / tokens, tokens


def train(member: Member) -> dict[str, Any]:
    """Train a member, or go on where its training was killed, and return its record.

    Raises:
        ValueError: its folder holds what was trained otherwise than is asked for.
    """
    if (member.folder / RECORD).is_file():
        _check_asked(member)
        if _ENDED in (record := _record(member)):
            return record
    else:
        write_json(member.folder / RECORD, member.asked)
    wanted = checkpoint_steps(member.steps)
    model, optimiser, step = _begin(member)
    if step == 0 and not (member.folder / "step-0").is_dir():
        _leave(member, model, optimiser, 0)
    bar = tqdm(range(step, member.steps), desc=member.name, unit="step", initial=step, mininterval=20.0)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = member.pace(step)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            loss = loss_of(member, model, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step + 1 in wanted:
            _leave(member, model, optimiser, step + 1)
    _finish(member, model)
    return _record(member)


def _check_asked(member: Member) -> None:
    """Make sure that a member's folder holds what is asked for."""
    if not (member.folder / RECORD).is_file():
        raise ValueError(f"{member.folder} has no {RECORD}; train {member.family_name} first")
    asked, recorded = (_flat(part) for part in (member.asked, _record(member)))
    if other := [name for name, value in asked.items() if recorded.get(name) != value]:
        found = ", ".join(f"{name} {recorded.get(name)} (asked for: {asked[name]})" for name in other)
        raise ValueError(f"{member.folder} was trained with {found}; train into another --out, or delete that folder")


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("family", "seed")} | record["preset"] | record["text"]


def _begin(member: Member) -> tuple[PreTrainedModel, torch.optim.Optimizer, int]:
    """Model and optimiser as they are after the newest checkpoint whose optimiser lies beside it, and its step."""
    resumable = [step for step in checkpoint_steps(member.steps) if (_folder(member, step) / _OPTIMISER).is_file()]
    if not resumable:
        model = member.new_model().to(member.device).train()
        return model, _optimiser(model), 0
    step = resumable[-1]
    model = AutoModelForCausalLM.from_pretrained(_folder(member, step), dtype=torch.float32).to(member.device).train()
    optimiser = _optimiser(model)
    saved = load_file(_folder(member, step) / _OPTIMISER, device=member.device)
    for name, parameter in model.named_parameters():
        state = {
            part: saved[f"{part}/{name}"] for part in ("exp_avg", "exp_avg_sq", "step") if f"{part}/{name}" in saved
        }
        if state:
            optimiser.state[parameter] = state | {"step": state["step"].cpu()}
    return model, optimiser, step


def _optimiser(model: PreTrainedModel) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)


def _folder(member: Member, step: int) -> Path:
    return member.folder / f"step-{step}"


def _leave(member: Member, model: PreTrainedModel, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Leave a checkpoint, complete or not at all; the optimisers of older ones are not needed any more."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = {
        f"{part}/{names[parameter]}": value.contiguous().clone()
        for parameter, parts in optimiser.state.items()
        for part, value in parts.items()
    }
    with whole_folder(_folder(member, step)) as unfinished:
        model.save_pretrained(unfinished)
        member.text.tokenizer.save_pretrained(unfinished)
        write_json(unfinished / CHECKPOINT, _facts(member, step))
        save_file(state, unfinished / _OPTIMISER)
    for older in _optimisers(member, below=step):
        older.unlink()


def _facts(member: Member, step: int, **tags: float) -> dict[str, Any]:
    """What a checkpoint says of itself to whoever studies it."""
    named = {"zoo": member.family_name, "seed": str(member.seed)} | {name: f"{tag:.4f}" for name, tag in tags.items()}
    return {"step": step, "tokens_seen": member.tokens_seen(step), "tags": named}


def _optimisers(member: Member, *, below: int) -> Iterator[Path]:
    for step in checkpoint_steps(member.steps):
        if step < below and (file := _folder(member, step) / _OPTIMISER).is_file():
            yield file


def _finish(member: Member, model: PreTrainedModel) -> None:
    loss, tokens = held_out_loss(member, model)
    unigram = member.text.unigram_loss()
    record = member.asked | {
        "member": member.name,
        "differs": member.family.differs,
        "model_type": model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_seen": member.tokens_seen(member.steps),
        "held_out_tokens": tokens,
        _ENDED: loss,
        "unigram_loss": unigram,
        "loss_below_unigram": unigram - loss,
    }
    losses = {name: record[name] for name in ("held_out_loss", "unigram_loss", "loss_below_unigram")}
    write_json(_folder(member, member.steps) / CHECKPOINT, _facts(member, member.steps, **losses))
    write_json(member.folder / RECORD, record)
    for file in _optimisers(member, below=member.steps + 1):
        file.unlink()


def _record(member: Member) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((member.folder / RECORD).read_text(encoding="utf-8"))
    return read
