"""The parts of models of every vendor, and lengths against torch's own convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from s3router.upstreams import hub
from s3router.upstreams.anatomy import Anatomy, ConvLengths

FAMILIES = ("hf_hubert_custom", "hf_wav2vec2_custom", "hf_wavlm_custom", "hf_data2vec_custom")


@pytest.mark.parametrize("name", [*FAMILIES, "hubert_custom", "wav2vec2_custom", "data2vec_custom", "wavlm_local"])
def test_the_parts_of_every_family(name, hf_folder, s3prl_file):
    path = hf_folder(name) if name.startswith("hf_") else s3prl_file(name)
    upstream = hub.build(str(path), upstream=name)
    anatomy = upstream.anatomy
    assert anatomy.front_end == "feature_extractor"
    assert anatomy.layers == tuple(f"encoder.layers.{n}" for n in range(3))
    assert anatomy.lengths.stride == upstream.get_downsample_rates() == 320
    assert anatomy.receptive_field == 400
    assert bool(anatomy.stacked_positions) == ("data2vec" in name)
    inside = {key for key, _ in upstream.backbone.named_parameters() if anatomy.in_front_end(key)}
    assert inside == {f"feature_extractor.{key}" for key, _ in upstream.front_end.named_parameters()}
    assert not anatomy.in_front_end("feature_extractor_of_another_kind.weight")
    whole = Anatomy.of(nn.ModuleDict({"upstream": upstream}))  # what wraps a backbone has its parts
    assert whole.front_end.endswith(".feature_extractor")
    assert whole.lengths == anatomy.lengths


def test_torchaudios_names():
    from torchaudio.models import wav2vec2_model

    model = wav2vec2_model(
        "group_norm", [(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2, False, 32, 0.0, 8, 4, 2, 4, 0.0, 64, 0.0, 0.0,
        False, 0.0, None,
    )  # fmt: skip
    anatomy = Anatomy.of(model)
    assert (anatomy.front_end, anatomy.encoder_input) == ("feature_extractor", "encoder.feature_projection")
    assert anatomy.layers == ("encoder.transformer.layers.0", "encoder.transformer.layers.1")
    assert anatomy.mask_embedding is None


def test_a_model_without_such_parts():
    assert Anatomy.of(nn.Sequential(nn.Linear(2, 2))) == Anatomy()
    assert Anatomy().receptive_field == 1
    assert not Anatomy().in_front_end("feature_extractor.weight")


def test_lengths_count_frames_as_torch_does():
    convs = nn.Sequential(nn.Conv1d(1, 1, 10, 5), nn.Conv1d(1, 1, 3, 2, padding=1, dilation=2))
    lengths = ConvLengths.of(convs)
    for samples in (40, 41, 55, 56, 300):
        assert lengths.frames(samples) == convs(torch.zeros(1, 1, samples)).size(-1)
    assert lengths.stride == 10
    public = ConvLengths(tuple((k, s, 0, 1) for k, s in ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))))
    assert public.receptive_field == 400
    assert [public.frames(n) for n in (0, 399, 400, 719, 720, 16000)] == [0, 0, 1, 1, 2, 49]
