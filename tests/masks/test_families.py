"""Masks in random tiny models of every naming family, against the same model with zeros written into its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from s3router.masks import MaskConfig, attach, bake, detach, iterate, masks_of

CONVS = [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2]
FAIRSEQ = {
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "conv_feature_layers": str(CONVS),
    "conv_pos": 16,
    "conv_pos_groups": 4,
}
Case = tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]


def huggingface(name: str, stable: bool) -> Case:
    import transformers

    config = getattr(transformers, f"{name}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=stable,
        feat_extract_norm="layer" if stable else "group",
    )
    return getattr(transformers, f"{name}Model")(config), lambda model, wave: model(wave).last_hidden_state


def s3prl(name: str) -> Case:
    if name == "wav2vec2":
        from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

        model = Wav2Vec2Model(Wav2Vec2Config(**FAIRSEQ, final_dim=8))
        return model, lambda model, wave: model(wave, mask=False, features_only=True)["x"]
    if name == "hubert":
        from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

        model = HubertModel(HubertConfig(**FAIRSEQ, final_dim=8, label_rate=50), HubertPretrainingConfig(), [range(5)])
        return model, lambda model, wave: model.extract_features(wave, mask=False)[0]
    if name == "data2vec":
        from s3prl.upstream.data2vec.data2vec_model import Data2VecAudioConfig, Data2VecAudioModel

        model = Data2VecAudioModel(Data2VecAudioConfig(**FAIRSEQ))
        return model, lambda model, wave: model.extract_features(wave, None, mask=False)["x"]
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    extra = {"relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": 8, "max_distance": 16}
    return WavLM(WavLMConfig(FAIRSEQ | extra)), lambda model, wave: model.extract_features(wave)[0]


def torchaudio(name: str) -> Case:
    from torchaudio import models

    settings = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": CONVS,
        "extractor_conv_bias": False,
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 2,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 32,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": False,
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    if name == "wavlm":
        settings |= {"encoder_num_buckets": 8, "encoder_max_distance": 16}
    return getattr(models, f"{name}_model")(**settings), lambda model, wave: model(wave)[0]


def espnet(name: str) -> Case:
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
    from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
    from espnet2.asr.encoder.transformer_encoder import TransformerEncoder

    common = {"output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 2}
    model = {
        "transformer": lambda: TransformerEncoder(20, **common),
        "conformer": lambda: ConformerEncoder(
            20,
            **common,
            macaron_style=True,
            rel_pos_type="latest",
            pos_enc_layer_type="rel_pos",
            selfattention_layer_type="rel_selfattn",
        ),
        "e_branchformer": lambda: EBranchformerEncoder(
            20, **common, cgmlp_linear_units=32, use_ffn=True, macaron_ffn=True, use_flash_attn=False
        ),
    }[name]()

    def run(model: nn.Module, wave: Tensor) -> Tensor:
        frames = wave.view(2, -1, 20)
        return model(frames, torch.full((2,), frames.shape[1]))[0]

    return model, run


CASES: dict[str, tuple[Callable[[], Case], int]] = {  # builder, number of masked weights
    **{
        f"hf-{name}-{'pre' if stable else 'post'}": (lambda name=name, stable=stable: huggingface(name, stable), 13)
        for name in ("Wav2Vec2", "Hubert", "WavLM")
        for stable in (False, True)
    },
    "hf-Data2VecAudio": (lambda: huggingface("Data2VecAudio", False), 13),
    **{f"s3prl-{n}": (lambda n=n: s3prl(n), 13) for n in ("wav2vec2", "hubert", "data2vec", "wavlm")},
    "torchaudio-wav2vec2": (lambda: torchaudio("wav2vec2"), 13),
    "torchaudio-wavlm": (lambda: torchaudio("wavlm"), 9),
    "espnet-transformer": (lambda: espnet("transformer"), 13),
    "espnet-conformer": (lambda: espnet("conformer"), 17),
    "espnet-e_branchformer": (lambda: espnet("e_branchformer"), 21),
}


@pytest.mark.parametrize("case", CASES)
def test_family(case):
    build, count = CASES[case]

    def fresh() -> nn.Module:  # several of these models cannot be deep-copied
        torch.manual_seed(0)
        return build()[0].eval()

    run = build()[1]
    model, plain, zeroed, baked = (fresh() for _ in range(4))
    wave = torch.randn(2, 1600, generator=torch.Generator().manual_seed(0))
    config = MaskConfig(sparsity=0.3, targets=("ffn", "attention", "projection"))
    assert len(attach(model, config)) == count

    parameters = dict(zeroed.named_parameters())
    with torch.no_grad():
        for name, mask in masks_of(model).items():
            assert int((~mask).sum()) == int(0.3 * mask.numel())
            parameters[name] *= mask
        expected = run(zeroed, wave)
        assert not torch.allclose(expected, run(plain, wave), atol=1e-3)
        assert torch.allclose(run(model, wave), expected, atol=1e-6)

    output = run(model, wave)
    assert torch.allclose(output, expected, atol=1e-6)
    (output * torch.linspace(0.5, 2, output.shape[-1])).square().sum().backward()
    for name, mask in iterate(model):
        assert mask.scores.grad is not None, name
        assert mask.scores.grad.abs().sum() > 0, name
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.endswith(".scores")}

    attach(baked, config)
    bake(baked)
    assert list(baked.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert torch.allclose(run(baked, wave), expected, atol=1e-6)

    detach(model)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    for (name, before), after in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(before, after), name
        assert before.requires_grad == after.requires_grad, name
    assert torch.equal(run(model, wave), run(plain, wave))

    # Last, as ESPnet's positional encodings stay in bfloat16 after their first use under autocast.
    attach(model, config)
    with torch.autocast("cpu", torch.bfloat16):
        low, expected_low = run(model, wave), run(zeroed, wave)
    assert torch.allclose(low.float(), expected_low.float(), atol=0.05)  # attention kernels differ by what needs grad
    low.float().sum().backward()
