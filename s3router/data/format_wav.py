"""Make a data directory that ESPnet's ``sound`` type reads, out of any.

ESPnet opens the second column of ``wav.scp`` with soundfile: no pipes, no archives, no segments, no resampling.
``python -m s3router.data.format_wav IN_DIR OUT_DIR`` passes files that are already mono wav or flac at 16 kHz through
as absolute paths and decodes everything else, once, to ``OUT_DIR/wav/*.flac``. Utterances that cannot be used (too
long, too short, more tokens than frames) are left out and listed, with the reason, in ``OUT_DIR/left_out.tsv``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from s3router.data.audio import (
    Seconds,
    cut,
    file_of,
    is_in_archive,
    probe,
    read_native,
    resample,
    split_stretch,
    write_audio,
)
from s3router.data.kaldi import DataDir, Utterance, summary
from s3router.data.tokens import TOKEN_TYPES, TokenIds, read_token_list
from s3router.data.validate import misfit
from s3router.errors import DataError, S3RouterError


@dataclass(frozen=True)
class Formatted:
    """The result: the directory written, and (utterance, reason) of what it lacks."""

    data: DataDir
    left_out: list[tuple[str, str]]


def format_dir(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    tokens: TokenIds | None = None,
    need_text: bool = True,
    max_seconds: Seconds | None = None,
    min_frames: int = 1,
    sample_rate: int = 16000,
    nj: int = 1,
    progress: bool = False,
) -> Formatted:
    """Write ``target``; interrupted and called again, it goes on with what is missing.

    Args:
        source, target: data directories; they must differ.
        tokens, max_seconds, min_frames: what is left out, see `s3router.data.validate.misfit`.
        need_text: False for a directory without ``text``.
        sample_rate: of every file in the result, Hz.
        nj: threads.
        progress: a progress bar on a terminal.

    Raises:
        DataError: the directory or its audio is broken (all problems), or nothing is left. ``wav.scp`` is then not
            written.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: input and output are the same directory; name another output")
    data = DataDir.read(source, need_text)
    (target / "wav").mkdir(parents=True, exist_ok=True)
    (target / "wav.scp").unlink(missing_ok=True)
    recordings: dict[str, list[Utterance]] = {}
    for u in data.utts:
        recordings.setdefault(split_stretch(u.source)[0], []).append(u)
    done, problems = [], []
    with ThreadPoolExecutor(max_workers=max(1, nj)) as pool:
        jobs = [pool.submit(_format_recording, *item, target / "wav", sample_rate) for item in recordings.items()]
        for job in _bar(as_completed(jobs), len(jobs), target.name, progress):
            try:
                done += job.result()
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError(summary(source, sorted(problems)))
    kept, left_out = [], []
    for u in sorted(done, key=lambda u: u.utt):
        reason = misfit(u, tokens, max_seconds, min_frames)
        if reason:
            left_out.append((u.utt, reason))
        else:
            kept.append(u)
    if not kept:
        raise DataError(f"{source}: nothing is left, e.g. {left_out[0][0]}: {left_out[0][1]}; check the limits")
    _write_left_out(target / "left_out.tsv", left_out)
    used = {u.source for u in kept}
    for path in (target / "wav").iterdir():  # of an earlier input, or half-written by a killed run
        if os.fspath(path.resolve()) not in used:
            path.unlink()
    return Formatted(DataDir(target, kept).write(target), left_out)


def _format_recording(source: str, utts: list[Utterance], folder: Path, rate: int) -> list[Utterance]:
    """The utterances of one recording with their new source and duration; decodes at most once."""
    if utts[0].source == source and (seconds := _as_is(source, rate)) is not None:
        absolute = os.path.abspath(source)
        return [replace(u, source=absolute, duration=seconds) for u in utts]
    state = ""
    if file := file_of(source):
        status = file.stat()
        state = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
    done, whole = [], None
    for u in utts:
        digest = hashlib.sha256(f"{u.source}\n{state}\n{rate}".encode()).hexdigest()[:12]
        # file names end at 255 bytes, and a Cyrillic letter takes six; the digest alone tells files apart
        path = (folder / f"{urllib.parse.quote(u.utt, safe='')[:200]}.{digest}.flac").resolve()
        if not path.is_file():
            if whole is None:
                whole = read_native(source)
            samples, native = whole
            _, start, end = split_stretch(u.source)
            if start is not None:
                samples = cut(samples, native, start, end, source)
            write_audio(path, samples if native == rate else resample(samples, native, rate), rate)
        done.append(replace(u, source=os.fspath(path), duration=probe(path).seconds))
    return done


def _as_is(source: str, rate: int) -> Seconds | None:
    """Seconds of a file that ESPnet reads as it is (mono wav or flac at ``rate``), else None."""
    if file_of(source) is None or is_in_archive(source):
        return None
    found = probe(source)
    return found.seconds if (found.format in ("WAV", "FLAC") and found.channels == 1 and found.rate == rate) else None


def _write_left_out(path: Path, rows: list[tuple[str, str]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(
        "".join(f"{u}\t{reason}\n" for u, reason in [("utterance", "reason"), *rows]), encoding="utf-8"
    )
    temporary.replace(path)


def _bar(jobs, total: int, name: str, progress: bool):
    if not progress:
        return jobs
    from tqdm import tqdm

    return tqdm(jobs, total=total, desc=name, unit="file", disable=None)  # None: silent where there is no terminal


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m s3router.data.format_wav", description=__doc__.split("\n")[0])
    parser.add_argument("in_dir")
    parser.add_argument("out_dir")
    parser.add_argument("--token-list", help="leave out what has more tokens than CTC has frames")
    parser.add_argument("--token-type", default="char", choices=TOKEN_TYPES)
    parser.add_argument("--bpe-model", help="sentencepiece model, for --token-type bpe")
    parser.add_argument("--no-text", action="store_true", help="the directory needs no transcripts")
    parser.add_argument("--max-seconds", type=float, help="leave out longer utterances")
    parser.add_argument("--min-frames", type=int, default=1, help="of 20 ms; leave out shorter utterances")
    parser.add_argument("--sample-rate", type=int, default=16000)
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="threads")
    args = parser.parse_args(argv)
    try:
        tokens = None
        if args.token_list:
            tokens = TokenIds(read_token_list(args.token_list), args.token_type, args.bpe_model)
        result = format_dir(
            args.in_dir,
            args.out_dir,
            tokens=tokens,
            need_text=not args.no_text,
            max_seconds=args.max_seconds,
            min_frames=args.min_frames,
            sample_rate=args.sample_rate,
            nj=args.nj,
            progress=True,
        )
    except S3RouterError as error:
        print(error, file=sys.stderr)
        return 1
    for utt, reason in result.left_out:
        print(f"{args.out_dir}: left out {utt}: {reason}", file=sys.stderr)
    data = result.data
    print(f"{args.out_dir}: {len(data.utts)} utterances, {data.seconds / 60:.1f} min; {len(result.left_out)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
