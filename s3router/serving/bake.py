"""A mask pack written into its backbone's weights: a plain model for people who do not use s3router.

What comes out depends on what the formats can say (all of it is checked against the router's own output):

- a HuggingFace upstream whose last layer feeds the head: a folder for ``AutoModelForCTC``;
- one with a weighted sum of layers, which no model class of transformers has for CTC: a folder for ``AutoModel``, the
  head in ``head.safetensors``, and ``ctc.py``, which puts the two together;
- an upstream that s3prl itself loads: its checkpoint with the zeros in it, and the head beside it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from s3router.errors import ConfigError, PackError
from s3router.packs import MaskPack, read_pack
from s3router.packs.pack_file import read_parts
from s3router.serving.baked_files import TOLERANCE, head_of, settings_of, write_huggingface, write_s3prl

if TYPE_CHECKING:
    from s3router.upstreams.huggingface import HuggingFaceUpstream


def bake(
    path: str | os.PathLike,
    output: str | os.PathLike,
    upstream: str | None = None,
    ckpt: str | None = None,
    onnx: bool = False,
) -> dict[str, Any]:
    """Write the folder, whole or not at all.

    Args:
        path: the pack, for CTC.
        output: a folder that is not there yet, or is empty.
        upstream: the backbone's name; by default the one that the pack names.
        ckpt: the backbone's checkpoint.
        onnx: also ``model.onnx``: waveform (batch, samples) -> log probabilities (batch, frames, tokens).

    Returns:
        ``kind`` (``ctc``, ``backbone`` or ``s3prl``), ``files``, and ``difference``: the largest one between its log
        probabilities and the router's; with `onnx`, ``onnx_difference``.

    Raises:
        PackError: the pack is damaged, or for another backbone.
        ConfigError: the folder is in use, or ONNX cannot be had here.
        CheckpointError: what was written does not give the router's outputs.
    """
    from s3router.serving.route_heads import CTCHead, route_head
    from s3router.serving.routed_model import RoutedModel
    from s3router.upstreams.hub import load_expert
    from s3router.upstreams.huggingface import HuggingFaceUpstream
    from s3router.upstreams.routed import RoutedUpstream

    output = Path(output)
    meta = read_parts(path).description.meta
    if upstream is None:
        upstream, ckpt = meta.backbone, ckpt or meta.checkpoint
        if ckpt is not None and "/" not in ckpt and not Path(ckpt).exists():  # no repository either
            raise ConfigError(f"{path}: its backbone is {upstream}, {ckpt}; say where that is (--backbone)")
    expert = load_expert(upstream, ckpt).eval()
    plain = isinstance(expert, HuggingFaceUpstream)
    if onnx and not plain:
        raise ConfigError(f"--onnx: upstream {upstream} is not one of transformers; take an hf_*_custom upstream")
    backbone = expert.model if plain or isinstance(getattr(expert, "model", None), nn.Module) else expert
    pack = read_pack(path, backbone)
    if not isinstance(route_head(pack), CTCHead):
        raise PackError(f"{path}: its pack has no CTC output layer, so it cannot transcribe")
    masked = apply(copy.deepcopy(expert.model), pack) if plain else None
    with _new_folder(output) as folder:
        (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in pack.tokens), encoding="utf-8")
        if plain:
            router = RoutedModel(RoutedUpstream(expert))
            router.add(pack)
            report = write_huggingface(folder, masked, expert, pack, router)
            if onnx:
                from s3router.serving.onnx_export import export

                report["onnx_difference"] = export(standalone(masked, expert, pack), folder / "model.onnx", TOLERANCE)
        else:
            report = write_s3prl(folder, ckpt, upstream, apply(backbone, pack), pack)
        (folder / "README.md").write_text(_readme(report, pack, upstream), encoding="utf-8")
        report["files"] = sorted(file.name for file in folder.iterdir())
    return report


@torch.no_grad()
def apply(backbone: nn.Module, pack: MaskPack) -> nn.Module:
    """Write the pack's zeros and further weights into a plain backbone, in place."""
    from s3router.packs.fingerprint import named_weights

    weights = dict(named_weights(backbone))
    for name, values in pack.delta.items():
        weights[name].copy_(values)
    for name, keep in pack.masks.items():
        weights[name].masked_fill_(~keep.to(weights[name].device), 0)
    return backbone


def standalone(masked: nn.Module, expert: HuggingFaceUpstream, pack: MaskPack) -> nn.Module:
    """The whole model, waveform -> log probabilities, as `ctc.py` has it."""
    from s3router.serving.baked_ctc import CTC

    return CTC(masked, head_of(pack), settings_of(expert, pack))


def _readme(report: Mapping[str, Any], pack: MaskPack, upstream: str) -> str:
    meta = pack.meta
    use = {
        "ctc": "A CTC model for `transformers.AutoModelForCTC` (token 0 is the blank).",
        "backbone": "`model.safetensors` is for `transformers.AutoModel`; `head.safetensors` holds the weights of its "
        "layers'\nsum and the output layer. `ctc.py` puts them together: `python ctc.py a.wav`.",
        "s3prl": f"`{report.get('checkpoint')}` is for s3prl's upstream `{upstream}`; `head.safetensors` holds the "
        "featurizer's\n`layer_weights` (before their softmax) and the output layer (`weight`, `bias`) on top of it.",
    }[report["kind"]]
    removed = 1 - sum(int(m.sum()) for m in pack.masks.values()) / max(1, sum(m.numel() for m in pack.masks.values()))
    lines = [
        f"# {pack.route}: {meta.backbone} with {removed:.1%} of {len(pack.masks)} weight matrices removed",
        "",
        use,
        "",
        "Audio is 16 kHz, one channel. Tokens: `tokens.txt`, one a line.",
        f"Corpus: {meta.corpus or 'not given'}. Licence: {meta.licence or 'not given'}. Packed: {meta.date or '–'}.",
        f"Metrics (shares): {json.dumps(meta.metrics) if meta.metrics else 'not given'}.",
    ]
    if "onnx_difference" in report:
        lines += [
            "",
            "`model.onnx`: `wave` (batch, samples), float32, all of one length -> `log_probs` (batch, frames, tokens). "
            f"Compared\nwith torch when it was written: within {TOLERANCE:g} (found {report['onnx_difference']:.1e}).",
        ]
    return "\n".join([*lines, "", "Written by `s3router bake`; s3router is not needed to use it.", ""])


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder that takes the place of `output` when the block ends without an error."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: is there already and not empty; name another folder, or remove it")
    if not output.name:
        raise ConfigError(f"{output}: the folder you are in is not replaced; name another")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes files that nobody else may read
        if output.exists():
            output.rmdir()
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
