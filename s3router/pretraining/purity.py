"""Character purity of a pretrained upstream's hidden states and of MFCC.

Characters stand on frames by forced alignment with a finetuned model (`s3router.asr.frame_labels`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from s3router.asr.experiment import ASRExperiment
from s3router.asr.frame_labels import frame_labels
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.pretraining.speech import frame_counter, mfcc, mfcc_transform, normalized
from s3router.scoring.purity import held_out_purity, one_cluster

CLUSTERS = 100


def cluster_purity(upstream: nn.Module, config: Any, data: Path, aligner: Path) -> dict[str, float]:
    """Purity on ``data``/dev of clusters fitted on ``data``/train_5min, of MFCC and of every hidden state."""
    labels = forced_characters(aligner, data / "dev")
    dev = features_of(upstream, config, data / "dev", labels)
    train = features_of(upstream, config, data / "train_5min")
    names = ["mfcc", *(f"layer {i}" for i in range(config.num_hidden_layers + 1))]
    truth = np.concatenate([labels[u][: len(x[0])] for u, x in dev.items()])
    result = {"(one cluster)": round(one_cluster(truth), 3)}  # purity begins here
    for index, name in enumerate(names):
        pool = np.concatenate([x[index] for x in train.values()])
        held_out = np.concatenate([x[index][: len(labels[u])] for u, x in dev.items()])
        result[name] = round(held_out_purity(pool, held_out, truth, CLUSTERS), 3)
    return result


def forced_characters(aligner: Path, folder: Path) -> dict[str, np.ndarray]:
    """utterance -> character id of every frame (frames,), of one data directory."""
    exp = ASRExperiment(aligner)
    model, frames = exp.model(), {}
    for utt in DataDir.read(folder).utts:
        wave = torch.from_numpy(read_audio(utt.source))[None]
        with torch.inference_mode():
            encoded, _ = model.encode(wave, torch.tensor([wave.shape[1]]))
            emission = model.ctc.log_softmax(encoded)
        found = frame_labels(emission[0], exp.tokens.encode(utt.text))
        if found is not None:
            frames[utt.utt] = found
    return frames


def features_of(
    upstream: nn.Module, config: Any, folder: Path, wanted: Collection[str] | None = None
) -> dict[str, list[np.ndarray]]:
    """utterance -> [MFCC, hidden state 0, 1, …], each (frames, dim), of those ``wanted`` (None: all)."""
    transform, out = mfcc_transform(), {}
    frames = frame_counter(config.conv_kernel, config.conv_stride)
    for utt in DataDir.read(folder).utts:
        if wanted is not None and utt.utt not in wanted:
            continue
        samples = np.round(read_audio(utt.source) * 32767).astype(np.int16)
        with torch.inference_mode():
            states = upstream(normalized(samples)[None], output_hidden_states=True).hidden_states
        out[utt.utt] = [mfcc(samples, frames(len(samples)), transform), *(s[0].numpy() for s in states)]
    return out
