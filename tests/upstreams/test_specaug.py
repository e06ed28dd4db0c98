from __future__ import annotations

import pytest
import torch

from s3router.errors import ConfigError
from s3router.upstreams import hub
from s3router.upstreams.anatomy import Anatomy
from s3router.upstreams.padding import RunningBatch
from s3router.upstreams.specaug import SpecAug, SpecAugConfig, span_mask


class Toy(torch.nn.Module):
    def __init__(self, embedding: bool = True):
        super().__init__()
        self.feature_projection = torch.nn.Identity()
        if embedding:
            self.mask_emb = torch.nn.Parameter(torch.full((96,), 7.0))

    def forward(self, x):
        return self.feature_projection(x)


def test_span_mask_draws_whole_spans_in_the_wanted_number():
    torch.manual_seed(0)
    shares, edges = [], []
    for _ in range(400):
        mask = span_mask(200, 0.65, 10)
        runs = torch.nonzero(torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int32)) == 1).numel()
        assert mask.sum() >= 10 * (runs > 0)
        shares.append(mask.float().mean().item())
        edges.append((mask[0].item(), mask[-1].item()))
    # 13 spans of 10 in 200, overlapping: 1 - (1 - 10/191)^13 in the middle, less at the edges.
    assert 0.44 < sum(shares) / len(shares) < 0.52
    assert any(first for first, _ in edges)
    assert any(last for _, last in edges)


def test_the_mean_number_of_spans_is_right_where_it_is_no_whole_number():
    torch.manual_seed(0)
    spans = [span_mask(50, 0.05, 5).sum().item() / 5 for _ in range(2000)]  # 0.5 spans each
    assert set(spans) == {0.0, 1.0}
    assert sum(spans) / len(spans) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [0, 1, 2, 5, 11, 19])
def test_short_utterances_keep_something(size):
    torch.manual_seed(0)
    for _ in range(50):
        mask = span_mask(size, 0.65, 10)
        assert mask.shape == (size,)
        if size > 2:
            assert not mask.all()


def test_masked_frames_become_the_embedding_and_channels_zero():
    model, features = Toy(), torch.ones(3, 100, 96)
    batch = RunningBatch(frames=[100, 60, 12])
    SpecAug(SpecAugConfig(), model, Anatomy.of(model), batch)
    torch.manual_seed(0)
    out = model(features)
    for row, frames in enumerate(batch.frames):
        zero = (out[row] == 0).all(0)
        assert zero.sum() in (0, 48)  # half of the 96 channels are the most that a span takes
        rest = out[row][:, ~zero]
        assert set(rest.unique().tolist()) <= {1.0, 7.0}
        assert (rest == rest[:, :1]).all()  # a frame is masked in all its channels
        assert (rest[frames:] == 1).all()  # nothing past the end
    assert (out == 7).any()
    torch.manual_seed(0)
    assert torch.equal(model(features), out)
    assert not torch.equal(model(features), out)
    assert (features == 1).all()


def test_evaluation_is_not_masked_and_zeros_stand_in_for_an_embedding():
    model = Toy(embedding=False)
    specaug = SpecAug(SpecAugConfig(channel_prob=0.0), model, Anatomy.of(model), RunningBatch())
    features = torch.ones(1, 100, 96)
    assert set(model(features).unique().tolist()) == {0.0, 1.0}
    specaug.eval()
    assert torch.equal(model(features), features)


@pytest.mark.parametrize("name", ["hf_hubert_custom", "hf_wav2vec2_custom", "hf_wavlm_custom", "hf_data2vec_custom"])
def test_the_places_in_huggingface_models(name, hf_folder, wavs):
    upstream = hub.build(str(hf_folder(name)), upstream=name, specaug={"channel_length": 8}, dropout=0.0)
    assert upstream.anatomy.encoder_input == "feature_projection"
    assert upstream.anatomy.mask_embedding == "masked_spec_embed"
    check_masking(upstream, wavs)


@pytest.mark.parametrize("name", ["hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"])
def test_the_places_in_s3prl_models(name, s3prl_file, wavs):
    upstream = hub.build(str(s3prl_file(name)), upstream=name, specaug={"channel_length": 8}, dropout=0.0)
    assert upstream.anatomy.encoder_input == "dropout_input"
    assert upstream.anatomy.mask_embedding == "mask_emb"
    check_masking(upstream, wavs)


@pytest.mark.parametrize("name", ["hf_hubert_custom", "hubert_custom"])
def test_the_mask_embedding_trains_along_where_the_mask_says_so(name, hf_folder, s3prl_file, wavs):
    path = hf_folder(name) if name.startswith("hf_") else s3prl_file(name)
    mask = {"sparsity": 0.1, "train": ["mask_embedding"]}
    upstream = hub.build(str(path), upstream=name, specaug={"channel_length": 8}, mask=mask).train()
    upstream(wavs)["last_hidden_state"].sum().backward()
    embedding = upstream.anatomy.mask_embedding
    assert upstream.backbone.get_parameter(embedding).grad.abs().sum() > 0
    trained = {key for key, p in upstream.backbone.named_parameters() if p.grad is not None}
    assert {key for key in trained if not key.endswith(".scores")} == {embedding}


def check_masking(upstream, wavs) -> None:
    """Training mode masks (reproducibly), and evaluation mode gives what the upstream gives without specaug."""
    with torch.no_grad():
        upstream.eval()
        plain = upstream(wavs)["hidden_states"][-1]
        upstream.train()
        torch.manual_seed(3)
        masked = upstream(wavs)["hidden_states"][-1]
        torch.manual_seed(3)
        assert torch.equal(upstream(wavs)["hidden_states"][-1], masked)
        assert (masked - plain).abs().max() > 0.1
        assert upstream._batch == RunningBatch()  # nothing of a batch is kept
        upstream.specaug.eval()
        torch.testing.assert_close(upstream(wavs)["hidden_states"][-1], plain)


def test_a_model_without_projection():
    with pytest.raises(ConfigError, match="Linear has no feature projection"):
        SpecAug(SpecAugConfig(), torch.nn.Linear(1, 1), Anatomy(), RunningBatch())
