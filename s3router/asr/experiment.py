"""The experiment folder of speech recognition."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.asr.engine import silently
from s3router.data.audio import SAMPLE_RATE
from s3router.data.tokens import TokenIds
from s3router.errors import CheckpointError, ConfigError
from s3router.training.checkpoints import CHECKPOINT, read_states
from s3router.training.experiment import Experiment, TrainedParts, as_json
from s3router.training.parameters import load_trained
from s3router.training.resume import COMMON
from s3router.tuners.methods import without_start

if TYPE_CHECKING:
    from torch import Tensor

    from s3router.asr.model import RoutedCTCModel

BPE_MODEL = "bpe.model"
"""A run's own copy of its sentencepiece model, so that the folder can be used from anywhere."""

_HEAD = {"ctc.ctc_lo.weight": "weight", "ctc.ctc_lo.bias": "bias"}
_FEATURIZER = "frontend.featurizer."
_RECORDED = ("max_updates", "head_first", "batch_seconds", "accum_grad", "seed")


class ASRExperiment(Experiment):
    """What ``s3router train`` leaves: ESPnet's ``config.yaml`` and checkpoints."""

    CONFIG = "config.yaml"
    REQUIRED = frozenset({"method", "upstream", "frontend_conf", "token_list"})
    WRITER = "s3router train"
    BEST = "valid.cer_ctc.best.pth"
    RESULTS = "decode_"
    FIGURES = ("wer", "cer", "per", "confidence", "n_utts")
    DECISIVE = (
        *COMMON,
        *("features", "normalize_features", "token_type", "bpemodel", "batch_seconds", "batch_type", "batch_size"),
        *(
            "score_lr",
            "weight_lr",
            "adapter_lr",
            "method_conf",
            "head_lr",
            "head_first",
            "head_dropout",
            "optim",
            "optim_conf",
        ),
        *("scheduler", "scheduler_conf", "grad_clip_type", "grad_noise", "init_param", "freeze_param", "ctc_conf"),
        *("frontend", "specaug", "specaug_conf", "normalize", "preencoder", "encoder", "encoder_conf"),
        *("postencoder", "model"),
    )

    @property
    def options(self) -> Mapping[str, Any]:
        return self.config

    @property
    def task(self) -> str:
        return "asr"

    @property
    def fingerprint(self) -> str | None:
        return self.config.get("upstream_fingerprint")

    @property
    def token_list(self) -> list[str]:
        """The tokens of the output layer, in order."""
        return list(self.config["token_list"])

    @cached_property
    def tokens(self) -> TokenIds:
        """The tokenizer that the model was trained with."""
        return TokenIds(self.token_list, self.config.get("token_type") or "char", self.bpe_model)

    @property
    def bpe_model(self) -> Path | None:
        """The sentencepiece model: the run's own copy, else (runs of before) the file that the command named."""
        named, own = self.config.get("bpemodel"), self.path / BPE_MODEL
        return own if named and own.is_file() else Path(named) if named else None

    def so_far(self) -> tuple[int, tuple[float, int] | None]:
        """Updates done by ``checkpoint.pth``, and its best validation: (error rate, update), None before the first."""
        report = read_states(self.path / CHECKPOINT)["reporter"]

        def updates(epoch: int) -> int:
            return min(epoch * self.config["valid_interval"], self.config["max_updates"])

        stats = report["stats"].items()
        validated = [(found["valid"]["cer_ctc"], updates(epoch)) for epoch, found in stats if "valid" in found]
        return updates(report["epoch"]), min(validated, default=None)

    def check_tokens(self, token_list: list[str]) -> None:
        """Refuse to resume with another token list. Raises ConfigError."""
        if token_list != self.token_list:
            raise ConfigError(f"{self.path} holds a run with another token list; take another --output_dir")

    def model(
        self, checkpoint: str | os.PathLike | None = None, device: str = "cpu", amp_dtype: str = "float32"
    ) -> RoutedCTCModel:
        """As `Experiment.model`.

        ``encode(speech (batch, samples), lengths (batch,))`` gives features (batch, frames, dim) and lengths;
        ``ctc.log_softmax(features)`` the emissions.
        """
        args = argparse.Namespace(**copy.deepcopy(self.config))
        args.output_dir = str(self.path)  # the folder may have been moved
        args.bpemodel = args.model_conf["bpemodel"] = self.bpe_model
        extra = args.frontend_conf["frontend_conf"].get("extra_conf", {})
        extra.pop("feature_cache", None)
        if "mask" in extra:
            extra["mask"] = without_start(extra["mask"])
        args.model_conf["amp_dtype"] = amp_dtype
        state = self.state(checkpoint)
        with silently():
            from s3router.asr.building import ModelTask
        model = ModelTask.build_model(args)
        load_trained(model, state, self.checkpoint(checkpoint))
        return model.to(device).eval()

    def parts(self, checkpoint: str | os.PathLike | None = None) -> TrainedParts:
        from s3router.masks import MaskConfig
        from s3router.tuners import used_rates
        from s3router.tuners.learnt import learnt
        from s3router.upstreams.digest import bare_backbone

        config = self.config
        model = self.model(checkpoint)
        backbone = bare_backbone(model)
        featurizer, head = self._outside(model)
        found = learnt(backbone)
        if (found.delta or found.adapter) and self.method != "scratch":  # the trained one is not the plain one now
            from s3router.upstreams.hub import build

            backbone = build(ckpt=self.upstream_ckpt, upstream=self.upstream).backbone
        recorded = ("method", *used_rates(self.method), "method_conf", *_RECORDED)
        mask = config["frontend_conf"]["frontend_conf"].get("extra_conf", {}).get("mask")
        return TrainedParts(
            backbone=backbone,
            masks=found.masks,
            delta=found.delta,
            adapter=found.adapter,
            adapter_meta=found.meta,
            featurizer=featurizer,
            head=head,
            tokens=tuple(self.token_list),
            labels=None,
            preprocessing={
                "sample_rate": SAMPLE_RATE,
                "features": config["features"],
                "normalize_features": bool(config["normalize_features"]),
                "token_type": config["token_type"],
            },
            mask={} if mask is None else as_json(MaskConfig.from_dict(mask).to_dict()),
            training={name: as_json(config[name]) for name in recorded if config.get(name) is not None},
            corpus="/".join(Path(config["train_dir"]).parts[-2:]),
            bpe_model=self.bpe_model.read_bytes() if self.bpe_model else None,
        )

    def _outside(self, model: RoutedCTCModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What trained outside of the backbone: (featurizer, head), as new tensors."""
        from s3router.upstreams.digest import bare_backbone

        backbone = bare_backbone(model)
        prefix = next(f"{name}." for name, module in model.named_modules() if module is backbone)
        featurizer, head, other = {}, {}, []
        for name, tensor in model.state_dict().items():
            tensor = tensor.detach().cpu().clone()
            if name.startswith(prefix):
                continue
            if name.startswith(_FEATURIZER):
                featurizer[name.removeprefix(_FEATURIZER)] = tensor
            elif name in _HEAD:
                head[_HEAD[name]] = tensor
            else:
                other.append(name)
        if other:
            raise CheckpointError(
                f"{self.path}: it trained {', '.join(other[:5])}, for which a pack has no place; packs hold masks, "
                "further weights of the upstream, the featurizer and the CTC output layer"
            )
        return featurizer, head
