"""Means computed ahead: the same training as from waveforms, with the upstream passed once."""

from __future__ import annotations

import pytest
import torch

from s3router.superb.pooled import PooledClips
from s3router.training.parameters import trained_state
from tests.superb.conftest import train


def test_training_from_means_is_training_from_waveforms(options):
    runs = [train(options("--pool-ahead", how, "--lr", "1e-2", name=how)) for how in ("auto", "never")]
    assert isinstance(runs[0].clips, PooledClips)
    assert not isinstance(runs[1].clips, PooledClips)
    first, second = (trained_state(run.task.model) for run in runs)
    for name, tensor in second.items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-3, atol=1e-4)
    assert runs[0].best["loss"] == pytest.approx(runs[1].best["loss"], rel=1e-3)


def test_means_are_kept_and_belong_to_the_recordings(options, sets, tmp_path, monkeypatch):
    from s3router.superb import pooled

    cache = tmp_path / "cache"
    train(options("--feature-cache", str(cache), name="a"))
    files = sorted((cache / "means").iterdir())
    assert len(files) == 2  # train and dev
    monkeypatch.setattr(pooled, "_means", None)  # they are not computed again
    train(options("--feature-cache", str(cache), "--lr", "1e-2", name="b"))
    recording = next((sets["train"] / "wav").iterdir())
    recording.touch()
    with pytest.raises(TypeError):
        train(options("--feature-cache", str(cache), name="c"))


@pytest.mark.parametrize("more", [["--method", "router"], ["--max-seconds", "0.2"]])
def test_frames_are_needed_where_they_change(options, more):
    assert not isinstance(train(options(*more)).clips, PooledClips)
