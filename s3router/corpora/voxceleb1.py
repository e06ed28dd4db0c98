"""VoxCeleb1 for SUPERB's speaker identification, and for its speaker verification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s3router.corpora.sets import ORDER, Prepared, StrPath, folder_of, progress, read_list, write_set
from s3router.corpora.trials import digest, draw_trials, write_trials
from s3router.data.kaldi import Utterance, summary
from s3router.errors import DataError

SPLIT, TRIALS = "iden_split.txt", "voxceleb1_test_v2.txt"
SETS = {"1": "train", "2": "dev", "3": "test"}
TEST_SPEAKERS = range(10270, 10310)
ONE_IN, AT_LEAST, AT_MOST = 30, 2, 20  # held-out speakers; utterances of each
_WAV = r"id1\d{4}/[^/\s]+/\d+\.wav"


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare VoxCeleb1 for speaker identification by its official split.

    Corpus: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ (an account is asked for);
    egs/superb/sid1/local/data.sh fetches it. Licence of the metadata: CC BY 4.0.

    Layout of ``source``: iden_split.txt, and id1XXXX/VIDEO/NUMBER.wav in wav/, dev/wav/ or test/wav/.

    Writes ``target``/{train,dev,test} with ``utt2label``, the speaker; the recordings stay where they are. An
    utterance's id is ``speaker-video-number``, as in a submission.

    Args:
        source: folder of the corpus.
        target: folder to write.

    Raises:
        DataError: the split or recordings are missing, or the split is another file.
    """
    corpus, target, done = folder_of(source, "VoxCeleb1").resolve(), Path(target), Prepared()
    split = [(m[1], m[2]) for m in read_split(corpus)]
    files, problems = Files(corpus), []
    if lacking := [name for code, name in SETS.items() if code not in {code for code, _ in split}]:
        raise DataError(summary(corpus / SPLIT, [f"no line for {name}" for name in lacking]))
    sets: dict[str, list[Utterance]] = {name: [] for name in SETS.values()}
    for code, path in progress(split, "recordings"):
        sets[SETS[code]].append(files.utterance(path, problems))
    if problems:
        raise DataError(summary(corpus, problems))
    for name in ORDER:
        speakers = len({u.speaker for u in sets[name]})
        labels = {utt.utt: (utt.speaker,) for utt in sets[name]}
        write_set(done, target / name, sets[name], labels, f"{len(sets[name])} utterances of {speakers} speakers")
    return done


def prepare_verification(source: StrPath, target: StrPath) -> Prepared:
    """Prepare VoxCeleb1 for speaker verification.

    Corpus: as for `prepare`, and the cleaned trials (OpenSLR 49); egs/superb/sv1/local/data.sh fetches both.

    Layout of ``source``: as for `prepare`, with voxceleb1_test_v2.txt.

    Writes ``target``/train with ``utt2label``, and ``target``/{dev,test} with ``trials`` (``<0|1> UTT UTT``). Of the
    speakers of iden_split.txt those with the numbers 10270 to 10309 are the test set, with the official trials. The
    others train, but for every thirtieth (by a hash of the name, two at least): these are held out for validation, with
    trials drawn among up to 20 of their utterances. s3prl trains on them, too, and selects on the test set.

    Args:
        source: folder of the corpus.
        target: folder to write.

    Raises:
        DataError: lists or recordings are missing or of another kind; too few speakers.
    """
    corpus, target, done = folder_of(source, "VoxCeleb1").resolve(), Path(target), Prepared()
    listed = [m[2] for m in read_split(corpus)]
    form, origin = "<0|1> WAV WAV", "the trials, from openslr.org/49"
    trials = [(int(m[1]), m[2], m[3]) for m in read_list(corpus / TRIALS, rf"([01]) ({_WAV}) ({_WAV})", form, origin)]
    files, problems = Files(corpus), []
    known = [files.utterance(path, problems) for path in progress(listed, "recordings")]
    paths = sorted({path for _, one, other in trials for path in (one, other)})
    enrolled = [files.utterance(path, problems) for path in paths]
    problems += [
        f"{TRIALS}: {u.utt}: {u.speaker} is not a test speaker (id{TEST_SPEAKERS[0]} to id{TEST_SPEAKERS[-1]})"
        for u in enrolled
        if not is_test_speaker(u)
    ]
    if problems:
        raise DataError(summary(corpus, problems))
    others = [u for u in known if not is_test_speaker(u)]
    chosen = held_out(sorted({u.speaker for u in others}))
    by_speaker = {
        speaker: sorted((u.utt for u in others if u.speaker == speaker), key=digest)[:AT_MOST] for speaker in chosen
    }
    drawn = draw_trials(by_speaker)
    kept = {utt for utts in by_speaker.values() for utt in utts}
    tests = [(kind, utt_of(one), utt_of(other)) for kind, one, other in trials]
    for name, utts, lines in (("test", enrolled, tests), ("dev", [u for u in others if u.utt in kept], drawn)):
        write_trials(done, target / name, utts, lines)
    train = [u for u in others if u.speaker not in chosen]
    what = f"{len(train)} utterances of {len({u.speaker for u in train})} speakers"
    write_set(done, target / "train", train, {u.utt: (u.speaker,) for u in train}, what)
    return done


def read_split(corpus: Path) -> list:
    """Matches of the lines of iden_split.txt: set, and path of the recording. Raises DataError."""
    origin = "the official split for identification, from the VoxCeleb site (meta/iden_split.txt)"
    return read_list(corpus / SPLIT, rf"([123]) ({_WAV})", "<1|2|3> id1XXXX/VIDEO/NUMBER.wav", origin)


class Files:
    """The recordings of a corpus, wherever the speakers' folders lie in it."""

    def __init__(self, corpus: Path):
        self.corpus = corpus
        patterns = ("*/wav/id1*", "wav/id1*")
        self.folders = {path.name: path for pattern in patterns for path in sorted(corpus.glob(pattern))}

    def utterance(self, path: str, problems: list[str]) -> Utterance:
        """Of ``id10270/video/00001.wav``; one that is missing is noted among the problems."""
        speaker, rest = path.split("/", 1)
        wav = self.folders.get(speaker, self.corpus / "dev/wav" / speaker) / rest
        if not wav.is_file():
            problems.append(f"{wav} is missing")
        return Utterance(utt_of(path), str(wav), "", speaker)


def utt_of(path: str) -> str:
    """``id10270/video/00001.wav`` -> ``id10270-video-00001``, as in a submission."""
    return path.removesuffix(".wav").replace("/", "-")


def is_test_speaker(utt: Utterance) -> bool:
    """Whether the speaker belongs to the test set of verification."""
    return int(utt.speaker[2:]) in TEST_SPEAKERS


def held_out(speakers: Sequence[str]) -> set[str]:
    """The speakers of validation. Raises DataError where there are too few for both."""
    count = max(AT_LEAST, round(len(speakers) / ONE_IN))
    if len(speakers) < count + 2:
        raise DataError(
            f"{len(speakers)} speakers outside the test set; need {count} for validation and 2 for training"
        )
    return set(sorted(speakers, key=digest)[:count])
