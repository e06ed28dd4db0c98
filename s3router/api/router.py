"""One resident backbone and its packs, for programs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.api.results import Classification, Transcription
from s3router.asr.ctc_decode import BatchOptions
from s3router.data.recordings import find_recordings
from s3router.data.utt2label import BETWEEN
from s3router.data.waves import waveform
from s3router.errors import ConfigError
from s3router.serving.choice import candidates
from s3router.serving.classify import classify
from s3router.serving.identify_first import Doubt, transcribe_identified
from s3router.serving.language_classifier import LanguageClassifier
from s3router.serving.loading import load_routes, pack_of_folder
from s3router.serving.reading import WaveUtterance, in_order
from s3router.serving.transcribe import Ranking, Transcript, transcribe
from s3router.sharing.address import is_address
from s3router.sharing.pull import local_packs, pull

if TYPE_CHECKING:
    from s3router.data.kaldi import Utterance

PathLike = str | os.PathLike[str]


class Router:
    """Transcribes and classifies by packs on one backbone.

        router = Router("whisper_base", packs=["es.pack", "fr.pack"])
        router.transcribe("a.wav", route="auto").text

    Its numbers are those of ``s3router transcribe`` and ``classify``, which stand on it. One call at a time.

    Args:
        upstream: the backbone's name; None: the one that the first pack names.
        packs: packs, experiment folders, or repositories of packs (``user/name@revision``); at least one. More can be
            added later.
        upstream_ckpt: the backbone's checkpoint, where its name does not imply one.
        langid: a language classifier (``s3router langid --fit``), which then chooses for ``auto`` in the place of the
            routes' confidences.
        device: ``cpu``, ``cuda``, ``cuda:1``.
        options: batches, chunks of long recordings, arithmetic.
        doubt: when the routes of several likely languages decode, with ``langid``; by default never.

    Raises:
        PackError: a pack is damaged, or for another backbone.
        CheckpointError: the backbone cannot be had.
        ConfigError: no packs; two of one route; no such upstream or device.
        RepositoryError: as `s3router.sharing.pull.pull`.

    Attributes:
        model: the `s3router.serving.routed_model.RoutedModel` behind it.
    """

    def __init__(
        self,
        upstream: str | None = None,
        packs: Sequence[PathLike] = (),
        *,
        upstream_ckpt: str | None = None,
        langid: PathLike | None = None,
        device: str = "cpu",
        options: BatchOptions | None = None,
        doubt: Doubt | None = None,
    ):
        packs = [packs] if isinstance(packs, str | os.PathLike) else list(packs)
        self.classifier = None if langid is None else LanguageClassifier.load(langid)
        self.model = load_routes(local_packs(packs), upstream, upstream_ckpt, device)
        if not isinstance(options, BatchOptions | None):
            raise ConfigError(f"options of type {type(options).__name__}; give BatchOptions(bf16=True) and the like")
        self.options = options or BatchOptions()
        self.doubt = doubt

    @classmethod
    def from_pretrained(
        cls, repository: str, revision: str | None = None, *, token: str | None = None, **settings: Any
    ) -> Router:
        """A router with the packs of a repository of the HuggingFace hub.

        Args:
            repository: ``user/name``.
            revision: a branch, a tag or, so that it stays the same, a commit; by default the newest state.
            token: for a private one; by default the one that was logged in with, or HF_TOKEN.
            settings: arguments of `Router`, but for ``packs``.

        Raises: as `s3router.sharing.pull.pull`, and as `Router`.
        """
        found = pull(repository, revision, token=token)
        return cls(packs=[pack.path for pack in found.packs], **settings)

    @property
    def routes(self) -> tuple[str, ...]:
        """The known routes, of both kinds."""
        return self.model.routes

    def add(self, pack: PathLike) -> str:
        """Take in another pack, or an experiment's folder; returns its route.

        Raises:
            PackError: it is damaged, or for another backbone.
            ConfigError: its route is there already, or it is a repository, which may hold several.
            CheckpointError: a folder without an experiment.
        """
        if is_address(pack):
            raise ConfigError(f"{pack}: a repository; add the paths that s3router.sharing.pull.pull gives, one by one")
        return self.model.add(pack_of_folder(pack) if Path(pack).is_dir() else pack)

    def remove(self, route: str) -> None:
        """Forget a route."""
        self.model.remove(route)

    def transcribe(
        self, audio: Any, route: str | None = None, *, among: Sequence[str] = (), words: bool = False
    ) -> Transcription:
        """The text of one recording.

        Args:
            audio: a path; samples (samples,) at 16 kHz; a file that is open for reading, or its bytes; or a cell of an
                audio column of HuggingFace's ``datasets`` (`s3router.data.waves.waveform`).
            route: a route, or ``auto``: the surest. None: the only one.
            among: the candidates of ``auto``; by default all routes that transcribe.
            words: with times of words; from whole recognisers they cost another pass of the decoder.

        Raises:
            ConfigError: unknown route, or none is named where there are several.
            DataError: the recording is missing, damaged, or too short for one frame.
        """
        (found,) = self.transcribe_all([_single(audio)], route, among=among, words=words)
        return found

    def transcribe_all(
        self, audios: Iterable[Any], route: str | None = None, *, among: Sequence[str] = (), words: bool = False
    ) -> Iterator[Transcription]:
        """The texts of many recordings, in their order, decoded in batches; arguments and errors as of `transcribe`.

        A path may be a folder, a ``*.scp`` file or a Kaldi directory, which stand for all recordings in them.
        """
        if isinstance(audios, str | os.PathLike):
            audios = [audios]
        routes = candidates(self.model.transcribing, route, among)
        for name in routes:
            self.model.text_head(name)  # raises now, and not with the first text
        found = self.hear([utt for audio in audios for utt in _recordings(audio)], routes, words=words)
        return (self._result(transcript, words) for transcript in in_order(found))

    def hear(
        self,
        recordings: Sequence[Utterance],
        routes: Sequence[str],
        ranking: Ranking | None = None,
        bad: dict[int, str] | None = None,
        words: bool = False,
    ) -> Iterator[tuple[int, Transcript]]:
        """`s3router.serving.transcribe.transcribe`; a language classifier chooses among several routes if there is one.

        Args: as there.

        Raises: as there, and ConfigError for routes that the classifier does not know.
        """
        if self.classifier is None or len(routes) == 1:
            return transcribe(self.model, recordings, routes, self.options, ranking, bad, words)
        return transcribe_identified(
            self.model, recordings, routes, self.classifier, self.options, bad, self.doubt, words
        )

    def classify(self, audio: Any, route: str | None = None, *, top: int = 1) -> Classification:
        """The label of one recording.

        Args:
            audio: as of `transcribe`.
            route: a route that classifies. None: the only one.
            top: how many labels `Classification.labels` has, at most.

        Raises: as `transcribe`.
        """
        known = self.model.classifying
        if route is None and len(known) > 1:
            raise ConfigError(f"route is missing; known: {', '.join(known)}")
        if top < 1:
            raise ConfigError(f"top={top}: at least 1 is needed")
        routes = list(known) if route is None else [route]
        ((_, (found,)),) = classify(self.model, _recordings(_single(audio)), routes, top, self.options)
        labels = tuple((BETWEEN.join(label), probability) for label, probability in found.labels)
        return Classification(*labels[0], found.route, found.seconds, found.source, labels)

    def _result(self, transcript: Transcript, words: bool) -> Transcription:
        head, heard = self.model.text_head(transcript.route), transcript.heard
        timed = heard.timed(head, self.model.stride, transcript.seconds) if words else None
        return Transcription(
            transcript.text,
            transcript.route,
            head.language,
            heard.confidence,
            transcript.seconds,
            transcript.source,
            transcript.scores,
            None if timed is None else tuple(timed),
        )


def _recordings(audio: Any) -> list[Utterance]:
    if isinstance(audio, str | os.PathLike):
        return find_recordings([audio])
    return [WaveUtterance.of(waveform(audio), "audio")]


def _single(audio: Any) -> Any:
    """The same; refuses a path that stands for several recordings."""
    if isinstance(audio, str | os.PathLike) and (os.path.isdir(audio) or os.fspath(audio).endswith(".scp")):
        raise ConfigError(f"{os.fspath(audio)}: stands for several recordings; transcribe_all takes it")
    return audio
