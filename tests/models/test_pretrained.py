"""Loading with transformers, on toy models, and on the two known models in the slow tests."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    modeling_utils,
)

from exitbench.errors import ModelError
from exitbench.models import strict
from exitbench.models.placement import placement_options
from exitbench.models.pretrained import check_attention, load_pretrained
from exitbench.models.source import resolve
from exitbench.models.toy import byte_tokenizer, save_toy

CPU = placement_options("cpu", None)
TINY_BERT = {
    "vocab_size": 259,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def load(folder: Path, **options: Any) -> tuple[Any, Any]:
    return load_pretrained(resolve(str(folder)), **({"dtype": None, "placement": CPU} | options))


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fail_to_load(folder: Path, match: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


def test_ready_for_inference(tmp_path: Path) -> None:
    """Bug: dropout left on, gradients kept, or right padding, which breaks batched generation."""
    model, tokenizer = load(save_toy(tmp_path / "toy"))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tokenizer.padding_side == "left"


def test_dtype(tmp_path: Path) -> None:
    """Bug: "auto" means float32, so a bf16 checkpoint is measured at a precision it was not released in."""
    folder = save_toy(tmp_path / "toy")
    model, _ = load(folder)
    assert model.dtype == torch.float32
    model.to(torch.bfloat16).save_pretrained(folder)
    assert load(folder)[0].dtype == torch.bfloat16
    assert load(folder, dtype=torch.float16)[0].dtype == torch.float16


def test_weights_that_are_cast_are_not_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the pages of the files stay in memory beside the cast copies, or the copies differ from the numbers cast."""
    used: list[str] = []
    opened = modeling_utils.safe_open

    def note(file: Any, **options: Any) -> Any:
        used.append(options["backend"])
        return opened(file, **options)

    monkeypatch.setattr(strict, "safe_open", note)
    monkeypatch.setattr(modeling_utils, "safe_open", note)
    folder = save_toy(tmp_path / "toy")
    plain, _ = load(folder, dtype=torch.float32)
    assert set(used) == {"mmap"}
    used.clear()
    cast, _ = load(folder, dtype=torch.bfloat16)
    assert set(used) == {"pread"}
    for name, weight in plain.named_parameters():
        assert torch.equal(cast.get_parameter(name), weight.bfloat16()), name


def test_attention(tmp_path: Path) -> None:
    """Bug: the attention asked for is dropped, though it changes the top-1."""
    folder = save_toy(tmp_path / "toy")
    assert load(folder, attention="eager")[0].config._attn_implementation == "eager"
    fail_to_load(folder, "a package is missing: FlashAttention2", attention="flash_attention_2")


@pytest.mark.parametrize("name", ["nonsense", "paged|eager", "kernels-community/flash-attn"])
def test_unknown_attention(name: str) -> None:
    """Bug: a model is read before the option turns out wrong, or code is fetched from the hub unasked."""
    with pytest.raises(ModelError, match=r"--attention is .*, expected one of eager, .*, sdpa") as caught:
        check_attention(name)
    assert "\n" not in str(caught.value)


def test_quantised_checkpoint_without_its_package(tmp_path: Path) -> None:
    """Bug: the user is told that the file is damaged, when a package is missing."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    fail_to_load(
        folder, r"cannot load the weights of toy, a package is missing: .*GPTQ.*pip install optimum.*; install it"
    )


def test_model_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a traceback where there is no kernel for a dtype on a device, or no room for the activations."""

    def no_room(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")

    monkeypatch.setattr(LlamaForCausalLM, "forward", no_room)
    fail_to_load(save_toy(tmp_path / "toy"), "cannot run toy on cpu: CUDA out of memory.*; try another --device")


def test_generation_is_plain_greedy(tmp_path: Path) -> None:
    """Bug: a checkpoint's repetition penalty or sampling changes the answers that are scored."""
    folder = save_toy(tmp_path / "toy")
    plain, tokenizer = load(folder)
    prompt = tokenizer("hello", return_tensors="pt")
    expected = plain.generate(**prompt, max_new_tokens=12)
    settings = {"repetition_penalty": 5.0, "do_sample": True, "temperature": 9.0, "suppress_tokens": [3]}
    edit_json(folder / "generation_config.json", **settings)
    model, _ = load(folder)
    assert torch.equal(model.generate(**prompt, max_new_tokens=12), expected)
    assert model.generation_config.repetition_penalty in (None, 1.0)


def test_special_ids_are_kept(tmp_path: Path) -> None:
    """Bug: a model with several end tokens no longer stops at the second."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "generation_config.json", eos_token_id=[0, 7], pad_token_id=None)
    model, _ = load(folder)
    assert model.generation_config.eos_token_id == [0, 7]
    assert model.generation_config.pad_token_id == 1  # the tokeniser's own


def test_padding_without_a_padding_token(tmp_path: Path) -> None:
    """Bug: batches cannot be padded with GPT-2's tokeniser, which has no padding token."""
    folder = save_toy(tmp_path / "toy")
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    edit_json(folder / "generation_config.json", pad_token_id=None)
    model, tokenizer = load(folder)
    assert tokenizer.pad_token == tokenizer.eos_token
    assert model.generation_config.pad_token_id == 0
    batch = tokenizer(["a", "abc"], padding=True)
    assert batch.input_ids[0][:2] == [0, 0]


def test_missing_tensor(tmp_path: Path) -> None:
    """Bug: transformers fills a missing tensor with random numbers and only warns."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "config.json", num_hidden_layers=5)
    fail_to_load(folder, r"lack \d+ tensors, e\.g\. model\.layers\.4\..*would be random")


def test_tensor_of_another_shape(tmp_path: Path) -> None:
    """Bug: a report of pages, or random numbers where shapes differ."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "config.json", intermediate_size=48)
    fail_to_load(folder, r"of shape \(\d+, \d+\), expected \(\d+, \d+\) by the config")


@pytest.mark.parametrize("keep", [0, 6, 100, -64])
def test_truncated_weights(keep: int, tmp_path: Path) -> None:
    """Bug: a traceback from a download that broke off."""
    folder = save_toy(tmp_path / "toy")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    fail_to_load(folder, "cannot read the weights of toy")


def test_encoders_are_refused(tmp_path: Path) -> None:
    """Bug: transformers puts a language-model head on BERT, and its noise is scored."""
    bert = tmp_path / "bert"
    BertForMaskedLM(BertConfig(**TINY_BERT)).save_pretrained(bert)
    byte_tokenizer().save_pretrained(bert)
    fail_to_load(bert, r"bert \(BertForMaskedLM\) is not a causal language model")
    t5 = tmp_path / "t5"
    config = T5Config(vocab_size=259, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(t5)
    byte_tokenizer().save_pretrained(t5)
    fail_to_load(t5, r"is not a causal language model")


def test_decoder_of_an_encoder_family(tmp_path: Path) -> None:
    """Bug: a BERT trained as a decoder refused for its family; one that sees the future let through."""
    folder = tmp_path / "bert"
    config = BertConfig(**TINY_BERT, is_decoder=True, initializer_range=0.5)
    BertLMHeadModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    assert load(folder)[0].config.is_decoder
    edit_json(folder / "config.json", is_decoder=False)
    fail_to_load(folder, "sees tokens to its right")


def test_unknown_architecture(tmp_path: Path) -> None:
    """Bug: a traceback for a model newer than the installed transformers."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "config.json", model_type="llama9")
    fail_to_load(folder, "'llama9'.*upgrade transformers")


def test_remote_code_needs_the_flag(tmp_path: Path) -> None:
    """Bug: code from a checkpoint runs, or a prompt on the terminal blocks the run, without the flag."""
    folder = save_toy(tmp_path / "toy")
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    edit_json(folder / "config.json", model_type="own", auto_map=auto_map)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    fail_to_load(folder, "--trust-remote-code")
    assert not (tmp_path / "ran").exists()
    fail_to_load(folder, "Config", trust_remote_code=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["{", "[]", '"text"', '{"model_type": "llama", "hidden_size": "wide"}'])
def test_broken_config(content: str, tmp_path: Path) -> None:
    """Bug: a traceback for a config that is no config."""
    folder = save_toy(tmp_path / "toy")
    (folder / "config.json").write_text(content)
    fail_to_load(folder, "config")


@pytest.mark.parametrize("auto_map", [None, 1, ["AutoModelForCausalLM"]])
def test_auto_map_that_is_none(auto_map: object, tmp_path: Path) -> None:
    """Bug: a traceback for an entry that is there but empty, or of another kind."""
    folder = save_toy(tmp_path / "toy")
    edit_json(folder / "config.json", auto_map=auto_map)
    fail_to_load(folder, r"config\.json has the auto_map .*remove it")


def test_no_tokeniser(tmp_path: Path) -> None:
    """Bug: transformers makes an empty tokeniser that turns every text into nothing."""
    folder = save_toy(tmp_path / "toy")
    for path in folder.glob("*token*"):
        path.unlink()
    fail_to_load(folder, r"no tokeniser: .* lacks tokenizer\.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "quantisation"), [("smollm2-135m-instruct", "GGUF Q4_1"), ("gemma3-270m", "GGUF Q4_K_M")]
)
def test_known_models(name: str, quantisation: str) -> None:
    """Bug: a known model cannot be fetched or converted, or takes as long the second time."""
    assert resolve(name).quantisation == quantisation
    start = time.perf_counter()
    model, tokenizer = load_pretrained(resolve(name), dtype=None, placement=CPU)
    assert time.perf_counter() - start < 10
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tokenizer.tokenize("x\n\n12") == [*tokenizer.tokenize("x\n\n"), "1", "2"]


@pytest.mark.slow
def test_smollm2_knows_paris() -> None:
    """Bug: weights permuted, or the rotary base lost, in the conversion."""
    model, tokenizer = load_pretrained(resolve("smollm2-135m-instruct"), dtype=None, placement=CPU)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = tokenizer.decode(model.generate(**prompt, max_new_tokens=4)[0])
    assert "Paris" in answer
    chat = [{"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer("<|im_end|>").input_ids == [model.generation_config.eos_token_id]


@pytest.mark.slow
def test_gemma_rotary_bases() -> None:
    """Bug: local and global attention share one rotary base after the conversion."""
    model, tokenizer = load_pretrained(resolve("gemma3-270m"), dtype=None, placement=CPU)
    buffers = dict(model.named_buffers())
    for kind, theta in (("full_attention", 1e6), ("sliding_attention", 1e4)):
        inv_freq = buffers[f"model.rotary_emb.{kind}_inv_freq"]
        assert inv_freq[1].item() == pytest.approx(theta ** (-2 / 256), rel=1e-5)
    assert tokenizer("Hello").input_ids[0] == tokenizer.bos_token_id == 2
