#!/usr/bin/env python3
"""Further real voices for pretraining, from packages of Debian: fetch, cut the silence around, write Kaldi directories.

    local/voices.py --downloads downloads --data data --prompts ../asr1/data

- `tuxpaint-stamps-default`: the names of some 900 drawings, spoken by volunteers in eleven languages;
- `asterisk-prompt-it-menardi-wav`: Asterisk's prompts in Italian by a further voice, 8 kHz; of these, only those whose
  key is on the train side of the Italian corpus.

Writes `<data>/<voice>/wav.scp` and `utt2spk`. Packages come by `apt-get download`, without root; where there is no
apt, put the two .deb files into --downloads (`dpkg -x` or `ar` unpacks them).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from s3router.data.audio import read_audio
from s3router.errors import DataError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "asr1" / "local"))
from prepare import side_of

RATE = 16000
STAMPS, MENARDI = "tuxpaint-stamps-default", "asterisk-prompt-it-menardi-wav"


def unpacked(package: str, downloads: Path) -> Path:
    """The package's unpacked content, fetched where it is not there yet."""
    folder = downloads / package
    if folder.is_dir():
        return folder
    downloads.mkdir(parents=True, exist_ok=True)
    if not list(downloads.glob(f"{package}_*.deb")):
        apt = subprocess.run(["apt-get", "-qq", "download", package], cwd=downloads, capture_output=True, text=True)
        if apt.returncode:
            raise DataError(
                f"cannot fetch the Debian package {package} ({apt.stderr.strip()[-200:]}). "
                f"Put {package}_*.deb from a Debian mirror into {downloads} and run again."
            )
    temporary = downloads / f".{package}"
    shutil.rmtree(temporary, ignore_errors=True)
    subprocess.run(["dpkg", "-x", max(downloads.glob(f"{package}_*.deb")), temporary], check=True)
    temporary.rename(folder)
    return folder


def trimmed(samples: np.ndarray, margin: float = 0.15) -> np.ndarray:
    """Without what lies more than ``margin`` seconds outside the stretch louder than 2 % of the loudest 20 ms."""
    hop = RATE // 50
    energy = np.square(samples[: len(samples) // hop * hop].reshape(-1, hop)).mean(1)
    loud = np.flatnonzero(energy > 4e-4 * energy.max(initial=0))
    if not len(loud):
        return samples[:0]
    return samples[max(0, int(loud[0] * hop - margin * RATE)) : int((loud[-1] + 1) * hop + margin * RATE)]


def stamps(root: Path):
    """(utterance, speaker, file) of the descriptions; the language stands in for the speaker."""
    for path in sorted(root.rglob("*_desc_*.ogg")):
        name = path.stem.removesuffix(".ogg")
        lang = name.rsplit("_", 1)[1]
        folder = path.parent.relative_to(root / "usr/share/tuxpaint/stamps").as_posix().replace("/", "_")
        yield f"stamps{lang}-{folder}_{name}", f"stamps{lang}", path


def menardi(root: Path, prompts: Path):
    """(utterance, speaker, file) of the prompts on the train side."""
    held_out = {
        line.split(maxsplit=1)[0].split("-", 1)[1]
        for side in ("dev", "test")
        for line in (prompts / "it" / side / "text").read_text(encoding="utf-8").splitlines()
    }
    sounds = next(root.rglob("it_IT_f_Menardi"))
    for path in sorted(sounds.rglob("*.wav")):
        key = path.relative_to(sounds).with_suffix("").as_posix()
        if side_of(key) == "train" and key.replace("/", "_") not in held_out and not key.startswith("silence"):
            yield f"menardi-{key.replace('/', '_')}", "menardi", path


def write(entries, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    scp, spk, seconds, bad = [], [], 0.0, 0
    for utt, speaker, path in tqdm(list(entries), desc=out.name, mininterval=2):
        try:
            samples = trimmed(read_audio(path, RATE))
        except DataError:
            bad += 1
            continue
        if not 0.5 <= len(samples) / RATE <= 30 or np.abs(samples).max() < 0.03:
            bad += 1
            continue
        wav = (out / "wav" / f"{utt}.wav").resolve()
        wav.parent.mkdir(exist_ok=True)
        soundfile.write(wav, samples, RATE, subtype="PCM_16")
        scp.append(f"{utt} {wav}\n")
        spk.append(f"{utt} {speaker}\n")
        seconds += len(samples) / RATE
    (out / "utt2spk").write_text("".join(spk), encoding="utf-8")
    (out / "wav.scp").write_text("".join(scp), encoding="utf-8")
    print(f"{out}: {len(scp)} recordings, {seconds / 60:.1f} min; {bad} left out (unreadable, silent, under 0.5 s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--downloads", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="where the Kaldi directories go")
    parser.add_argument("--prompts", type=Path, required=True, help="asr1's data, for the sides of the Italian prompts")
    args = parser.parse_args()
    try:
        write(stamps(unpacked(STAMPS, args.downloads)), args.data / "stamps")
        write(menardi(unpacked(MENARDI, args.downloads), args.prompts), args.data / "menardi")
    except DataError as error:
        sys.exit(f"local/voices.py: {error}")


if __name__ == "__main__":
    main()
