"""The trained model back from an experiment folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from s3router.asr import engine
from s3router.errors import CheckpointError
from s3router.training.checkpoints import read_states

if TYPE_CHECKING:
    from s3router.asr.model import RoutedCTCModel

BEST = "valid.cer_ctc.best.pth"


def load_asr_model(
    exp_dir: str | os.PathLike,
    checkpoint: str | os.PathLike | None = None,
    device: str = "cpu",
    amp_dtype: str = "float32",
) -> tuple[RoutedCTCModel, list[str]]:
    """Build the model that ``config.yaml`` describes and load what was trained.

    Args:
        exp_dir: what training wrote.
        checkpoint: a name in ``exp_dir`` or a path; by default the best on the validation set.
        device: "cpu", "cuda", "cuda:1".
        amp_dtype: "bfloat16" to run the upstream under autocast by itself; the caller may do so as well.

    Returns:
        The model in evaluation mode (``encode(speech (batch, samples), lengths (batch,))`` gives features
        (batch, frames, dim) and lengths; ``ctc.log_softmax(features)`` the emissions), and its token list.

    Raises:
        CheckpointError: no such experiment, or a checkpoint that is damaged, unsafe, or of another model.
    """
    import yaml

    exp_dir = Path(exp_dir)
    config = exp_dir / "config.yaml"
    if not config.is_file():
        raise CheckpointError(f"{config}: no such file; {exp_dir} is not an experiment that training wrote")
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or not {"method", "frontend_conf", "token_list"} <= values.keys():
        raise CheckpointError(f"{config}: not a configuration of s3router.asr.train; run the training command again")
    args = argparse.Namespace(**values)
    args.frontend_conf["frontend_conf"].get("extra_conf", {}).pop("feature_cache", None)
    args.model_conf["amp_dtype"] = amp_dtype
    path = _find(exp_dir, checkpoint)
    states = read_states(path)
    if "model" in states and "optimizers" in states:
        states = states["model"]
    model = engine.routed_task().build_model(args)
    try:
        model.load_state_dict(states)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model.to(device).eval(), list(args.token_list)


def _find(exp_dir: Path, checkpoint: str | os.PathLike | None) -> Path:
    if checkpoint is None:
        return exp_dir / BEST
    inside = exp_dir / checkpoint
    return inside if inside.exists() else Path(checkpoint)
