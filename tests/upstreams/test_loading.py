from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import read_torch_file, rename_weight_norm
from s3router.upstreams.hub import build


class Malicious:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def folder(hf_folder, tmp_path):
    """A copy of a small HuBERT folder, to be damaged."""
    return shutil.copytree(hf_folder("hf_hubert_custom"), tmp_path / "hubert")


def load(path, name="hf_hubert_custom"):
    return build(ckpt=str(path), upstream=name)


def change(folder, edit) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"])
def test_code_in_a_pickle_is_not_run(name, tmp_path):
    trap, file = tmp_path / "touched", tmp_path / "model.pt"
    torch.save({"model_weight": Malicious(trap), "cfg": {}, "model": {}}, file)
    with pytest.raises(CheckpointError, match=r"model.pt: refused, because it is a pickle that runs code"):
        load(file, name)
    assert not trap.exists()


def test_code_in_a_huggingface_pickle_is_not_run(folder, tmp_path):
    trap = tmp_path / "touched"
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Malicious(trap)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: refused.*posix.system"):
        load(folder)
    assert not trap.exists()


def test_a_legacy_pickle_with_code_is_not_run(tmp_path):
    trap, file = tmp_path / "touched", tmp_path / "model.pt"
    torch.save({"model": Malicious(trap)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="refused"):
        read_torch_file(file)
    assert not trap.exists()


def test_namespaces_are_plain_data_and_raw_fairseq_is_named(tmp_path):
    file = tmp_path / "model.pt"
    torch.save({"args": argparse.Namespace(normalize=True), "model": {"w": torch.ones(2)}}, file)
    assert read_torch_file(file)["args"].normalize is True
    omegaconf = pytest.importorskip("omegaconf")
    torch.save({"cfg": omegaconf.OmegaConf.create({"task": 1}), "model": {}}, file)
    with pytest.raises(CheckpointError, match=r"raw fairseq checkpoint.*convert"):
        load(file, "hubert_custom")


def test_files_that_are_no_checkpoints(tmp_path, s3prl_file, folder):
    good = s3prl_file("hubert_custom")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(good.read_bytes()[:20000])
    text = tmp_path / "text.pt"
    text.write_text("<html>404</html>")
    for file in (cut, text):
        with pytest.raises(CheckpointError, match=rf"{file.name}: (cannot be read|not a torch checkpoint)"):
            load(file, "hubert_custom")
    with pytest.raises(CheckpointError, match=r"gone.pt: no such checkpoint file"):
        load(tmp_path / "gone.pt", "hubert_custom")
    with pytest.raises(CheckpointError, match="a HuggingFace upstream is a folder"):
        load(good)
    with pytest.raises(CheckpointError, match="no such checkpoint file or folder"):
        load(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="gone: no such folder"):
        load("gone")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read as safetensors"):
        load(folder)


def test_a_checkpoint_of_another_family(s3prl_file):
    with pytest.raises(CheckpointError, match="Is it a checkpoint of this family"):
        load(s3prl_file("wavlm_local"), "hubert_custom")
    with pytest.raises(CheckpointError, match="wavlm_local"):
        load(s3prl_file("hubert_custom"), "wavlm_local")


def test_a_huggingface_folder_of_another_family(folder):
    with pytest.raises(CheckpointError, match=r"wants model_type 'wav2vec2', found 'hubert'. Use hf_hubert_custom"):
        load(folder, "hf_wav2vec2_custom")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"'bert' is none of hubert, wav2vec2.*s3router\.masks\.attach on it"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_broken_configurations(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(CheckpointError, match=f"{name}: not valid JSON"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load(folder)


def test_normalisation_and_rate_must_be_known(folder):
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"do_normalize .* is missing"):
        load(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 8000}')
    with pytest.raises(CheckpointError, match="made for 8000 Hz"):
        load(folder)


def test_a_partial_huggingface_checkpoint_is_refused(folder):
    def drop_a_layer(weights):
        for key in [key for key in weights if key.startswith("encoder.layers.1.")]:
            del weights[key]
        weights["encoder.layers.7.foo"] = torch.zeros(1)

    change(folder, drop_a_layer)
    with pytest.raises(
        CheckpointError,
        match=r"16 missing from the checkpoint: encoder.layers.1.*and 8 more.*not in the model: encoder.layers.7.foo",
    ):
        load(folder)


def test_weights_of_another_shape_are_refused(folder):
    change(folder, lambda weights: weights.update({"encoder.layers.0.attention.k_proj.weight": torch.zeros(3, 3)}))
    with pytest.raises(CheckpointError, match="hubert"):
        load(folder)


def test_a_partial_s3prl_checkpoint_is_refused(tmp_path, s3prl_file):
    for name, weights in (("hubert_custom", "model_weight"), ("wavlm_local", "model")):
        state = torch.load(s3prl_file(name))
        state[weights] = {
            key: value for key, value in state[weights].items() if not key.startswith("encoder.layers.2.")
        }
        file = tmp_path / f"{name}.pt"
        torch.save(state, file)
        with pytest.raises(CheckpointError, match=r"missing from the checkpoint: encoder.layers.2"):
            load(file, name)


@pytest.mark.parametrize("style", ["old", "new"])
def test_both_names_of_weight_norm_are_read(folder, tmp_path, s3prl_file, style, wavs):
    names = [("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1")]
    if style == "old":
        names = [(new, old) for old, new in names]

    def rename(weights):
        for key in list(weights):
            for ours, theirs in names:
                if "pos_conv" in key and key.endswith(ours):
                    weights[key.removesuffix(ours) + theirs] = weights.pop(key)

    expected = load(folder).eval()(wavs)["hidden_states"][-1]
    change(folder, rename)
    torch.testing.assert_close(load(folder).eval()(wavs)["hidden_states"][-1], expected)
    state = torch.load(s3prl_file("hubert_custom"))
    rename(state["model_weight"])
    torch.save(state, tmp_path / "model.pt")
    expected = load(s3prl_file("hubert_custom"), "hubert_custom").eval()(wavs)["hidden_states"][-1]
    got = load(tmp_path / "model.pt", "hubert_custom").eval()(wavs)["hidden_states"][-1]
    torch.testing.assert_close(got, expected)


def test_rename_weight_norm_leaves_other_names():
    assert rename_weight_norm(["a.weight_g", "b.weight_g"], ["a.parametrizations.weight.original0", "b.weight_g"]) == {
        "a.weight_g": "a.parametrizations.weight.original0"
    }


def test_half_precision_and_heads_and_bin_files(folder, wavs):
    expected = load(folder).eval()(wavs)["hidden_states"][-1]
    weights = {f"hubert.{key}": value.half() for key, value in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    torch.save({**weights, "lm_head.weight": torch.zeros(5, 32)}, folder / "pytorch_model.bin")
    upstream = load(folder)
    assert {parameter.dtype for parameter in upstream.parameters()} == {torch.float32}
    torch.testing.assert_close(upstream.eval()(wavs)["hidden_states"][-1], expected, atol=2e-2, rtol=1e-2)


def test_a_processor_saved_by_transformers_5(folder, tmp_path, wavs):
    expected = load(folder).eval()(wavs)["hidden_states"][-1]
    (folder / "preprocessor_config.json").unlink()
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "<unk>": 1, "|": 2}')
    tokens = transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json", pad_token="<pad>", unk_token="<unk>")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    transformers.Wav2Vec2Processor(extractor, tokens).save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()
    torch.testing.assert_close(load(folder).eval()(wavs)["hidden_states"][-1], expected)
    (folder / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: missing"):
        load(folder)


@pytest.mark.parametrize(
    ("model_class", "changes"),
    [
        ("Wav2Vec2ForSequenceClassification", {"use_weighted_layer_sum": True}),
        ("Wav2Vec2ForAudioFrameClassification", {"use_weighted_layer_sum": True}),
        ("Wav2Vec2ForXVector", {"use_weighted_layer_sum": True, "tdnn_dim": [32] * 2, "xvector_output_dim": 8}),
        ("Wav2Vec2ForCTC", {"add_adapter": True, "output_hidden_size": 32}),
    ],
)
def test_a_finetuned_huggingface_model_gives_its_encoder(hf_model, tmp_path, wavs, model_class, changes):
    plain = hf_model("hf_wav2vec2_custom")
    changes |= {"tdnn_kernel": [3] * 2, "tdnn_dilation": [1] * 2, "vocab_size": 7}
    made = getattr(transformers, model_class)(type(plain.config)(**(plain.config.to_dict() | changes)))
    made.wav2vec2.load_state_dict(plain.state_dict(), strict=False)
    made.save_pretrained(tmp_path / "finetuned")
    plain.save_pretrained(tmp_path / "plain")
    hidden = []
    for folder in (tmp_path / "finetuned", tmp_path / "plain"):
        (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
        hidden.append(load(folder, "auto").eval()(wavs)["hidden_states"])
    for ours, expected in zip(*hidden, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("family", ["Wav2Vec2", "UniSpeech", "UniSpeechSat"])
def test_a_pretrained_huggingface_model_gives_its_encoder(hf_model, tmp_path, family):
    """With the heads of its pretraining."""
    config = getattr(transformers, f"{family}Config")
    plain = hf_model("hf_wav2vec2_custom").config.to_dict()
    changes = {"codevector_dim": 8, "num_codevectors_per_group": 4, "proj_codevector_dim": 8, "num_ctc_classes": 5}
    changes |= {"num_clusters": 6, "vocab_size": 7}
    made = getattr(transformers, f"{family}ForPreTraining")(
        config(**(plain | changes | {"model_type": config.model_type}))
    )
    made.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": true}')
    found = build(ckpt=str(tmp_path), upstream="auto").backbone.state_dict()
    weight = "encoder.layers.1.feed_forward.output_dense.weight"
    assert torch.equal(found[weight], getattr(made, made.base_model_prefix).state_dict()[weight])


def test_a_missing_mask_embedding_is_zeros(folder, caplog):
    change(folder, lambda weights: weights.pop("masked_spec_embed"))
    assert not load(folder).backbone.masked_spec_embed.any()
    assert "time masking will use zeros" in caplog.text


def test_missing_shards(folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"shards missing from the folder: model-00001-of-00002"):
        load(folder)


def test_torch_itself_is_never_replaced(s3prl_file, monkeypatch):
    """Other threads may load at any time: only s3prl's own modules read in another way."""
    from s3prl.upstream.hubert import convert, hubert_model

    seen, plain = [], (torch.load, torch.nn.Module.load_state_dict)
    build(ckpt=str(s3prl_file("hubert_custom")), upstream="hubert_custom")
    load_state = hubert_model.HubertModel.load_state_dict

    def look(model, state, **options):
        seen.append((torch.load, torch.nn.Module.load_state_dict))
        return load_state(model, state, **options)

    monkeypatch.setattr(hubert_model.HubertModel, "load_state_dict", look)
    upstream = build(ckpt=str(s3prl_file("hubert_custom")), upstream="hubert_custom")
    assert seen == [plain]
    assert convert.torch is not torch
    assert convert.torch.Tensor is torch.Tensor
    # Afterwards, s3prl's models can be filled in part again, as the resumption of a training does.
    assert upstream.backbone.load_state_dict({}, strict=False).missing_keys


def test_threads_build_at_the_same_time(s3prl_file):
    names = ["hubert_custom", "wav2vec2_custom", "wavlm_local", "hubert_custom"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda name: load(s3prl_file(name), name), names))
    for name, upstream in zip(names, built, strict=True):
        assert upstream.backbone_fingerprint == load(s3prl_file(name), name).backbone_fingerprint


def test_what_s3prl_needs_and_lacks_is_said(s3prl_file):
    with pytest.raises(CheckpointError, match=r"hubert_custom cannot be built.*fairseq"):
        build(ckpt=str(s3prl_file("hubert_custom")), upstream="hubert_custom", options={"legacy": True})
