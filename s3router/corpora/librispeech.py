"""LibriSpeech and the limited subsets of Libri-light, as a recogniser is trained on them and as SUPERB takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, progress, read_text
from s3router.data import languages
from s3router.data.audio import probe
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.errors import ConfigError, DataError
from s3router.files import write_lines

EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
OFFICIAL = {"dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939, "train-clean-100": 28539}
"""Utterances of the release (Panayotov et al., ICASSP 2015)."""

LIBRILIGHT = {"10min": ("1h/0",), "1h": ("1h",), "10h": ("1h", "9h")}
"""Folders of librispeech_finetuning that make a subset (Kahn et al., ICASSP 2020): of the six folds of 10 minutes the
first; all six; and all of it."""
SUBSETS = (*LIBRILIGHT, "100h")
SUPERB = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


def prepare(source: StrPath, target: StrPath, *, subset: str, librilight: StrPath | None = None) -> Prepared:
    """Prepare LibriSpeech with few labels: Libri-light's 10 minutes, 1 hour or 10 hours, or train-clean-100.

    Corpus: OpenSLR 12 and librispeech_finetuning of Libri-light; egs/librispeech/asr1/local/data.sh fetches both.
    Licence: CC BY 4.0.

    Layout of ``source``: dev-clean, dev-other, test-clean, test-other (and train-clean-100 for 100h), in it or in
    LibriSpeech/ under it, each with SPEAKER/BOOK/{*.flac,SPEAKER-BOOK.trans.txt}.

    Writes ``target``/train_SUBSET, dev_clean, dev_other, test_clean, test_other, and dev (both dev sets). Transcripts
    are normalised (`s3router.data.languages`). Recordings stay where they are. A set that was prepared from the same
    folders by the same rules is left alone.

    Args:
        source: folder of LibriSpeech, or the one that holds it.
        target: folder to write.
        subset: 10min, 1h, 10h or 100h.
        librilight: the folder librispeech_finetuning (default: beside or in the corpus).

    Raises:
        ConfigError: an unknown subset.
        DataError: parts are missing, or recordings and transcripts do not go together.
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    corpus, target, done = find_folder(source, "LibriSpeech", EVALUATION, ["LibriSpeech"]), Path(target), Prepared()
    train = [corpus / "train-clean-100"]
    if subset in LIBRILIGHT:
        folder = find_librilight(corpus, Path(librilight) if librilight is not None else None)
        train = [folder / part for part in LIBRILIGHT[subset]]
    prepare_set(done, target / f"train_{subset}", *train, more_text=subset in LIBRILIGHT)
    for part in EVALUATION:
        prepare_set(done, target / part.replace("-", "_"), corpus / part)
    prepare_set(done, target / "dev", corpus / "dev-clean", corpus / "dev-other")
    return done


def prepare_superb(source: StrPath, target: StrPath, *, lexicon: Sequence[StrPath] = ()) -> Prepared:
    """Prepare what SUPERB takes of LibriSpeech: train-clean-100, dev-clean and test-clean, as letters or phonemes.

    Corpus: OpenSLR 12; egs/superb/asr1/local/data.sh fetches it. Licence: CC BY 4.0.

    Layout of ``source``: the three parts in it, or in LibriSpeech/ under it.

    Writes ``target``/{train,dev,test} with the release's own transcripts, in capitals, or with phonemes: the first
    pronunciation of each word that the lexicon has, by s3prl's own function. Recordings stay where they are.

    Args:
        source: folder of LibriSpeech, or the one that holds it.
        target: folder to write.
        lexicon: files with one 'WORD P1 P2 ...' per line; none: letters.

    Raises:
        DataError: parts are missing, recordings and transcripts do not go together, or words are in no lexicon.
    """
    corpus = find_folder(Path(source).resolve(), "LibriSpeech", list(SUPERB.values()), ["LibriSpeech"])
    target, done, sets = Path(target), Prepared(), {}
    for name, part in SUPERB.items():
        sets[name] = read_part(corpus / part, as_it_is=True)
        done.compare(part, len(sets[name]), OFFICIAL[part])
    if lexicon:
        spelled = phonemes([u for part in sets.values() for u in part], [Path(path) for path in lexicon])
        sets = {name: [replace(u, text=spelled[u.utt]) for u in utts] for name, utts in sets.items()}
    for name, utts in reversed(sets.items()):
        data = DataDir(target / name, utts).write(target / name)
        done.add(target / name, f"{len(utts)} utterances, {data.seconds / 3600:.1f} h")
    return done


def find_librilight(corpus: Path, given: Path | None) -> Path:
    """The folder ``librispeech_finetuning``. Raises DataError where it is not."""
    tried = [given] if given else [corpus / "librispeech_finetuning", corpus.parent / "librispeech_finetuning"]
    for folder in tried:
        if (folder / "1h").is_dir():
            return folder
    raise DataError(
        f"no Libri-light subsets in {' or '.join(map(str, tried))}: expected the folders 1h and 9h there. Unpack "
        f"librispeech_finetuning.tgz beside LibriSpeech, or name it with --librilight DIR (in a recipe: "
        f'--local-data-opts "--librilight DIR")'
    )


def read_part(folder: Path, more_text: bool = False, as_it_is: bool = False) -> list[Utterance]:
    """Utterances under ``folder``: every ``SPEAKER-BOOK.trans.txt`` with the recordings beside it.

    Args:
        folder: train-clean-100 and the like.
        more_text: transcripts without a recording are no mistake (of Libri-light: its books are cut, their texts may
            not be).
        as_it_is: leave the transcripts in the release's capitals, apostrophes and all.

    Raises:
        DataError: the folder is missing or empty, or recordings and transcripts do not go together; all problems.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; unpack the archive that holds it")
    utts, problems, used = [], [], set()
    for transcripts in progress(sorted(folder.rglob("*.trans.txt")), folder.name):
        for line in read_text(transcripts).splitlines():
            utt, _, text = line.partition(" ")
            recording = transcripts.parent / f"{utt}.flac"
            if not recording.is_file():
                problems += [] if more_text else [f"{recording}: missing, but {transcripts.name} has its text"]
                continue
            used.add(recording)
            try:
                text = text.strip() if as_it_is else languages.normalize(text, "en")
            except DataError as error:
                problems.append(f"{transcripts}: {utt}: {error}")
                continue
            try:
                seconds = probe(recording).seconds
            except DataError as error:
                problems.append(str(error))
                continue
            utts.append(Utterance(utt, str(recording.resolve()), text, utt.split("-")[0], seconds))
    problems += [f"{path}: no transcript for it" for path in sorted(folder.rglob("*.flac")) if path not in used]
    if problems:
        raise DataError(summary(folder, problems) + "\nunpack the archive again")
    if not utts:
        raise DataError(f"{folder}: no recordings with transcripts (*.flac, *.trans.txt); unpack the archive again")
    return utts


def prepare_set(done: Prepared, folder: Path, *sources: Path, more_text: bool = False) -> None:
    """Write one directory of all ``sources``, unless it is there already."""
    stamp, key = folder / ".prepared", key_of(*sources)
    if (folder / "wav.scp").is_file() and stamp.is_file():
        before, _, line = read_text(stamp).partition("\n")
        if before == key:
            if len(sources) == 1:
                _compare(done, sources[0], int(line.split()[0]))
            done.add(folder, line.rstrip())
            return
    utts = []
    for source in sources:
        part = read_part(source, more_text)
        if len(sources) == 1:
            _compare(done, source, len(part))
        utts += part
    stamp.unlink(missing_ok=True)  # it speaks of an earlier content
    data = DataDir(folder, utts).write(folder)
    speakers = len({u.speaker for u in utts})
    line = f"{len(utts)} utterances, {speakers} speakers, {data.seconds / 60:.1f} min"
    write_lines(stamp, [key, line])
    done.add(folder, line)


def key_of(*sources: Path) -> str:
    """Digest of the rules, the folders and their transcripts that a directory is made by and from."""
    rules = Path(__file__).read_bytes() + Path(languages.__file__).read_bytes()
    texts = [path for source in sources for path in sorted(source.rglob("*.trans.txt"))]
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in texts]
    named = [str(source.resolve()) for source in sources]
    return hashlib.sha256(rules + repr((named, stats)).encode()).hexdigest()


def _compare(done: Prepared, source: Path, count: int) -> None:
    """Warn where a part of the release has another number of utterances than the release."""
    done.compare(str(source), count, OFFICIAL.get(source.name, count))


def phonemes(utts: Sequence[Utterance], lexicons: Sequence[Path]) -> dict[str, str]:
    """Utterance -> its phonemes, separated by blanks.

    Raises:
        DataError: a lexicon is missing or has a line without a phoneme; words that no lexicon has.
    """
    from s3router.upstreams.s3prl_engine import load

    for path in lexicons:
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected a lexicon ('WORD P1 P2 ...' on each line)")
        bad = [n for n, line in enumerate(read_text(path).splitlines(), 1) if len(line.split()) < 2]
        if bad:
            raise DataError(f"{path}: line {bad[0]} is not 'WORD P1 P2 ...'")
    g2p = load("s3prl.dataio.encoder.g2p").G2P([str(path) for path in lexicons])
    lacking = sorted({word for u in utts for word in u.text.upper().split()} - g2p.word2phone.keys())
    if lacking:
        names = " and ".join(str(path) for path in lexicons)
        raise DataError(summary(names, [f"{word} is not in the lexicon" for word in lacking]))
    return {u.utt: g2p.encode(" ".join(u.text.split())) for u in utts}
