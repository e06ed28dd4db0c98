from __future__ import annotations

import shutil

import pytest
import torch

from s3router.errors import ConfigError
from s3router.upstreams import hub
from s3router.upstreams.front_end import CacheConfig, FrontEndControl, control_front_end, wav_key
from s3router.upstreams.padding import RunningBatch

FORMATS = ["hf-layer", "hf-group", "hubert_custom", "wavlm_local"]


@pytest.fixture(params=FORMATS)
def place(request, hf_folder, s3prl_file):
    """(upstream, ckpt) of one format."""
    if request.param.startswith("hf"):
        return "hf_hubert_custom", str(hf_folder("hf_hubert_custom", request.param[3:]))
    return request.param, str(s3prl_file(request.param))


def outputs_of(upstream, wavs) -> tuple[torch.Tensor, torch.Tensor]:
    """(convolutional features (B, C, T), last hidden state)."""
    seen = []
    handle = upstream.front_end.register_forward_hook(lambda module, inputs, output: seen.append(output))
    hidden = upstream(wavs)["hidden_states"][-1]
    handle.remove()
    return seen[0], hidden


def test_features_through_the_cache_are_the_live_ones_in_bfloat16(place, tmp_path, wavs):
    name, ckpt = place
    live = hub.build(ckpt, upstream=name).eval()
    cached = hub.build(ckpt, upstream=name, feature_cache=str(tmp_path)).eval()
    singles = [outputs_of(live, [wav])[0][0] for wav in wavs]  # (C, T)
    for turn in range(2):  # stored, then read back
        features, hidden = outputs_of(cached, wavs)
        for row, single in enumerate(singles):
            frames = single.size(-1)
            # One or two in ten thousand fall on the other side of a rounding, as batched convolutions sum otherwise.
            torch.testing.assert_close(features[row, :, :frames], single.bfloat16().float(), rtol=2**-7, atol=1e-6)
            assert not features[row, :, frames:].any()
        assert features.shape[-1] == singles[0].shape[-1]
        assert features.dtype == torch.float32
        expected = outputs_of(live, wavs)[1]
        assert (hidden - expected).abs().max() < 0.05 * expected.std()
        assert len(cached.feature_store) == 3, turn
    assert torch.equal(outputs_of(cached, wavs)[0], features)


def test_hits_skip_the_convolutions(tmp_path, hf_folder, wavs):
    upstream = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path)).eval()
    calls = []
    upstream.front_end.conv_layers[0].register_forward_hook(lambda *_: calls.append(1))
    upstream(wavs)
    assert len(calls) == 3
    first = upstream([wavs[1], wavs[0]])["hidden_states"][-1]
    assert len(calls) == 3
    upstream([wavs[1], wavs[0], wavs[1] * 0.5, wavs[1] * 0.5])  # a new one, twice
    assert len(calls) == 4
    again = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path)).eval()
    again.front_end.conv_layers[0].register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(again([wavs[1], wavs[0]])["hidden_states"][-1], first)
    assert len(calls) == 4


def test_what_is_stored_does_not_depend_on_autocast(tmp_path, hf_folder, wavs):
    def build(folder):
        return hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path / folder)).eval()

    plain, mixed = build("plain"), build("mixed")
    plain(wavs)
    with torch.autocast("cpu", torch.bfloat16):
        features, _ = outputs_of(mixed, wavs)
    assert features.dtype == torch.bfloat16
    for wav in wavs:
        assert torch.equal(plain.feature_store.get(wav_key(wav)), mixed.feature_store.get(wav_key(wav)))


def test_each_upstream_and_normalisation_has_its_own_store(tmp_path, hf_folder, s3prl_file):
    def store_of(name, ckpt, **conf):
        return hub.build(str(ckpt), upstream=name, feature_cache=str(tmp_path / "cache"), **conf).feature_store.folder

    raw = shutil.copytree(hf_folder(), tmp_path / "raw")
    (raw / "preprocessor_config.json").write_text('{"do_normalize": false}')
    folders = {
        store_of("hf_hubert_custom", hf_folder()),
        store_of("hf_hubert_custom", raw),
        store_of("hubert_custom", s3prl_file("hubert_custom")),
    }
    assert len(folders) == 3
    # Masks on the transformer do not change what the convolutions give.
    assert store_of("hf_hubert_custom", hf_folder(), mask={"sparsity": 0.5}) in folders


def test_a_trained_extractor_is_not_cached(tmp_path, hf_folder, wavs):
    upstream = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path))
    upstream.front_end.requires_grad_(True)
    with pytest.raises(ConfigError, match="is being trained"):
        upstream(wavs)


def test_gradients_to_the_waveform_bypass_the_cache(tmp_path, hf_folder):
    upstream = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path)).eval()
    wav = torch.randn(4000, requires_grad=True)
    upstream([wav])["hidden_states"][-1].sum().backward()
    assert wav.grad.any()
    assert len(upstream.feature_store) == 0


def test_training_with_masks_through_the_cache(tmp_path, hf_folder, wavs):
    upstream = hub.build(
        str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path), mask={"sparsity": 0.3}, specaug={}
    ).train()
    for _ in range(2):
        upstream.zero_grad()
        upstream(wavs)["hidden_states"][-1].pow(2).sum().backward()
        scores = [p for n, p in upstream.named_parameters() if ".scores" in n]
        assert scores
        assert all(p.grad.abs().sum() > 0 for p in scores)


def test_the_state_dict_keeps_its_names(hf_folder, tmp_path):
    upstream = hub.build(str(hf_folder()), upstream="hf_hubert_custom", feature_cache=str(tmp_path), specaug={})
    plain = hub.load_expert("hf_hubert_custom", str(hf_folder()))
    assert list(upstream.expert.state_dict()) == list(plain.state_dict())
    assert list(upstream.state_dict()) == [f"expert.{name}" for name in plain.state_dict()]


def test_torchaudios_extractor(tmp_path, wavs):
    """(x, length) -> (features, length), frames before channels."""
    from torch.nn.utils.rnn import pad_sequence
    from torchaudio.models import wav2vec2_model

    model = wav2vec2_model(
        "group_norm", [(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2, False, 32, 0.0, 8, 4, 1, 4, 0.0, 64, 0.0, 0.0,
        False, 0.0, None,
    )  # fmt: skip
    extractor = model.eval().feature_extractor.requires_grad_(False)
    singles = [extractor(wav[None], torch.tensor([len(wav)]))[0][0] for wav in wavs]
    control = FrontEndControl(RunningBatch(wavs))
    control_front_end(extractor, control)
    for cache in (None, CacheConfig(str(tmp_path))):
        control.cache = cache
        features, lengths = extractor(pad_sequence(wavs, batch_first=True), torch.tensor([len(wav) for wav in wavs]))
        assert lengths.tolist() == [len(single) for single in singles]
        for row, single in enumerate(singles):
            torch.testing.assert_close(features[row, : len(single)], single, rtol=1e-2, atol=1e-6)
