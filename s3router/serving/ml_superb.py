"""The interface of the ML-SUPERB 2.0 challenge over a folder of packs: waveform in, language and text out.

    api = API("exp/masks")  # *.pack, one for each language, and langid.pack
    iso, text = api(waveform)

One resident backbone; a language costs its head and one bit per masked weight. Nothing is fetched: the packs name the
upstream, which has to be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from s3router.asr.ctc_decode import BatchOptions
from s3router.data.kaldi import Utterance
from s3router.data.ml_superb_text import language_code
from s3router.data.waves import waveform as samples_of
from s3router.errors import ConfigError
from s3router.files import read_json
from s3router.serving.identify_first import Doubt, transcribe_identified
from s3router.serving.language_classifier import LanguageClassifier
from s3router.serving.loading import load_routes
from s3router.serving.reading import WaveUtterance
from s3router.serving.transcribe import transcribe

CLASSIFIER, SETTINGS = "langid.pack", "settings.json"


class API:
    """Transcribes speech of any of its languages.

    ``folder`` holds packs, whose routes are called as the languages (ISO 639-3); ``langid.pack`` (`s3router langid
    --fit`); and maybe ``settings.json`` with ``best`` and ``sure`` (`Doubt`). A route that is no language of the
    classifier, such as a joint model's, is taken for the languages that have none of their own; one at most.

    Args:
        folder: see above.
        device: "cpu", "cuda" …
        upstream, ckpt: the backbone, by default the one that the packs name.
        doubt: by default that of ``settings.json``, else none.

    Attributes:
        routes: language -> its route.

    Raises:
        ConfigError: packs or the classifier are missing, two routes are no languages, or wrong settings.
        PackError: a file is damaged, or for another backbone.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        device: str = "cpu",
        upstream: str | None = None,
        ckpt: str | None = None,
        doubt: Doubt | None = None,
    ):
        folder = Path(folder)
        packs = sorted(path for path in folder.glob("*.pack") if path.name != CLASSIFIER)
        if not packs or not (folder / CLASSIFIER).is_file():
            lacking = CLASSIFIER if packs else "packs (s3router pack)"
            raise ConfigError(f"{folder}: no {lacking} in it; a folder of packs with {CLASSIFIER} is needed")
        self.classifier = LanguageClassifier.load(folder / CLASSIFIER)
        self.model = load_routes(packs, upstream, ckpt, device)
        self.classifier.check_backbone(self.model.upstream)
        self.doubt = doubt or _settings(folder / SETTINGS)
        self.routes = self._routes(folder)

    def _routes(self, folder: Path) -> dict[str, str]:
        own = set(self.model.transcribing)
        others = sorted(own - set(self.classifier.languages))
        if len(others) > 1:
            raise ConfigError(f"{folder}: the classifier does not know {', '.join(others)}; one such route at most")
        shared = dict.fromkeys(self.classifier.languages, others[0]) if others else {}
        return shared | {lang: lang for lang in self.classifier.languages if lang in own}

    def __call__(self, waveform: np.ndarray, true_lid: str | None = None) -> tuple[str, str]:
        """Transcribe one utterance.

        Args:
            waveform: (samples,), 16 kHz, float at a full scale of ±1; any length, none included.
            true_lid: its language, where that is known; one that there is no route for is not believed.

        Returns:
            (ISO 639-3 code, text in capitals).

        Raises:
            DataError: not one channel of finite numbers.
        """
        wave = samples_of(waveform, "waveform") if np.size(waveform) else np.zeros(0, np.float32)
        wave = np.pad(wave, (0, max(0, self.model.receptive_field - len(wave))))
        (found,) = self.decode([WaveUtterance.of(wave, "waveform")], [true_lid]).values()
        return found

    def decode(
        self,
        recordings: Sequence[Utterance],
        true_lids: Sequence[str | None] | None = None,
        options: BatchOptions | None = None,
    ) -> dict[str, tuple[str, str]]:
        """The same of many recordings with durations, in batches: id -> (language, text), in their order.

        Raises:
            DataError: recordings that cannot be read, or are too short for one frame.
        """
        lids = true_lids or [None] * len(recordings)
        found = {
            index: (lang, text) for index, lang, text in self._decoded(recordings, lids, options or BatchOptions())
        }
        return {utt.utt: found[index] for index, utt in enumerate(recordings)}

    def _decoded(
        self, recordings: Sequence[Utterance], true_lids: Sequence[str | None], options: BatchOptions
    ) -> Iterator[tuple[int, str, str]]:
        """(index, language, text) of each."""
        told: dict[str | None, list[int]] = {}
        for index, lid in enumerate(true_lids):
            lid = None if lid is None else language_code(lid)
            told.setdefault(lid if lid in self.routes else None, []).append(index)
        for lang, members in told.items():
            utts = [recordings[index] for index in members]
            if lang is None:
                found = transcribe_identified(self.model, utts, self.routes, self.classifier, options, doubt=self.doubt)
            else:
                found = transcribe(self.model, utts, [self.routes[lang]], options)
            for index, transcript in found:
                yield members[index], lang or transcript.route, transcript.text


def _settings(path: Path) -> Doubt:
    if not path.is_file():
        return Doubt()
    values: Mapping[str, object] = read_json(path, "write it anew, or remove it")
    if unknown := values.keys() - {"best", "sure"}:
        raise ConfigError(f"{path}: {', '.join(sorted(unknown))} is not known; it has best and sure")
    return Doubt(**values)
