"""LibriMix, mixtures of two voices, for SUPERB's speaker diarisation."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.sets import ORDER, Prepared, StrPath, folder_of, progress, read_csv, read_text
from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_beside
from s3router.errors import DataError

TOP = "Libri2Mix/wav16k/max"
SETS = {"train": ("train-100", "train_clean_100"), "dev": ("dev", "dev_clean"), "test": ("test", "test_clean")}
COLUMNS = ("mixture_ID", "mixture_path", "length")
Turns = dict[str, list[tuple[str, str, str]]]
"""utterance -> (start, duration, speaker)"""


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare LibriMix for speaker diarisation.

    Corpus: mixed from LibriSpeech and the WHAM! noises by generate_librimix_sd.sh of https://github.com/s3prl/LibriMix.

    Layout of ``source``: Libri2Mix/wav16k/max (metadata/mixture_*_mix_both.csv, train-100, dev, test) and
    metadata/LibriSpeech/*.rttm, as s3prl's LibriMix makes and holds them.

    Writes ``target``/{train,dev,test} with ``rttm``; the recordings stay where they are. Who speaks when comes from the
    turns of the two LibriSpeech utterances (in "max" mixtures both begin at 0).

    Args:
        source: the clone of s3prl's LibriMix with the mixtures in it.
        target: folder to write.

    Raises:
        DataError: tables, turns or mixtures are missing or of another form.
    """
    corpus, target = folder_of(source, "LibriMix").resolve(), Path(target)
    sets, problems = {}, []
    for name, (part, origin) in SETS.items():
        mixtures = read_mixtures(corpus / TOP, part)
        turns = read_turns(corpus / "metadata/LibriSpeech" / f"{origin}.rttm")
        rttm: list[str] = []
        for mixture in sorted(mixtures):
            try:
                rttm += lines_of(mixture, turns)
            except DataError as error:
                problems.append(str(error))
        sets[name] = mixtures, rttm
    if problems:
        raise DataError(summary(corpus, problems))
    done = Prepared()
    for name in ORDER:
        mixtures, rttm = sets[name]
        utts = [Utterance(mixture, str(wav)) for mixture, wav in mixtures.items()]
        write_beside(target / name, utts, "rttm", rttm)
        done.add(target / name, f"{len(mixtures)} mixtures, {len(rttm)} turns")
    return done


def read_turns(path: Path) -> Turns:
    """Raises DataError where the file is missing or a line is of another form."""
    if not path.is_file():
        raise DataError(f"{path} is missing: who speaks when in LibriSpeech, from s3prl's LibriMix")
    found: Turns = {}
    problems = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = line.split()
        if len(parts) < 8 or parts[0] != "SPEAKER":
            problems.append(f"line {number} is not 'SPEAKER UTTERANCE 1 START DURATION <NA> <NA> SPEAKER …': {line!r}")
        else:
            found.setdefault(parts[1], []).append((parts[3], parts[4], parts[7]))
    if problems or not found:
        raise DataError(summary(path, problems or ["the file is empty"]))
    return found


def read_mixtures(top: Path, part: str) -> dict[str, Path]:
    """Name -> recording, where the table says or in its place in the corpus. Raises DataError for what is missing."""
    path = top / "metadata" / f"mixture_{part}_mix_both.csv"
    rows = read_csv(path, COLUMNS, "a table of Libri2Mix at 16 kHz, of the kind 'max', with noise (mix_both)")
    found, problems = {}, []
    for row in progress(rows, part):
        name, given = row["mixture_ID"], Path(row["mixture_path"])
        found[name] = given if given.is_file() else top / part / "mix_both" / f"{name}.wav"
        if name.count("_") != 1:
            problems.append(f"{name} does not name two utterances")
        if not found[name].is_file():
            problems.append(f"{found[name]} is missing")
    if problems:
        raise DataError(summary(path, problems))
    return found


def lines_of(mixture: str, turns: Turns) -> list[str]:
    """RTTM lines of a mixture. Raises DataError where turns of an utterance are unknown."""
    lines = []
    for utt in mixture.split("_"):
        speaker, rest = utt.split("-", 1)
        known = turns.get(utt) or turns.get(rest)
        if known is None:
            raise DataError(f"{mixture}: no turn of {utt} (or {rest}) is known")
        lines += [f"SPEAKER {mixture} 1 {start} {length} <NA> <NA> {speaker} <NA> <NA>" for start, length, _ in known]
    return lines
