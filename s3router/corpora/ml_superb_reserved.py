"""The five training utterances of each of ML-SUPERB's 20 reserved languages.

The ids are those of the benchmark (espnet/espnet, egs2/ml_superb/asr1/local/data_prep.py): SOURCE_LANG_NUMBER.
"""

from __future__ import annotations

from collections.abc import Mapping

FEW = 5
"""Training utterances of a reserved language."""
_NUMBERS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "bos": {"fleurs": (67, 78, 80, 88, 90)},
    "ceb": {"fleurs": (54, 64, 69, 71, 80)},
    "dan": {"NST": (7, 72), "cv": (158,), "fleurs": (58, 71)},
    "epo": {"cv": (6, 39, 63, 66, 76)},
    "frr": {"cv": (23, 86, 95, 102, 104)},
    "ful": {"fleurs": (55, 59, 67, 76, 81)},
    "kaz": {"cv": (80, 97, 111), "fleurs": (36, 66)},
    "kea": {"fleurs": (52, 70, 78, 83, 85)},
    "lit": {"cv": (26, 105), "fleurs": (97,), "mls": (40,), "voxpopuli": (1707,)},
    "luo": {"fleurs": (56, 62, 67, 73, 77)},
    "srp": {"cv": (78, 145), "fleurs": (68, 93, 105)},
    "sun": {"googlei18n-asr": (1, 7, 41, 99, 106)},
    "tok": {"cv": (4, 11, 30, 84, 101)},
    "tos": {"mexico-el": (6, 122, 152, 496, 563)},
    "tsn": {"googlei18n-tts": (26, 44, 108), "nchlt": (1, 32)},
    "tso": {"nchlt": (35, 40, 89, 104, 125)},
    "tur": {"cv": (95, 101), "fleurs": (60, 69, 95)},
    "umb": {"fleurs": (28, 29, 33, 40, 47)},
    "vie": {"cv": (105, 128), "fleurs": (67, 68, 77)},
    "zul": {"fleurs": (49, 57), "nchlt": (27, 90, 104)},
}

RESERVED: Mapping[str, frozenset[str]] = {
    lang: frozenset(f"{source}_{lang}_{number:06d}" for source, numbers in sources.items() for number in numbers)
    for lang, sources in _NUMBERS.items()
}
"""Language -> the ids."""
