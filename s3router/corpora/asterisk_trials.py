"""The prepared voices of Asterisk prompts, for speaker verification; the voices of the test are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s3router.corpora.asterisk_voices import VOICES
from s3router.corpora.sets import ORDER, Prepared, StrPath, folder_of, write_set
from s3router.corpora.trials import draw_trials, write_trials
from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import ConfigError, DataError

UNHEARD = tuple(sorted({voice.speaker for voice in VOICES if not voice.package.startswith("asterisk-core-sounds")}))
"""The speakers of the test: those of the further packages."""


def prepare(source: StrPath, target: StrPath, *, unheard: Sequence[str] = UNHEARD) -> Prepared:
    """Prepare the Asterisk prompts of seven people for speaker verification.

    Layout of ``source``: what `s3router.corpora.asterisk_speakers` wrote, {train,dev,test}.

    Writes ``target``/train with ``utt2label``, and ``target``/{dev,test} with ``trials`` (``<0|1> UTT UTT``), drawn by
    a hash of the names; the recordings stay where they are. Trained on are the train prompts of the people whom
    ``unheard`` does not name. Trials of dev are among their dev prompts, those of test among the test prompts of
    ``unheard``. So neither a sentence nor a voice of the test has been heard in training.

    Args:
        source: data folder of egs/asterisk/sid1.
        target: folder to write.
        unheard: the speakers of the test, two at least.

    Raises:
        ConfigError: ``unheard`` names fewer than two, or one whom the sets lack.
        DataError: the sets are missing or incomplete.
    """
    source, target, done = folder_of(source, "the prepared voices"), Path(target), Prepared()
    found: dict[str, list[Utterance]] = {}
    for side in ORDER:
        utts = DataDir.read(source / side, need_text=False).utts
        found[side] = [utt for utt in utts if (utt.speaker in unheard) == (side == "test")]
    speakers = {side: sorted({utt.speaker for utt in utts}) for side, utts in found.items()}
    if len(set(unheard)) < 2:
        raise ConfigError(f"--unheard {' '.join(unheard)}: trials need two speakers at least")
    if lacking := sorted(set(unheard) - set(speakers["test"])):
        raise ConfigError(f"--unheard {' '.join(lacking)}: not among the speakers of {source / 'test'}")
    for side in ("train", "dev"):
        if len(speakers[side]) < 2:
            raise DataError(
                f"{source / side}: speakers whom --unheard does not name: {', '.join(speakers[side]) or 'none'}; "
                "two are needed. Name fewer, or prepare the voices again (s3router prepare asterisk-speakers)"
            )
    for side in ("test", "dev"):
        by_speaker = {name: [utt.utt for utt in found[side] if utt.speaker == name] for name in speakers[side]}
        write_trials(done, target / side, found[side], draw_trials(by_speaker))
    what = f"{len(found['train'])} prompts of {len(speakers['train'])} speakers"
    write_set(done, target / "train", found["train"], {utt.utt: (utt.speaker,) for utt in found["train"]}, what)
    return done
