"""The arithmetic that training runs in: float32, or bfloat16 under autocast; whichever is measured to be faster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

logger = logging.getLogger(__name__)

ARITHMETIC = ("auto", "bfloat16", "float32")

FRAMES = 800
"""Of a layer's input, in two utterances: 16 s of speech. Fewer spend it on weights, and hide what bfloat16 gains."""
SECONDS = 0.1
"""How long measuring takes at least. It makes three rounds in any case: two seconds for a base model on one core."""
HOPELESS = 4
"""How many times slower an arithmetic must be on a sixteenth of the frames to be measured no further. A processor
without instructions for bfloat16 would need most of a minute for all of them."""
GAIN = 1.1
"""How much faster bfloat16 must be: it rounds to 8 bits, and the rest of an update gains nothing from it."""


def choose_arithmetic(
    device: str | int, hidden: int = 768, ffn: int = 3072, measure: Callable[[int, int], dict[str, float]] | None = None
) -> str:
    """``"bfloat16"`` or ``"float32"``, whichever training is faster in here; says so in the log.

    On a CPU both are timed, since flags do not tell: some processors that multiply bfloat16 multiply float32 faster.
    Where a process group exists, rank 0 measures for all, and all ranks have to call this. On a GPU its capability
    decides.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, or a number of GPUs.
        hidden: width of the upstream's layers.
        ffn: width of their feed-forward modules.
        measure: (hidden, ffn) -> GFLOP/s of both; by default `gflops`.
    """
    import torch

    if (device > 0) if isinstance(device, int) else device.startswith("cuda"):
        chosen = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        logger.info("arithmetic: %s (%s)", chosen, torch.cuda.get_device_name())
        return chosen
    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    chosen = [_faster((measure or gflops)(hidden, ffn)) if not grouped or torch.distributed.get_rank() == 0 else None]
    if grouped:
        torch.distributed.broadcast_object_list(chosen)
    return chosen[0]


def _faster(speeds: dict[str, float]) -> str:
    chosen = "bfloat16" if speeds["bfloat16"] >= GAIN * speeds["float32"] else "float32"
    logger.info(
        "arithmetic: %s (a layer of this size makes %.0f GFLOP/s in float32 and %.0f in bfloat16)",
        *(chosen, speeds["float32"], speeds["bfloat16"]),
    )
    return chosen


def gflops(hidden: int, ffn: int, frames: int = FRAMES, seconds: float = SECONDS) -> dict[str, float]:
    """Best speed of a transformer layer's training step on this CPU, by arithmetic; both are timed in turns.

    Processor time counts, shared out over the threads, so that waiting for a core that others use is not held against
    whichever was being timed. The layer is torch's own, with torch's present number of threads; weights are kept in
    float32, as they are in training. A multiplication and an addition are two operations. What is far slower on a
    sixteenth of the frames is not measured on all of them.
    """
    import torch

    heads = max(h for h in range(1, hidden // 32 + 2) if hidden % h == 0)
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.TransformerEncoderLayer(hidden, heads, ffn, 0.0, "gelu", batch_first=True)
        inputs = torch.randn(2, frames // 2, hidden)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}

    def best(names: Collection[str], inputs: torch.Tensor, rounds: int, seconds: float = 0.0) -> dict[str, float]:
        taken = dict.fromkeys(names, float("inf"))
        begun = time.perf_counter()
        while rounds > 0 or time.perf_counter() - begun < seconds:
            for name in names:
                before = time.process_time()
                with torch.autocast("cpu", torch.bfloat16, enabled=dtypes[name] is torch.bfloat16):
                    result = layer(inputs)
                result.float().square().mean().backward()
                taken[name] = min(taken[name], (time.process_time() - before) / torch.get_num_threads())
            rounds -= 1
        operations = _operations(hidden, ffn, inputs.shape[0] * inputs.shape[1])
        return {name: operations / spent / 1e9 for name, spent in taken.items()}

    found = best(dtypes, inputs[:, : max(1, frames // 32)], rounds=2)
    able = [name for name in dtypes if found[name] * HOPELESS > max(found.values())]
    return found | best(able, inputs, rounds=3, seconds=seconds)


def _operations(hidden: int, ffn: int, frames: int) -> int:
    # forward, and backward for the input and the weights; attention's own products are two more of frames x frames
    return 3 * 2 * frames * (4 * hidden**2 + 2 * hidden * ffn + frames * hidden)
