"""The page of `run_multilingual.sh`, from what its stages have left; it can be written again at any time.

python local/multilingual/page.py --work DIR --output RESULTS_multilingual.md
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Iterator
from pathlib import Path

import figures
from figures import Made, System
from plan import SINGLE
from report import LANGUAGES, METHOD_NAMES, RATE_NAMES, SUBSETS, markdown
from sections import language_identification, pack_table, paragraph, sizes

from s3router.errors import S3RouterError
from s3router.files import write_lines
from s3router.scoring.stats import bootstrap_counts

NOTES = Path("results/notes_multilingual.md")


def lines(made: Made) -> Iterator[str]:
    """The page."""
    yield from head(made)
    if NOTES.is_file() and made.settings.max_updates is None:
        yield from (*NOTES.read_text(encoding="utf-8").splitlines(), "")
    for section in (error_rates, sizes, pack_table, language_identification):
        yield from section(made)
        yield ""
    yield from origin(made)


def head(made: Made) -> Iterator[str]:
    names = ", ".join(LANGUAGES.get(lang, lang) for lang in made.langs)
    yield "# Many languages, one backbone"
    yield ""
    if made.settings.max_updates is not None:
        yield f"**A trial of {made.settings.max_updates} updates: its figures say nothing but that it runs.**"
        yield ""
    labelled = SUBSETS.get(made.settings.subset, made.settings.subset)
    yield from paragraph(
        f"Written by `./run_multilingual.sh`. {names}; of each {labelled} of labelled speech; upstream",
        f"`{made.grid.upstream}`; one seed ({made.settings.seed}), so the spread over seeds is not known. Error",
        "rates in percent on **test**, by greedy decoding without a language model. Everything is selected on",
        "**dev** (checkpoints, learning rates, sparsities); test is only read.",
        *not_swept(made),
    )
    yield ""


def not_swept(made: Made) -> list[str]:
    known = made.settings.known()
    methods = dict.fromkeys((*SINGLE, *made.settings.joint))
    found = [METHOD_NAMES[method] for method in methods if not made.grid.decided(method, known)]
    if not found:
        return []
    return [f"**Learning rates of {', '.join(found)} were not swept**: they are the first in `conf/table.yaml`."]


def error_rates(made: Made) -> Iterator[str]:
    yield "## Error rates"
    yield ""
    sparsity = dict(zip(made.langs, (result["sparsity"] for result in made.router.results), strict=True))
    for metric in ("wer", "cer"):
        body = []
        for lang in made.langs:
            rates = [f"{100 * system.rate(metric, lang):.1f}" for system in made.systems]
            body.append([LANGUAGES.get(lang, lang), *rates, f"{sparsity[lang]:.2f}"])
        body.append(["mean", *(f"{100 * system.mean(metric):.1f}" for system in made.systems), ""])
        header = [f"test {metric.upper()}", *(system.name for system in made.systems), "sparsity"]
        yield from markdown(header, body)
        yield ""
    count = len(made.langs)
    yield from paragraph(
        f"Weight finetuning: {count} models. S3-Router: one resident backbone with {count} packs, the figures",
        "those of `s3router transcribe --score`. Joint: one model, trained on the labelled speech of all",
        "languages together, with the union of their characters; it is not told the language.",
        joint_updates(made),
    )
    yield ""
    yield from paragraph(equality(made))
    yield ""
    yield from paragraph(
        "S3-Router minus the others, in points over the test utterances of all languages, with the 95 % interval",
        "of a paired bootstrap over utterances (below 0: S3-Router is better; it says nothing about other seeds):",
    )
    yield ""
    others = [made.weight, *made.joint]
    yield from markdown(
        ["S3-Router minus", "WER", "CER"], [[o.name, *map(against(made, o), ("wer", "cer"))] for o in others]
    )


def joint_updates(made: Made) -> str:
    if not made.joint:
        return "None were trained."
    each = " and ".join(f"{s.results[0]['updates']:,} updates ({s.name.split(', ')[1]})" for s in made.joint)
    alone = made.weight.results[0]["updates"]
    how = {"all": "as many as the single models of the method together", "one": "as many as one single model"}
    return (
        f"They took {each}: {how[made.settings.joint_updates]} (weight finetuning of one language: {alone:,}). "
        "Their learning rates are those of the results table; none were swept for them."
    )


def equality(made: Made) -> str:
    found = figures.differing(made.work, made.settings)
    wrong, every = (sum(column) for column in zip(*found.values(), strict=True))
    where = ", ".join(f"{lang} {differ} of {count}" for lang, (differ, count) in found.items())
    return (
        f"Of {every} transcripts by the router, **{wrong}** differ from those of the single model that the pack was "
        f"made from ({where})."
    )


def against(made: Made, other: System):
    def cell(metric: str) -> str:
        (mine, total), (theirs, _) = (figures.pooled(s.counts, metric) for s in (made.router, other))
        found = bootstrap_counts(mine, theirs, total)
        return f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"

    return cell


def origin(made: Made) -> Iterator[str]:
    yield "## How these were made"
    yield ""
    candidates = {cell.lang: ", ".join(f"{s:.2f}" for s in cell.sparsities) for cell in made.grid.cells}
    yield f"- `{made.settings.command}`; upstream files {made.grid.upstream_id or 'of a download'}."
    yield f"- Sparsities that dev could pick: {'; '.join(f'{lang} {each}' for lang, each in candidates.items())}."
    for system in made.systems:
        rates = {tuple(result["lrs"].items()) for result in system.results}
        told = "; ".join(", ".join(f"{RATE_NAMES[n]} {v:g}" for n, v in pairs) for pairs in sorted(rates))
        updates = ", ".join(f"{r['updates']:,} (best at {r['best_update']:,})" for r in system.results)
        yield f"- {system.name}: learning rates {told}; updates {updates}."
    results = [result for system in made.systems for result in system.results]
    commits = collections.Counter(result["commit"] for result in results)
    dates = sorted(result["date"] for result in results)
    hours = sum(result["seconds"] for result in results) / 3600
    named = ", ".join(f"{commit} ({count})" for commit, count in commits.most_common())
    yield f"- {len(results)} runs; commits (runs): {named}; “+” marks code that was changed after that commit."
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    yield f"- {days}. Training took {hours:.1f} hours; sweeps and other sparsities come on top."
    for versions in {tuple(result["versions"].items()) for result in results}:
        yield f"- {', '.join(f'{name} {version}' for name, version in versions)}."


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        write_lines(args.output, list(lines(Made(args.work))))
    except S3RouterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print(f"{args.output} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
