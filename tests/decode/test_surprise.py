"""Perplexity of answers, against the model's own loss."""

import pytest
import torch

from exitbench.decode import surprise
from exitbench.decode.surprise import negative_log_likelihood
from exitbench.models.load import prove
from exitbench.models.toy import toy_model


def test_is_the_models_own_loss(monkeypatch):
    """Tokens of the prompt that count, positions off by one, pieces that are left out or counted twice."""
    proved = prove("toy", toy_model("llama"))
    ids = torch.randint(3, 250, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt, answer = ids[:7], ids[7:]
    labels = torch.tensor([[-100] * len(prompt) + answer])
    loss = proved.model(input_ids=torch.tensor([ids]), labels=labels).loss
    whole = negative_log_likelihood(proved, prompt, answer)
    assert whole == pytest.approx(float(loss) * len(answer), rel=1e-5)
    monkeypatch.setattr(surprise, "_ROWS", 5)
    assert negative_log_likelihood(proved, prompt, answer) == pytest.approx(whole, rel=1e-6)
