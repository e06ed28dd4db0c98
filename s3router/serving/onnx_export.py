"""ONNX export of a whole recogniser, checked against torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from s3router.errors import CheckpointError, ConfigError

OPSET = 17
_BATCHES = ((1, 16000), (2, 5000), (1, 43210))  # (batch, samples) that outputs are compared on


def require_onnx() -> None:
    """Raise ConfigError where onnx or onnxruntime is missing."""
    try:
        import onnx  # noqa: F401  (torch needs it)
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--onnx: {error.name} is not installed; run tools/setup.sh --with-onnx") from None


def export(model: nn.Module, path: Path, tolerance: float) -> float:
    """Write `model` (wave (batch, samples) -> log probabilities (batch, frames, tokens)) as an ONNX file.

    Both lengths are free. It is traced, so the file is run on other lengths than the traced one before it counts.

    Returns:
        the largest difference from torch found in these runs.

    Raises:
        ConfigError: onnx or onnxruntime is missing.
        CheckpointError: the outputs differ by more than `tolerance`, or cannot be exported.
    """
    require_onnx()
    import onnxruntime

    model = model.eval()
    example = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0)) * 0.1
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of constants in the trace: the comparison below tells
            torch.onnx.export(
                model,
                (example,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=["wave"],
                output_names=["log_probs"],
                dynamic_axes={"wave": {0: "batch", 1: "samples"}, "log_probs": {0: "batch", 1: "frames"}},
            )
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except OSError:  # a full disk says nothing about the model
        raise
    except Exception as error:  # the exporter and the runtime have a dozen kinds of their own
        raise CheckpointError(f"this model cannot be exported to ONNX ({str(error).splitlines()[0]})") from error
    difference = 0.0
    for batch, samples in _BATCHES:
        wave = torch.randn(batch, samples, generator=torch.Generator().manual_seed(samples)) * 0.1
        with torch.inference_mode():
            wanted = model(wave)
        found = torch.from_numpy(session.run(None, {"wave": wave.numpy()})[0])
        if found.shape != wanted.shape:
            raise CheckpointError(f"ONNX gives {tuple(found.shape)} for {samples} samples, torch {tuple(wanted.shape)}")
        difference = max(difference, float((found - wanted).abs().max()))
    if not difference <= tolerance:
        raise CheckpointError(f"ONNX differs from torch by {difference:.2g}, which is more than {tolerance:g}")
    return difference
