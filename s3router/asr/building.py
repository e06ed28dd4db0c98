"""The model that a training configuration describes, built by ESPnet's task and ours."""

from __future__ import annotations

import argparse

from espnet2.tasks.asr import ASRTask, model_choices

from s3router.asr.model import RoutedCTCModel
from s3router.training.arithmetic import choose_arithmetic
from s3router.training.experiment import check_fingerprint
from s3router.training.parameters import apply_method
from s3router.upstreams.public import widths

model_choices.classes["routed"] = RoutedCTCModel


class ModelTask(ASRTask):
    """ESPnet's task, as far as building a model goes; `s3router.asr.task` adds training."""

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> RoutedCTCModel:
        """The model with ``requires_grad`` set by the method; ``args.amp_dtype`` is settled by now.

        Raises:
            CheckpointError: ``args.upstream_fingerprint`` is there, and the upstream is another one now.
        """
        if args.amp_dtype == "auto":
            args.amp_dtype = choose_arithmetic(args.ngpu, *widths(args.upstream, args.upstream_ckpt))
            args.model_conf["amp_dtype"] = args.amp_dtype
        if args.frontend_conf["frontend_conf"]["upstream"] == "s3router":
            from s3router.upstreams import hub

            hub.register()
        model = super().build_model(args)
        _check_upstream(args, model)
        apply_method(model, args.method)
        frontend = model.frontend
        if not frontend.multilayer_feature and hasattr(frontend.featurizer, "weights"):
            frontend.featurizer.weights.requires_grad_(False)  # the last layer alone is used
        model.frontend.pretrained_params = {}  # S3prlFrontend's second copy of the whole upstream
        return model


def _check_upstream(args: argparse.Namespace, model: RoutedCTCModel) -> None:
    """Note which weights the upstream has: checkpoints leave them out, and are of no use with others."""
    if args.method == "scratch":
        return
    found = model.frontend.upstream.upstream.backbone_fingerprint
    known = getattr(args, "upstream_fingerprint", None)
    check_fingerprint(found, known, args.upstream_ckpt or args.upstream, args.output_dir)
    args.upstream_fingerprint = found
