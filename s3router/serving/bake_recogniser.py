"""Whole recognisers written as plain ones: a folder for transformers' WhisperForConditionalGeneration.

From there ``ct2-transformers-converter`` makes a model of faster-whisper (docs/recogniser.md).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s3router.errors import CheckpointError, ConfigError
from s3router.files import replacing_folder
from s3router.packs import MaskPack, read_pack
from s3router.packs.merging import merge
from s3router.prune.shrink import fit_config, shrink
from s3router.serving.baked_files import TOLERANCE, quiet_transformers, what_it_is, written_by
from s3router.serving.loading import backbone_of
from s3router.serving.opening import open_experiment
from s3router.serving.packing import pack_of
from s3router.serving.whole_routes import listening_of
from s3router.upstreams.routes import Routes
from s3router.upstreams.whisper import WINDOW

if TYPE_CHECKING:
    from torch import Tensor

    from s3router.upstreams.whisper_recogniser import Recogniser


def bake_recogniser(
    source: str | os.PathLike,
    output: Path,
    upstream: str | None = None,
    ckpt: str | None = None,
    checkpoint: str | None = None,
    smaller: bool = False,
) -> dict[str, Any]:
    """Write the folder of a pack or experiment of a whole recogniser; arguments and errors as of `bake`.

    The language is set in ``generation_config.json``, so that transformers' ``pipeline`` transcribes by it unasked.
    """
    from s3router.upstreams.whisper_recogniser import load_recogniser

    upstream, ckpt = backbone_of(source, upstream, ckpt)
    try:
        recogniser = load_recogniser(upstream, ckpt)
    except ConfigError as error:
        raise ConfigError(f"{source} is for a whole recogniser, encoder and decoder. {error}") from None
    pack = _pack(source, recogniser, checkpoint)
    expected = _router_logits(recogniser, pack)
    merge(recogniser.model, pack)
    report: dict[str, Any] = {}
    if smaller:
        before = sum(tensor.numel() for tensor in recogniser.model.parameters())
        report = {"shrunk": shrink(recogniser.model, pack.masks), "parameters_before": before}
        if not fit_config(recogniser.model):
            raise ConfigError(
                f"{source}: transformers' configuration of Whisper has one number of hidden units for all layers of a "
                "stack and no place for fewer heads; train with mask_conf targets: [ffn], scope: tensor"
            )
    listening = listening_of(pack)
    if recogniser.languages:
        decoding = recogniser.model.generation_config
        decoding.language, decoding.task = listening.language, "transcribe"
    with replacing_folder(output) as folder, quiet_transformers():
        recogniser.write(folder)
        difference = _compare(folder, recogniser, listening.language, expected)
        report |= {
            "kind": "recogniser",
            "difference": difference,
            "parameters": sum(tensor.numel() for tensor in recogniser.model.parameters()),
            "zeros": sum(int((~mask).sum()) for mask in pack.masks.values()),
        }
        if smaller:
            weights = dict(recogniser.model.named_parameters())
            report["zeros"] = sum(int((weights[name] == 0).sum()) for name in pack.masks)
        (folder / "README.md").write_text(_readme(report, pack), encoding="utf-8")
        files = sorted(folder.iterdir())
        for file in files:
            file.chmod(0o644)  # safetensors writes files that nobody else may read
        report |= {"files": [file.name for file in files], "bytes": sum(file.stat().st_size for file in files)}
    return report


def _pack(source: str | os.PathLike, recogniser: Recogniser, checkpoint: str | None) -> MaskPack:
    if not Path(source).is_dir():
        return read_pack(source, recogniser.model, fingerprint=recogniser.fingerprint)
    exp = open_experiment(source)
    exp.check_upstream(recogniser.fingerprint)
    return pack_of(exp, exp.parts(checkpoint), exp.path.resolve().name, checkpoint)


def _inputs(recogniser: Recogniser, language: str | None) -> dict[str, Tensor]:
    """30 s of noise, as transformers wants them, and some tokens."""
    wave = 0.1 * torch.randn(WINDOW, generator=torch.Generator().manual_seed(0))
    tokens = [*recogniser.prompt(language), *range(20, 30)]
    return {"input_features": recogniser.log_mel(wave)[None], "decoder_input_ids": torch.tensor([tokens])}


@torch.inference_mode()
def _router_logits(recogniser: Recogniser, pack: MaskPack) -> Tensor:
    routes = Routes(recogniser.model, recogniser.fingerprint)
    routes.add(pack)
    with routes.applied(pack.route):
        found = recogniser.model(**_inputs(recogniser, listening_of(pack).language)).logits
    routes.remove(pack.route)
    return found


@torch.inference_mode()
def _compare(folder: Path, recogniser: Recogniser, language: str | None, expected: Tensor) -> float:
    """The largest difference of logits between the saved model and the router. Raises CheckpointError."""
    from transformers import WhisperForConditionalGeneration

    again = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    difference = float((again(**_inputs(recogniser, language)).logits - expected).abs().max())
    if not difference <= TOLERANCE:
        raise CheckpointError(f"the baked model differs from the router by {difference:.2g}; nothing was written")
    return difference


def _readme(report: dict[str, Any], pack: MaskPack) -> str:
    meta, language = pack.meta, listening_of(pack).language
    lines = [
        f"# {pack.route}: {what_it_is(report, pack)}",
        "",
        "A Whisper for `transformers`: `WhisperForConditionalGeneration` and `WhisperProcessor`, or",
        "`pipeline('automatic-speech-recognition', FOLDER)`. For faster-whisper:",
        "",
        "    ct2-transformers-converter --model FOLDER --output_dir OUT --quantization float16 \\",
        "        --copy_files tokenizer.json preprocessor_config.json",
        "",
        f"{report['parameters']:,} parameters, {report['zeros']:,} of them zero. Audio is 16 kHz, one channel.",
        f"Language token: {language or 'none (English only)'}; it was adapted with this one.",
        f"Corpus: {meta.corpus or 'not given'}. Licence: {meta.licence or 'not given'}. Packed: {meta.date or '–'}.",
        f"Metrics (shares): {json.dumps(meta.metrics) if meta.metrics else 'not given'}.",
        "",
        written_by(report),
    ]
    return "\n".join([*lines, ""])
