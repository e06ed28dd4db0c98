"""Mboshi (Bantu C25, Congo-Brazzaville): four hours of three speakers, a language that public models do not know."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, progress, read_text, training_set
from s3router.data import languages
from s3router.data.audio import probe
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import ConfigError, DataError

OFFICIAL = {"train": 4616, "dev": 514}
"""Utterances of the release (Godard et al., LREC 2018, arXiv 1710.03501)."""
SUBSETS = {"10min": 10.0, "1h": 60.0, "all": None}
"""Minutes of training; None: all that is not held out."""
DEV_MINUTES = 15.0
"""Held out of the training part, but no more than a tenth of it."""
ENDINGS = (".wav", ".opus", ".flac", ".ogg")


def prepare(source: StrPath, target: StrPath, *, subset: str = "all") -> Prepared:
    """Prepare the Mboshi-French parallel corpus: elicited sentences of three speakers.

    Corpus: besacier/mboshi-french-parallel-corpus on GitHub (Godard et al., LREC 2018, arXiv 1710.03501);
    egs/mboshi/asr1/local/data.sh fetches it. Offered for reproducible experiments, without a licence file: cite the
    paper.

    Layout of ``source``: full_corpus_newsplit/{train,dev}/NAME.wav (or .opus, .flac) with NAME.mb.cleaned, in it or in
    mboshi-french-parallel-corpus/ under it. The first part of NAME is the speaker.

    Writes ``target``/train_SUBSET (train for all of it), dev and test. The corpus's dev is the test set, as is the
    custom; dev is 15 minutes of train, and no sentence of it is in the training set. Texts are the 'cleaned' ones,
    close to the phonology, in NFC and lower case without punctuation (`s3router.data.languages`). Recordings stay where
    they are.

    Args:
        source: folder of the repository, or the one that holds it.
        target: folder to write.
        subset: 10min, 1h or all; always the same utterances, smaller inside larger.

    Raises:
        ConfigError: an unknown subset.
        DataError: parts are missing, or recordings and texts do not go together; all problems.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    parts = ["full_corpus_newsplit/train", "full_corpus_newsplit/dev"]
    corpus = find_folder(source, "the Mboshi-French parallel corpus", parts, ["mboshi-french-parallel-corpus"])
    target, done = Path(target), Prepared()
    read = {name: read_part(corpus / "full_corpus_newsplit" / name) for name in OFFICIAL}
    for name, utts in read.items():
        done.compare(name, len(utts), OFFICIAL[name])
    whole = sum(utt.duration for utt in read["train"]) / 60
    dev, rest = hold_out(read["train"], min(DEV_MINUTES, whole / 10))
    train, minutes = DataDir(training_set(target, subset), rest), SUBSETS[subset]
    if minutes is not None:
        train = replace(train.subset(minutes), path=train.path)
    for data in (DataDir(target / "test", read["dev"]), DataDir(target / "dev", dev), train):
        data = data.write(data.path)
        done.add(data.path, f"{len(data.utts)} utterances, {data.seconds / 60:.1f} min")
    return done


def hold_out(utts: Sequence[Utterance], minutes: float) -> tuple[list[Utterance], list[Utterance]]:
    """(about so many minutes, the rest), parted by sentences: what is said in one is not said in the other.

    Which sentences are held out depends on their texts alone.
    """
    said: dict[str, list[Utterance]] = {}
    for utt in utts:
        said.setdefault(utt.text, []).append(utt)
    held, seconds = set(), 0.0
    for text in sorted(said, key=lambda text: hashlib.sha256(text.encode()).digest()):
        if seconds >= 60 * minutes:
            break
        held.add(text)
        seconds += sum(utt.duration for utt in said[text])
    return [u for u in utts if u.text in held], [u for u in utts if u.text not in held]


def read_part(folder: Path) -> list[Utterance]:
    """The utterances of one part. Raises DataError with all problems."""
    utts, problems = [], []
    recordings = sorted(f for f in folder.iterdir() if f.suffix in ENDINGS)
    for one, other in itertools.pairwise(recordings):
        if one.stem == other.stem:
            problems.append(f"{one.name} and {other.name}: one recording in two formats; leave one")
    for recording in progress(recordings, folder.name):
        text = folder / f"{recording.stem}.mb.cleaned"
        if not text.is_file():
            problems.append(f"{recording.name}: {text.name} is missing")
            continue
        try:
            words, seconds = languages.normalize(read_text(text), "mdw"), probe(recording).seconds
        except DataError as error:
            problems.append(f"{recording.name}: {error}")
            continue
        speaker = recording.stem.split("_")[0]
        utts.append(Utterance(recording.stem, str(recording.resolve()), words, speaker, seconds))
    if problems or not utts:
        raise DataError(summary(folder, problems or ["no recordings in it"]))
    return utts
