#!/usr/bin/env python3
"""Synthetic speech whose phones are known to the frame, for pretraining: espeak-ng in many languages and voices.

    local/synthesis.py --stamps downloads/tuxpaint-stamps-default --prompts ../asr1/data --out data/synthetic

Texts: the descriptions of Tux Paint's drawings in every language that espeak-ng speaks, and train-side transcripts of
the prompts. Voices, pitch and rate are drawn anew for each text. Writes a Kaldi directory (wav.scp, utt2spk) and
`phones.npz`: for each utterance the phone of every 20 ms (int16), an index into `phones.txt`.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from speech import RATE
from tqdm import tqdm

PHONE_EVENT, END_OF_EVENTS = 7, 0  # of speak_lib.h
PHONE_EVENTS, IPA_EVENTS, DO_NOT_EXIT, SYNCHRONOUS, UTF8 = 1, 2, 0x8000, 2, 1
SPEAKING_RATE, PITCH, PITCH_RANGE = 1, 3, 4
NOT_PHONES = str.maketrans("", "", "ˈˌːˑ'-|")
# named alike by espeak-ng and in Tux Paint's files
LANGUAGES = (
    *("en", "es", "fr", "it", "ru", "af", "bg", "ca", "cs", "da", "de", "el", "et", "eu", "fi", "hr", "hu", "id", "lt"),
    *("lv", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sr", "sv", "sw", "tr", "uk"),
)
VARIANTS = ["", *(f"+m{i}" for i in range(1, 9)), *(f"+f{i}" for i in range(1, 6)), "+klatt", "+klatt2", "+klatt4"]


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "unique", "text_position", "length", "milliseconds", "sample")),
        ("user_data", ctypes.c_void_p),
        ("phone", ctypes.c_char * 8),
    ]  # fmt: skip


class Voice:
    """espeak-ng, with the phones and the places where they begin."""

    def __init__(self):
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, DO_NOT_EXIT | PHONE_EVENTS | IPA_EVENTS)

    def speak(self, text: str, voice: str, rate: int, pitch: int, span: int):
        """(samples,) int16 at ``self.rate``, and [(first sample, phone in IPA)]; empty where it has no such voice."""
        blocks: list[np.ndarray] = []
        phones: list[tuple[int, str]] = []

        def collect(samples, count, events) -> int:
            if samples and count > 0:
                blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            for place in itertools.count():
                event = events[place]
                if event.type == END_OF_EVENTS:
                    return 0
                if event.type == PHONE_EVENT:
                    phones.append((event.sample, event.phone.decode("utf-8", "ignore").translate(NOT_PHONES)))

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
        callback, encoded = kind(collect), text.encode() + b"\0"
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            return np.zeros(0, np.int16), []
        for number, value in ((SPEAKING_RATE, rate), (PITCH, pitch), (PITCH_RANGE, span)):
            self.library.espeak_SetParameter(number, value, 0)
        self.library.espeak_SetSynthCallback(callback)
        self.library.espeak_Synth(encoded, len(encoded), 0, 0, 0, UTF8, None, None)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.int16), phones


def texts(stamps: Path, prompts: Path) -> dict[str, list[str]]:
    """Language -> its texts, without repetitions."""
    found: dict[str, set[str]] = {lang: set() for lang in LANGUAGES}
    for path in stamps.rglob("*.txt"):
        lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
        if lines and "=" not in lines[0]:
            found["en"].add(lines[0].strip())
        for line in lines:
            lang, _, text = line.partition(".utf8=")
            if lang in found and text.strip():
                found[lang].add(text.strip())
    for lang in LANGUAGES:
        transcripts = prompts / lang / "train" / "text"
        if transcripts.exists():
            lines = transcripts.read_text(encoding="utf-8").splitlines()
            found[lang] |= {line.split(maxsplit=1)[1] for line in lines if " " in line}
    return {lang: sorted(some) for lang, some in found.items() if some}


def phones_of_frames(begins: list[tuple[int, str]], samples: int) -> list[str]:
    """The phone at the centre of each frame (320 i + 360 samples at 16 kHz); '' where there is none."""
    places = np.array([begin for begin, _ in begins])
    centres = np.arange(max(0, (samples - 720) // 320 + 1)) * 320 + 360
    index = np.searchsorted(places, centres, side="right") - 1
    return [begins[i][1] if i >= 0 else "" for i in index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="asr1's data: only train sides are read")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--repeats", type=int, default=3, help="voices for each text of the five languages; one elsewhere"
    )
    parser.add_argument("--share", type=float, default=0.35, help="of the texts of other languages")
    parser.add_argument("--min-count", type=int, default=2000, help="frames of a phone below which it counts as none")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import torch
    import torchaudio.functional as F

    rng, voice = random.Random(args.seed), Voice()
    wanted = [
        (lang, text)
        for lang, some in texts(args.stamps, args.prompts).items()
        for text in some
        for _ in range(args.repeats if (args.prompts / lang).is_dir() else int(rng.random() < args.share))
    ]
    (args.out / "wav").mkdir(parents=True, exist_ok=True)
    frames: dict[str, list[str]] = {}
    scp, spk, seconds = [], [], 0.0
    for number, (lang, text) in enumerate(tqdm(wanted, mininterval=5)):
        name = lang + rng.choice(VARIANTS)
        samples, begins = voice.speak(text, name, rng.randint(120, 200), rng.randint(15, 85), rng.randint(30, 70))
        if len(samples) < voice.rate // 2 or not begins:
            continue
        wave = (
            F.resample(torch.from_numpy(samples).float(), voice.rate, RATE).clamp(-32768, 32767).to(torch.int16).numpy()
        )
        begins = [(begin * RATE // voice.rate, phone) for begin, phone in begins]
        utt = f"espeak{lang}-{number:06d}"
        path = (args.out / "wav" / f"{utt}.wav").resolve()
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        frames[utt] = phones_of_frames(begins, len(wave))
        scp.append(f"{utt} {path}\n")
        spk.append(f"{utt} espeak{lang}\n")
        seconds += len(wave) / RATE
    counts = Counter(phone for some in frames.values() for phone in some)
    known = ["", *sorted(phone for phone, count in counts.items() if phone and count >= args.min_count)]
    index = {phone: i for i, phone in enumerate(known)}
    np.savez(
        args.out / "phones.npz", **{u: np.array([index.get(p, -100) for p in x], np.int16) for u, x in frames.items()}
    )
    (args.out / "phones.txt").write_text("\n".join(phone or "(none)" for phone in known) + "\n", encoding="utf-8")
    (args.out / "utt2spk").write_text("".join(spk), encoding="utf-8")
    (args.out / "wav.scp").write_text("".join(scp), encoding="utf-8")
    print(f"{args.out}: {len(scp)} utterances, {seconds / 3600:.1f} h, {len(known)} phones (and silence among them)")


if __name__ == "__main__":
    main()
