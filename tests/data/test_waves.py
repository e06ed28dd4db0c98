"""Audio that a program holds in memory."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from s3router.data.audio import resample
from s3router.data.waves import waveform
from s3router.errors import DataError

TONE = np.sin(np.arange(1600) * 0.1).astype(np.float32) / 2


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32])
def test_whole_numbers_are_of_full_scale_as_wide_as_they_are(kind):
    scale = np.iinfo(kind).max + 1
    np.testing.assert_allclose(waveform((TONE * scale).astype(kind)), TONE, atol=1.01 / scale)


def test_whole_numbers_of_no_scale_are_refused():
    with pytest.raises(DataError, match=r"prompt: int64 does not tell what full scale is; give int16, int32 or floats"):
        waveform((TONE * 32768).astype(np.int16).tolist(), "prompt")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_any_precision(dtype):
    tensor = torch.from_numpy(TONE).to(dtype).requires_grad_()
    np.testing.assert_array_equal(waveform(tensor), tensor.detach().float().numpy())


def test_a_cell_of_a_dataset_at_another_rate():
    expected = resample(TONE, 8000, 16000)
    np.testing.assert_array_equal(waveform({"array": TONE, "sampling_rate": 8000}), expected)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({}, "array without a sampling_rate in Hz"),
        ({"sampling_rate": None}, "array without a sampling_rate in Hz"),
        ({"sampling_rate": "fast"}, "array without a sampling_rate in Hz"),
        ({"sampling_rate": 0}, "a sample rate of 0 Hz; 1000 to 768000 Hz can be read"),
        ({"sampling_rate": -16000}, "a sample rate of -16000 Hz"),
    ],
)
def test_rates_that_cannot_be(rate, message):
    with pytest.raises(DataError, match=f"prompt: {message}"):
        waveform({"array": TONE, **rate}, "prompt")


def test_a_path_is_never_run(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    assert waveform({"bytes": None, "path": tmp_path / "a.wav"}).shape == TONE.shape
    with pytest.raises(DataError, match=r"is a shell command, which only wav.scp may hold; name a file"):
        waveform({"bytes": None, "path": f"touch {tmp_path}/ran; cat {tmp_path}/a.wav |"})
    assert not (tmp_path / "ran").exists()
