from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from s3router.upstreams.huggingface import FAMILIES
from s3router.upstreams.s3prl_models import known_names

PRESETS = sorted((Path(__file__).parents[2] / "conf" / "upstreams").rglob("*.yaml"))


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_presets_were_found():
    assert {path.stem for path in PRESETS} >= {"tiny", "wav2vec2_base", "wav2vec2_large", "hubert_base", "xls_r_300m"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_name_what_s3prl_downloads(path, monkeypatch, tmp_path):
    preset = read(path)
    if preset["upstream"] == "tiny":
        assert set(preset) == {"upstream"}
        return
    assert set(preset) == {"upstream", "url", "huggingface", "size"}
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
    assert asked.value.args == (preset["url"],)


@pytest.mark.parametrize("path", [path for path in PRESETS if path.stem != "tiny"], ids=lambda path: path.stem)
def test_sizes_give_the_number_of_parameters(path):
    import transformers

    preset = read(path)
    size, kind = preset["size"], preset["huggingface"]["upstream"]
    model_class = getattr(transformers, FAMILIES[kind][1])
    settings = {
        "num_hidden_layers": size["layers"],
        "hidden_size": size["width"],
        "intermediate_size": size["ffn"],
        "num_attention_heads": size["heads"],
    }
    if kind != "hf_data2vec_custom":
        large = size["layers"] == 24
        settings |= {"feat_extract_norm": size["conv_norm"], "do_stable_layer_norm": large, "conv_bias": large}
    with torch.device("meta"):
        model = model_class(model_class.config_class(**settings))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(size["parameters_million"], abs=0.06)
