"""The words of a report, explained on the page itself in reading order."""

__all__ = ["GLOSSARY"]

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "block",
        "One layer of the model's stack: attention with MLP, a mixture of experts, or a state-space mixer.",
    ),
    (
        "depth",
        "Number of blocks executed, 0 to L. Depth 0 is the embeddings, depth L the model itself.",
    ),
    (
        "readout",
        "Final norm and output head applied to the hidden state at some depth: what the model would say if "
        "it stopped there.",
    ),
    (
        "top-1 token",
        "The token with the highest logit, after rounding the logits to the model's own output dtype; ties "
        "go to the lowest id.",
    ),
    (
        "decision depth",
        "The smallest depth whose top-1 token is the final one, there and at every deeper depth.",
    ),
    (
        "first match",
        "The first depth whose top-1 token is the final one, even if a deeper one changes its mind.",
    ),
    ("decided curve F(d)", "Share of tokens whose decision depth is at most d."),
    ("agreement", "Share of tokens whose top-1 token at a depth is the full model's."),
    (
        "blocks' work",
        "Each block counts by its active matrix-product weights; attention over the context is left out, so "
        "that the score does not depend on prompt length.",
    ),
    (
        "EES",
        "Early-exit suitability: mean over tokens of the share of the blocks' work that lies behind the "
        "decision depth. No threshold, hardware, batch size or policy enters it.",
    ),
    (
        "EES*",
        "(EES - EES_null) / (1 - EES_null), where EES_null is what agreement by chance gives between tokens "
        "of different prompts.",
    ),
    (
        "AES(eps)",
        "Attainable suitability: leave at the first depth whose top-1 probability reaches a threshold. "
        "Prompts are split in five; the threshold is chosen on four parts, so that the upper 95 % bootstrap "
        "bound of token disagreement stays within eps, and measured on the fifth.",
    ),
    ("disagreement", "Share of tokens whose prediction at the exit differs from the full model's."),
    (
        "Oracle(eps)",
        "First-match savings plus the largest gains from letting a share eps of the tokens leave at depth 0.",
    ),
    ("detectability", "AES(eps) / Oracle(eps): how much of what is there a plain threshold finds."),
    (
        "probe",
        "A look at the signals of some depth, to decide whether to leave; most need a readout there, which costs.",
    ),
    (
        "NES(eps)",
        "Net savings: AES(eps) in FLOPs or bytes of a decoded token once its probes and the state of skipped blocks "
        "are paid for, at batch 1 and 512 positions. Copied: skipped blocks write their state from the hidden state at "
        "the exit. Deferred: they run later, with the next token that reaches them. Negative: a loss.",
    ),
    (
        "lossless projection",
        "Speedup, in bytes moved, of drafting some tokens with the first blocks and checking them with the rest in one "
        "go, replayed on the runs of agreement of every answer. No token changes.",
    ),
    (
        "AES_ltt(eps)",
        "AES with a certificate instead of a tuned threshold: fixed-sequence testing, wrong in at most 1 of 10 "
        "calibrations. It takes 230 calibration prompts at 1 %, 45 at 5 %.",
    ),
    (
        "policy",
        "A rule that looks at signals up to some depth and says leave or go on. Thresholds are chosen on four fifths "
        "of the prompts and judged on the fifth; best by ... also chooses the policy there.",
    ),
    (
        "EAS",
        "The paper's Early-exit Adaptability Score: mean over depths l of S^alpha * w^(1 - alpha), with S "
        "the similarity to the final layer and w = (L - l) / L. This form comes from readers' notes, not "
        "from the paper; similarity and alpha are free choices, printed with it.",
    ),
    (
        "interval",
        "Percentile bootstrap: prompts are resampled within their category; every figure is a ratio of sums. "
        "Its level is 95 %, but where a precision was asked for: there it is the one named, and categories of "
        "fewer than 5 prompts are resampled together. With fewer than 10 prompts there is none.",
    ),
)
