"""The files of a baked model, and the comparison of what they give with the router's outputs."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from s3router.data.audio import SAMPLE_RATE
from s3router.errors import CheckpointError, ConfigError
from s3router.files import write_json
from s3router.packs import MaskPack
from s3router.packs.adapters import by_target
from s3router.prune.shrink import layers_in_words
from s3router.serving.route_heads import ClassHead, route_head
from s3router.upstreams.convert_whisper import FAMILY as WHISPER
from s3router.upstreams.convert_whisper import preprocessor_of
from s3router.upstreams.huggingface import NORMALIZE_EPS

if TYPE_CHECKING:
    from s3router.serving.routed_model import RoutedModel
    from s3router.upstreams.huggingface import HuggingFaceUpstream
    from s3router.upstreams.whisper import WhisperUpstream

Outputs = Callable[[Tensor], Tensor]
"""Wave (1, samples) -> log probabilities (1, frames, tokens), or logits (1, classes)."""
WHISPER_CLASS = "transformers.models.whisper.modeling_whisper.WhisperEncoder"
TOLERANCE = 1e-3  # of log probabilities and logits, against the router's
_LENGTHS = (16000, 5000, 43210)  # samples of the noise that outputs are compared on


def head_of(pack: MaskPack) -> dict[str, Tensor]:
    """``weight`` (outputs, dim), maybe ``bias`` (outputs,) and ``layer_weights`` (layers,), float32."""
    head = {name: pack.head[name].float().contiguous() for name in ("weight", "bias") if name in pack.head}
    if pack.meta.preprocessing["features"] == "weighted" and "weights" in pack.featurizer:
        head["layer_weights"] = pack.featurizer["weights"].float().contiguous()
    return head


def settings_of(expert: HuggingFaceUpstream | WhisperUpstream, pack: MaskPack) -> dict[str, Any]:
    """What ``ctc.py`` or ``classify.py`` must know besides the weights."""
    head, given = route_head(pack), pack.meta.preprocessing
    names = {"token_type": given.get("token_type", "char")}
    if isinstance(head, ClassHead):
        names = {"slots": list(head.slots), "classes": head.classes, "gain": head.gain}
    return {
        "normalize_audio": expert.normalize,
        "normalize_eps": getattr(expert, "normalize_eps", NORMALIZE_EPS),  # Whisper normalises spectrograms instead
        "normalize_features": head.normalize,
        "sample_rate": SAMPLE_RATE,
        **names,
    }


def what_it_is(report: Mapping[str, Any], pack: MaskPack) -> str:
    """The model in a few words, for the title of its README."""
    meta = pack.meta
    if "shrunk" in report:
        return f"{meta.backbone}, {layers_in_words(report['shrunk'])}"
    if pack.masks:
        removed = report["zeros"] / max(1, sum(mask.numel() for mask in pack.masks.values()))
        return f"{meta.backbone}, {removed:.1%} of the weights in {len(pack.masks)} matrices set to zero"
    return f"{meta.backbone}, method {meta.training.get('method', 'frozen')}"


def written_by(report: Mapping[str, Any]) -> str:
    """The last line of a README."""
    command = "shrink" if "shrunk" in report else "bake"
    return f"Written by `s3router {command}`; s3router is not needed to use it."


def write_huggingface(
    folder: Path, baked: nn.Module, settings: Mapping[str, Any], pack: MaskPack, router: RoutedModel
) -> dict[str, Any]:
    """Save the plain model for transformers; returns ``kind``, ``class`` and ``difference`` (`bake`).

    ``class`` is the one of transformers that loads it; None where only the program in the folder does (``resized``
    among the settings: `s3router.prune.shrink.fit_config`).

    Args:
        settings: from `settings_of`.
        router: gives the outputs that those of the saved model are held against.
    """
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": settings["normalize_audio"]}
    extractor |= {"sampling_rate": SAMPLE_RATE, "feature_size": 1, "padding_value": 0.0, "return_attention_mask": True}
    if settings["normalize_eps"] != NORMALIZE_EPS:
        extractor["normalize_eps"] = settings["normalize_eps"]  # read by us; transformers adds 1e-7 instead
    whisper = baked.config.model_type == WHISPER
    if whisper:
        extractor = preprocessor_of(baked.config.num_mel_bins)
    write_json(folder / "preprocessor_config.json", extractor, indent=2)
    last = pack.meta.preprocessing["features"] == "last" and not settings["normalize_features"]
    plain = last and not settings.get("resized")
    kind = "ctc" if plain and pack.tokens is not None and not whisper else "backbone"
    with quiet_transformers():
        save = _save_ctc if kind == "ctc" else _save_backbone
        outputs = save(folder, baked, settings, pack)
    name = WHISPER_CLASS if whisper else "transformers.AutoModel"
    if settings.get("resized"):
        name = None
    return {"kind": kind, "class": name, "difference": _compare(outputs, router, pack)}


def _save_ctc(folder: Path, baked: nn.Module, settings: Mapping[str, Any], pack: MaskPack) -> Outputs:
    """For ``AutoModelForCTC`` and its tokenizer; returns the saved model as a function."""
    model = _for_ctc(baked, head_of(pack))
    model.save_pretrained(folder)
    _write_tokenizer(folder, pack)
    again = type(model).from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def log_probs(wave: Tensor) -> Tensor:
        if settings["normalize_audio"]:
            wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + settings["normalize_eps"])
        return again(wave).logits.log_softmax(-1)

    return log_probs


def _save_backbone(folder: Path, baked: nn.Module, settings: Mapping[str, Any], pack: MaskPack) -> Outputs:
    """The model, the head beside it, and the program that joins them; returns what that loads."""
    from safetensors.torch import save_file

    from s3router.serving import baked_model

    if settings.get("resized"):  # from_pretrained could not read it, and need not
        baked.config.save_pretrained(folder)
        save_file({name: t.contiguous() for name, t in baked.state_dict().items()}, folder / "model.safetensors")
    else:
        baked.save_pretrained(folder)
    save_file(head_of(pack), folder / "head.safetensors")
    write_json(folder / "head.json", settings, indent=2)
    kind, program = (baked_model.Classifier, "classify.py") if pack.tokens is None else (baked_model.CTC, "ctc.py")
    shutil.copyfile(baked_model.__file__, folder / program)
    return kind.load(folder)


def _for_ctc(baked: nn.Module, head: Mapping[str, Tensor]) -> nn.Module:
    """HubertForCTC and its like, around the plain model."""
    import transformers

    config = copy.deepcopy(baked.config)
    config.vocab_size, config.pad_token_id = len(head["weight"]), 0
    model = getattr(transformers, type(baked).__name__.removesuffix("Model") + "ForCTC")(config)
    setattr(model, model.base_model_prefix, baked)
    with torch.no_grad():
        model.lm_head.weight.copy_(head["weight"])
        model.lm_head.bias.copy_(head.get("bias", torch.zeros(len(head["weight"]))))
    return model.eval()


def _write_tokenizer(folder: Path, pack: MaskPack) -> None:
    """transformers' CTC tokenizer for characters; other kinds of tokens join in ways that it does not know.

    Nor does it know a ``|`` in texts, which it writes as a blank.
    """
    if pack.meta.preprocessing.get("token_type", "char") != "char" or "|" in pack.tokens:
        return
    # it takes its word delimiter for text unless that is called as usual
    names = ["|" if token == "<space>" else token for token in pack.tokens]
    write_json(folder / "vocab.json", {name: index for index, name in enumerate(names)}, indent=2)
    settings = {"pad_token": pack.tokens[0], "unk_token": "<unk>", "bos_token": "<sos/eos>", "eos_token": "<sos/eos>"}
    settings |= {"word_delimiter_token": "|", "tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": False}
    write_json(folder / "tokenizer_config.json", settings, indent=2)


def write_s3prl(folder: Path, ckpt: str | None, upstream: str, baked: nn.Module, pack: MaskPack) -> dict[str, Any]:
    """The checkpoint as it was, with the weights that training changed in it."""
    from safetensors.torch import save_file

    from s3router.packs.fingerprint import named_weights, weights_hash
    from s3router.upstreams.checkpoint import read_torch_file
    from s3router.upstreams.hub import load_expert
    from s3router.upstreams.upstream import model_of

    if ckpt is None or not Path(ckpt).is_file():
        raise ConfigError(f"upstream {upstream}: name its checkpoint's file (--upstream-ckpt); the weights go into it")
    content, weights = read_torch_file(ckpt), dict(named_weights(baked))
    changed = dict.fromkeys((*pack.masks, *pack.delta, *by_target(pack.adapter, pack.meta.adapter)))
    state = next((state for state in _dicts(content) if all(name in state for name in changed)), None)
    if state is None:
        raise ConfigError(f"{ckpt}: the names of its weights are not those of the model; it cannot be written back")
    for name in changed:
        state[name] = weights[name].detach().to(state[name].dtype).clone()
    target = folder / f"{Path(ckpt).stem}.pt"
    torch.save(content, target)
    again = load_expert(upstream, str(target))
    if weights_hash(model_of(again)) != weights_hash(baked):
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
def _compare(outputs: Outputs, router: RoutedModel, pack: MaskPack) -> float:
    """The largest difference from the router's outputs, on noise. Raises CheckpointError above TOLERANCE."""
    wanted_of = router.log_probs if pack.tokens is not None else router.logits
    difference = 0.0
    for length in _LENGTHS:
        wave = torch.randn(length, generator=torch.Generator().manual_seed(length)) * 0.1
        found = outputs(wave[None])[0]
        wanted = wanted_of([wave], pack.route)[0]  # s3prl repeats the last frame
        difference = max(difference, float((found - wanted[: len(found)]).abs().max()))
    if not difference <= TOLERANCE:
        raise CheckpointError(f"the baked model's outputs differ from the router's by {difference:.2g}")
    return difference


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars from transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
