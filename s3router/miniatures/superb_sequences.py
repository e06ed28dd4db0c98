"""Miniatures of SUPERB's corpora with texts: phonemes, letters and slots."""

from __future__ import annotations

from pathlib import Path

from s3router.miniatures.mini_librispeech import write_speaker
from s3router.miniatures.sentences import Speaker, save, save_text, sentences

PARTS = {"train-clean-100": 3, "dev-clean": 1, "test-clean": 1}  # speakers
UTTERANCES = 2
LEXICON = """THE DH AH0
OLD OW1 L D
MAN M AE1 N
MY M AY1
SISTER S IH1 S T ER0
A AH0
SMALL S M AO1 L
DOG D AO1 G
NOBODY N OW1 B AA2 D IY2
SAW S AO1
DOESN'T D AH1 Z AH0 N T
LIKE L AY1 K
HAS HH AE1 Z
FOUND F AW1 N D
CARRIES K AE1 R IY0 Z
GREEN G R IY1 N
HOUSE HH AW1 S
TWO T UW1
APPLES AE1 P AH0 L Z
LONG L AO1 NG
LETTER L EH1 T ER0
KING'S K IH1 NG Z
BOAT B OW1 T
"""
SPEAKERS = {"train": ("Ivy", "Joanna", "Justin"), "valid": ("Amy",), "test": ("Brian", "Emma")}
"""Of Audio SNIPS's sixteen voices; which belongs to which set is the corpus's."""
REQUESTS = [
    ("PLAY BLUE NOTE BY ALICE COLTRANE", "O album album O artist artist", "PlayMusic"),
    ("BOOK A TABLE FOR TWO IN PARIS", "O O O O party_size_number O city", "BookRestaurant"),
    ("WILL IT RAIN IN PARIS TOMORROW ?", "O O condition_description O city timeRange O", "GetWeather"),
]


def libri(out: Path) -> None:
    """LibriSpeech's three parts and its list of speakers: each reads two sentences."""
    texts, done, lines = sentences("en", sum(PARTS.values()) * UTTERANCES), 0, [";ID  |SEX| SUBSET |MINUTES| NAME\n"]
    for part, speakers in PARTS.items():
        for _ in range(speakers):
            write_speaker(out / "LibriSpeech" / part, done, texts[done * UTTERANCES : (done + 1) * UTTERANCES])
            lines.append(f"{1000 + done} | {'FM'[done % 2]} | {part} | 0.10 | Voice {done}\n")
            done += 1
    save_text(out / "LibriSpeech/SPEAKERS.TXT", "".join(lines))


def phonemes(out: Path) -> None:
    """The same and its lexicon."""
    libri(out)
    save_text(out / "lexicon.txt", LEXICON)


def snips(out: Path) -> None:
    """Each voice says three requests; tags stand after a tab, between BOS and EOS and the intent."""
    lines, top = [], out / "SNIPS"
    for name, speakers in SPEAKERS.items():
        for who, speaker in enumerate(speakers):
            for number, (words, tags, intent) in enumerate(REQUESTS):
                utt = f"{speaker}-snips-{name}-{number}"
                save(top / name / f"{utt}.wav", Speaker.number(who).say(words.lower(), "en-us"))
                lines.append(f"{utt} BOS {words} EOS\tO {tags} {intent}\n")
    save_text(top / "all.iob.snips.txt", "".join(lines))
    names = sorted({tag for _, tags, _ in REQUESTS for tag in tags.split()})
    save_text(top / "slots.txt", "".join(f"{name}\n" for name in names))
