"""Speech without transcripts, trimmed; and synthetic speech with a phone for every frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s3router.corpora import asterisk_untranscribed, tuxpaint
from s3router.corpora.asterisk import side_of
from s3router.corpora.synthetic import phones_of_frames
from s3router.corpora.trimming import as_int16, trimmed
from s3router.data.audio import read_audio
from s3router.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def speech(seconds: float, silence: float = 1.0, level: float = 0.2) -> np.ndarray:
    """Noise with silence on both sides, at 16 kHz."""
    noise = level * np.random.default_rng(0).standard_normal(round(16000 * seconds))
    quiet = np.zeros(round(16000 * silence))
    return np.concatenate([quiet, noise, quiet]).clip(-1, 1).astype(np.float32)


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    """An unpacked package with four descriptions, two of which cannot be used."""
    folder = tmp_path / "package/usr/share/tuxpaint/stamps/animals/birds"
    folder.mkdir(parents=True)
    for name, samples in (("owl_desc_es", speech(1)), ("owl_desc_en", speech(2)), ("hen_desc_en", speech(0.1))):
        soundfile.write(folder / f"{name}.ogg", samples, 16000)
    (folder / "emu_desc_en.ogg").write_bytes(b"no audio")
    soundfile.write(folder / "owl.ogg", speech(1), 16000)  # its cry
    (folder / "owl.txt").write_text("A large owl sits here.\nes.utf8=Un búho grande.\nxx.utf8=unknown\n")
    return tmp_path / "package"


def test_descriptions_are_cut_out_of_the_silence_around_them(stamps, tmp_path):
    done = tuxpaint.prepare(stamps, tmp_path / "data")
    assert done.lines == [f"{tmp_path / 'data'}: 2 recordings, 0.1 min; 2 left out (unreadable, silent, under 0.5 s)"]
    sources = table(tmp_path / "data/wav.scp")
    assert list(sources) == ["stampsen-animals_birds_owl_desc_en", "stampses-animals_birds_owl_desc_es"]
    assert table(tmp_path / "data/utt2spk") == {utt: utt.split("-")[0] for utt in sources}
    lengths = [len(read_audio(source)) / 16000 for source in sources.values()]
    assert lengths == pytest.approx([2.3, 1.3], abs=0.05)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"wav", "wav.scp", "utt2spk"}


def test_nothing_but_silence_is_left_of_silence():
    assert len(trimmed(np.zeros(16000, np.float32))) == 0
    np.testing.assert_array_equal(as_int16(np.float32([-1, -2, 0.5, 2, -0.00001])), [-32768, -32768, 16384, 32767, -1])


def text_of(folder: Path, ids: list[str]) -> None:
    folder.mkdir(parents=True)
    (folder / "text").write_text("".join(f"{utt} ciao\n" for utt in ids))


def test_only_the_train_side_of_a_second_voice_is_taken(tmp_path):
    sounds = tmp_path / "package/usr/it_IT_f_Menardi"
    keys = [f"words/{n}" for n in range(8)] + ["silence/1"]
    for key in keys:
        (sounds / key).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(sounds / f"{key}.wav", speech(1)[::2], 8000)
    train = [key for key in keys[:8] if side_of(key) == "train"]
    held_out, *rest = train  # its text is the same as that of a prompt of dev
    text_of(tmp_path / "it/dev", [f"it_carlo-{held_out.replace('/', '_')}"])
    text_of(tmp_path / "it/test", ["it_carlo-other"])
    asterisk_untranscribed.prepare_menardi(tmp_path / "package", tmp_path / "data", prompts=tmp_path / "it")
    assert list(table(tmp_path / "data/wav.scp")) == [f"menardi-{key.replace('/', '_')}" for key in sorted(rest)]
    with pytest.raises(DataError, match="no it_IT_f_Menardi in it"):
        asterisk_untranscribed.prepare_menardi(tmp_path / "it", tmp_path / "data", prompts=tmp_path / "it")


def test_prompts_without_a_transcript_are_found(tmp_path):
    av = pytest.importorskip("av")
    keys = [f"words/{n}" for n in range(12)] + ["beep", "empty"]
    for key in keys:
        path = tmp_path / f"voice/{key}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", format="g722") as out:
            stream = out.add_stream("g722", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray((speech(1)[None] * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    (tmp_path / "voice/empty.g722").write_bytes(b"")
    known = [key for key in keys[:12] if side_of(key) == "train"]
    text_of(tmp_path / "it/train", ["it_carlo-words_0", *(f"it_carlo-{k.replace('/', '_')}" for k in known[:2])])
    for side in ("dev", "test"):
        text_of(tmp_path / "it" / side, [f"it_carlo-{side}"])
    done = asterisk_untranscribed.prepare(tmp_path / "voice", tmp_path / "data", prompts=tmp_path / "it")
    wanted = sorted(f"it_carlo-{key.replace('/', '_')}" for key in known[2:] if key != "words/0")
    assert sorted(table(tmp_path / "data/wav.scp")) == wanted
    assert [line.startswith("left out: ") for line in done.lines] == [side_of("empty") == "train"] * (
        len(done.lines) - 1
    ) + [False]


def test_phones_stand_on_the_centres_of_frames():
    begins = [(0, ""), (400, "a"), (1000, "b")]
    assert phones_of_frames(begins, 719) == []
    assert phones_of_frames(begins, 720 + 3 * 320) == ["", "a", "b", "b"]  # centres at 360, 680, 1000, 1320
    assert phones_of_frames([(500, "a")], 720) == [""]


def test_synthetic_speech_has_a_phone_for_every_frame(stamps, tmp_path):
    pytest.importorskip("espeakng_loader")
    text_of(tmp_path / "prompts/en/train", ["en_allison-hello"])
    command = ["prepare", "synthetic", stamps, tmp_path / "data", "--prompts", tmp_path / "prompts"]
    command += ["--min-count", "1", "--share", "1"]  # in a process of its own: espeak-ng is made ready for phones
    subprocess.run([sys.executable, "-m", "s3router", *map(str, command)], cwd=ROOT, check=True, capture_output=True)
    sources = table(tmp_path / "data/wav.scp")
    assert {utt.split("-")[0] for utt in sources} == {"espeaken", "espeakes"}
    names = (tmp_path / "data/phones.txt").read_text(encoding="utf-8").splitlines()
    with np.load(tmp_path / "data/phones.npz") as phones:
        assert set(phones) == set(sources)
        for utt, source in sources.items():
            assert len(phones[utt]) == (len(read_audio(source)) - 720) // 320 + 1
            assert 0 <= phones[utt].min() <= phones[utt].max() < len(names)
    assert names[0] == "(none)"
