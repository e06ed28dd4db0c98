"""The files of a baked model, and the proof that they give the router's outputs."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s3router.errors import CheckpointError, ConfigError
from s3router.packs import MaskPack

if TYPE_CHECKING:
    from s3router.serving.routed_model import RoutedModel
    from s3router.upstreams.huggingface import HuggingFaceUpstream

LogProbs = Callable[[Tensor], Tensor]  # wave (1, samples) -> log probabilities (1, frames, tokens)
TOLERANCE = 1e-3  # of log probabilities, against the router's
_LENGTHS = (16000, 5000, 43210)  # samples of the noise that outputs are compared on


def head_of(pack: MaskPack) -> dict[str, Tensor]:
    """``weight`` (tokens, dim), maybe ``bias`` (tokens,) and ``layer_weights`` (layers,), float32."""
    head = {name: pack.head[name].float().contiguous() for name in ("weight", "bias") if name in pack.head}
    if pack.meta.preprocessing["features"] == "weighted" and "weights" in pack.featurizer:
        head["layer_weights"] = pack.featurizer["weights"].float().contiguous()
    return head


def settings_of(expert: HuggingFaceUpstream, pack: MaskPack) -> dict[str, Any]:
    """What ``ctc.py`` must know besides the weights."""
    given = pack.meta.preprocessing
    return {
        "normalize_audio": expert.normalize,
        "normalize_features": bool(given.get("normalize_features", False)),
        "token_type": given.get("token_type", "char"),
        "sample_rate": 16000,
    }


def write_huggingface(
    folder: Path, masked: nn.Module, expert: HuggingFaceUpstream, pack: MaskPack, router: RoutedModel
) -> dict[str, Any]:
    """Save the masked model for transformers; returns ``kind`` and ``difference`` (`s3router.serving.bake.bake`)."""
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": expert.normalize}
    extractor |= {"sampling_rate": 16000, "feature_size": 1, "padding_value": 0.0, "return_attention_mask": True}
    _write_json(folder / "preprocessor_config.json", extractor)
    settings = settings_of(expert, pack)
    expressible = pack.meta.preprocessing["features"] == "last" and not settings["normalize_features"]
    with _quiet():
        save = _save_ctc if expressible else _save_backbone
        log_probs = save(folder, masked, settings, pack)
    return {"kind": "ctc" if expressible else "backbone", "difference": _compare(log_probs, router, pack.route)}


def _save_ctc(folder: Path, masked: nn.Module, settings: Mapping[str, Any], pack: MaskPack) -> LogProbs:
    """For ``AutoModelForCTC`` and its tokenizer; returns the saved model as a function."""
    model = _for_ctc(masked, head_of(pack))
    model.save_pretrained(folder)
    _write_tokenizer(folder, pack)
    again = type(model).from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def log_probs(wave: Tensor) -> Tensor:
        if settings["normalize_audio"]:
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
        return again(wave).logits.log_softmax(-1)

    return log_probs


def _save_backbone(folder: Path, masked: nn.Module, settings: Mapping[str, Any], pack: MaskPack) -> LogProbs:
    """For ``AutoModel``, the head beside it, and ``ctc.py``; returns what that loads."""
    from safetensors.torch import save_file

    from s3router.serving import baked_ctc

    masked.save_pretrained(folder)
    save_file(head_of(pack), folder / "head.safetensors")
    _write_json(folder / "head.json", settings)
    shutil.copyfile(baked_ctc.__file__, folder / "ctc.py")
    return baked_ctc.CTC.load(folder)


def _for_ctc(masked: nn.Module, head: Mapping[str, Tensor]) -> nn.Module:
    """HubertForCTC and its like, around the masked model."""
    import transformers

    config = copy.deepcopy(masked.config)
    config.vocab_size, config.pad_token_id = len(head["weight"]), 0
    model = getattr(transformers, type(masked).__name__.removesuffix("Model") + "ForCTC")(config)
    setattr(model, model.base_model_prefix, masked)
    with torch.no_grad():
        model.lm_head.weight.copy_(head["weight"])
        model.lm_head.bias.copy_(head.get("bias", torch.zeros(len(head["weight"]))))
    return model.eval()


def _write_tokenizer(folder: Path, pack: MaskPack) -> None:
    """transformers' CTC tokenizer for characters; other kinds of tokens join in ways that it does not know."""
    if pack.meta.preprocessing.get("token_type", "char") != "char":
        return
    # it takes its word delimiter for text unless that is called as usual
    names = ["|" if token == "<space>" else token for token in pack.tokens]
    _write_json(folder / "vocab.json", {name: index for index, name in enumerate(names)})
    settings = {"pad_token": pack.tokens[0], "unk_token": "<unk>", "bos_token": "<sos/eos>", "eos_token": "<sos/eos>"}
    settings |= {"word_delimiter_token": "|", "tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": False}
    _write_json(folder / "tokenizer_config.json", settings)


def write_s3prl(folder: Path, ckpt: str | None, upstream: str, masked: nn.Module, pack: MaskPack) -> dict[str, Any]:
    """The checkpoint as it was, with the masked weights in it."""
    from safetensors.torch import save_file

    from s3router.packs.fingerprint import named_weights, weights_hash
    from s3router.upstreams.checkpoint import read_torch_file
    from s3router.upstreams.hub import load_expert

    if ckpt is None or not Path(ckpt).is_file():
        raise ConfigError(f"upstream {upstream}: give its checkpoint's file (--backbone), into which the zeros go")
    content, weights = read_torch_file(ckpt), dict(named_weights(masked))
    changed = [*pack.masks, *pack.delta]
    state = next((state for state in _dicts(content) if all(name in state for name in changed)), None)
    if state is None:
        raise ConfigError(f"{ckpt}: the names of its weights are not those of the model; it cannot be written back")
    for name in changed:
        state[name] = weights[name].detach().to(state[name].dtype).clone()
    target = folder / f"{Path(ckpt).stem}.pt"
    torch.save(content, target)
    again = load_expert(upstream, str(target))
    model = again.model if isinstance(getattr(again, "model", None), nn.Module) else again
    if weights_hash(model) != weights_hash(masked):
        raise CheckpointError(f"{target.name}: s3prl does not read back the weights that were written")
    save_file(head_of(pack), folder / "head.safetensors")
    return {"kind": "s3prl", "difference": 0.0, "checkpoint": target.name}


def _dicts(content: Any) -> Iterator[dict[str, Any]]:
    """All mappings inside of a checkpoint."""
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from _dicts(value)


@torch.inference_mode()
def _compare(log_probs: LogProbs, router: RoutedModel, route: str) -> float:
    """The largest difference from the router's log probabilities, on noise. Raises CheckpointError above TOLERANCE."""
    difference = 0.0
    for length in _LENGTHS:
        wave = torch.randn(length, generator=torch.Generator().manual_seed(length)) * 0.1
        found = log_probs(wave[None])[0]
        wanted = router.log_probs([wave], route)[0]  # s3prl repeats the last frame
        difference = max(difference, float((found - wanted[: len(found)]).abs().max()))
    if not difference <= TOLERANCE:
        raise CheckpointError(f"the baked model's log probabilities differ from the router's by {difference:.2g}")
    return difference


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars from transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
