"""The same weights in every format give the same features: those of s3prl, torchaudio and transformers themselves."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import types
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from s3router.errors import CheckpointError, ConfigError
from s3router.upstreams import fingerprint, hub
from s3router.upstreams.convert_fairseq import conv_layers, from_fairseq
from s3router.upstreams.convert_torchaudio import from_torchaudio
from s3router.upstreams.fairseq_file import fairseq_parts
from s3router.upstreams.formats import load_any, read_any
from s3router.upstreams.public import catalogue, find_public

S3PRL = {
    "wav2vec2": "wav2vec2_custom",
    "hubert": "hubert_custom",
    "wavlm": "wavlm_local",
    "data2vec-audio": "data2vec_custom",
}
KINDS = [
    (family, mode)
    for family in S3PRL
    for mode in ("layer_norm", "default")
    if (family, mode) != ("data2vec-audio", "default")
]
TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


OWN_PARENT: dict = {"cfg": {"model": {}}, "model": {}}
OWN_PARENT["cfg"]["model"]["parent"] = OWN_PARENT["cfg"]


class Made:
    """One small random model: as s3prl's own upstream, and as files in every format."""

    def __init__(self, family: str, mode: str, content, folder):
        self.family, self.mode, self.folder = family, mode, folder
        changes = {"conv_bias": mode == "layer_norm" and family != "wavlm"}
        if family == "data2vec-audio":
            changes = {"layer_norm_first": False}
        self.content = content(S3PRL[family], mode, **changes)
        self.weights = self.content.get("model_weight") or self.content["model"]
        self.model_cfg = self.content.get("model_cfg") or self.content["cfg"]
        self.task_cfg = self.content.get("task_cfg", {})
        self.own = folder / "own.pt"
        torch.save(self.content, self.own)
        self.files = {"s3prl or WavLM": self.own}
        self.reference = hub.load_expert(S3PRL[family], str(self.own)).eval()
        if family != "wavlm":
            self._write_fairseq()
        self._write_folder()
        if family != "data2vec-audio":
            self._write_torchaudio()

    def _write_fairseq(self) -> None:
        name = {"wav2vec2": "wav2vec2", "hubert": "hubert", "data2vec-audio": "data2vec_audio"}[self.family]
        model, rest = {"_name": name, **self.model_cfg}, {"last_optimizer_state": {"state": {0: torch.ones(3)}}}
        self.files["fairseq, cfg"] = self._save("cfg.pt", {"cfg": {"model": model, "task": self.task_cfg}, **rest})
        args = argparse.Namespace(**self.model_cfg, arch=name, normalize=True, data="/somewhere")
        self.files["fairseq, args"] = self._save("args.pt", {"args": args, **rest}, old=True)
        cfg = pytest.importorskip("omegaconf").OmegaConf.create(
            {"model": model, "task": self.task_cfg, "x": [1, "a", None]}
        )
        self.files["fairseq, OmegaConf"] = self._save("omegaconf.pt", {"cfg": cfg, "args": None, **rest})

    def _save(self, name: str, content: dict, old: bool = False):
        torch.save({"model": self.weights, **content}, self.folder / name, _use_new_zipfile_serialization=not old)
        return self.folder / name

    def _write_folder(self) -> None:
        """transformers' own model, filled module by module."""
        import transformers

        cfg, source = self.model_cfg, self.reference.model
        layers = eval(cfg["conv_feature_layers"])
        settings = {
            "hidden_size": cfg["encoder_embed_dim"],
            "num_hidden_layers": cfg["encoder_layers"],
            "num_attention_heads": cfg["encoder_attention_heads"],
            "intermediate_size": cfg["encoder_ffn_embed_dim"],
            "conv_dim": [c for c, _, _ in layers],
            "conv_kernel": [k for _, k, _ in layers],
            "conv_stride": [s for _, _, s in layers],
            "conv_bias": cfg["conv_bias"],
            "num_conv_pos_embedding_groups": cfg["conv_pos_groups"],
        }
        if self.family == "data2vec-audio":
            settings |= {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 4}
        else:
            settings |= {"num_conv_pos_embeddings": cfg["conv_pos"], "do_stable_layer_norm": self.mode == "layer_norm"}
            settings |= {"feat_extract_norm": "layer" if self.mode == "layer_norm" else "group"}
        if self.family == "wavlm":
            settings |= {"num_buckets": cfg["num_buckets"], "max_bucket_distance": cfg["max_distance"]}
        class_name = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel"}
        model_class = getattr(transformers, class_name.get(self.family, "Data2VecAudioModel"))
        self.transformers = model_class(model_class.config_class(**settings)).eval()
        with torch.no_grad():
            self._fill(self.transformers, source)
        self.transformers.save_pretrained(self.folder / "hf")
        preprocessor = {"do_normalize": True, "sampling_rate": 16000, "normalize_eps": 1e-5}
        (self.folder / "hf" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        self.files["HuggingFace"] = self.folder / "hf"

    def _fill(self, model, source) -> None:
        def copy(to, of):
            to.load_state_dict(of.state_dict())

        model.masked_spec_embed.copy_(source.mask_emb)
        copy(model.feature_projection.layer_norm, source.layer_norm)
        copy(model.feature_projection.projection, source.post_extract_proj)
        for to, of in zip(model.feature_extractor.conv_layers, source.feature_extractor.conv_layers, strict=True):
            copy(to.conv, of[0])
            if self.mode == "layer_norm":
                copy(to.layer_norm, of[2][1])
        if self.mode == "default":
            copy(model.feature_extractor.conv_layers[0].layer_norm, source.feature_extractor.conv_layers[0][2])
        if self.family == "data2vec-audio":
            for to, of in zip(model.encoder.pos_conv_embed.layers, source.encoder.pos_conv, strict=True):
                copy(to.conv, of[0])
        else:
            positions = model.encoder.pos_conv_embed.conv
            positions.parametrizations.weight.original0.copy_(source.encoder.pos_conv[0].weight_g)
            positions.parametrizations.weight.original1.copy_(source.encoder.pos_conv[0].weight_v)
            positions.bias.copy_(source.encoder.pos_conv[0].bias)
        copy(model.encoder.layer_norm, source.encoder.layer_norm)
        for to, of in zip(model.encoder.layers, source.encoder.layers, strict=True):
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                copy(getattr(to.attention, part), getattr(of.self_attn, part))
            copy(to.layer_norm, of.self_attn_layer_norm)
            copy(to.feed_forward.intermediate_dense, of.fc1)
            copy(to.feed_forward.output_dense, of.fc2)
            copy(to.final_layer_norm, of.final_layer_norm)
            if self.family == "wavlm":
                copy(to.attention.gru_rel_pos_linear, of.self_attn.grep_linear)
                to.attention.gru_rel_pos_const.copy_(of.self_attn.grep_a)
                if hasattr(to.attention, "rel_attn_embed"):  # the first layer's, which the others use, too
                    copy(to.attention.rel_attn_embed, of.self_attn.relative_attention_bias)

    def _write_torchaudio(self) -> None:
        """Through torchaudio's own importer of transformers' models."""
        from torchaudio.models.wav2vec2 import utils

        source = self.transformers
        if (
            self.family == "hubert"
        ):  # the importer knows wav2vec 2.0 and WavLM; as encoders the first and HuBERT are one
            import transformers

            config = source.config.to_dict()
            config.pop("model_type")
            source = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**config)).eval()
            source.load_state_dict(self.transformers.state_dict())
        self.torchaudio = utils.import_huggingface_model(source).eval()
        cfg = self.model_cfg
        params = {
            "extractor_mode": "layer_norm" if self.mode == "layer_norm" else "group_norm",
            "extractor_conv_layer_config": eval(cfg["conv_feature_layers"]),
            "extractor_conv_bias": cfg["conv_bias"],
            "encoder_embed_dim": cfg["encoder_embed_dim"],
            "encoder_projection_dropout": 0.1,
            "encoder_pos_conv_kernel": cfg["conv_pos"],
            "encoder_pos_conv_groups": cfg["conv_pos_groups"],
            "encoder_num_layers": cfg["encoder_layers"],
            "encoder_num_heads": cfg["encoder_attention_heads"],
            "encoder_attention_dropout": 0.1,
            "encoder_ff_interm_features": cfg["encoder_ffn_embed_dim"],
            "encoder_ff_interm_dropout": 0.0,
            "encoder_dropout": 0.1,
            "encoder_layer_norm_first": cfg["layer_norm_first"],
            "encoder_layer_drop": 0.05,
            "aux_num_out": None,
        }
        if self.family == "wavlm":
            params |= {"encoder_num_buckets": cfg["num_buckets"], "encoder_max_distance": cfg["max_distance"]}
        path = self.folder / "torchaudio.pth"
        torch.save(self.torchaudio.state_dict(), path)
        path.with_suffix(".json").write_text(json.dumps({**params, "normalize": True, "model_type": self.family}))
        self.files["torchaudio"] = path


@pytest.fixture(scope="module")
def made(s3prl_content, tmp_path_factory):
    """family, mode -> `Made`, once."""
    known: dict = {}

    def make(family: str = "hubert", mode: str = "layer_norm") -> Made:
        if (family, mode) not in known:
            known[family, mode] = Made(family, mode, s3prl_content, tmp_path_factory.mktemp("formats"))
        return known[family, mode]

    return make


def hidden(upstream, wavs) -> list[torch.Tensor]:
    with torch.no_grad():
        return upstream(wavs)["hidden_states"]


@pytest.mark.parametrize(("family", "mode"), KINDS)
def test_every_format_gives_the_features_of_s3prl_alone_and_padded(made, wavs, family, mode):
    one = made(family, mode)
    assert len(one.files) == {"wavlm": 3, "data2vec-audio": 5}.get(family, 6)
    expected = [hidden(one.reference, [wav]) for wav in wavs]
    for name, path in one.files.items():
        upstream = hub.build(ckpt=str(path), upstream="auto").eval()
        together = hidden(upstream, wavs)
        assert len(together) == len(expected[0]) == 4
        for row, wav in enumerate(wavs):
            alone = hidden(upstream, [wav])
            for ours, batched, theirs in zip(alone, together, expected[row], strict=True):
                frames = theirs.shape[1]
                torch.testing.assert_close(ours, theirs, **TOLERANCE, msg=f"{name}: alone")
                torch.testing.assert_close(batched[row, :frames], theirs[0], **TOLERANCE, msg=f"{name}: padded")


@pytest.mark.parametrize(("family", "mode"), KINDS)
def test_the_same_weights_have_the_same_fingerprint_in_every_format(made, family, mode):
    one = made(family, mode)
    prints = {name: fingerprint(load_any(path).model) for name, path in one.files.items() if name != "torchaudio"}
    assert len(set(prints.values())) == 1, prints
    if family != "data2vec-audio":  # torchaudio's models have no embedding of masked frames: zeros stand in for it
        other = load_any(one.files["torchaudio"]).model
        assert not other.masked_spec_embed.any()
        other.masked_spec_embed.data.copy_(one.reference.model.mask_emb)
        assert fingerprint(other) in prints.values()


@pytest.mark.parametrize(("family", "mode"), [kind for kind in KINDS if kind[0] != "data2vec-audio"])
def test_torchaudios_own_features(made, wavs, family, mode):
    """torchaudio gives the layers' outputs, without the encoder's last layer norm where that comes after them."""
    one = made(family, mode)
    upstream = load_any(one.files["torchaudio"]).eval()
    for wav in wavs:
        with torch.no_grad():
            theirs, _ = one.torchaudio.extract_features(torch.nn.functional.layer_norm(wav, wav.shape)[None])
        ours = hidden(upstream, [wav])[1:]
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if i == len(theirs) - 1 and mode == "layer_norm":
                b = one.torchaudio.encoder.transformer.layer_norm(b)
            torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize(("family", "mode"), KINDS)
def test_transformers_own_features(made, wavs, family, mode):
    one = made(family, mode)
    upstream = load_any(one.own).eval()
    for wav in wavs:
        with torch.no_grad():
            inputs = torch.nn.functional.layer_norm(wav, wav.shape)[None]
            output = one.transformers(inputs, output_hidden_states=True)
        theirs = [*output.hidden_states[:-1], output.last_hidden_state]
        for a, b in zip(hidden(upstream, [wav]), theirs, strict=True):
            torch.testing.assert_close(a, b, **TOLERANCE)


def test_quiet_recordings_are_normalised_as_in_pretraining(made, wavs):
    """transformers adds 1e-7 to the variance, fairseq 1e-5: at an amplitude of 0.003 the features are others."""
    one, quiet = made("wav2vec2", "layer_norm"), [0.03 * wavs[0]]
    expected = hidden(one.reference, quiet)[-1]
    torch.testing.assert_close(hidden(load_any(one.own).eval(), quiet)[-1], expected, **TOLERANCE)
    folder = one.files["HuggingFace"]
    torch.testing.assert_close(hidden(load_any(folder).eval(), quiet)[-1], expected, **TOLERANCE)
    other = hidden(dataclasses.replace(read_any(folder), normalize_eps=1e-7).upstream(), quiet)[-1]
    assert (other - expected).abs().max() > 1e-3
    assert (
        "eps 1e-05" in hub.build(ckpt=str(folder), upstream="auto").front_end.control.settings
    )  # the feature cache knows


@pytest.mark.parametrize(("family", "mode"), KINDS)
def test_a_converted_folder_is_read_by_transformers_and_by_us(made, wavs, tmp_path, family, mode):
    import transformers

    one = made(family, mode)
    folder = read_any(one.own).save(tmp_path / "converted")
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    assert {key: value.shape for key, value in theirs.state_dict().items()} == {
        key: value.shape for key, value in one.transformers.state_dict().items()
    }
    assert theirs.config.layerdrop == 0.5  # as it was trained
    assert transformers.AutoFeatureExtractor.from_pretrained(folder).do_normalize is True
    for a, b in zip(hidden(load_any(folder).eval(), wavs[:1]), hidden(one.reference, wavs[:1]), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)
    assert load_file(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="is there already"):
        read_any(one.own).save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["converted"]


def test_a_finetuned_fairseq_model_gives_its_encoder(made, wavs, tmp_path):
    one = made("wav2vec2", "default")
    weights = {f"w2v_encoder.w2v_model.{key}": value for key, value in one.weights.items()}
    weights["w2v_encoder.proj.weight"] = torch.zeros(5, 32)
    inner = {"model": {"_name": "wav2vec2", **one.model_cfg}, "task": one.task_cfg}
    cfg = {"model": {"_name": "wav2vec_ctc", "w2v_args": inner}, "task": {"normalize": True}}
    torch.save({"cfg": cfg, "model": weights}, tmp_path / "ctc.pt")
    upstream = load_any(tmp_path / "ctc.pt").eval()
    torch.testing.assert_close(hidden(upstream, wavs[:1])[-1], hidden(one.reference, wavs[:1])[-1], **TOLERANCE)


@pytest.mark.parametrize("entry", [entry for entry in catalogue().values() if entry.bundle], ids=lambda e: e.name)
def test_the_public_bundles_of_torchaudio_fit(entry, tmp_path):
    """Names and shapes at full size, without memory for the weights."""
    import torchaudio

    bundle = getattr(torchaudio.pipelines, entry.bundle)
    with torch.device("meta"):
        make = torchaudio.models.wavlm_model if bundle._model_type == "WavLM" else torchaudio.models.wav2vec2_model
        weights = make(**bundle._params).state_dict()
    converted = from_torchaudio(weights, tmp_path / bundle._path)
    assert converted.normalize is bundle._normalize_waveform
    assert converted.family == entry.family
    total = sum(tensor.numel() for tensor in converted.build().state_dict().values())
    assert total / 1e6 == pytest.approx(entry.parameters_million, abs=0.06)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    "family", [family for family in S3PRL if family != "wavlm"]
)  # it cannot be made without memory
def test_the_published_sizes_of_fairseq_fit(s3prl_content, tmp_path, family, large):
    sizes = {
        "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]",
        "encoder_layers": 24 if large else 12,
        "encoder_embed_dim": 1024 if large else 768,
        "encoder_ffn_embed_dim": 4096 if large else 3072,
        "encoder_attention_heads": 16 if large else 12,
        "conv_bias": large and family in ("wav2vec2", "hubert"),
        "conv_pos": 128,
        "conv_pos_groups": 16,
    }
    if family == "data2vec-audio":
        sizes |= {"conv_pos": 95, "pos_conv_depth": 5, "layer_norm_first": False}
    with torch.device("meta"):
        content = s3prl_content(
            S3PRL[family], "layer_norm" if large or family == "data2vec-audio" else "default", **sizes
        )
    converted = from_fairseq(fairseq_parts(content, tmp_path), tmp_path)
    total = sum(tensor.numel() for tensor in converted.build().state_dict().values())
    names = {"wav2vec2": ("wav2vec2_base", "xls_r_300m"), "hubert": ("hubert_base", "hubert_large")}
    names |= {"data2vec-audio": ("data2vec_base", "data2vec_large")}
    assert total / 1e6 == pytest.approx(find_public(names[family][large]).parameters_million, abs=0.06)


def test_half_precision_weights_make_a_float32_model(made, tmp_path):
    content = dict(made().content)
    content["model_weight"] = {key: value.half() for key, value in content["model_weight"].items()}
    torch.save(content, tmp_path / "half.pt")
    assert {p.dtype for p in load_any(tmp_path / "half.pt").parameters()} == {torch.float32}


def test_random_init_takes_the_architecture_alone(made):
    file = str(made().own)
    fresh = hub.build(ckpt=file, upstream="auto", random_init=True)
    assert fresh.backbone_fingerprint == hub.build(ckpt=file, upstream="auto", random_init=True).backbone_fingerprint
    assert fresh.backbone_fingerprint != hub.build(ckpt=file, upstream="auto").backbone_fingerprint


def test_public_names_refuse_a_model_of_another_size(made):
    one = made("wav2vec2", "layer_norm")
    for path in one.files.values():
        with pytest.raises(
            CheckpointError, match=r"not xls_r_300m: layers 3, width 32, .* instead of layers 24, width 1024"
        ):
            hub.build(ckpt=str(path), upstream="xls_r_300m")


def test_names_of_public_upstreams_take_any_format(made, any_size):
    one = made("wav2vec2", "layer_norm")
    for path in one.files.values():
        upstream = hub.build(ckpt=str(path), upstream="xls_r_300m")
        assert upstream.expert.normalize_eps == 1e-5
    with pytest.raises(CheckpointError, match="a wavlm model, but upstream xlsr_53 is wav2vec2"):
        hub.build(ckpt=str(made("wavlm", "default").own), upstream="xlsr_53")
    with pytest.raises(ConfigError, match="auto needs a file, folder or repository"):
        hub.build(upstream="auto")


@pytest.mark.parametrize("name", ["s3prl or WavLM", "fairseq, args", "torchaudio"])
def test_a_partial_checkpoint_is_refused_with_its_keys(made, tmp_path, name):
    path = made("hubert", "default").files[name]
    content = torch.load(path, weights_only=False)
    weights = content.get("model_weight") or content.get("model") or content
    for key in [key for key in weights if ".layers.1." in key]:
        del weights[key]
    weights["encoder.layers.9.fc7.weight"] = torch.zeros(1)
    weights[
        "feature_extractor.conv_layers.3.0.weight" if len(content) < 9 else "encoder.feature_projection.projection.bias"
    ] = torch.zeros(2)
    broken = tmp_path / f"broken{path.suffix}"
    torch.save(content, broken)
    if path.with_suffix(".json").exists():
        broken.with_suffix(".json").write_text(path.with_suffix(".json").read_text())
    with pytest.raises(CheckpointError) as error:
        load_any(broken)
    message = str(error.value)
    assert "16 missing from the checkpoint: encoder.layers.1." in message
    assert "and 8 more" in message
    assert "1 in the checkpoint but not in the model: encoder.layers.9" in message
    assert "of another shape than the model's" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_type": "conformer"}, "layers of the type 'conformer'"),
        ({"extractor_mode": "batch"}, "extractor_mode 'batch'"),
        ({"pos_conv_depth": 3}, "3 positional convolutions"),
        ({"conv_pos_batch_norm": True}, "batch norm"),
        ({"_name": "wav2vec"}, "of the kind 'wav2vec'"),
        ({"_name": "roberta"}, "of the kind 'roberta'"),
        ({"encoder_layers": "12"}, "encoder_layers should be like 12, found '12'"),
        ({"conv_bias": 1}, "conv_bias should be like False"),
        ({"conv_feature_layers": "__import__('os').system('false')"}, "conv_feature_layers should be a list"),
        ({"encoder_attention_heads": 3}, "model can be made from this configuration"),
    ],
)
def test_configurations_that_do_not_fit(made, tmp_path, changes, message):
    one = made("wav2vec2", "layer_norm")
    torch.save({"cfg": {"model": {**one.model_cfg, **changes}, "task": {}}, "model": one.weights}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message.replace("(", r"\(")):
        load_any(tmp_path / "x.pt")


def test_conv_layers_reads_fairseqs_notation_and_nothing_else(tmp_path):
    text = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    assert conv_layers(text, tmp_path) == eval(text)
    for wrong in (
        "[]",
        "[(1, 2)]",
        "[(1, 2, 3)] * 1000000000",
        "[(9**9, 2, 3)]",
        "open('x')",
        "[(-1, 2, 3)]",
        "(" * 500,
    ):
        with pytest.raises(CheckpointError, match="conv_feature_layers"):
            conv_layers(wrong, tmp_path)


class Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path(self.path),)


class RunSystem:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


class RunEval(RunSystem):
    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", [Touch, RunSystem, RunEval])
def test_code_in_a_fairseq_file_is_refused_and_not_run(made, tmp_path, kind, old):
    one, trap = made("wav2vec2", "default"), tmp_path / "touched"
    content = {"cfg": {"model": one.model_cfg, "task": {}}, "model": one.weights, "extra_state": kind(trap)}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match=r"x\.pt: refused, because it is a pickle that runs code"):
        load_any(tmp_path / "x.pt")
    assert not trap.exists()


@pytest.fixture
def fairseq_classes():
    """Modules with the names of fairseq's, so that a file can be written as fairseq writes it; gone when it is read."""

    class Trap:
        armed = False

        def __setstate__(self, state):
            if Trap.armed:
                raise AssertionError("code of fairseq ran")
            self.__dict__.update(state)

    names = {"fairseq.data.dictionary": "Dictionary", "fairseq.dataclass.constants": "PRINT_ENUM"}
    names |= {"fairseq.logging.meters": "MetersDict", "fairseq.tasks.some": "Paths"}
    bases = {"MetersDict": (Trap, OrderedDict), "Paths": (Trap, list)}
    added = []
    for module_name, class_name in names.items():
        for depth in range(1, module_name.count(".") + 2):
            parent = ".".join(module_name.split(".")[:depth])
            if parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                added.append(parent)
        place = {"__module__": module_name, "__qualname__": class_name}
        made_class = type(class_name, bases.get(class_name, (Trap,)), place)
        setattr(sys.modules[module_name], class_name, made_class)
    yield {name: getattr(sys.modules[module], name) for module, name in names.items()}, Trap
    for name in added:
        del sys.modules[name]


def test_dictionaries_and_task_state_are_skipped_without_their_code(made, wavs, tmp_path, fairseq_classes):
    classes, trap = fairseq_classes
    one = made("hubert", "default")
    dictionary = classes["Dictionary"]()
    dictionary.symbols = ["<s>", "a"]
    content = {
        "cfg": {"model": {"_name": "hubert", **one.model_cfg}, "task": one.task_cfg},
        "model": one.weights,
        "task_state": {"dictionaries": [dictionary]},
        "extra_state": {
            "best": np.float64(0.5),
            "kind": classes["PRINT_ENUM"](),
            "meters": classes["MetersDict"](train=1),
            "paths": classes["Paths"]([1, 2]),
            "counts": defaultdict(list, a=[1]),
        },
    }
    torch.save(content, tmp_path / "x.pt")
    trap.armed = True
    upstream = load_any(tmp_path / "x.pt").eval()
    torch.testing.assert_close(hidden(upstream, wavs[:1])[-1], hidden(one.reference, wavs[:1])[-1], **TOLERANCE)


def test_mutated_files_load_or_are_refused(made, tmp_path):
    """Bytes changed, left out or doubled in the pickles at a file's beginning: never another error than ours."""
    whole, chance = made("wav2vec2", "default").files["fairseq, args"].read_bytes(), random.Random(0)
    refused = []
    for _ in range(150):
        content = bytearray(whole)
        at = [chance.randrange(8000) for _ in range(chance.choice((1, 1, 4)))]
        for place in at:
            content[place : place + chance.randrange(3)] = bytes(
                chance.randrange(256) for _ in range(chance.randrange(3))
            )
        (tmp_path / "x.pt").write_bytes(
            content[: chance.choice((len(whole), len(whole), chance.randrange(len(whole))))]
        )
        try:
            read_any(tmp_path / "x.pt").build()
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 75
    assert all(message.startswith(f"{tmp_path / 'x.pt'}: ") for message in refused)


def test_files_that_are_no_checkpoint(made, tmp_path):
    good = made().own.read_bytes()
    cases = {
        "cut.pt": (good[: len(good) // 2], "cannot be read|not a torch checkpoint"),
        "page.pt": (b"<html>404</html>", "cannot be read|not a torch checkpoint"),
        "empty.pt": (b"", "cannot be read|not a torch checkpoint"),
        "cut.safetensors": (b"\x10\0\0\0\0\0\0\0{", "cannot be read as safetensors"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_any(tmp_path / name)
    for content, message in (
        ([1, 2], "expected a checkpoint, found list"),
        ({"model": {}, "epoch": 3}, "no configuration"),
        ({"cfg": {"model": {}}, "weights": {}}, "no weights"),
        ({"cfg": [1], "model": {}}, "no mapping of names to values"),
        ({"cfg": {"model": {"_name": 3}}, "model": {}}, "of the kind 3"),
        (OWN_PARENT, "contains itself"),
        ({"a.weight": torch.ones(2)}, "weights without a configuration"),
        ({"encoder.transformer.layers.0.layer_norm.bias": torch.ones(2)}, "says nothing of the model's configuration"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            load_any(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"gone\.pt: no such checkpoint file"):
        load_any(tmp_path / "gone.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        load_any(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type 'bert' is none of hubert, wav2vec2"):
        load_any(tmp_path / "folder")
