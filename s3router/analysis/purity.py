"""What a mask does to the characters in each hidden state: purity of k-means clusters with the mask and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s3router.analysis import captions, figures
from s3router.analysis.drawing import number
from s3router.analysis.mask_set import read_sources
from s3router.analysis.representation import FROZEN, Resident, routed
from s3router.analysis.work import Bar, Work, no_bar
from s3router.asr.frame_labels import frame_labels
from s3router.data.audio import Seconds, read_audio
from s3router.data.kaldi import Utterance
from s3router.data.tokens import min_ctc_frames
from s3router.errors import DataError
from s3router.packs import MaskPack
from s3router.scoring.purity import held_out_purity, one_cluster
from s3router.serving.route_heads import CTCHead, route_head

CLUSTERS = 100
MOST_SECONDS = 600.0
"""Of speech, for a route."""
_CHANNELS = np.float16
"""What frames are kept in: 600 s of base size take 1.2 GB, half of it without the mask and half with it."""


@dataclass(frozen=True)
class Purity:
    """How pure clusters of the hidden states of one route's speech are.

    Attributes:
        frozen, masked: float64 (hidden states,), without and with the route's mask; the first enters the transformer.
        one: of a single cluster.
        frames: that it was measured on; about as many were clustered.
        seconds: of all the speech.
    """

    frozen: np.ndarray
    masked: np.ndarray
    one: float
    frames: int
    seconds: Seconds


@torch.inference_mode()
def character_purity(
    resident: Resident, label: str, head: CTCHead, speech: Sequence[Utterance], seed: int = 0, bar: Bar = no_bar
) -> Purity:
    """Purity of characters (of whatever the head's tokens are) in every hidden state, under a route and without it.

    A frame has the token whose spike is nearest in the forced alignment of the text by the route's own head under its
    mask. Every second recording is clustered, and the others are measured.

    Args:
        label: a route of `resident`.
        speech: with texts and durations; texts that the head cannot write, or that have more tokens than frames, are
            left out.
        seed: of k-means.
        bar: shows how far the hidden states are, then the clusters.

    Raises:
        DataError: a recording cannot be read, or fewer frames than clusters are left.
    """
    kept: list[list[list[np.ndarray]]] = [[], []]  # per half: per utterance, per (condition, layer) frames
    labels: list[np.ndarray] = []
    layers, seconds = 0, 0.0
    writable = list(_writable(speech, head))
    told = bar(f"hidden states of {label}")
    for number_, (ids, utt) in enumerate(writable, 1):
        wave = torch.from_numpy(read_audio(utt.source)) * head.gain
        frozen, masked = resident.hidden([wave], [FROZEN, label])
        found = _labels(head, masked, ids)
        told(number_ / len(writable))
        if found is None:
            continue
        layers, seconds = len(masked), seconds + len(wave) / 16_000
        half = len(kept[0]) > len(kept[1])
        kept[half].append([_kept(state) for state in (*frozen, *masked)])
        if half:
            labels.append(found)
    frames = [sum(len(states[0]) for states in half) for half in kept]
    if min(frames) < CLUSTERS:
        raise DataError(
            f"{min(frames)} frames of speech with texts are too few for {CLUSTERS} clusters; give more (recordings of "
            f"{MOST_SECONDS / 60:.0f} minutes at most)"
        )
    truth = np.concatenate(labels)
    values, told = [], bar(f"clusters of {label}")
    for place in range(2 * layers):
        fitted, held_out = (np.concatenate([states[place] for states in half]) for half in kept)
        values.append(held_out_purity(fitted, held_out, truth, CLUSTERS, seed))
        told((place + 1) / (2 * layers))
    return Purity(np.array(values[:layers]), np.array(values[layers:]), one_cluster(truth), len(truth), seconds)


def _kept(state: Tensor) -> np.ndarray:
    """A hidden state, (frames, channels), within the range of what it is kept in: large models go beyond it."""
    most = float(np.finfo(_CHANNELS).max)
    return state.clamp(-most, most).numpy().astype(_CHANNELS)


def _writable(speech: Sequence[Utterance], head: CTCHead) -> Iterator[tuple[list[int], Utterance]]:
    """Utterances whose texts a head can write, with the tokens' ids, as many as fit into `MOST_SECONDS`."""
    left = MOST_SECONDS
    for utt in speech:
        if not utt.text or utt.duration > left or head.tokens.unknown(utt.text):
            continue
        left -= utt.duration
        yield head.tokens.encode(utt.text), utt


def _labels(head: CTCHead, states: Sequence[Tensor], ids: Sequence[int]) -> np.ndarray | None:
    count = len(states[0])
    if min_ctc_frames(ids) > count:
        return None
    return frame_labels(head([state[None] for state in states], torch.tensor([count]))[0], ids)


def characters(work: Work) -> None:
    """Purity of characters in each route's own speech, where that was given."""
    if not work.job.speech:
        work.notes.append(captions.NO_SPEECH)
        return
    rows, series, groups, seconds = [], {}, [], {}
    for label, (_, pack) in zip(work.masks.labels, _packs(work), strict=True):
        found = _of_route(work, label, pack)
        if found is None:
            continue
        series[label] = found.masked - found.frozen
        groups.append(pack.route)
        seconds[pack.route] = found.seconds
        rows += [
            {
                **{"pack": label, "route": pack.route, "hidden_state": layer},
                **{"frozen": found.frozen[layer], "masked": found.masked[layer], "one_cluster": found.one},
                "frames": found.frames,
            }
            for layer in range(len(found.frozen))
        ]
    if not rows:
        return
    work.add("purity", rows)
    last = [row for row in rows if row["hidden_state"] == rows[-1]["hidden_state"]]
    means = {name: number(float(np.mean([row[name] for row in last]))) for name in ("frozen", "masked", "one_cluster")}
    said = captions.PURITY.format(clusters=CLUSTERS, seconds=sum(seconds.values()), routes=len(seconds), **means)
    work.draw(
        figures.curves(
            "purity",
            "What masks do to the purity of characters",
            sorted({row["hidden_state"] for row in rows}),
            series,
            ("hidden state (0 enters the transformer)", "purity with the mask, minus without"),
            said,
            level=("no mask", 0.0),
            zero=False,
            groups=groups,
        )
    )


def _packs(work: Work) -> Iterator[tuple[str, MaskPack]]:
    return read_sources(work.job.sources, work.resident.module, work.resident.fingerprint)


def _of_route(work: Work, label: str, pack: MaskPack) -> Purity | None:
    """None, and a note, where a route has no speech or does not write by CTC."""
    speech = work.job.speech.get(pack.route)
    if speech is None or pack.meta.whole or pack.tokens is None:
        why = "no speech was given (--speech)" if speech is None else "its pack has no CTC head"
        note = f"Purity of characters, {pack.route}: {why}."
        if note not in work.notes:
            work.notes.append(note)
        return None
    work.tell(f"clustering hidden states of {label}")
    with routed(work.resident, [(label, pack)]):
        try:
            head = route_head(pack).eval()
            return character_purity(work.resident, label, head, speech.utts, work.job.seed, work.bar)
        except DataError as error:
            raise DataError(f"--speech of {pack.route}: {error}") from None
