"""The ``s3router`` command. A subcommand parses and calls; this file only finds it.

Each entry names a module with ``parser()`` and ``main(argv) -> int``. It is imported when it is chosen, so that
``s3router --help`` and a mistyped name answer at once, without torch.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from s3router.errors import explain

COMMANDS = {
    "doctor": ("s3router.cli.doctor", "what is installed and works, what is missing, and how to get it"),
    "completion": ("s3router.cli.completion", "a script by which bash or zsh completes commands and options"),
    "targets": ("s3router.cli.targets", "list the weights of an upstream that masks can be put on"),
    "upstream": ("s3router.cli.upstream", "public upstreams by name: list, fetch, check; convert any format"),
    "cache-features": ("s3router.cli.cache_features", "fill the feature cache ahead of training"),
    "train": ("s3router.cli.train", "train an ASR model: masks, weights, or the head alone (all of ESPnet's options)"),
    "seq2seq-train": ("s3router.cli.seq2seq_train", "adapt a whole recogniser (Whisper): masks, LoRA, or weights"),
    "decode": ("s3router.cli.decode", "transcribe and score a Kaldi data directory"),
    "lm": ("s3router.cli.lm", "estimate an n-gram language model for the beam search"),
    "presets": ("s3router.cli.presets", "compose a training configuration from a recipe's presets"),
    "score": ("s3router.cli.score", "word and character error rates of two Kaldi text files"),
    "results": ("s3router.cli.results", "the WER/CER table of trained models"),
    "pack": ("s3router.cli.pack", "write what an experiment has learnt into one small file, a mask pack"),
    "inspect": ("s3router.cli.inspect", "the contents of mask packs: sizes, sparsity by layer, metrics"),
    "analyze": ("s3router.cli.analyze", "what the masks of packs say about languages, tasks and layers: one page"),
    "transfer": ("s3router.cli.transfer", "how well masks serve other languages, with a head fitted anew: a table"),
    "push": ("s3router.cli.push", "packs into a repository of the HuggingFace hub, with a model card"),
    "pull": ("s3router.cli.pull", "the packs of such a repository, pinned and checked; where they lie"),
    "bake": ("s3router.cli.bake", "a pack or an experiment as a plain model (HuggingFace, s3prl, ONNX)"),
    "shrink": ("s3router.cli.shrink", "the same without the hidden units and attention heads that masks remove"),
    "transcribe": ("s3router.cli.transcribe", "transcribe recordings by mask packs; the language given or found"),
    "classify": ("s3router.cli.classify", "label recordings by mask packs of trained classifiers"),
    "serve": ("s3router.cli.serve", "an HTTP server with OpenAI's API for transcription, and a page"),
    "langid": ("s3router.cli.langid", "how often the surest route is the right one"),
    "experiment": ("s3router.cli.experiment", "many runs from one YAML grid: sweeps, seeds, tables, figures"),
    "launch": ("s3router.cli.launch", "run a command over many languages and seeds, here or on Slurm"),
    "superb-train": ("s3router.cli.superb_train", "train one task of SUPERB, or any classification; resumes by itself"),
    "superb-predict": ("s3router.cli.superb_predict", "predict and score a set; the submission's file"),
    "superb-select": ("s3router.cli.superb_select", "link the best of several runs on the validation set"),
    "superb-search": ("s3router.cli.superb_search", "spoken queries in spoken documents, layer by layer, untrained"),
    "superb-table": ("s3router.cli.superb_table", "results of trained tasks as a table; the mean of five folds"),
    "superb-submit": ("s3router.cli.superb_submit", "build predict.zip, the submission of trained tasks, and check it"),
    "superb-check": ("s3router.cli.superb_check", "check every line of a submission; the track it belongs to"),
    "ml-superb-decode": ("s3router.cli.ml_superb_decode", "language and text of data, by a folder of packs"),
    "ml-superb-score": ("s3router.cli.ml_superb_score", "the six figures of the ML-SUPERB 2.0 challenge"),
    "ml-superb-write": ("s3router.cli.ml_superb_write", "languages of your own in a layout of ML-SUPERB 2.0"),
    "pretrain": ("s3router.cli.pretrain", "a small upstream by masked prediction of clusters (HuBERT)"),
    "pretrain-report": ("s3router.cli.pretrain_report", "a pretrained upstream on speech that it has not learnt from"),
    "prepare": ("s3router.cli.prepare", "Kaldi directories out of a corpus, as its makers give it out"),
    "prepare-mini": ("s3router.cli.prepare_mini", "a miniature of a corpus in its layout, to try a recipe out"),
    "validate": ("s3router.cli.validate", "check a Kaldi data directory, audio included"),
    "subset": ("s3router.cli.subset", "some minutes of a Kaldi data directory"),
    "format-wav": ("s3router.cli.format_wav", "a Kaldi data directory in the audio format that training reads"),
    "convert": ("s3router.cli.convert", "recordings and texts between Kaldi, NeMo, lhotse, HuggingFace datasets"),
    "tokens": ("s3router.cli.tokens", "the token list of the texts of Kaldi data directories"),
}


def usage() -> str:
    """The text of ``s3router --help``."""
    lines = ["usage: s3router COMMAND [OPTIONS]        (s3router COMMAND --help lists the options)", "", "commands:"]
    lines += [f"  {name:14s} {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand, and end all its errors in one line on stderr.

    Returns:
        The exit status: 0 well, 1 an error that was explained, 2 a wrong command line, 130 interrupted (Ctrl-C).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = f"s3router {arguments[0]}" if arguments and arguments[0] in COMMANDS else "s3router"
    try:
        with _ended_by_signals():
            status = _run(arguments)
            sys.stdout.flush()  # while a broken pipe can still be caught
            return status
    except KeyboardInterrupt:
        return _say(name, "interrupted", 130)
    except BrokenPipeError as error:
        if not _reader_has_gone():
            return _say(name, explain(error), 1)
        # Python writes out at its exit what is left, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if (message := explain(error)) is None:  # a fault of the program: its traceback is wanted
            raise
        return _say(name, message, 1)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: unfinished files are removed, child processes ended."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    changed = []
    if threading.current_thread() is threading.main_thread():
        changed = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in changed:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in changed:
            signal.signal(each, signal.SIG_DFL)


def _reader_has_gone() -> bool:
    """Whether what reads our output, such as ``head``, has had enough."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except OSError:  # no real file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _say(name: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{name}: error: {message}", file=sys.stderr)
    return status


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name = arguments[0]
    if name == "--version":
        import s3router

        print(s3router.__version__)
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return _say("s3router", f"unknown command {name}{hint}; the known ones are: {', '.join(COMMANDS)}", 2)
    return importlib.import_module(COMMANDS[name][0]).main(arguments[1:])
