"""Targets of a round: k-means clusters of MFCC or of a hidden layer, and phones of synthetic speech."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from s3router.data.audio import SAMPLE_RATE
from s3router.files import replacing
from s3router.pretraining.settings import Round
from s3router.pretraining.speech import HOP, SPAN, Item, Samples, mfcc, mfcc_transform, normalized

Arrays = dict[Item, np.ndarray]
FRAMES_OF_KMEANS = 200_000
DIFFERENCES = (1.0, 0.5, 0.25)
"""Weights of the MFCC and of their first and second differences: at equal weight, the noise of the differences makes
two thirds of the distance."""


def extract(
    speech: Samples,
    frames: Callable[[int], int],
    spec: Round,
    upstream: nn.Module | None,
    desc: str,
    autocast: Callable[[], torch.autocast],
) -> Arrays:
    """Item -> float16 (frames, dim): what a round clusters.

    Args:
        speech: recordings.
        frames: samples -> frames.
        spec: the round.
        upstream: the model so far, for hidden layers.
        desc: of the progress bar.
        autocast: the arithmetic.
    """
    if spec.features == "mfcc":
        transform = mfcc_transform()
        bar = tqdm(speech.items(), desc=desc, mininterval=5)
        return {item: mfcc(x, frames(len(x)), transform).astype(np.float16) for item, x in bar}
    features = {}
    batches: list[list[Item]] = [[]]
    for item in sorted(speech, key=lambda item: len(speech[item])):
        if (len(batches[-1]) + 1) * len(speech[item]) > 32 * SAMPLE_RATE:
            batches.append([])
        batches[-1].append(item)
    for batch in tqdm([batch for batch in batches if batch], desc=desc, mininterval=5):
        waves = nn.utils.rnn.pad_sequence([normalized(speech[item]) for item in batch], batch_first=True)
        lengths = torch.tensor([len(speech[item]) for item in batch])
        mask = (torch.arange(waves.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode(), autocast():
            hidden = upstream(waves, attention_mask=mask, output_hidden_states=True).hidden_states[spec.layer]
        for row, item in enumerate(batch):
            features[item] = hidden[row, : frames(len(speech[item]))].to(torch.float16).numpy()
    return features


def at_other_speeds(targets: Arrays, speech: Iterable[Item] | Samples, frames: Callable[[int], int]) -> Arrays:
    """Targets of every speed from those of the recording as it is: what is said does not change with the voice."""
    out = {item: x for item, x in targets.items() if item not in speech}
    for utt, speed in speech:
        original = targets[utt, 1.0]
        count = frames(len(speech[utt, speed]))
        # A frame is centred in the middle of the samples that it sees.
        centres = (np.arange(count) * HOP + SPAN // 2) * speed
        nearest = np.rint((centres - SPAN // 2) / HOP).astype(int)
        out[utt, speed] = original[nearest.clip(0, len(original) - 1)]
    return out


def normalize_speakers(features: Arrays) -> None:
    """In place: zero mean and unit variance for each speaker at each speed, differences weighted down.

    The speaker is the part of the id before the first dash.
    """
    weights = np.repeat(DIFFERENCES, 13).astype(np.float32)
    groups: dict = {}
    for (utt, speed), x in features.items():
        groups.setdefault((utt.split("-")[0], speed), []).append(x.astype(np.float32))
    stats = {g: (np.concatenate(xs).mean(0), np.concatenate(xs).std(0) + 1e-5) for g, xs in groups.items()}
    for item, x in features.items():
        mean, std = stats[(item[0].split("-")[0], item[1])]
        features[item] = ((x - mean) / std * weights).astype(np.float16)


def cluster(features: Arrays, spec: Round, seed: int, train_utts: Collection[str]) -> Arrays:
    """Item -> int16 (frames, clusterings); k-means is fitted on ``train_utts`` alone."""
    from sklearn.cluster import MiniBatchKMeans

    if spec.features == "mfcc":
        normalize_speakers(features)
    rng = np.random.default_rng(seed)
    pool = np.concatenate([x for item, x in features.items() if item[0] in train_utts])
    pool = pool[rng.permutation(len(pool))[:FRAMES_OF_KMEANS]].astype(np.float32)
    columns = []
    for k in spec.clusters:
        tqdm.write(f"k-means: {k} clusters of {spec.features} on {len(pool)} frames")
        model = MiniBatchKMeans(k, batch_size=10_000, n_init=3, max_iter=100, random_state=seed).fit(pool)
        columns.append({item: model.predict(x.astype(np.float32)).astype(np.int16) for item, x in features.items()})
    return {item: np.stack([c[item] for c in columns], axis=1) for item in features}


def with_phones(targets: Arrays, phones: dict[str, np.ndarray]) -> Arrays:
    """Targets of all speech in one table: clusters first, phones in the last column; -100 where there are none."""
    columns = next(iter(targets.values())).shape[1]
    out = {item: np.pad(x, ((0, 0), (0, 1)), constant_values=-100) for item, x in targets.items()}
    for utt, x in phones.items():
        out[utt, 1.0] = np.pad(x[:, None], ((0, 0), (columns, 0)), constant_values=-100)
    return out


def save_targets(path: Path, targets: Arrays) -> None:
    """Write targets as ``.npz``, to be read by `load_targets`."""
    with replacing(path, "wb") as file:
        np.savez(file, **{f"{speed} {utt}": x for (utt, speed), x in targets.items()})


def load_targets(path: Path) -> Arrays:
    """Read what `save_targets` has written."""
    with np.load(path, allow_pickle=False) as stored:
        named = {name: stored[name] for name in stored.files}
    return {(name.split(" ", 1)[1], float(name.split(" ", 1)[0])): x for name, x in named.items()}
