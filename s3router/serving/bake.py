"""Trained models written as plain ones, for people who do not use s3router.

A pack, masks or adapter, is written into its backbone's weights; of an experiment that trained weights, those are
written. Only bottlenecks (method houlsby) cannot be. What comes out depends on what the formats can say (all of it is
compared with the router's own outputs):

- a HuggingFace upstream whose last layer feeds a CTC head: a folder for ``AutoModelForCTC``;
- any other HuggingFace upstream: a folder for ``AutoModel``, the head in ``head.safetensors``, and ``ctc.py`` or
  ``classify.py``, which puts the two together (no class of transformers sums layers for CTC, or counts the frames of an
  utterance as the classifiers do);
- an encoder of Whisper: the same, with a folder for transformers' ``WhisperEncoder``;
- a whole recogniser: a folder for ``WhisperForConditionalGeneration`` (`s3router.serving.bake_recogniser`);
- an upstream that s3prl itself loads: its checkpoint with these weights in it, and the head beside it.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from s3router.errors import ConfigError
from s3router.files import replacing_folder
from s3router.packs import MaskPack, read_pack
from s3router.packs.merging import merge
from s3router.prune.shrink import fit_config, shrink
from s3router.serving.bake_recogniser import bake_recogniser
from s3router.serving.baked_files import (
    TOLERANCE,
    WHISPER_CLASS,
    head_of,
    settings_of,
    what_it_is,
    write_huggingface,
    write_s3prl,
    written_by,
)
from s3router.serving.loading import backbone_of, is_whole
from s3router.serving.onnx_export import export, require_onnx
from s3router.serving.opening import open_experiment
from s3router.serving.packing import pack_of
from s3router.upstreams.upstream import model_of

if TYPE_CHECKING:
    from s3router.upstreams.huggingface import HuggingFaceUpstream
    from s3router.upstreams.whisper import WhisperUpstream


def bake(
    source: str | os.PathLike,
    output: str | os.PathLike,
    upstream: str | None = None,
    ckpt: str | None = None,
    onnx: bool = False,
    checkpoint: str | None = None,
    smaller: bool = False,
) -> dict[str, Any]:
    """Write the folder, whole or not at all.

    Args:
        source: a pack, or the folder of an experiment, of any method but ``houlsby``.
        output: a folder that is not there yet, or is empty.
        upstream: the backbone's name; by default the one that the source names.
        ckpt: the backbone's checkpoint.
        onnx: also ``model.onnx``: waveform (batch, samples) -> log probabilities (batch, frames, tokens).
        checkpoint: of an experiment, a name in its folder or a path; by default the best on the validation set.
        smaller: take out what masks remove as a whole (`s3router.prune.shrink`) instead of writing zeros.

    Returns:
        ``kind`` (``ctc``, ``backbone``, ``recogniser`` or ``s3prl``), ``files``, ``bytes`` of them, ``parameters`` of
        the model and how many of them are ``zeros``, and ``difference``: the largest one between its outputs and the
        router's; with `onnx`, ``onnx_difference``; with `smaller`, ``shrunk`` (the layers) and ``parameters_before``.

    Raises:
        PackError: the pack is damaged, or for another backbone.
        ConfigError: the folder is in use, the source cannot be written as a plain model, or ONNX cannot be had here.
        CheckpointError: the experiment is damaged; what was written does not give the router's outputs.
    """
    from s3router.serving.routed_model import RoutedModel
    from s3router.upstreams.huggingface import HuggingFaceUpstream
    from s3router.upstreams.routed import RoutedUpstream
    from s3router.upstreams.whisper import WhisperUpstream

    output = Path(output)
    _refuse_used(output)
    if checkpoint is not None and not Path(source).is_dir():
        raise ConfigError(f"--checkpoint {checkpoint}: {source} is a pack, made of one checkpoint; leave it out")
    if is_whole(source):
        if onnx:
            raise ConfigError("--onnx: not for whole recognisers; optimum exports the folder that bake writes")
        return bake_recogniser(source, output, upstream, ckpt, checkpoint, smaller)
    if onnx:
        require_onnx()  # before all the work
    is_pack = not Path(source).is_dir()
    model = _of_pack(source, upstream, ckpt) if is_pack else _of_experiment(source, upstream, ckpt, checkpoint)
    expert, pack = model.expert, model.pack
    plain = isinstance(expert, HuggingFaceUpstream | WhisperUpstream)
    if onnx and not plain:
        raise ConfigError(f"--onnx: upstream {model.upstream} is not one of transformers; take an hf_*_custom upstream")
    if onnx and pack.tokens is None:
        raise ConfigError("--onnx: for speech recognition only; classify.py in the folder shows how classes are found")
    if smaller and not plain:
        raise ConfigError(
            f"upstream {model.upstream} is not one of transformers, and cannot be shrunk; bake it instead"
        )
    # a model of s3prl may have weights that cannot be copied, and is not compared with the router
    baked = merge(copy.deepcopy(model.backbone) if plain else model.backbone, pack)
    if isinstance(expert, WhisperUpstream):
        baked = baked.plain()
    report, resized = {}, {}
    if smaller:
        before = sum(tensor.numel() for tensor in baked.parameters())
        report = {"shrunk": shrink(baked, pack.masks), "parameters_before": before}
        resized = {} if fit_config(baked) else {"resized": True}
    with replacing_folder(output) as folder:
        if pack.tokens is not None:
            (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in pack.tokens), encoding="utf-8")
        if plain:
            pack = _settled(model)
            settings = settings_of(expert, pack) | resized
            router = RoutedModel(RoutedUpstream(expert))
            router.add(pack)
            report |= write_huggingface(folder, baked, settings, pack, router)
            if onnx:
                report["onnx_difference"] = export(standalone(baked, expert, pack), folder / "model.onnx", TOLERANCE)
        else:
            report = write_s3prl(folder, model.ckpt, model.upstream, baked, pack)
        tensors = [*baked.parameters(), *head_of(pack).values()]
        report["parameters"] = sum(tensor.numel() for tensor in tensors)
        report["zeros"] = sum(int((~mask).sum()) for mask in pack.masks.values())
        if smaller:
            report["zeros"] = sum(int((baked.get_parameter(name) == 0).sum()) for name in pack.masks)
            report["parameters_before"] += sum(tensor.numel() for tensor in head_of(pack).values())
        (folder / "README.md").write_text(_readme(report, pack, model.upstream), encoding="utf-8")
        files = sorted(folder.iterdir())
        for file in files:
            file.chmod(0o644)  # safetensors writes files that nobody else may read
        report |= {"files": [file.name for file in files], "bytes": sum(file.stat().st_size for file in files)}
    return report


@dataclass(frozen=True)
class _Trained:
    """A model to be written.

    Attributes:
        expert: the upstream with the weights that it had before training.
        upstream, ckpt: where it comes from.
        pack: what was learnt; weights that trained are in its ``delta``.
    """

    expert: nn.Module
    upstream: str
    ckpt: str | None
    pack: MaskPack

    @property
    def backbone(self) -> nn.Module:
        """The plain model inside the upstream."""
        return model_of(self.expert)


def _of_pack(path: str | os.PathLike, upstream: str | None, ckpt: str | None) -> _Trained:
    from s3router.upstreams.hub import load_expert

    upstream, ckpt = backbone_of(path, upstream, ckpt)
    expert = load_expert(upstream, ckpt).eval()
    return _Trained(expert, upstream, ckpt, read_pack(path, model_of(expert)))


def _of_experiment(path: str | os.PathLike, upstream: str | None, ckpt: str | None, checkpoint: str | None) -> _Trained:
    from s3router.packs.fingerprint import named_weights, weights_hash
    from s3router.training.logs import errors_only
    from s3router.upstreams.hub import load_expert

    exp = open_experiment(path)
    upstream, ckpt = backbone_of(path, upstream, ckpt)
    with errors_only():  # not ESPnet's remarks while it builds the model
        parts = exp.parts(checkpoint)
    pack = pack_of(exp, parts, exp.path.resolve().name, checkpoint)
    expert = load_expert(upstream, ckpt, random_init=exp.method == "scratch").eval()
    if exp.method == "scratch":  # nothing is left of the weights that it began with
        pack = replace(pack, delta={name: tensor.clone() for name, tensor in named_weights(parts.backbone)})
    else:
        exp.check_upstream(weights_hash(model_of(expert)))
    return _Trained(expert, upstream, ckpt, pack)


def _settled(model: _Trained) -> MaskPack:
    """Write trained weights into the expert itself, so that the router need not exchange them; the pack without."""
    from s3router.packs.fingerprint import weights_hash

    pack = model.pack
    merge(model.backbone, replace(pack, masks={}, adapter={}))
    return replace(pack, delta={}, meta=replace(pack.meta, fingerprint=weights_hash(model.backbone)))


def standalone(baked: nn.Module, expert: HuggingFaceUpstream | WhisperUpstream, pack: MaskPack) -> nn.Module:
    """The whole recogniser, waveform -> log probabilities, as ``ctc.py`` has it."""
    from s3router.serving.baked_model import CTC

    return CTC(baked, head_of(pack), settings_of(expert, pack))


def _readme(report: Mapping[str, Any], pack: MaskPack, upstream: str) -> str:
    meta = pack.meta
    program = "ctc.py" if pack.tokens is not None else "classify.py"
    use = {
        "ctc": "A CTC model for `transformers.AutoModelForCTC` (token 0 is the blank).",
        "backbone": f"`model.safetensors` is for {_loader(report, program)}; `head.safetensors` holds the weights of "
        f"its layers'\nsum and the output layer. `{program}` puts them together: `python {program} a.wav`.",
        "s3prl": f"`{report.get('checkpoint')}` is for s3prl's upstream `{upstream}`; `head.safetensors` holds the "
        "featurizer's\n`layer_weights` (before their softmax) and the output layer (`weight`, `bias`) on top of it.",
    }[report["kind"]]
    names = "Tokens: `tokens.txt`, one per line." if pack.tokens is not None else "Classes: `head.json`."
    lines = [
        f"# {pack.route}: {what_it_is(report, pack)}",
        "",
        use,
        "",
        f"{report['parameters']:,} parameters, {report['zeros']:,} of them zero. Audio is 16 kHz, one channel. {names}",
        f"Corpus: {meta.corpus or 'not given'}. Licence: {meta.licence or 'not given'}. Packed: {meta.date or '–'}.",
        f"Metrics (shares): {json.dumps(meta.metrics) if meta.metrics else 'not given'}.",
    ]
    if "onnx_difference" in report:
        lines += [
            "",
            "`model.onnx`: `wave` (batch, samples), float32, all of one length -> `log_probs` (batch, frames, tokens). "
            f"Compared\nwith torch when it was written: within {TOLERANCE:g} (found {report['onnx_difference']:.1e}).",
            *(["It takes 30 s at most."] if report.get("class") == WHISPER_CLASS else []),
        ]
    return "\n".join([*lines, "", written_by(report), ""])


def _loader(report: Mapping[str, Any], program: str) -> str:
    if report.get("class"):
        return f"`{report['class']}`"
    return f"`{program}` (layers have fewer units than transformers' configuration has a place for)"


def _refuse_used(output: Path) -> None:
    if not output.name:
        raise ConfigError(f"{output}: the folder you are in is not replaced; name another")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: is there already and not empty; name another folder, or remove it")
