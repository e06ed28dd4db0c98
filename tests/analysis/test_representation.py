"""Representations under routes, against models of their own, one recording at a time."""

from __future__ import annotations

import copy

import pytest
import torch

from s3router.analysis.cka import MinibatchCKA
from s3router.analysis.mask_set import read_sources
from s3router.analysis.representation import FROZEN, align, load_resident
from s3router.data.audio import read_audio
from s3router.data.recordings import find_recordings
from s3router.errors import DataError
from s3router.masks import load_masks
from s3router.packs import MaskPack, PackMeta, write_pack
from tests.upstreams.whisper_files import huggingface_folder, small_whisper

FIVE = "tests/fixtures/five"


def test_equals_models_of_their_own(packs):
    resident = load_resident(packs[0])
    recordings = find_recordings([FIVE])
    named = [(path.stem, pack) for path, pack in zip(packs[:2], [p for _, p in read_sources(packs[:2])], strict=True)]
    shares: list[float] = []
    found = align(resident, named, recordings, frames=10_000, told=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert found.labels == (FROZEN, packs[0].stem, packs[1].stem)
    assert resident.routes.names == ()
    waves = [torch.from_numpy(read_audio(utt.source)) for utt in sorted(recordings, key=lambda u: (u.duration, u.utt))]
    models = [resident.upstream]
    for _, pack in named:
        models.append(copy.deepcopy(resident.upstream))
        load_masks(models[-1].backbone, pack.masks)
    with torch.no_grad():
        alone = [[[h[0] for h in model.hidden([wave])] for wave in waves] for model in models]
    features = [[torch.cat([states[layer] for states in each]) for layer in range(3)] for each in alone]
    slow = MinibatchCKA(3, 3)
    slow.add(features)
    assert found.cka == pytest.approx(slow.value.numpy(), abs=1e-5)
    assert found.cka[0] == pytest.approx(1)  # what enters the transformer is the same
    assert (found.cka[2, 0, 1:] < 0.9999).all()
    assert found.frames == len(features[0][0])
    assert found.recordings == 5


def test_the_frames_are_drawn_by_the_seed(packs):
    resident, recordings = load_resident(packs[0]), find_recordings([FIVE])
    named = [("a", next(read_sources(packs[:1]))[1])]
    first, again, other = (align(resident, named, recordings, 50, seed).cka for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_too_little_audio(packs, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "a.wav", [0.1] * 200, 16000)
    resident, named = load_resident(packs[0]), [("a", next(read_sources(packs[:1]))[1])]
    with pytest.raises(DataError, match="too little audio"):
        align(resident, named, find_recordings([tmp_path / "a.wav"]))
    assert resident.routes.names == ()


def test_whole_recognisers(in_place, tmp_path):
    """Packs of encoder and decoder: the encoder's hidden states are compared."""
    from s3router.masks import MaskConfig, attach, masks_of
    from s3router.upstreams.whisper_recogniser import load_recogniser

    folder = huggingface_folder(small_whisper(), tmp_path / "small")
    recogniser = load_recogniser("auto", str(folder))
    attach(recogniser.model, MaskConfig(sparsity=0.3, targets=("*.fc1", "*.fc2"), score_init="uniform"))
    given = {"kind": "seq2seq", "sample_rate": 16000, "language": "it", "max_tokens_per_second": 9.0}
    meta = PackMeta("auto", recogniser.fingerprint, str(folder), preprocessing=given)
    pack = MaskPack("it", masks_of(recogniser.model), {}, {}, {}, None, meta)
    write_pack(tmp_path / "it.pack", pack)
    resident = load_resident(tmp_path / "it.pack", "auto", str(folder))
    found = align(resident, [("it", pack)], find_recordings([FIVE]))
    assert found.cka[0, 0, 1] == pytest.approx(1)
    assert found.cka[-1, 0, 1] < 0.9999
