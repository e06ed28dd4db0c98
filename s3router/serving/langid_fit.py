"""Fitting of a language classifier on labelled recordings: seconds to minutes, without any training of the backbone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.kaldi import Utterance
from s3router.errors import ConfigError, DataError
from s3router.serving.language_classifier import LanguageClassifier, pooled_recordings
from s3router.upstreams.upstream import Upstream

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the regularisation that dev decides between."""
CLOSE = 0.005
"""Of dev accuracy: what a further layer has to bring at least."""


def default_layers(upstream: Upstream) -> list[int]:
    """The layers that dev decides between: the first third of them."""
    return list(range(1, max(1, len(upstream.anatomy.layers) // 3) + 1))


def fit(
    upstream: Upstream,
    train: Mapping[str, Sequence[Utterance]],
    dev: Mapping[str, Sequence[Utterance]],
    names: tuple[str, str | None],
    layers: Sequence[int] | None = None,
    options: BatchOptions | None = None,
) -> LanguageClassifier:
    """Fit a classifier; the layer and the regularisation that do best on dev are taken, the mean over languages.

    A further layer must be better by `CLOSE` to be taken, since each one costs.

    Args:
        train: language -> recordings.
        dev: the same; must hold the languages of `train`.
        names: the upstream's name and checkpoint, as the file says them.
        layers: candidates, counted from 1; by default `default_layers`.

    Raises:
        ConfigError: fewer than two languages, languages that differ between train and dev, a layer that is not there.
        DataError: a language without recordings.
    """
    from sklearn.linear_model import LogisticRegression

    if len(train) < 2:
        raise ConfigError(f"a language classifier needs two languages at least, found {', '.join(train) or 'none'}")
    if dev.keys() != train.keys():
        odd = ", ".join(sorted(dev.keys() ^ train.keys()))
        raise ConfigError(f"--fit and --dev must name the same languages; only one of them has {odd}")
    for part in (train, dev):
        if empty := [lang for lang, recordings in part.items() if not recordings]:
            raise DataError(f"no recordings of {', '.join(empty)}")
    started = time.perf_counter()
    candidates = sorted(set(layers or default_layers(upstream)))
    features, labels = _features(upstream, train, candidates, options or BatchOptions())
    heard, wanted = _features(upstream, dev, candidates, options or BatchOptions())
    tried = []
    for layer in candidates:
        values = features[:, layer - 1]
        mean, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")
            model.fit((values - mean) / scale, labels)
            logs = model.predict_log_proba((heard[:, layer - 1] - mean) / scale)
            right = logs.argmax(1) == wanted
            accuracy = float(np.mean([right[wanted == lang].mean() for lang in range(len(train))]))
            loss = -float(logs[np.arange(len(wanted)), wanted].mean())
            tried.append((layer, strength, accuracy, loss, mean, scale, model))
    best = _best(tried)
    layer, strength, accuracy, _, mean, scale, model = best
    weight, bias = model.coef_, model.intercept_
    if len(train) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = np.concatenate((-weight, weight)) / 2, np.concatenate((-bias, bias)) / 2
    training = {
        "recordings": {lang: len(recordings) for lang, recordings in train.items()},
        "audio_seconds": {lang: round(sum(u.duration for u in utts), 1) for lang, utts in train.items()},
        "strength": strength,
        "dev_accuracy": accuracy,
        "dev_accuracy_by_layer": {str(k): max(t[2] for t in tried if t[0] == k) for k in candidates},
        "layers_of_backbone": len(upstream.anatomy.layers),
        "seconds": round(time.perf_counter() - started, 1),
    }
    arrays = (np.asarray(array, np.float32) for array in (mean, scale, weight, bias))
    return LanguageClassifier(tuple(train), layer, *arrays, *names, upstream.backbone_fingerprint, training)


def _best(tried: Sequence[tuple]) -> tuple:
    """The lowest layer that is within `CLOSE` of the best accuracy; of it the most accurate, then the surest."""
    top = max(accuracy for _, _, accuracy, *_ in tried)
    lowest = min(layer for layer, _, accuracy, *_ in tried if accuracy >= top - CLOSE)
    return min((t for t in tried if t[0] == lowest), key=lambda t: (-t[2], t[3]))


def _features(
    upstream: Upstream, sets: Mapping[str, Sequence[Utterance]], layers: Sequence[int], options: BatchOptions
) -> tuple[np.ndarray, np.ndarray]:
    """(recordings, layers, 2C), and the number of each one's language (recordings,)."""
    recordings = [utt for utts in sets.values() for utt in utts]
    labels = [number for number, utts in enumerate(sets.values()) for _ in utts]
    order, values = [], []
    for indices, features in pooled_recordings(upstream, recordings, max(layers), options):
        order += indices
        values.append(features)
    return np.concatenate(values), np.array(labels)[order]
