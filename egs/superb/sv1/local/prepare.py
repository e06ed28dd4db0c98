#!/usr/bin/env python3
"""VoxCeleb1 in its official layout -> Kaldi directories train, dev and test for verification (called by local/data.sh).

Of the speakers of ``iden_split.txt`` those with the numbers 10270 to 10309 are the test set, with the trials of
``voxceleb1_test_v2.txt``; the others train, but for every thirtieth (by a hash of the name, two at least): held out
for validation, with trials drawn among up to 20 of their utterances. s3prl trains on them, too, and selects on the
test set.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3router.data.kaldi import Utterance, summary
from s3router.data.utt2label import write_beside, write_labelled
from s3router.errors import DataError, run_script

SPLIT, TRIALS = "iden_split.txt", "voxceleb1_test_v2.txt"
TEST_SPEAKERS = range(10270, 10310)
ONE_IN, AT_LEAST, AT_MOST, PARTNERS = 30, 2, 20, 4  # held-out speakers; utterances of each; partners of each utterance
_WAV = r"(id1\d{4})/([^/\s]+)/(\d+)\.wav"
_SPLIT_LINE, _TRIAL_LINE = re.compile(rf"[123] ({_WAV})"), re.compile(rf"([01]) ({_WAV}) ({_WAV})")


def digest(name: str) -> bytes:
    """Orders names as if at random, and always in the same way."""
    return hashlib.sha256(name.encode()).digest()


def utt_of(path: str) -> str:
    """``id10270/video/00001.wav`` -> ``id10270-video-00001``, as in a submission."""
    return path.removesuffix(".wav").replace("/", "-")


def read_lines(path: Path, pattern: re.Pattern, what: str, source: str) -> list[re.Match]:
    """Every line's match. Raises DataError where the file is missing or lines are of another form."""
    if not path.is_file():
        raise DataError(f"{path} is missing: {source}")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [pattern.fullmatch(line.strip()) for line in lines]
    problems = [f"line {n} is not '{what}': {lines[n - 1]!r}" for n, match in enumerate(found, 1) if match is None]
    if problems or not found:
        raise DataError(summary(path, problems or ["the file is empty"]))
    return found


def held_out(speakers: Sequence[str]) -> set[str]:
    """The speakers of validation. Raises DataError where there are too few for both."""
    count = max(AT_LEAST, round(len(speakers) / ONE_IN))
    if len(speakers) < count + 2:
        raise DataError(
            f"{len(speakers)} speakers outside the test set; need {count} for validation and 2 for training"
        )
    return set(sorted(speakers, key=digest)[:count])


def draw_trials(by_speaker: Mapping[str, Sequence[str]]) -> list[tuple[int, str, str]]:
    """For each utterance some of the same speaker, and as many of others; the same in every call.

    Raises:
        DataError: no speaker has two utterances.
    """
    speaker_of = {utt: speaker for speaker, utts in by_speaker.items() for utt in utts}
    found = []
    for utt, speaker in sorted(speaker_of.items()):
        by_chance = sorted((other for other in speaker_of if other != utt), key=lambda other, u=utt: digest(u + other))
        same = [other for other in by_chance if speaker_of[other] == speaker][:PARTNERS]
        rest = [other for other in by_chance if speaker_of[other] != speaker][: max(len(same), 1)]
        found += [(1, utt, other) for other in same] + [(0, utt, other) for other in rest]
    if not any(kind for kind, *_ in found):
        raise DataError("no speaker held out for validation has two utterances, so no trial can be drawn")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    corpus = args.corpus.resolve()
    site = "from the VoxCeleb site (meta/iden_split.txt)"
    listed = [m[1] for m in read_lines(corpus / SPLIT, _SPLIT_LINE, "<1|2|3> id1XXXX/VIDEO/NUMBER.wav", site)]
    trials = [
        (int(m[1]), m[2], m[6])
        for m in read_lines(corpus / TRIALS, _TRIAL_LINE, "<0|1> WAV WAV", "the trials, from openslr.org/49")
    ]
    folders = {path.name: path for pattern in ("wav/id1*", "*/wav/id1*") for path in sorted(corpus.glob(pattern))}
    problems: list[str] = []

    def utterance(path: str) -> Utterance:
        speaker, rest = path.split("/", 1)
        wav = folders.get(speaker, corpus / "dev/wav" / speaker) / rest
        if not wav.is_file():
            problems.append(f"{wav} is missing")
        return Utterance(utt_of(path), str(wav), "", speaker)

    known = [utterance(path) for path in listed]
    enrolled = [utterance(path) for path in sorted({path for _, one, other in trials for path in (one, other)})]
    problems += [
        f"{TRIALS}: {u.utt}: {u.speaker} is no test speaker (id{TEST_SPEAKERS[0]} to id{TEST_SPEAKERS[-1]})"
        for u in enrolled
        if int(u.speaker[2:]) not in TEST_SPEAKERS
    ]
    if problems:
        raise DataError(summary(corpus, problems))
    others = [u for u in known if int(u.speaker[2:]) not in TEST_SPEAKERS]
    chosen = held_out(sorted({u.speaker for u in others}))
    by_speaker = {
        speaker: sorted((u.utt for u in others if u.speaker == speaker), key=digest)[:AT_MOST] for speaker in chosen
    }
    drawn = draw_trials(by_speaker)
    kept = {utt for utts in by_speaker.values() for utt in utts}
    tests = [(kind, utt_of(one), utt_of(other)) for kind, one, other in trials]
    for name, utts, lines in (("test", enrolled, tests), ("dev", [u for u in others if u.utt in kept], drawn)):
        folder = args.out / name
        write_beside(folder, utts, "trials", (f"{kind} {one} {other}" for kind, one, other in lines))
        print(f"{folder}: {len(lines)} trials, {len(utts)} utterances of {len({u.speaker for u in utts})} speakers")
    train = [u for u in others if u.speaker not in chosen]
    write_labelled(args.out / "train", train, {u.utt: (u.speaker,) for u in train})
    print(f"{args.out / 'train'}: {len(train)} utterances of {len({u.speaker for u in train})} speakers")
    return 0


if __name__ == "__main__":
    run_script(main)
