"""IEMOCAP, one fold of five of SUPERB's emotion recognition."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from s3router.corpora.sets import Prepared, StrPath, find_folder, progress, write_set
from s3router.data.kaldi import Utterance, summary
from s3router.errors import ConfigError, DataError

SESSIONS = range(1, 6)
OFFICIAL = (1085, 1023, 1151, 1031, 1241)
"""Utterances of the sessions; all of them are in SUPERB's lists."""
LISTS, OWN = "iemocap_split", "own"
ORIGIN = "https://huggingface.co/datasets/s3prl/iemocap_split"
EMOTIONS = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
VALID_SHARE = 0.2
_LINE = re.compile(r"^\[.+?\]\t(\S+)\t(\w+)\t", re.MULTILINE)


def prepare(source: StrPath, target: StrPath, *, fold: int, lists: StrPath | None = None) -> Prepared:
    """Prepare one fold of IEMOCAP for emotion recognition: neutral, happy (with excited), angry and sad.

    Corpus: its makers give it out on request, at https://sail.usc.edu/iemocap/; for research only.

    Layout of ``source``: Session1 … Session5 in it, or in IEMOCAP_full_release/ or IEMOCAP/ under it.

    Writes ``target``/{train,dev,test} with ``utt2label``; the recordings stay where they are. The test set is one
    session. Of the other four, a fifth is the validation set, drawn as SUPERB does (random_split after seed 0) from its
    lists, in their order, which is that in which its makers met the files. With ``own`` it is drawn from the utterances
    in the order of their ids: others of the same sessions, which share a fifth with the official validation set.

    Args:
        source: folder of the corpus, or the one that holds it.
        target: folder to write.
        fold: 1 to 5, the session of the test set.
        lists: folder of SUPERB's lists, Session1/{train,test}_meta_data.json …, or the word ``own``: the sets are drawn
            here (default: iemocap_split in ``source``).

    Raises:
        ConfigError: no such fold.
        DataError: sessions, recordings, labels or lists are missing.
    """
    if fold not in SESSIONS:
        raise ConfigError(f"--fold is 1 to 5, not {fold}")
    folders = [f"Session{n}" for n in SESSIONS]
    corpus = find_folder(Path(source).resolve(), "IEMOCAP", folders, ["IEMOCAP_full_release", "IEMOCAP"])
    found = {
        utt: item for n in progress(SESSIONS, "sessions") for utt, item in read_session(corpus / f"Session{n}").items()
    }
    if str(lists) == OWN:
        test = sorted(utt for utt in found if utt.startswith(f"Ses{fold:02d}"))
        rest = sorted(found.keys() - set(test))
    else:
        folder = Path(source) / LISTS if lists is None else Path(lists)
        rest, test = read_fold(folder / f"Session{fold}", f"Ses{fold:02d}", found)
    train, dev = split_as_superb(rest)
    done = Prepared()
    done.compare(f"session {fold}", len(test), OFFICIAL[fold - 1])
    done.compare("the other sessions", len(rest), sum(OFFICIAL) - OFFICIAL[fold - 1])
    for name, ids in (("test", test), ("dev", dev), ("train", train)):
        counts = ", ".join(f"{label} {n}" for label, n in sorted(Counter(found[utt][1] for utt in ids).items()))
        labels = {utt: (found[utt][1],) for utt in ids}
        write_set(
            done, Path(target) / name, [found[utt][0] for utt in ids], labels, f"{len(ids)} utterances ({counts})"
        )
    return done


def split_as_superb(ids: list[str]) -> tuple[list[str], list[str]]:
    """(training, validation) of the utterances outside the test set."""
    import torch
    from torch.utils.data import random_split

    size = int((1 - VALID_SHARE) * len(ids))
    torch.manual_seed(0)
    train, dev = random_split(ids, [size, len(ids) - size])
    return list(train), list(dev)


def read_session(folder: Path) -> dict[str, tuple[Utterance, str]]:
    """id -> (utterance, emotion) of the four emotions in a session.

    Raises:
        DataError: recordings or labels are missing.
    """
    found, problems = {}, []
    for path in sorted((folder / "dialog/EmoEvaluation").glob("*.txt")):
        for utt, emotion in _LINE.findall(path.read_text(encoding="utf-8", errors="replace")):
            wav = folder / "sentences/wav" / path.stem / f"{utt}.wav"
            if emotion not in EMOTIONS:
                continue
            if not wav.is_file():
                problems.append(f"{wav} is missing")
            found[utt] = Utterance(utt, str(wav), "", utt[:6]), EMOTIONS[emotion]
    if not found:
        problems.append(f"{folder / 'dialog/EmoEvaluation'} holds no label of {', '.join(EMOTIONS)}")
    if problems:
        raise DataError(summary(folder, problems))
    return found


def read_fold(folder: Path, session: str, known: Collection[str]) -> tuple[list[str], list[str]]:
    """(the others, the test set) of one of SUPERB's folds, as listed.

    Args:
        folder: has both lists.
        session: ``Ses03``, with which the ids of the test set begin, and no others.
        known: ids of the corpus.

    Raises:
        DataError: lists that are missing, of another fold, or of another corpus.
    """
    rest, test = (read_list(folder / f"{part}_meta_data.json") for part in ("train", "test"))
    problems = [f"{utt} is not in the corpus" for utt in (*rest, *test) if utt not in known]
    problems += [f"{utt} of the test set is not of {session}" for utt in test if not utt.startswith(session)]
    problems += [f"{utt} is of {session}, the test set's session" for utt in rest if utt.startswith(session)]
    problems += [f"{utt} is listed {count} times" for utt, count in Counter([*rest, *test]).items() if count > 1]
    if problems or not rest or not test:
        raise DataError(summary(folder, problems or ["an empty list"]))
    return rest, test


def read_list(path: Path) -> list[str]:
    """The ids in one of SUPERB's own lists. Raises DataError where it is missing or another file."""
    try:
        return [Path(item["path"]).stem for item in json.loads(path.read_text(encoding="utf-8"))["meta_data"]]
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing: SUPERB's lists of the folds are at {ORIGIN}. Put its folders Session1 … Session5 into "
            f"{path.parents[1]}, or name their folder: --lists DIR (--lists {OWN} draws a validation set of other "
            "utterances)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not one of SUPERB's lists ({error!r})") from None
