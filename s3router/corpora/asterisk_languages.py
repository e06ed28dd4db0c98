"""The prepared Asterisk prompts of five languages; labels are the languages."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.asterisk import SPEAKERS
from s3router.corpora.sets import ORDER, Prepared, StrPath, folder_of, write_set
from s3router.data.kaldi import DataDir
from s3router.errors import DataError

LANGUAGES = tuple(SPEAKERS)


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Prepare the Asterisk prompts for language identification.

    Layout of ``source``: what `s3router.corpora.asterisk` wrote for each language, LANG/{train,dev,test}.

    Writes ``target``/{train,dev,test} with ``utt2label``; the recordings stay where they are. The sides hold: which
    prompts are for training, development and test is decided by their key alone, so the same sentence is on the same
    side in every language.

    Args:
        source: data folder of egs/asterisk/asr1.
        target: folder to write.

    Raises:
        DataError: a language is missing, or its sets are incomplete.
    """
    source, target, done = folder_of(source, "the prepared prompts"), Path(target), Prepared()
    if missing := [lang for lang in LANGUAGES if not (source / lang).is_dir()]:
        raise DataError(f"{source}: no prompts of {', '.join(missing)}; prepare them first (s3router prepare asterisk)")
    found = {side: {lang: DataDir.read(source / lang / side).utts for lang in LANGUAGES} for side in ORDER}
    for side, by_lang in found.items():
        utts = [utt for some in by_lang.values() for utt in some]
        labels = {utt.utt: (lang,) for lang, some in by_lang.items() for utt in some}
        counts = ", ".join(f"{lang} {len(some)}" for lang, some in by_lang.items())
        write_set(done, target / side, utts, labels, f"{len(utts)} prompts ({counts})")
    return done
