"""Decode a Kaldi data directory with a trained CTC model and score it; one process, one pass.

``s3router decode --exp-dir exp/x --data-dir data/en/test --output-dir exp/x/decode_test`` writes

- ``text``, ``hyp.trn``, ``ref.trn``: hypotheses and references, Kaldi's and sclite's way;
- ``alignments.txt``: word by word, the worst utterances first;
- ``utterances.tsv``: per utterance frames, tokens and error counts;
- ``result.json``: rates, counts, speed, and the utterances that no CTC model could get right. It is written last: a
  folder that has it is complete.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.data.audio import Seconds
from s3router.data.kaldi import DataDir
from s3router.errors import ConfigError, DataError, S3RouterError
from s3router.files import write_lines
from s3router.scoring.files import shorten, trn_names, write_text, write_trn
from s3router.scoring.wer import Score, score, write_alignments

if TYPE_CHECKING:
    from torch import nn

    from s3router.asr.ctc_decode import BatchOptions, Search
    from s3router.data.tokens import TokenIds

MIN_SAMPLES = 400
"""The receptive field of the convolutions of wav2vec2 and its relatives at 16 kHz: less yields no frame."""


@dataclass(frozen=True)
class Transcripts:
    """What decoding a data directory gave.

    Attributes:
        texts: id -> hypothesis, in the order of the directory.
        frames: id -> number of CTC frames.
        chunked: ids of recordings that were decoded in several chunks.
        audio_seconds: length of all recordings.
        seconds: wall time of reading and decoding them (not of loading the model).
    """

    texts: dict[str, str]
    frames: dict[str, int]
    chunked: list[str]
    audio_seconds: Seconds
    seconds: Seconds


def decode(model: nn.Module, tokens: TokenIds, data: DataDir, search: Search, options: BatchOptions) -> Transcripts:
    """Transcribe every utterance of `data`.

    Args:
        model: ESPnet ASR model with a CTC output over `tokens`; it is put into evaluation mode.
        data: durations may be missing (they are then read from the audio headers).
        search: `GreedySearch()` or a `BeamSearch`.

    Raises:
        DataError: an id that `write_output` could not write; a recording cannot be read or is too short for one frame.
    """
    from s3router.asr.ctc_decode import decode_many
    from s3router.data.audio import read_audio

    started = time.perf_counter()
    utts = data.with_durations().utts
    trn_names(data.path, (utt.utt for utt in utts), {utt.utt: utt.speaker for utt in utts})  # before all the work

    def read(index: int):
        wave = read_audio(utts[index].source)
        if len(wave) < MIN_SAMPLES:
            raise DataError(
                f"{utts[index].utt} ({utts[index].source}): {len(wave)} samples are too short to decode, one frame "
                f"takes {MIN_SAMPLES}; take the utterance out of the directory"
            )
        return wave

    model.eval()
    found = dict(decode_many(model, read, [utt.duration for utt in utts], search, options))
    order = range(len(utts))
    return Transcripts(
        texts={utts[i].utt: tokens.decode(found[i].tokens) for i in order},
        frames={utts[i].utt: found[i].frames for i in order},
        chunked=[utts[i].utt for i in order if found[i].chunks > 1],
        audio_seconds=sum(found[i].samples for i in order) / 16000,
        seconds=time.perf_counter() - started,
    )


def too_many_tokens(data: DataDir, frames: dict[str, int], tokens: TokenIds) -> list[str]:
    """Utterances whose reference needs more CTC frames than the audio has: they cannot come out right."""
    from s3router.data.tokens import min_ctc_frames

    return [utt.utt for utt in data.utts if min_ctc_frames(tokens.split(utt.text)) > frames[utt.utt]]


def write_output(folder: Path, data: DataDir, found: Transcripts, tokens: TokenIds, extra: dict[str, Any]) -> dict:
    """Score `found` against the directory's transcripts and write everything; returns what ``result.json`` holds."""
    references = {utt.utt: utt.text for utt in data.utts}
    speakers = {utt.utt: utt.speaker for utt in data.utts}
    scored = score(references, found.texts)
    unfit = too_many_tokens(data, found.frames, tokens)
    unknown = sorted({token for text in references.values() for token in tokens.unknown(text)})
    if unfit:
        logging.warning("%d references have more tokens than frames: %s", len(unfit), shorten(unfit))
    if unknown:
        logging.warning("references hold tokens that the model cannot write: %s", " ".join(unknown))
    empty = [utt for utt, text in found.texts.items() if not text]
    if len(empty) == len(found.texts):
        logging.warning("all hypotheses are empty: the model writes nothing but blanks; train it longer")
    result = scored.as_dict() | {
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
    if tokens.token_type == "phn":
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


def make_search(token_list: Sequence[str], lm: Path | None = None, **beam: Any) -> Search:
    """Greedy search, or a beam search when a beam is asked for (arguments of `BeamOptions`).

    Raises:
        ConfigError: a language model or other beam option without a beam, or flashlight-text is missing.
    """
    from s3router.asr.ctc_decode import GreedySearch
    from s3router.asr.lm import BeamOptions, BeamSearch

    if beam.get("beam_size", 1) > 1:
        return BeamSearch(token_list, BeamOptions(**beam), lm)
    given = [name for name in beam if name != "beam_size"] + (["lm"] if lm else [])
    if given:
        raise ConfigError(f"{', '.join(sorted(given))}: only used by beam search; add --beam-size 50, or leave it out")
    return GreedySearch()


def run(
    exp_dir: Path,
    data_dir: Path,
    output_dir: Path,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
    options: BatchOptions | None = None,
    lm: Path | None = None,
    **beam: Any,
) -> dict:
    """Load, decode, score, write; returns what ``result.json`` holds. Raises what the steps raise."""
    from s3router.asr.ctc_decode import BatchOptions

    options = options or BatchOptions()
    from s3router.asr.experiment import ASRExperiment

    exp = ASRExperiment(exp_dir)
    search = make_search(exp.token_list, lm, **beam)
    data = DataDir.read(data_dir).with_durations()
    # after all that can be refused: this imports ESPnet
    found = decode(exp.model(checkpoint, device), exp.tokens, data, search, options)
    extra = {"exp_dir": str(exp_dir), "checkpoint": str(checkpoint or ""), "bf16": options.bf16, "device": device}
    extra["search"] = {"beam_size": 1, **beam, "lm": str(lm or "")}
    return write_output(output_dir, data, found, exp.tokens, extra)


def get_parser() -> argparse.ArgumentParser:
    from s3router.asr.ctc_decode import BatchOptions
    from s3router.asr.lm import UNITS, BeamOptions

    batch, beam = ({f.name: f.default for f in fields(kind)} for kind in (BatchOptions, BeamOptions))
    parser = argparse.ArgumentParser(prog="s3router decode", description=__doc__.splitlines()[0])
    parser.add_argument("--exp-dir", type=Path, required=True, help="experiment folder of s3router train")
    parser.add_argument("--data-dir", type=Path, required=True, help="Kaldi data directory with wav.scp and text")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder for the results")
    parser.add_argument("--checkpoint", type=Path, help="default: the best one on the validation set")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (%(default)s)")
    group = parser.add_argument_group("batches")
    group.add_argument(
        "--batch-seconds", type=float, default=batch["batch_seconds"], help="0: one by one (%(default)s)"
    )
    group.add_argument("--max-seconds", type=float, default=batch["max_seconds"], help="chunk beyond (%(default)s)")
    group.add_argument(
        "--overlap-seconds", type=float, default=batch["overlap_seconds"], help="of neighbouring chunks (%(default)s)"
    )
    group.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    group = parser.add_argument_group("beam search (greedy without these; needs flashlight-text)")
    group.add_argument("--beam-size", type=int, default=1, help="above 1: beam search")
    group.add_argument("--lm", type=Path, help="n-gram model, ARPA")
    group.add_argument("--lm-unit", dest="unit", choices=UNITS, help=f"what the model predicts ({beam['unit']})")
    group.add_argument("--lm-weight", type=float, help=f"of the model's log10 probability ({beam['lm_weight']})")
    group.add_argument("--insertion-score", type=float, help=f"added for every word ({beam['insertion_score']})")
    group.add_argument("--beam-size-token", type=int, help=f"tokens tried a frame ({beam['beam_size_token']})")
    group.add_argument(
        "--beam-threshold", type=float, help=f"hypotheses so far below the best are dropped ({beam['beam_threshold']})"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    args = vars(get_parser().parse_args(argv))
    try:
        from s3router.asr.ctc_decode import BatchOptions

        options = BatchOptions(**{field.name: args.pop(field.name) for field in fields(BatchOptions)})
        result = run(**{name: value for name, value in args.items() if value is not None}, options=options)
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    rates = ["per"] if "per" in result else ["wer", "cer"]
    print(
        f"{result['data_dir']}: {', '.join(f'{rate.upper()} {100 * result[rate]:.2f} %' for rate in rates)}, "
        f"{result['n_utts']} utterances, {result['audio_seconds']:.0f} s of audio in {result['seconds']:.1f} s "
        f"({result['times_real_time']:.0f} times real time)\n{args['output_dir']}: result.json, alignments.txt, text, "
        "hyp.trn, ref.trn"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
