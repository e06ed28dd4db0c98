"""The files of a submission to SUPERB and the format of their lines.

``predict.zip`` holds ``predict/<folder>/<file>``; any subset of the tasks is allowed. `PARTS` lists all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
CONSONANTS = [
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]
PHONES = {*CONSONANTS, *(v + stress for v in VOWELS for stress in "012"), "SIL", "SPN"}
"""The benchmark's 71 units: those of the LibriSpeech lexicon, vowels with their stress."""
KEYWORDS = ["_silence_", "_unknown_", "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes"]
EMOTIONS = ["ang", "hap", "neu", "sad"]
INTENTS = {
    "action": ["activate", "bring", "change language", "deactivate", "decrease", "increase"],
    "object": [
        "Chinese",
        "English",
        "German",
        "Korean",
        "heat",
        "juice",
        "lamp",
        "lights",
        "music",
        "newspaper",
        "none",
        "shoes",
        "socks",
        "volume",
    ],
    "location": ["bedroom", "kitchen", "none", "washroom"],
}
SLOTS = {
    *("album", "artist", "best_rating", "city", "condition_description", "condition_temperature", "country", "cuisine"),
    *("current_location", "entity_name", "facility", "genre", "geographic_poi", "location_name", "movie_name"),
    *("movie_type", "music_item", "object_location_type", "object_name", "object_part_of_series_type", "object_select"),
    *("object_type", "party_size_description", "party_size_number", "playlist", "playlist_owner", "poi", "rating_unit"),
    *("rating_value", "restaurant_name", "restaurant_type", "served_dish", "service", "sort", "spatial_relation"),
    *("state", "timeRange", "track", "year"),
}
"""The 39 slots of SNIPS."""
_SLOTS_LOWER = {name.lower() for name in SLOTS}  # for releases that write them otherwise: timerange, object_part.of_…
UNKNOWN = "<unk>"
"""Any other symbol in s3prl's vocabularies; a model may predict it."""
_SLOT = re.compile(r"[BE]-[A-Za-z]+(?:[_.][A-Za-z]+)*")
_WORD = re.compile(r"[A-Z']+")
_MARK = re.compile(r"[BE]-[a-z]+(?:[._A-Z][a-z]+)*")
"""A slot's mark anywhere in a token: s3prl's decoding may leave no space beside it."""


@dataclass(frozen=True)
class Line:
    """A parsed line.

    Attributes:
        utt: the utterance, or pair of utterances, that the prediction is for.
        problem: what is wrong with the rest of the line, if anything.
        remark: a kind of oddity that is allowed; remarks are counted.
    """

    utt: str
    problem: str | None = None
    remark: str | None = None


class WrongLine(ValueError):
    """The line cannot be parsed."""


def _two(line: str, what: str) -> tuple[str, str]:
    fields = line.split(" ")
    if len(fields) != 2 or not all(fields):
        raise WrongLine(f"{len(line.split())} columns, expected 2 with one space between them: {what}")
    return fields[0], fields[1]


def _one_of(value: str, known: list[str], what: str) -> str | None:
    return None if value in known else f"{what} {value!r} is not one of {', '.join(known)}"


def _shaped(utt: str, pattern: str, form: str) -> str | None:
    return None if re.fullmatch(pattern, utt) else f"{utt!r} is not of the form {form}"


def _tokens(line: str, known: Callable[[str], bool], what: str) -> tuple[Line, list[str]]:
    utt, *tokens = line.split(" ")
    if not utt:
        raise WrongLine("begins with a space; expected the utterance's id")
    if tokens == [""]:  # an id and a space: an empty prediction, too
        tokens = []
    if "" in tokens:
        return Line(utt, "two spaces beside each other, or one at the end"), tokens
    strange = [token for token in tokens if (rest := token.replace(UNKNOWN, "")) and not known(rest)]
    if strange:
        return Line(utt, f"{strange[0]!r} is not {what}"), tokens
    remark = f"lines with {UNKNOWN}" if UNKNOWN in line else None if tokens else "empty predictions"
    return Line(utt, None, remark), tokens


def phones(line: str) -> Line:
    """``utt P1 P2 …``"""
    known = "a phone of the benchmark's 71 (ARPAbet; vowels with their stress: AH0, AH1, AH2)"
    return _tokens(line, PHONES.__contains__, known)[0]


def words(line: str) -> Line:
    """``utt WORD WORD …``"""
    return _tokens(line, lambda w: bool(_WORD.fullmatch(w)), "a word of capital letters and apostrophes")[0]


def slots(line: str) -> Line:
    """``utt WORD B-slot WORD E-slot …``; a model may well leave a slot open, or no space beside a mark, or two.

    (s3prl's decoding writes a blank with each mark, whatever is beside it; its metrics take several blanks for one.)
    """
    known = "a word of capital letters and apostrophes, nor B-slot or E-slot"
    single = re.sub(" +", " ", line).removesuffix(" ")
    found, tokens = _tokens(single, lambda w: not re.search("[a-z]", _MARK.sub("", w)), known)
    if found.problem:
        return found
    marks = (mark for token in tokens for mark in _MARK.findall(token))
    if strange := next((mark for mark in marks if mark[2:].lower().replace(".", "_") not in _SLOTS_LOWER), None):
        return Line(found.utt, f"{strange!r}: {strange[2:]} is not a slot of SNIPS")
    if found.remark:
        return found
    if single != line:
        return Line(found.utt, None, "lines with blanks beside each other, or one at the end")
    if not all(_WORD.fullmatch(token) or _SLOT.fullmatch(token) for token in tokens):
        return Line(found.utt, None, "lines with marks that touch letters, or characters that are no letters")
    opened: list[str] = []
    for token in tokens:
        if token.startswith("B-"):
            opened.append(token[2:])
        elif token.startswith("E-") and (not opened or opened.pop() != token[2:]):
            return Line(found.utt, None, "lines with slots that are not closed, or not opened")
    return Line(found.utt, None, "lines with slots that are not closed, or not opened" if opened else None)


def keyword(line: str) -> Line:
    """``<folder>-<file>.wav label``"""
    utt, label = _two(line, "'<folder>-<file>.wav label'")
    return Line(utt, _shaped(utt, r"[^/]+-[^/]+\.wav", "<folder>-<file>.wav") or _one_of(label, KEYWORDS, "label"))


def intent(line: str) -> Line:
    """``stem,action,object,location``"""
    utt, *cells = line.split(",")
    if len(cells) != 3 or not utt:
        raise WrongLine(f"{len(cells) + 1} columns, expected 4: 'stem,action,object,location'")
    if cells == list(INTENTS):
        raise WrongLine("a header; this file has none")
    wrong = (_one_of(cell, INTENTS[slot], slot) for cell, slot in zip(cells, INTENTS, strict=True))
    named = None if "/" not in utt and not utt.endswith(".wav") else f"{utt!r}: expected the file's name without .wav"
    return Line(utt, next(filter(None, [named, *wrong]), None))


def speaker(line: str) -> Line:
    """``idX-video-utt id1XXXX``"""
    utt, label = _two(line, "'id1XXXX-video-number id1XXXX'")
    form = _shaped(utt, r"id1\d{4}-.+-\d+", "id1XXXX-video-number")
    return Line(utt, form or _shaped(label, r"id1(0\d|1[01])\d\d|id112[0-4]\d|id1125[01]", "id10001 … id11251"))


def emotion(fold: int) -> Callable[[str], Line]:
    """``stem neu|hap|ang|sad``; fold N is tested on session N."""

    def parse(line: str) -> Line:
        utt, label = _two(line, "'stem label'")
        form = f"Ses0{fold}…, as fold {fold} is tested on session {fold}"
        return Line(utt, _shaped(utt, rf"Ses0{fold}[FM]_[^/.]+", form) or _one_of(label, EMOTIONS, "label"))

    return parse


def trial(line: str) -> Line:
    """``name1_name2 score``"""
    utt, score = _two(line, "'name1_name2 score'")
    if "_" not in utt or "/" in utt:
        return Line(utt, f"{utt!r} is not of the form name1_name2")
    return Line(utt, number_problem(score))


def turned(lines: Sequence[str]) -> str | None:
    """What is wrong with all trials together: scores that tell speakers apart, but are higher for different ones.

    The names say who speaks. Few trials, or scores that are no better than chance, prove nothing.
    """
    from s3router.scoring.detection import equal_error_rate

    pairs = [(re.match(r"(id\d+)-.+_(id\d+)-", line), float(line.split(" ")[1])) for line in lines]
    trials = [(who[1] == who[2], score) for who, score in pairs if who]
    fewest = min(sum(same for same, _ in trials), sum(not same for same, _ in trials))
    if not fewest:
        return None
    eer = equal_error_rate(*zip(*trials, strict=True)).eer
    if eer <= max(0.6, 0.5 + 1.5 / math.sqrt(fewest)):  # three standard deviations of a guess
        return None
    return (
        f"the sign is turned: trials of two speakers score higher than those of one (EER {100 * eer:.0f} %, by the "
        "names); a higher score means one speaker"
    )


def number_problem(text: str | None, what: str = "score") -> str | None:
    """What is wrong with a number in a file; None if it is fine."""
    try:
        value = float(text or "")
    except ValueError:
        return f"{what} {text!r} is not a number"
    if "_" in (text or "") or not math.isfinite(value):
        return f"{what} {text!r} is not a finite number"
    return None


@dataclass(frozen=True)
class Part:
    """A folder of a submission.

    Attributes:
        name: as on the command line.
        folder: its name under ``predict/``.
        file: what must be in it.
        total: number of entries in the benchmark's test set; None if not known for certain.
        parse: parses a line; None for files that are not made of lines (`s3router.submission.check_files`).
        what: an entry, in the plural.
        whole: what is wrong with all lines together, where none is wrong by itself.
    """

    name: str
    folder: str
    file: str
    total: int | None
    parse: Callable[[str], Line] | None
    what: str = "utterances"
    whole: Callable[[Sequence[str]], str | None] | None = None


FRAME_SHIFT, ACTIVITIES = "frame_shift", "scoring/predictions"
PARTS = {
    part.folder: part
    for part in (
        Part("pr", "pr_public", "predict.ark", 2620, phones),
        Part("asr", "asr_public", "predict.ark", 2620, words),
        Part("asr-lm", "asr_lm_public", "predict.ark", 2620, words),
        Part("ks", "ks_public", "predict.txt", 3081, keyword),
        Part("ic", "ic_public", "predict.csv", 3793, intent),
        Part("sid", "sid_public", "predict.txt", 8251, speaker),
        *(
            Part("er", f"er_fold{fold}_public", "predict.txt", total, emotion(fold))
            for fold, total in enumerate((1085, 1023, 1151, 1031, 1241), 1)
        ),
        Part("sf", "sf_public", "predict.ark", 2800, slots),
        Part("sv", "sv_public", "predict.txt", 37720, trial, "trials", turned),
        Part("sd", "sd_public", FRAME_SHIFT, 3000, None, "recordings"),
        Part("qbe", "qbe_public", "benchmark.stdlist.xml", 138, None, "queries"),
    )
}
"""Folder -> part. Totals are the sizes of the benchmark's test sets (for VoxCeleb1, of ``veri_test.txt``)."""
DOCUMENTS = (2438, 12_492)
"""In which a query is searched: the English ones, as the benchmark does, or those of all languages."""
TASK_NAMES = tuple(dict.fromkeys(part.name for part in PARTS.values()))
