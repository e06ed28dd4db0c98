"""Check of speaker diarisation: HDF5 files of speaker activity, and their lengths."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from s3router.submission.check_files import Checked, compare_totals
from s3router.submission.expected import RATE, Expected
from s3router.submission.formats import ACTIVITIES, FRAME_SHIFT

STRETCH, SLACK = 2000, 5
"""s3prl takes recordings in stretches of 2,000 frames, and lets each differ by 5 from what its samples give."""
SHORTEST = RATE
"""Samples: every mixture of the benchmark's test set takes longer than a second."""


def check_diarization(
    found: Checked, folder: str, names: list[str], open_file: Callable[[str], BinaryIO], expected: Expected | None
) -> None:
    """Check ``frame_shift`` and, in `ACTIVITIES`, ``RECORDING.h5`` with ``T_hat`` (frames, speakers), from 0 to 1.

    Frames times ``frame_shift`` are the recording's samples, where the list has them.
    """
    path, shift = f"{folder}/{FRAME_SHIFT}", None
    if path in names:
        text = open_file(path).read(1000).decode("utf-8", "replace").strip()
        if text.isascii() and text.isdigit() and int(text) > 0:
            shift = int(text)
        else:
            found.wrong(path, 1, f"{text!r} is not a whole number of samples above 0")
    prefix, known = f"{folder}/{ACTIVITIES}/", None if expected is None else set(expected.ids)
    seen = set()
    for path in sorted(name for name in names if name.startswith(prefix)):
        recording = path.removeprefix(prefix).removesuffix(".h5")
        if not path.endswith(".h5") or "/" in recording:
            found.wrong(path, None, f"does not belong here: expected {prefix}RECORDING.h5")
            continue
        seen.add(recording)
        if known is not None and recording not in known:
            found.wrong(path, None, f"{recording} is not in the list of the test set")
        frames, problem = activity_of(open_file(path).read())
        if problem is None and shift is not None:
            samples = None if expected is None else expected.samples.get(recording)
            problem = length_problem(frames, shift, samples, expected is None)
            if expected is not None and samples is None:
                found.remarks["recordings whose length was not compared: the list does not say it"] += 1
        if problem:
            found.wrong(path, None, problem)
    found.entries = len(seen)
    compare_totals(found, prefix.rstrip("/"), seen, expected)


def length_problem(frames: int, shift: int, samples: int | None, official: bool) -> str | None:
    """What is wrong with the length of an activity; None if it is fine.

    Args:
        frames: of ``T_hat``.
        shift: samples from one frame to the next, as ``frame_shift`` says.
        samples: of the recording, at 16 kHz; None: not known.
        official: whether it belongs to the benchmark's test set.
    """
    covered = f"T_hat has {frames} frames, {frames * shift / RATE:.2f} s at the {shift} samples of {FRAME_SHIFT}"
    if samples is None:
        short = official and frames * shift < SHORTEST
        return f"{covered}; no recording of the benchmark's test set is that short" if short else None
    if abs(frames - samples / shift) <= SLACK * (1 + samples // (shift * STRETCH)) + 1:
        return None
    return f"{covered}; the recording takes {samples / RATE:.2f} s"


def activity_of(content: bytes) -> tuple[int, str | None]:
    """(frames, what is wrong with an HDF5 file of speaker activity; None if it is fine)."""
    import h5py
    import numpy as np

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            if problem := _form_problem(file):
                return 0, problem
            values = file["T_hat"][()]
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError and more on damaged files
        return 0, f"not a readable HDF5 file ({error})"
    wrong = np.argwhere(~((values >= 0) & (values <= 1)))
    if len(wrong):
        frame, column = wrong[0]
        return 0, f"T_hat[{frame}, {column}] is {values[frame, column]}; probabilities lie from 0 to 1"
    return len(values), None


def _form_problem(file: Any) -> str | None:
    import h5py

    if not isinstance(file.get("T_hat"), h5py.Dataset):
        return f"no dataset T_hat; it holds {', '.join(file) or 'nothing'}"
    data = file["T_hat"]
    if data.ndim != 2 or data.shape[1] != 2 or data.shape[0] == 0:
        return f"T_hat has the shape {list(data.shape)}, expected (frames, 2): one column per speaker"
    if data.dtype.kind != "f":
        return f"T_hat is {data.dtype}, expected floating-point probabilities"
    return None
