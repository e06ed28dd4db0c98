"""What SUPERB takes of LibriSpeech (phonemes and letters): its parts and their transcripts as they are.

The recordings are found by the LibriSpeech recipe's own preparation (egs/librispeech/asr1/local/prepare.py).
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from s3router.data.kaldi import DataDir, Utterance
from s3router.errors import DataError

SETS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


def recipe() -> ModuleType:
    """The preparation of the LibriSpeech recipe."""
    path = Path(__file__).resolve().parents[1] / "librispeech/asr1/local/prepare.py"
    spec = importlib.util.spec_from_file_location("librispeech_prepare", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def find_corpus(folder: Path) -> Path:
    """The folder with the three parts: ``folder``, or LibriSpeech in it. Raises DataError with what is missing."""
    tried = [folder, folder / "LibriSpeech"]
    for candidate in tried:
        if (candidate / SETS["train"]).is_dir():
            if missing := [part for part in SETS.values() if not (candidate / part).is_dir()]:
                raise DataError(f"{candidate}: {', '.join(missing)} missing; unpack these archives there, too")
            return candidate
    raise DataError(
        f"{folder}: not LibriSpeech; expected {', '.join(SETS.values())} in it, or in LibriSpeech/ under it"
    )


def read(folder: Path) -> dict[str, list[Utterance]]:
    """Set -> its utterances, with the release's transcripts.

    Raises:
        DataError: parts are missing, or recordings and transcripts do not go together.
    """
    corpus, prepare, found = find_corpus(folder), recipe(), {}
    for name, part in SETS.items():
        found[name] = prepare.read_part(corpus / part, as_it_is=True)
        if len(found[name]) != (expected := prepare.OFFICIAL[part]):
            print(f"WARNING: {part} has {len(found[name])} utterances, the release {expected}", file=sys.stderr)
    return found


def write(out: Path, sets: dict[str, list[Utterance]], texts: dict[str, str] | None = None) -> None:
    """Kaldi directories ``out/train`` and its like; ``texts`` (utterance -> text) in place of the transcripts."""
    for name, utts in reversed(sets.items()):
        chosen = utts if texts is None else [replace(u, text=texts[u.utt]) for u in utts]
        data = DataDir(out / name, chosen).write(out / name)
        print(f"{out / name}: {len(utts)} utterances, {data.seconds / 3600:.1f} h")
