"""Speech Commands v1 with the twelve classes of SUPERB's keyword spotting."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from s3router.corpora.sets import ORDER, Prepared, StrPath, folder_of, progress, write_set
from s3router.data.audio import join_stretch, probe
from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import Label
from s3router.errors import DataError

TRAIN, TEST = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
OTHER_WORDS = ("bed", "bird", "cat", "dog", "eight", "five", "four", "happy", "house", "marvin", "nine", "one")
OTHER_WORDS += ("seven", "sheila", "six", "three", "tree", "two", "wow", "zero")
ONLY_V2 = {"backward", "follow", "forward", "learn", "visual"}
MAX_PER_CLASS = 2**27 - 1
SHORTEST = 0.1  # seconds: a shorter rest of a noise is left out


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare Speech Commands v1 for keyword spotting with twelve classes, as SUPERB has it.

    Corpus: http://download.tensorflow.org/data; egs/superb/ks1/local/data.sh fetches it. Licence: CC BY 4.0.

    Layout of ``source``: speech_commands_v0.01/WORD/*.wav and speech_commands_test_set_v0.01/CLASS/*.wav.

    Writes ``target``/{train,dev,test} with ``utt2label``; the recordings stay where they are. Training and validation
    follow the corpus's own rule (a hash of the speaker's name: 10 % validation; a further 10 % are not used, since the
    test set is a corpus of its own). Words outside of the ten are ``_unknown_``; the background noises, cut into
    seconds, are ``_silence_``, in both sets.

    Args:
        source: folder with the two corpora.
        target: folder to write.

    Raises:
        DataError: folders are missing, version 2, or a set would be empty.
    """
    top, target, done = folder_of(source, "Speech Commands v1").resolve(), Path(target), Prepared()
    train, test = top / TRAIN, top / TEST
    check_layout(train, test)
    sides = training_sets(train)
    sides["test"] = [
        (Utterance(f"{path.parent.name}-{path.name}", str(path)), (path.parent.name,))
        for path in sorted(test.glob("*/*.wav"))
        if path.parent.name in (*WORDS, UNKNOWN, SILENCE)
    ]
    for name in ORDER:
        if not sides[name]:
            raise DataError(f"Speech Commands v1: no recording for {name} in {train if name != 'test' else test}")
        labels = {utt.utt: label for utt, label in sides[name]}
        write_set(done, target / name, [utt for utt, _ in sides[name]], labels, f"{len(sides[name])} utterances")
    return done


def side_of(name: str) -> str:
    """``train``, ``dev`` or ``unused`` for a file's name, by the rule in the corpus's README."""
    speaker = name.split("_nohash_")[0].removesuffix(".wav")
    percent = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (MAX_PER_CLASS + 1) * (100.0 / MAX_PER_CLASS)
    return "dev" if percent < 10 else "unused" if percent < 20 else "train"


def check_layout(train: Path, test: Path) -> None:
    """Raises DataError with all that is missing, or that belongs to another version."""
    problems = [f"{folder} is missing" for folder in (train, test) if not folder.is_dir()]
    if not problems:
        found = {path.name for path in train.iterdir() if path.is_dir()}
        if found & ONLY_V2:
            problems.append(
                f"{train} is version 2 (it has {', '.join(sorted(found & ONLY_V2))}); SUPERB takes version 1"
            )
        problems += [f"{train / name} is missing" for name in (*WORDS, NOISE) if name not in found]
        problems += [f"{test / name} is missing" for name in (*WORDS, UNKNOWN, SILENCE) if not (test / name).is_dir()]
        if not found & set(OTHER_WORDS):
            problems.append(f"{train} has none of the other words ({OTHER_WORDS[0]} …): no example of {UNKNOWN}")
    if problems:
        raise DataError(summary("Speech Commands v1", problems))


def training_sets(folder: Path) -> dict[str, list[tuple[Utterance, Label]]]:
    """train, dev and unused: (utterance, class)."""
    sides: dict[str, list[tuple[Utterance, Label]]] = {"train": [], "dev": [], "unused": []}
    for path in progress(sorted(folder.glob("*/*.wav")), "training words"):
        word = path.parent.name
        if word == NOISE:
            seconds = probe(path).seconds
            for start in range(math.ceil(seconds - SHORTEST)):
                end = min(start + 1, seconds)
                source = join_stretch(str(path), start, end)
                utt = Utterance(f"{word}-{path.stem}-{start}.wav", source, "", word, end - start)
                sides["train"].append((utt, (SILENCE,)))
                sides["dev"].append((utt, (SILENCE,)))
        else:
            utt = Utterance(f"{word}-{path.name}", str(path), "", path.name.split("_nohash_")[0])
            sides[side_of(path.name)].append((utt, (word if word in WORDS else UNKNOWN,)))
    return sides
