"""The corpus table of the Asterisk prompts: sizes, and how much of the test sets is new."""

from __future__ import annotations

from pathlib import Path

from s3router.corpora.asterisk import SPEAKERS, SPLITS, overlap_with_train
from s3router.corpora.sets import Prepared, StrPath, folder_of, read_text
from s3router.data.kaldi import DataDir
from s3router.errors import DataError
from s3router.files import write_lines

TITLES = (
    *("language", "speaker", "train (prompts / min)", "dev", "test", "dropped", "letters", "test words"),
    *("of them not in train", "test sentences sharing over half of their words with one of train"),
)


def prepare(source: StrPath, target: StrPath) -> Prepared:
    """Make the table of egs/asterisk/asr1/README.md, one row per language.

    Layout of ``source``: what `s3router.corpora.asterisk` wrote for each language, LANG/{train,dev,test,dropped.tsv}.

    Writes the table into the file ``target``, as markdown.

    Args:
        source: data folder of egs/asterisk/asr1.
        target: file to write.

    Raises:
        DataError: no prepared language.
    """
    source = folder_of(source, "the prepared prompts")
    languages = [lang for lang in SPEAKERS if (source / lang / "test/wav.scp").is_file()]
    if not languages:
        raise DataError(f"{source}: no prepared language; prepare one first (s3router prepare asterisk)")
    lines = [
        f"| {' | '.join(TITLES)} |",
        "|" + " --- |" * len(TITLES),
        *(row(source / lang, lang) for lang in languages),
    ]
    write_lines(target, lines)
    return Prepared(lines=lines)


def row(folder: Path, lang: str) -> str:
    """One line of the table."""
    splits = {name: DataDir.read(folder / name) for name, _ in reversed(SPLITS)}
    texts = {u.utt: u.text for data in splits.values() for u in data.utts}
    sides = {u.utt: name for name, data in splits.items() for u in data.utts}
    sizes = [f"{len(data.utts)} / {data.seconds / 60:.1f}" for data in splits.values()]
    known = {word for u in splits["train"].utts for word in u.text.split()}
    words = [word for u in splits["test"].utts for word in u.text.split()]
    new = sum(word not in known for word in words) / len(words)
    shared, long = overlap_with_train(sides, texts)
    dropped = len(read_text(folder / "dropped.tsv").splitlines()) - 1
    letters = len({letter for text in texts.values() for letter in text} - {" "})
    cells = [lang, SPEAKERS[lang], *sizes, dropped, letters, len(words), f"{new:.0%}", f"{shared} of {long}"]
    return "| " + " | ".join(map(str, cells)) + " |"
