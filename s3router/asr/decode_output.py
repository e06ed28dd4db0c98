"""Result files of a decoded set.

- ``text``, ``hyp.trn``, ``ref.trn``: hypotheses and references, Kaldi's and sclite's way;
- ``alignments.txt``: word by word, the worst utterances first;
- ``utterances.tsv``: per utterance frames, tokens and error counts;
- ``result.json``: rates, counts, speed, and the utterances that no CTC model could get right. It is written last: a
  folder that has it is complete.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.data.audio import Seconds
from s3router.data.kaldi import DataDir
from s3router.files import write_lines
from s3router.scoring.files import shorten, write_text, write_trn
from s3router.scoring.wer import Score, plain_cer, score, write_alignments

if TYPE_CHECKING:
    from s3router.data.tokens import TokenIds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transcripts:
    """What decoding a data directory gave.

    Attributes:
        texts: id -> hypothesis, in the order of the directory.
        frames: id -> number of CTC frames.
        chunked: ids of recordings that were decoded in several chunks.
        audio_seconds: length of all recordings.
        seconds: wall time of reading and decoding them (not of loading the model).
        confidence: mean over the recordings of the best path's log probability per token, of those with any token;
            None where there are none, or the search does not tell.
    """

    texts: dict[str, str]
    frames: dict[str, int]
    chunked: list[str]
    audio_seconds: Seconds
    seconds: Seconds
    confidence: float | None = None


def write_output(
    folder: Path, data: DataDir, found: Transcripts, tokens: TokenIds | None, extra: dict[str, Any]
) -> dict:
    """Score `found` against the directory's transcripts and write everything; returns what ``result.json`` holds.

    Args:
        tokens: what a CTC model writes with; None for a model that can write anything.
    """
    references = {utt.utt: utt.text for utt in data.utts}
    speakers = {utt.utt: utt.speaker for utt in data.utts}
    scored = score(references, found.texts)
    unfit = too_many_tokens(data, found.frames, tokens) if tokens else []
    unknown = sorted({token for text in references.values() for token in tokens.unknown(text)}) if tokens else []
    if unfit:
        logger.warning("%d references have more tokens than frames: %s", len(unfit), shorten(unfit))
    if unknown:
        logger.warning("references hold tokens that the model cannot write: %s", " ".join(unknown))
    empty = [utt for utt, text in found.texts.items() if not text]
    if len(empty) == len(found.texts):
        what = "nothing but blanks" if tokens else "nothing"
        logger.warning("all hypotheses are empty: the model writes %s; train it longer", what)
    result = scored.as_dict() | {
        "cer_plain": plain_cer(references, found.texts),
        "data_dir": str(data.path),
        "empty_hypotheses": len(empty),
        "too_many_tokens": unfit,
        "unknown_tokens": unknown,
        "chunked": found.chunked,
        "audio_seconds": round(found.audio_seconds, 3),
        "seconds": round(found.seconds, 3),
        "rtf": found.seconds / found.audio_seconds,
        "times_real_time": found.audio_seconds / found.seconds,
        **extra,
    }
    if found.confidence is not None:
        result["confidence"] = found.confidence
    if tokens and tokens.token_type == "phn":
        result["per"] = scored.wer  # the "words" of a line of phones are phones
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    write_text(folder / "text", found.texts)
    write_trn(folder / "hyp.trn", found.texts, speakers)
    write_trn(folder / "ref.trn", references, speakers)
    write_alignments(folder / "alignments.txt", scored)
    write_lines(folder / "utterances.tsv", _table(scored, data, found))
    write_lines(folder / "result.json", [json.dumps(result, indent=2, ensure_ascii=False)])
    return result


def _table(scored: Score, data: DataDir, found: Transcripts) -> list[str]:
    lines = ["utt\tseconds\tframes\twords\tword_errors\tchars\tchar_errors"]
    lengths = {utt.utt: utt.duration for utt in data.utts}
    for u in scored.utterances:
        cells = (u.utt, lengths[u.utt] or "", found.frames[u.utt], u.words.total, u.words.errors)
        lines.append("\t".join(map(str, (*cells, u.chars.total, u.chars.errors))))
    return lines


def too_many_tokens(data: DataDir, frames: dict[str, int], tokens: TokenIds) -> list[str]:
    """Utterances whose reference needs more CTC frames than the audio has: they cannot come out right."""
    from s3router.data.tokens import min_ctc_frames

    return [utt.utt for utt in data.utts if min_ctc_frames(tokens.split(utt.text)) > frames[utt.utt]]
