"""Models that these tests only read."""

import pytest
import torch

import helpers
from gpt2v.config.models import GPT2ModelConfig
from gpt2v.eval.language.models import OwnModel
from gpt2v.lm_train.train import new_gpt2
from gpt2v.model.files import save_pretrained
from gpt2v.model.load import load_model

N_POSITIONS = 24


@pytest.fixture(scope="session")
def small(tokenizer, tmp_path_factory):
    """A checkpoint of a random GPT-2 with few positions."""
    torch.manual_seed(0)
    config = GPT2ModelConfig(n_layer=2, n_head=2, n_embd=16, n_positions=N_POSITIONS)
    path = tmp_path_factory.mktemp("small") / "gpt2"
    save_pretrained(path, helpers.louder(new_gpt2(config, tokenizer)), tokenizer)
    return path


@pytest.fixture(scope="session")
def model(small):
    return OwnModel(load_model(str(small)))


@pytest.fixture(scope="session")
def loop():
    """Log-probability of each token of a text, by plain transformers, one document at a time."""

    def score(model, tokens, stride=None):
        stride = stride or model.n_positions
        whole = [model.start, *map(int, tokens)]
        scores = []
        while len(scores) < len(tokens):
            done = len(scores)
            new = min(stride if done else model.n_positions, len(tokens) - done)
            context = max(0, done + new - model.n_positions)
            with torch.no_grad():
                ids = torch.tensor([whole[context : done + new]])
                logits = model.model(ids).logits[0].double()
            logp = logits.log_softmax(-1)
            for position in range(done, done + new):
                scores.append(float(logp[position - context, whole[position + 1]]))
        return scores

    return score
