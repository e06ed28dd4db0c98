"""Which token each frame belongs to, by CTC forced alignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def frame_labels(log_probs: Tensor, ids: Sequence[int]) -> np.ndarray | None:
    """The token of each frame: that whose spike in the best path of a text is nearest, the earlier of two.

    Args:
        log_probs: float32 (frames, tokens), blank at 0.
        ids: of the text's tokens; frames enough for them (`s3router.data.tokens.min_ctc_frames`).

    Returns:
        int (frames,); None for an empty text.
    """
    from torchaudio.functional import forced_align

    if not len(ids):
        return None
    path = forced_align(log_probs[None], torch.tensor([list(ids)], dtype=torch.int32), blank=0)[0][0].numpy()
    spikes = np.flatnonzero(path)
    return path[spikes[np.abs(np.arange(len(path))[:, None] - spikes[None]).argmin(1)]]
