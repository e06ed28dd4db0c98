from __future__ import annotations

import copy
import inspect
import warnings

import pytest
import torch

from s3router.errors import CheckpointError, ConfigError
from s3router.upstreams import hub
from s3router.upstreams.s3prl_models import known_names

MASK = {"sparsity": 0.25, "targets": ["ffn"]}


@pytest.fixture(scope="module")
def registered():
    """s3prl with our entry; importing its hub takes seconds, so the tests that need it share it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hub.register()
        from s3prl.nn import S3PRLUpstream
    return S3PRLUpstream


@pytest.fixture
def tiny(hf_folder, monkeypatch):
    folder = hf_folder("hf_hubert_custom")
    monkeypatch.setenv("S3ROUTER_TINY", str(folder))
    return folder


def valid_frames(samples: int) -> int:
    return (samples - 80) // 320


@pytest.mark.parametrize("name", ["hf_hubert_custom", "hf_wav2vec2_custom", "hf_wavlm_custom", "hf_data2vec_custom"])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_huggingface_features_are_those_of_transformers(name, norm, hf_folder, wavs):
    import transformers

    folder = hf_folder(name, norm)
    upstream = hub.build(ckpt=str(folder), upstream=name).eval()
    direct = type(upstream.backbone).from_pretrained(folder, dtype=torch.float32).eval()
    prepare = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        inputs = prepare(wavs[0].numpy(), sampling_rate=16000, return_tensors="pt")
        expected = direct(**inputs, output_hidden_states=True)
        got = upstream(wavs[:1])["hidden_states"]
    assert len(got) == 4
    torch.testing.assert_close(got[-1], expected.last_hidden_state, atol=2e-5, rtol=1e-4)
    for ours, theirs in zip(got[:-1], expected.hidden_states, strict=False):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"])
@pytest.mark.parametrize("mode", ["layer_norm", "default"])
def test_s3prl_features_are_those_of_s3prl(registered, name, mode, s3prl_file, wavs):
    import s3prl.hub

    file = s3prl_file(name, mode)
    upstream = hub.build(ckpt=str(file), upstream=name).eval()
    direct = getattr(s3prl.hub, name)(ckpt=str(file)).eval()
    with torch.no_grad():
        got, expected = upstream(wavs[:1])["hidden_states"], direct(wavs[:1])["hidden_states"]
    assert len(got) == len(expected) == 4
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_format_gives_an_utterance_the_same_features_in_any_batch(registered, hf_folder, s3prl_file, wavs):
    """Within 5e-5; the features have unit scale. Group-norm models and data2vec included."""
    names = hub.FAMILIES.keys() - {"hf_whisper_custom"}  # it has tests of its own
    formats = [(name, hf_folder(name, norm)) for name in sorted(names) for norm in ("layer", "group")]
    for name in ("hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"):
        formats += [(name, s3prl_file(name, mode)) for mode in ("layer_norm", "default")]
    for name, path in formats:
        upstream = hub.build(ckpt=str(path), upstream=name).eval()
        with torch.no_grad():
            batched = upstream(wavs)["hidden_states"]
            for row, wav in enumerate(wavs):
                single = upstream([wav])["hidden_states"]
                frames = valid_frames(len(wav))
                for together, alone in zip(batched, single, strict=True):
                    assert alone.shape[1] == frames
                    torch.testing.assert_close(together[row, :frames], alone[0], atol=5e-5, rtol=0, msg=f"{path} {row}")
                    assert (together[row, frames:] == together[row, frames - 1]).all()


def test_s3prl_upstream_in_training_mode(registered, tiny):
    upstream = registered("s3router", extra_conf={"upstream": "tiny", "mask": MASK, "specaug": {}})
    upstream.train()  # the folder's configuration has layer drop 0.5 and transformers' own masking on
    assert upstream.num_layers == 4
    assert upstream.hidden_sizes == [32] * 4
    hidden, lengths = upstream(torch.randn(2, 16000), torch.tensor([16000, 9000]))
    assert [h.shape for h in hidden] == [(2, 50, 32)] * 4
    assert lengths[0].tolist() == [50, 29]
    hidden[-1].sum().backward()
    trained = {name for name, parameter in upstream.named_parameters() if parameter.grad is not None}
    assert trained
    assert all(
        name.endswith(".scores") and ("intermediate_dense" in name or "output_dense" in name) for name in trained
    )


def test_the_last_frames_do_not_depend_on_the_batch(registered, tiny):
    """S3PRLUpstream counts up to two frames more than the convolutions give; they repeat the last one, as alone."""
    upstream = registered("s3router", extra_conf={"upstream": "tiny"}).eval()
    wav = torch.randn(2, 16000)
    with torch.no_grad():
        together, lengths = upstream(wav, torch.tensor([16000, 9001]))
        alone, _ = upstream(wav[1:, :9001], torch.tensor([9001]))
    torch.testing.assert_close(together[-1][1, : lengths[-1][1]], alone[-1][0], atol=5e-5, rtol=0)


def test_espnets_own_frontend(registered, tiny, tmp_path):
    from espnet2.asr.frontend.s3prl import S3prlFrontend

    conf = {"upstream": "tiny", "mask": MASK, "specaug": None, "feature_cache": str(tmp_path / "cache")}
    frontend = S3prlFrontend(
        fs=16000,
        frontend_conf={"upstream": "s3router", "path_or_url": None, "extra_conf": conf},
        multilayer_feature=True,
    )
    assert not (tmp_path / "cache").exists()  # s3prl's pseudo audio is not worth keeping
    features, lengths = frontend(torch.randn(2, 16000), torch.tensor([16000, 9000]))
    assert features.shape == (2, 50, 32)
    assert lengths.tolist() == [50, 29]
    assert len(frontend.upstream.upstream.feature_store) == 2
    assert frontend.hop_length == 320


def test_a_wave_of_any_length(tiny):
    upstream = hub.build(specaug={}).train()
    for samples in (1, 399, 400, 700, 800):
        hidden = upstream([torch.randn(samples)])["hidden_states"]
        assert hidden[-1].shape[1] >= 1
        assert torch.isfinite(hidden[-1]).all()
    both = upstream.eval()([torch.randn(8000), torch.randn(10)])["hidden_states"][-1]
    assert torch.isfinite(both).all()


def test_names_that_download_take_a_local_file(registered, s3prl_file, any_size):
    for name in ("xls_r_300m", "wav2vec2_base_960"):
        upstream = hub.build(ckpt=str(s3prl_file("wav2vec2_custom")), upstream=name)
        assert type(upstream.backbone).__name__ == "Wav2Vec2Model"
    assert hub.build(ckpt=str(s3prl_file("wavlm_local")), upstream="wavlm_base_plus").backbone is not None
    with pytest.raises(ConfigError, match="does not take a checkpoint"):
        hub.build(ckpt=str(s3prl_file("wavlm_local")), upstream="fbank")


def test_the_names_are_those_of_s3prls_hub(registered):
    from s3prl import hub as theirs

    found = {
        name
        for name, value in vars(theirs).items()
        if inspect.isfunction(value) and value.__module__.endswith(".hubconf") and not name.startswith(("_", "load_"))
    }
    assert set(known_names()) == found - {"s3router"}


def test_a_failed_download_says_where_to_put_the_file(registered, monkeypatch, tmp_path):
    from s3prl.util import download

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(download, "_download_dir", tmp_path)
    monkeypatch.setattr(download, "_download_url_to_file", offline)
    monkeypatch.setattr(download, "_download_url_to_file_requests", offline)
    with pytest.raises(CheckpointError, match=rf"libri960_big\.pt cannot be downloaded.*put it at {tmp_path}"):
        hub.build(upstream="wav2vec2_large_960")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="cannot be downloaded from huggingface"):
        hub.build(ckpt="nobody/nothing-at-all", upstream="hf_hubert_custom")


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"upstream": "hubrt_base"}, "hubrt_base' is not known. Did you mean hubert_base"),
        ({"upstream": "/"}, "'/' is not known. It is a path: name a family, or auto"),
        ({"upstream": "tinny"}, "Did you mean tiny"),
        ({"upstream": "hf_hubert_custom"}, "needs a folder"),
        ({"upstream": "hubert_custom"}, "needs a checkpoint"),
        ({"sparcity": 0.1}, "unknown sparcity. Known: adapter, dropout, feature_cache, mask"),
        ({"mask": {"sparsity": 1.5}}, "sparsity"),
        ({"specaug": {"time_prop": 0.1}}, "unknown time_prop. Known: time_prob"),
        ({"specaug": {"time_prob": 1.1, "channel_length": 0}}, "time_prob must be.*channel_length must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dropout": "0.1"}, "dropout must be"),
        (
            {"dropout": {"hiden": 0.1, "attention": 2}},
            "unknown hiden; dropout attention must be.*hidden, attention, acti",
        ),
        ({"dropout": {"layerdrop": 0.1}, "upstream": "fbank"}, "has no transformer layers"),
        ({"dropout": {"attention": 0.1}, "upstream": "fbank"}, "dropout attention: .* has none"),
        ({"mask": {"train": ["mask_embedding"]}}, "without feature masking"),
        ({"feature_cache": {"folder": "x"}}, "feature_cache must be a folder"),
        ({"feature_cache": {"path": "x", "max_gb": 0}}, "max_gb must be"),
        ({"feature_cache": "x", "random_init": True}, "cannot be kept"),
        ({"upstream": "fbank", "feature_cache": "x"}, "has no convolutional feature extractor"),
        ({"upstream": "fbank", "specaug": {}}, "has no feature projection"),
    ],
)
def test_bad_configurations(registered, tiny, conf, message):
    with pytest.raises(ConfigError, match=message):
        hub.s3router(**conf)


def test_without_the_shipped_upstream(monkeypatch, tmp_path):
    monkeypatch.setenv("S3ROUTER_TINY", str(tmp_path))
    with pytest.raises(CheckpointError, match="'tiny' is not there"):
        hub.build()


def test_the_feature_extractor_is_frozen_and_builds_no_graph(registered, tiny, s3prl_file, wavs):
    for conf in ({}, {"ckpt": str(s3prl_file("hubert_custom")), "upstream": "hubert_custom"}):
        upstream = hub.build(**conf).train()
        seen = []
        upstream.front_end.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        hidden = upstream(wavs)["hidden_states"]
        assert hidden[-1].requires_grad
        assert not seen[0].requires_grad


@pytest.mark.parametrize("name", ["tiny", "hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"])
def test_random_init(registered, tiny, s3prl_file, wavs, name):
    ckpt = None if name == "tiny" else str(s3prl_file(name))

    def build(**conf):
        return hub.build(ckpt=ckpt, upstream=name, **conf)

    fresh, again, other = build(random_init=True), build(random_init=True), build(random_init=True, seed=2)
    assert fresh.backbone_fingerprint == again.backbone_fingerprint
    assert len({fresh.backbone_fingerprint, other.backbone_fingerprint, build().backbone_fingerprint}) == 3
    shapes = {key: value.shape for key, value in build().state_dict().items()}
    assert {key: value.shape for key, value in fresh.state_dict().items()} == shapes
    hidden = fresh.train()(wavs)["hidden_states"][-1]
    assert torch.isfinite(hidden).all()
    assert hidden.std() > 0.01
    hidden.pow(2).sum().backward()
    assert all(p.grad is not None for p in fresh.front_end.parameters())  # scratch trains the convolutions too


def test_random_init_needs_no_weights(hf_folder, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((hf_folder("hf_hubert_custom") / name).read_text())
    assert hub.build(ckpt=str(tmp_path), upstream="hf_hubert_custom", random_init=True).backbone is not None
    with pytest.raises(CheckpointError, match="no weights"):
        hub.build(ckpt=str(tmp_path), upstream="hf_hubert_custom")


def test_building_leaves_torchs_random_numbers_alone(tiny):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    hub.build(random_init=True)
    assert torch.rand(1) == expected


def test_dropout_is_under_control(registered, tiny, s3prl_file, wavs):
    for conf in ({}, {"ckpt": str(s3prl_file("hubert_custom")), "upstream": "hubert_custom"}):
        still, noisy = hub.build(dropout=0.0, **conf).train(), hub.build(dropout=0.5, **conf).train()
        with torch.no_grad():
            reference = hub.build(**conf).eval()(wavs)["hidden_states"][-1]
            torch.testing.assert_close(still(wavs)["hidden_states"][-1], reference)
            assert not torch.equal(noisy(wavs)["hidden_states"][-1], noisy(wavs)["hidden_states"][-1])


def test_a_copy_is_independent(tiny, tmp_path, wavs):
    upstream = hub.build(mask=MASK, specaug={}, feature_cache=str(tmp_path)).train()
    twin = copy.deepcopy(upstream)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        torch.manual_seed(0)
        before = upstream(wavs)["hidden_states"][-1]
        twin.specaug.eval()
        twin(wavs)
        torch.manual_seed(0)
        torch.testing.assert_close(upstream(wavs)["hidden_states"][-1], before)
    assert twin.specaug is not upstream.specaug
    assert twin._batch is not upstream._batch
    assert twin.front_end.control.batch is twin.specaug._batch is twin._batch
