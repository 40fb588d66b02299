"""Is lossless decoding the same as greedy decoding, token for token?

Every prompt is answered by the loop that never exits and by the lossless one. Where two answers part, the full model is
asked for the logits of the two tokens between which they parted, in one pass over the text and token by token with its
cache. It is a tie if the gap between the two is no larger than the largest difference of any logit between these two
ways of computing it: the model's own rounding decides it then.
"""

import argparse
from typing import Any

import torch

from common import print_result
from exitbench.decode.decoder import ExitDecoder
from exitbench.models.load import LoadedModel, load
from exitbench.policies.static import FixedDepth
from exitbench.trace.prompts import conversation_ids, has_chat_template
from exitbench.workloads import load_workload


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--workload", default="mini")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--draft", type=int, default=4)
    arguments = parser.parse_args()

    loaded = load(arguments.model, dtype=arguments.dtype)
    workload = load_workload(arguments.workload)
    samples = (workload if arguments.limit is None else workload.limited(arguments.limit)).samples
    never = ExitDecoder(loaded, FixedDepth())
    lossless = ExitDecoder(
        loaded,
        FixedDepth(threshold=arguments.depth),
        state="lossless",
        draft=arguments.draft,
        abilities=never.abilities,
    )
    chat = has_chat_template(loaded.tokenizer)
    tokens, drafts, accepted = 0, 0, 0
    partings: list[dict[str, Any]] = []
    for sample in samples:
        prompt = conversation_ids(loaded.tokenizer, sample.turns[:1], [], chat=chat)
        full, drafted = (d.decode([prompt], max_new_tokens=arguments.max_new_tokens) for d in (never, lossless))
        tokens += full.num_tokens
        drafts, accepted = drafts + drafted.counts["drafts"], accepted + drafted.counts["accepted"]
        a, b = full.answers[0].ids, drafted.answers[0].ids
        if a != b:
            place = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
            partings.append(
                {"prompt": sample.id, "token": place + 1} | _gap(loaded, [*prompt, *a[:place]], a[place], b[place])
            )
    ties = sum(parting["gap"] <= parting["rounding"] for parting in partings)
    rows = partings or [{"prompt": "none differs", "token": "", "gap": "", "rounding": ""}]
    print_result(
        f"{arguments.model}, {arguments.dtype}: lossless against greedy, {len(samples)} prompts, {tokens} tokens",
        rows,
        {
            "model": arguments.model,
            "n_prompts": len(samples),
            "n_tokens": tokens,
            "identical_answers": len(samples) - len(partings),
            "partings": partings,
            "of_these_ties": ties,
            "drafts": drafts,
            "accepted": accepted,
        },
    )


@torch.inference_mode()
def _gap(loaded: LoadedModel, ids: list[int], one: int, other: int) -> dict[str, float]:
    """Difference of two tokens' logits after some text, and the largest difference of any between two ways."""
    whole = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
    start = loaded.model(input_ids=torch.tensor([ids[:-1]]), use_cache=True)
    last = loaded.model(input_ids=torch.tensor([ids[-1:]]), past_key_values=start.past_key_values).logits[0, -1].float()
    return {"gap": abs(float(whole[one] - whole[other])), "rounding": float((whole - last).abs().max())}


if __name__ == "__main__":
    main()
