"""``s3router prepare NAME SOURCE TARGET``: Kaldi directories out of a corpus."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from s3router.corpora import (
    asterisk,
    asterisk_keywords,
    asterisk_languages,
    asterisk_speakers,
    asterisk_table,
    asterisk_trials,
    asterisk_untranscribed,
    commonvoice,
    fluent_speech_commands,
    iemocap,
    librimix,
    librispeech,
    mboshi,
    ml_superb,
    quesst14,
    snips,
    speech_commands,
    stamps,
    synthetic,
    tuxpaint,
    voxceleb1,
    yoruba,
)
from s3router.corpora.sets import Prepared

Option = tuple[str, dict[str, Any]]


def option(name: str, meaning: str, **settings: Any) -> Option:
    """An option of a corpus; its name, with underscores, is a parameter of the corpus's function."""
    return name, {"help": meaning} | settings


def lang(choices: Sequence[str]) -> Option:
    """The option ``--lang``."""
    return option("--lang", ", ".join(choices), required=True, choices=choices, metavar="LANG")


VOICES = option("--voices", "folder of the unpacked packages of further voices", required=True, metavar="DIR")
PROMPTS = option("--prompts", "data folder of egs/asterisk/asr1", required=True, metavar="DIR")
PROMPTS_OF_IT = option(
    "--prompts", "the language's data folder, with train, dev and test", required=True, metavar="DIR"
)
CORPORA: dict[str, tuple[Callable[..., Prepared], str, list[Option]]] = {
    "librispeech": (
        librispeech.prepare,
        "LibriSpeech and Libri-light's limited subsets",
        [
            option("--subset", "of training: %(choices)s", required=True, choices=librispeech.SUBSETS, metavar="S"),
            option("--librilight", "librispeech_finetuning (default: beside or in the corpus)", metavar="DIR"),
        ],
    ),
    "commonvoice": (
        commonvoice.prepare,
        "one language of a Common Voice release",
        [
            option("--lang", "locale, as the release names it: nl, zh-TW, sv-SE …", required=True),
            option("--subset", "of training (%(default)s): %(choices)s", default="1h", metavar="S",
                   choices=[*commonvoice.SUBSETS, "all"]),
            option("--token-type", "letters, or phonemes of espeak-ng (%(default)s)", default="char",
                   choices=commonvoice.TOKEN_TYPES),
            option("--train-from", "the training table, or all validated clips of speakers who are not in dev and test",
                   default="train", choices=commonvoice.TRAIN_FROM),
            option("--dev-minutes", "at most (%(default)s)", type=float, default=60, metavar="M"),
            option("--test-minutes", "at most (all)", type=float, metavar="M"),
            option("--nj", "threads that read clips (%(default)s)", type=int, default=2, metavar="N"),
        ],
    ),
    "yoruba": (
        yoruba.prepare,
        "the Yoruba speech project, one speaker",
        [option("--subset", "of training (%(default)s): %(choices)s", default="all", choices=[*yoruba.SUBSETS],
                metavar="S")],
    ),
    "mboshi": (
        mboshi.prepare,
        "the Mboshi-French parallel corpus, three speakers",
        [option("--subset", "of training (%(default)s): %(choices)s", default="all", choices=[*mboshi.SUBSETS],
                metavar="S")],
    ),
    "ml_superb": (
        ml_superb.prepare,
        "ML-SUPERB 2.0, 141 languages and varieties of them",
        [
            option("--subset", "of training, per language and source (%(default)s): %(choices)s", default="1h",
                   choices=ml_superb.SUBSETS, metavar="S"),
            option("--langs", "codes of the languages to prepare (all)", nargs="+", default=(), metavar="LANG"),
            option("--dialects", "folder of the language varieties, beside an eighth_version", metavar="DIR"),
            option("--nj", "threads that read recordings (%(default)s)", type=int, default=2, metavar="N"),
        ],
    ),
    "asterisk": (
        asterisk.prepare,
        "Asterisk voice prompts of one language, with transcripts",
        [
            lang(tuple(asterisk.SPEAKERS)),
            option("--transcripts", "core-sounds-LANG.txt[.gz], where it is not in SOURCE", metavar="FILE"),
        ],
    ),
    "asterisk-table": (asterisk_table.prepare, "the corpus table of prepared prompts, as markdown", []),
    "asterisk-languages": (asterisk_languages.prepare, "prepared prompts of five languages, to tell them apart", []),
    "asterisk-speakers": (
        asterisk_speakers.prepare,
        "Asterisk prompts of eight voices, to tell the speakers apart",
        [VOICES, option("--limit", "at most so many prompts of each voice", type=int, metavar="N")],
    ),
    "asterisk-trials": (
        asterisk_trials.prepare,
        "prepared Asterisk voices, to verify speakers not trained on",
        [
            option(
                "--unheard",
                f"speakers of the test, two at least ({', '.join(asterisk_trials.UNHEARD)})",
                nargs="+",
                default=asterisk_trials.UNHEARD,
                metavar="SPEAKER",
            ),
        ],
    ),
    "asterisk-keywords": (
        asterisk_keywords.prepare,
        "digits and letters of two voices of one language",
        [lang(("es", "fr", "it")), VOICES],
    ),
    "asterisk-untranscribed": (
        asterisk_untranscribed.prepare,
        "train-side prompts without a usable transcript, for pretraining",
        [PROMPTS_OF_IT],
    ),
    "asterisk-menardi": (
        asterisk_untranscribed.prepare_menardi,
        "Italian prompts by a second voice, for pretraining",
        [PROMPTS_OF_IT],
    ),
    "stamps": (stamps.prepare, "names of drawings spoken in nine languages, with texts", [lang(stamps.LANGS)]),
    "tuxpaint": (tuxpaint.prepare, "names of drawings spoken in eleven languages, for pretraining", []),
    "synthetic": (
        synthetic.prepare,
        "espeak-ng in many languages, with the phone of every frame, for pretraining",
        [
            PROMPTS,
            option("--repeats", "voices for each text of a language in --prompts (%(default)s)", type=int, default=3),
            option("--share", "of the texts of other languages (%(default)s)", type=float, default=0.35),
            option("--min-count", "frames of a phone below which it counts as unknown (%(default)s)", type=int,
                   default=2000, metavar="N"),
            option("--seed", "of the draws (%(default)s)", type=int, default=0),
        ],
    ),
    "speech-commands": (speech_commands.prepare, "Speech Commands v1 (SUPERB ks)", []),
    "fluent-speech-commands": (fluent_speech_commands.prepare, "Fluent Speech Commands (SUPERB ic)", []),
    "voxceleb1": (voxceleb1.prepare, "VoxCeleb1, identification (SUPERB sid)", []),
    "voxceleb1-verification": (voxceleb1.prepare_verification, "VoxCeleb1, verification (SUPERB sv)", []),
    "iemocap": (
        iemocap.prepare,
        "one fold of IEMOCAP (SUPERB er)",
        [
            option("--fold", "1 to 5, the session of the test set", type=int, required=True, choices=iemocap.SESSIONS,
                   metavar="K"),
            option("--lists", "folder of SUPERB's lists, or own: drawn here (default: SOURCE/iemocap_split)",
                   metavar="DIR"),
        ],
    ),
    "librispeech-superb": (
        librispeech.prepare_superb,
        "LibriSpeech as letters or phonemes (SUPERB asr, pr)",
        [option("--lexicon", "'WORD P1 P2 ...' per line; given: phonemes", nargs="+", default=(), metavar="FILE")],
    ),
    "snips": (snips.prepare, "Audio SNIPS (SUPERB sf)", []),
    "librimix": (librimix.prepare, "LibriMix (SUPERB sd)", []),
    "quesst14": (quesst14.prepare, "QUESST 2014 (SUPERB qbe)", []),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line: one subcommand for each corpus."""
    top = argparse.ArgumentParser(
        prog="s3router prepare",
        usage="s3router prepare NAME SOURCE TARGET [OPTIONS]",
        description="Make Kaldi directories out of a corpus, as its makers give it out. "
        "s3router prepare NAME --help says where it comes from, which layout is expected and what is written.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=116),
    )
    names = top.add_subparsers(dest="name", required=True, metavar="NAME", title="corpora")
    for name, (function, meaning, options) in CORPORA.items():
        about = inspect.getdoc(function).partition("\n\nArgs:")[0]
        made = names.add_parser(
            name,
            prog=f"s3router prepare {name}",
            help=meaning,
            description=about.replace("``", ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("source", metavar="SOURCE", help="folder of the corpus")
        written = "file" if name == "asterisk-table" else "folder"
        made.add_argument("target", metavar="TARGET", help=f"{written} to write")
        for flag, settings in options:
            made.add_argument(flag, **settings)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    given = vars(parser().parse_args(argv))
    function, *_ = CORPORA[given.pop("name")]
    done = function(given.pop("source"), given.pop("target"), **given)
    for warning in done.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    print("\n".join(done.lines))
    return 0
