from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml

from s3router.upstreams.huggingface import FAMILIES
from s3router.upstreams.plain_model import model_class
from s3router.upstreams.public import CONF, catalogue, find_public, presets, widths
from s3router.upstreams.s3prl_models import known_names

TINY = CONF.parent / "tiny"
PRESETS = sorted((Path(__file__).parents[2] / "conf" / "upstreams").rglob("*.yaml"))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_presets_were_found():
    assert {path.stem for path in PRESETS} >= {"tiny", "wav2vec2_base", "wav2vec2_large", "hubert_base", "xls_r_300m"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_name_what_s3prl_downloads(path, monkeypatch, tmp_path):
    preset = read(path)
    if preset["upstream"] == "tiny":
        assert set(preset) == {"upstream", "family", "size"}
        return
    assert set(preset) - {"aliases", "bundle", "tokenizer", "alignment_heads"} == {
        "upstream",
        "family",
        "normalize",
        "files",
        "huggingface",
        "size",
    }
    assert preset["family"] == FAMILIES[preset["huggingface"]["upstream"]][0]
    revision = preset["huggingface"].get("revision", "main")
    assert re.fullmatch("main|[0-9a-f]{40}", revision)
    for remote in find_public(preset["upstream"]).files["huggingface"]:
        assert f"{preset['huggingface']['ckpt']}/resolve/{revision}/" in remote.url
        assert remote.sha256 is None or revision != "main"  # what main is today may be another file tomorrow
    if not {"s3prl", "wavlm"} & preset["files"].keys():  # a model that s3prl has only with packages of its own
        assert preset["family"] == "whisper"
        return
    assert preset["upstream"] in known_names()
    import s3prl.hub
    from s3prl.util import download

    class Asked(Exception):
        pass

    def ask(filepath, url, refresh):
        raise Asked(url)

    monkeypatch.setattr(download, "_download_dir", tmp_path)
    monkeypatch.setattr(download, "_download", ask)
    with pytest.raises(Asked) as asked:
        getattr(s3prl.hub, preset["upstream"])()
    assert asked.value.args == (preset["files"].get("s3prl") or preset["files"]["wavlm"],)


def test_the_size_of_tiny_is_what_its_files_say():
    from safetensors import safe_open

    config = json.loads((TINY / "config.json").read_text())
    size = presets()["tiny"]["size"]
    assert presets()["tiny"]["family"] == config["model_type"]
    assert (size["layers"], size["heads"]) == (config["num_hidden_layers"], config["num_attention_heads"])
    assert (size["conv_width"], size["conv_norm"]) == (config["conv_dim"][-1], config["feat_extract_norm"])
    assert widths("tiny") == widths("anything", str(TINY)) == (config["hidden_size"], config["intermediate_size"])
    with safe_open(TINY / "model.safetensors", "np") as file:
        total = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert total / 1e6 == pytest.approx(size["parameters_million"], abs=0.06)


def test_widths_by_name_and_alias():
    assert widths("xls_r_300m") == widths("wav2vec2_xls_r_300m") == (1024, 4096)
    assert widths("hf_hubert_custom", "/no/such/folder") == (768, 3072)


def test_the_torchaudio_files_are_those_of_its_bundles():
    from torchaudio import pipelines

    bundles = [entry for entry in map(find_public, catalogue()) if entry.bundle]
    assert len(bundles) >= 6
    for entry in bundles:
        bundle = getattr(pipelines, entry.bundle)
        assert entry.files["torchaudio"][0].name == bundle._path
        assert entry.normalize is bundle._normalize_waveform
        size = next(read(path)["size"] for path in PRESETS if read(path)["upstream"] == entry.name)
        assert bundle._params["encoder_num_layers"] == size["layers"]
        assert bundle._params["encoder_num_heads"] == size["heads"]
        assert bundle._params["extractor_mode"] == f"{size['conv_norm']}_norm"


def test_aliases_find_their_upstream_and_no_two_are_alike():
    names = [name for entry in catalogue().values() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert find_public("data2vec_base") is find_public("data2vec_base_960")
    assert find_public("tiny") is None
    assert {"s3prl", "fairseq", "huggingface", "torchaudio"} <= set(find_public("xls_r_300m").files)


@pytest.mark.parametrize("path", [path for path in PRESETS if path.stem != "tiny"], ids=lambda path: path.stem)
def test_sizes_give_the_number_of_parameters(path):
    preset = read(path)
    size, kind = preset["size"], preset["huggingface"]["upstream"]
    encoder = model_class(preset["family"])
    if preset["family"] == "whisper":
        settings = {
            "encoder_layers": size["layers"],
            "d_model": size["width"],
            "encoder_ffn_dim": size["ffn"],
            "encoder_attention_heads": size["heads"],
            "num_mel_bins": size["mel_bins"],
        }
    else:
        settings = wav2vec2_settings(size, kind)
    with torch.device("meta"):
        model = encoder(encoder.config_class(**settings))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(size["parameters_million"], abs=0.06)


def wav2vec2_settings(size: dict, kind: str) -> dict:
    settings = {
        "num_hidden_layers": size["layers"],
        "hidden_size": size["width"],
        "intermediate_size": size["ffn"],
        "num_attention_heads": size["heads"],
    }
    if kind != "hf_data2vec_custom":
        large = size["layers"] == 24
        settings |= {"feat_extract_norm": size["conv_norm"], "do_stable_layer_norm": large}
        settings |= {"conv_bias": large and kind != "hf_wavlm_custom"}
    return settings
