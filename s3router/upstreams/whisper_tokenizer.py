"""Whisper's vocabulary: the tokenizer of a checkpoint, and what its decoder has to know of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3router.errors import CheckpointError
from s3router.upstreams.checkpoint import first_line
from s3router.upstreams.public import fetch_tokenizer

if TYPE_CHECKING:
    from transformers import WhisperTokenizer

ENGLISH_ONLY = 51_864  # tokens in the vocabulary of the published English-only models
START, END, NO_TIMESTAMPS = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
TASKS = ("transcribe", "translate")
_TIMESTAMPS = 1501  # tokens for times from 0 to 30 s behind <|notimestamps|>; not all tokenizer files list them
_BEFORE_TEXT = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|nocaptions|>")
_BRACKETS = '"#()*+/:;<=>@[\\]^_`{|}~「」『』'
_SEVERAL = ("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))")
_SEVERAL += ("[[", "]]", "{{", "}}", "♪♪", "♪♪♪")
_MUSIC = "♩♪♫♬♭♮♯"
_FILES = ("tokenizer.json", "vocab.json")


def read_tokenizer(source: Path, vocabulary: int) -> WhisperTokenizer:
    """The tokenizer beside a checkpoint, or else the public one of a vocabulary of that size, which is downloaded.

    Args:
        source: HuggingFace folder, or checkpoint file.
        vocabulary: tokens that the model has, those of times included.

    Raises:
        CheckpointError: none can be had, or it is damaged, or not the tokenizer of this model.
    """
    folder = source if source.is_dir() else source.parent
    found = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    path = found or fetch_tokenizer(vocabulary)
    tokenizer = _open(path)
    known = tokenizer.get_vocab()
    lacking = [token for token in (START, END, NO_TIMESTAMPS, "<|transcribe|>") if token not in known]
    if lacking:
        raise CheckpointError(f"{path}: no tokenizer of Whisper: {', '.join(lacking)} missing.")
    tokens = max(known[NO_TIMESTAMPS] + _TIMESTAMPS, max(known.values())) + 1
    if tokens != vocabulary:
        raise CheckpointError(
            f"{path}: a vocabulary of {tokens} tokens, but {source} has {vocabulary}. Put the tokenizer.json of this "
            "model there."
        )
    return tokenizer


def _open(path: Path) -> WhisperTokenizer:
    from transformers import WhisperTokenizer

    try:
        if path.name == _FILES[0]:
            return WhisperTokenizer(tokenizer_file=str(path), pad_token=END)
        return WhisperTokenizer.from_pretrained(path.parent, local_files_only=True, pad_token=END)
    except Exception as error:  # the reader, in Rust, raises plain exceptions
        raise CheckpointError(
            f"{path}: cannot be read as a tokenizer ({first_line(error)}). Copy or download it again."
        ) from error


def languages_of(tokenizer: WhisperTokenizer) -> dict[str, int]:
    """Code -> id of its token, in the order of the vocabulary: what lies between the start and the tasks."""
    known = tokenizer.get_vocab()
    first, last = known[START], min(known[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in known)
    codes = {name.strip("<|>"): number for name, number in known.items() if first < number < last}
    return dict(sorted(codes.items(), key=lambda item: item[1]))


def generation_settings(tokenizer: WhisperTokenizer, multilingual: bool) -> dict[str, Any]:
    """Fields of GenerationConfig for a vocabulary, with which transformers' ``generate`` decodes as OpenAI's code does.

    Args:
        multilingual: the model takes tokens of languages and tasks.
    """
    known = tokenizer.get_vocab()
    start, end = known[START], known[END]
    settings = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "no_timestamps_token_id": known[NO_TIMESTAMPS],
        "prev_sot_token_id": known.get("<|startofprev|>"),
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
        "suppress_tokens": sorted({*_not_speech(tokenizer), start, *(known[t] for t in _BEFORE_TEXT if t in known)}),
        "begin_suppress_tokens": [*tokenizer.encode(" ", add_special_tokens=False), end],
    }
    if multilingual:
        settings["lang_to_id"] = {f"<|{code}|>": number for code, number in languages_of(tokenizer).items()}
        settings["task_to_id"] = {task: known[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in known}
    return settings


def _not_speech(tokenizer: WhisperTokenizer) -> set[int]:
    """Tokens of brackets, music and the like, with which subtitles note what is not said; hyphens inside words stay."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    found = {encode(" -")[0], encode(" '")[0]}
    for symbol in (*_BRACKETS, *_SEVERAL, *_MUSIC):
        for tokens in (encode(symbol), encode(f" {symbol}")):
            if len(tokens) == 1 or symbol in _MUSIC:
                found.add(tokens[0])
    return found
