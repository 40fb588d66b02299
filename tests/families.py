"""Model types that stand for all others in tests that would take too long on every one of them."""

DENSE = ("llama", "gemma3_text", "gpt2", "gpt_neox", "opt")
"""Attention and MLP in one stream."""

FAMILIES = (
    *DENSE,
    *("bloom", "gptj"),  # outputs in a tuple, parallel blocks
    *("mixtral", "deepseek_v3", "llama4_text"),  # experts; latent attention; experts run on zeros
    *("mamba", "mamba2", "rwkv"),  # recurrent
    *("jamba", "zamba2", "falcon_h1", "nemotron_h"),  # hybrid
    *("gemma3n_text", "deepseek_v4"),  # several streams between blocks
)

ONE_OF_EACH = ("llama", "gptj", "mixtral", "mamba", "rwkv", "jamba", "gemma3n_text")
"""A kind each, and one that cannot be padded (rwkv): where what is particular to a family is tested on its own."""
