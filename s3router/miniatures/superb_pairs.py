"""Miniatures of SUPERB's corpora of verification, diarisation and query by example."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s3router.data.audio import SAMPLE_RATE
from s3router.miniatures.sentences import Speaker, save, save_text, sentences

MIXTURES = "mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length\n"
TERMS = ("green house", "two apples", "long letter", "king's boat", "old man", "small dog")


def voxceleb(out: Path) -> None:
    """Four speakers for training and validation and two of the test set, with two videos of one recording each."""
    texts, split = iter(sentences("en", 12)), []
    for who, number in enumerate((10001, 10002, 10003, 10004, 10270, 10271)):
        for video, code in (("videoA", 1), ("videoB", 3)):
            path = f"id{number}/{video}/00001.wav"
            voice = np.concatenate([Speaker.number(who).say(next(texts), "en-us")] * 2)
            save(out / ("test" if number >= 10270 else "dev") / "wav" / path, voice)
            split.append(f"{code} {path}\n")
    one, same, other, more = (line.split()[1] for line in split[-4:])
    trials = [f"1 {one} {same}\n", f"0 {one} {other}\n", f"1 {other} {more}\n", f"0 {more} {same}\n"]
    save_text(out / "iden_split.txt", "".join(split))
    save_text(out / "voxceleb1_test_v2.txt", "".join(trials))


def librimix(out: Path) -> None:
    """Mixtures of two of three speakers each for training, validation and test, the second one a little later."""
    texts, first = iter(sentences("en", 24)), 0
    top = out / "Libri2Mix/wav16k/max"
    for part, source, count in (
        ("train-100", "train_clean_100", 4),
        ("dev", "dev_clean", 2),
        ("test", "test_clean", 2),
    ):
        rows, turns = [], []
        for index in range(count):
            voices, ids = [], []
            for side in range(2):
                who = first + (index + side) % 3
                samples = Speaker.number(who).say(next(texts), "en-us")
                ids.append(f"{1000 + who}-{20000 + who}-{index:03d}{side}")
                voices.append(np.concatenate([np.zeros(SAMPLE_RATE * 2 * side // 5), samples]))
                turn = f"{0.4 * side:.2f} {len(samples) / SAMPLE_RATE:.2f} <NA> <NA> {1000 + who} <NA> <NA>"
                turns.append(f"SPEAKER {ids[-1]} 1 {turn}\n")
            length = max(map(len, voices))
            mixture = sum(np.pad(voice, (0, length - len(voice))) for voice in voices) / 2
            name = "_".join(ids)
            save(top / part / "mix_both" / f"{name}.wav", mixture)
            rows.append(f"{name},/elsewhere/{part}/mix_both/{name}.wav,s1,s2,noise,{length}\n")
        first += 3
        for folder, file, head, lines in (
            (top / "metadata", f"mixture_{part}_mix_both.csv", MIXTURES, rows),
            (out / "metadata/LibriSpeech", f"{source}.rttm", "", turns),
        ):
            save_text(folder / file, head + "".join(lines))


def quesst(out: Path) -> None:
    """Eight English documents and one in Czech; three English queries and a Czech one for each of the two sides."""
    top = out / "quesst14Database"
    documents = [f"Nobody saw the {a} and the {b}" for a, b in zip(TERMS, TERMS[1:] + TERMS[:1], strict=True)]
    lists: dict[str, list[str]] = {"utterances": [], "dev": [], "eval": []}

    def add(name: str, folder: str, stem: str, text: str, who: int, language: str = "nnenglish") -> None:
        save(top / folder / f"{stem}.wav", Speaker.number(who).say(text, "en-us", 8000), 8000)
        lists[name].append(f"quesst14Database/{folder}/{stem}.wav {language}\n")

    for number, text in enumerate([*documents, "The weather is fine today", "Where is my sister"], 1):
        add("utterances", "Audio", f"quesst14_{number:05d}", text, number % 3)
    add("utterances", "Audio", "quesst14_00009", "Ahoj", 3, "czech")
    for side, terms in (("dev", TERMS[:3]), ("eval", TERMS[3:])):
        truth = [";; made up\n"]
        for number, term in enumerate(terms, 1):
            query = f"quesst14_{side}_{number:04d}"
            add(side, f"{side}_queries", query, term, 4)
            truth += [
                f"LEXEME quesst14_{d:05d} 1 0.0 1.0 {query} lex <NA> 0.5\n"
                for d, text in enumerate(documents, 1)
                if term in text
            ]
        add(side, f"{side}_queries", f"quesst14_{side}_0004", "Ahoj", 4, "czech")
        truth.append(f"LEXEME quesst14_00009 1 0.0 1.0 quesst14_{side}_0004 lex <NA> 0.5\n")
        folder = top / "scoring" / f"groundtruth_quesst14_{side}"
        save_text(folder / f"quesst14_{side}.rttm", "".join(truth))
    for name, lines in lists.items():
        save_text(top / "scoring" / f"language_key_{name}.lst", "".join(lines))
