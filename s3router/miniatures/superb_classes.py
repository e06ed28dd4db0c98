"""Miniatures of SUPERB's corpora for the classification of utterances; emotions are pace and pitch."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from s3router.data.audio import SAMPLE_RATE, resample
from s3router.data.espeak import synthesize
from s3router.files import replacing
from s3router.miniatures.sentences import Speaker, save, save_text, sentences

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
INTENTS = [
    ("change language", "none", "none", "change the language"),
    ("activate", "lights", "kitchen", "turn on the kitchen lights"),
    ("deactivate", "music", "none", "stop the music"),
    ("increase", "volume", "none", "louder please"),
]
EMOTIONS = {"neu": (170, 50), "hap": (230, 80), "exc": (240, 85), "ang": (250, 30), "sad": (110, 20), "xxx": (170, 50)}


def speech_commands(out: Path) -> None:
    """Two speakers for training, one for validation; a test set of two recordings a class."""
    train, test = out / "speech_commands_v0.01", out / "speech_commands_test_set_v0.01"
    names = {"train": ("0a7c2a8d", "0b09edd3"), "dev": ("0000000b",)}  # by the corpus's hash rule
    for word in (*WORDS, "bed", "cat"):
        for who, name in enumerate([name for side in names.values() for name in side]):
            save(train / word / f"{name}_nohash_0.wav", Speaker.number(who).say(word, "en-us"))
        for take in range(2):
            folder = word if word in WORDS else "_unknown_"
            save(
                test / folder / f"{3 + take:08x}_nohash_{word}.wav",
                Speaker.number(5 + take).say(word, "en-us"),
            )
    random = np.random.default_rng(0)
    save(train / "_background_noise_" / "white_noise.wav", 0.02 * random.standard_normal(int(3.5 * SAMPLE_RATE)))
    for take in range(2):
        save(test / "_silence_" / f"{take:08x}.wav", 0.02 * random.standard_normal(SAMPLE_RATE))


def fluent(out: Path) -> None:
    """Four intents; three recordings each for training, one for validation and test."""
    top = out / "fluent_speech_commands_dataset"
    for name, speakers in (("train", (0, 1, 2)), ("valid", (3,)), ("test", (4,))):
        rows = []
        for who in speakers:
            for number, (action, thing, place, text) in enumerate(INTENTS):
                path = f"wavs/speakers/speaker{who}/{who}{number}-44b3-11e9.wav"
                save(top / path, Speaker.number(who).say(text, "en-us"))
                rows.append([len(rows), path, f"speaker{who}", text, action, thing, place])
        with replacing(top / "data" / f"{name}_data.csv") as file:
            writer = csv.writer(file)
            writer.writerow(["", "path", "speakerId", "transcription", "action", "object", "location"])
            writer.writerows(rows)


def voxceleb(out: Path) -> None:
    """Four speakers with three videos: of each video one recording; the videos are train, validation and test."""
    lines, texts = [], iter(sentences("en", 16))
    for who in range(4):
        speaker, folder = f"id1{1 + who:04d}", "test" if who == 3 else "dev"
        for video, code in (("videoA", 1), ("videoB", 1), ("videoC", 2), ("videoD", 3)):
            save(
                out / folder / "wav" / speaker / video / "00001.wav",
                Speaker.number(who).say(next(texts), "en-us"),
            )
            lines.append(f"{code} {speaker}/{video}/00001.wav\n")
    save_text(out / "iden_split.txt", "".join(lines))


def iemocap(out: Path) -> None:
    """Five sessions of one dialog with two turns of each emotion, and of one that is not used; lists of the folds."""
    texts, listed = iter(sentences("en", 5 * 2 * len(EMOTIONS))), []
    for session in range(1, 6):
        folder, dialog = out / "IEMOCAP_full_release" / f"Session{session}", f"Ses{session:02d}F_impro01"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
        for turn, emotion in enumerate([*EMOTIONS] * 2):
            utt, (pace, pitch) = f"{dialog}_F{turn:03d}", EMOTIONS[emotion]
            samples, rate = synthesize(next(texts), f"en-us+f{session % 4 + 1}", words_per_minute=pace, pitch=pitch)
            save(folder / "sentences/wav" / dialog / f"{utt}.wav", 0.7 * resample(samples, rate, SAMPLE_RATE))
            lines.append(f"[{turn}.0000 - {turn + 1}.0000]\t{utt}\t{emotion}\t[2.5000, 2.5000, 2.5000]\n")
            lines.append(f"C-E2:\t{emotion};\t()\n\n")
            if emotion != "xxx":
                place = f"Session{session}/sentences/wav/{dialog}/{utt}.wav"
                listed.append({"path": place, "label": emotion.replace("exc", "hap"), "speaker": utt[:6]})
        path = folder / "dialog/EmoEvaluation" / f"{dialog}.txt"
        save_text(path, "".join(lines))
    for session in range(1, 6):
        for part in ("train", "test"):
            items = [i for i in reversed(listed) if i["path"].startswith(f"Session{session}/") == (part == "test")]
            content = {"labels": {"neu": 0, "hap": 1, "ang": 2, "sad": 3}, "meta_data": items}
            save_text(out / "iemocap_split" / f"Session{session}" / f"{part}_meta_data.json", json.dumps(content))
