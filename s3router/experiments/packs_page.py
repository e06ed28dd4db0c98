"""The page of ready packs on one backbone, whatever recipes and tasks they come from.

Error rates of each route's own test set through the router, transcripts that differ from a single model's, bytes,
memory, and which language is found. Our own commands make what is missing in a folder of work; one file keeps what
was measured; the page is written from that.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3router.errors import ConfigError, DataError
from s3router.experiments.executors import with_package
from s3router.experiments.markdown import NONE, paragraph, table
from s3router.experiments.memory import measure_packs
from s3router.experiments.one_run import commit
from s3router.files import read_json, write_json, write_lines
from s3router.packs.pack_file import read_parts
from s3router.packs.summary import figures
from s3router.scoring.files import read_text


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        packs: files; their routes are the languages.
        sets: route -> test directory; for each pack one.
        work: folder for what our commands write.
        singles: route -> folder that `s3router decode` has left of the single model for the same set.
        dev: route -> development directory, where the packs do not say how sure their routes usually are.
        langid: a language classifier.
        backbone: further words for our commands: ``--upstream`` and the like.
    """

    packs: tuple[Path, ...]
    sets: Mapping[str, Path]
    work: Path
    singles: Mapping[str, Path]
    dev: Mapping[str, Path]
    langid: Path | None
    backbone: tuple[str, ...] = ()

    @property
    def routes(self) -> dict[str, Path]:
        """Route -> its pack. Raises ConfigError where packs and sets do not fit together."""
        found = {read_parts(path).description.route: path for path in self.packs}
        if len(found) < len(self.packs):
            raise ConfigError("--packs: two packs have one route; name each route once")
        for option, names in (("--sets", self.sets), ("--single", self.singles), ("--dev", self.dev)):
            if unknown := [route for route in names if route not in found]:
                raise ConfigError(f"{option}: no pack has the route {', '.join(unknown)}; known: {', '.join(found)}")
        if lacking := [route for route in found if route not in self.sets]:
            raise ConfigError(f"--sets: the test directory of {', '.join(lacking)} is missing")
        return found


def measure(job: Job, measured: Path) -> dict[str, Any]:
    """Make what is missing in ``job.work``, and gather it in `measured`; returns that.

    Raises:
        ConfigError: packs and sets do not fit together.
        DataError: one of our commands failed.
    """
    routes = job.routes
    shared = ["--routes", *map(str, job.packs), *job.backbone]
    pairs = [f"{route}={path}" for route, path in job.sets.items()]
    inputs = [*job.packs, *(path / "wav.scp" for path in job.sets.values())]
    results = {route: job.work / "routed" / f"decode_{route}" for route in routes}
    if _stale([folder / "result.json" for folder in results.values()], inputs):
        _call("transcribe", *shared, "--score", *pairs, "--output-dir", str(job.work / "routed"))
    langid = job.work / "langid.json"
    if len(routes) > 1 and (
        _stale([langid], [*inputs, *([job.langid] if job.langid else [])])
        or (job.langid and not _has_classifier(langid))
    ):
        options = ["--langid", str(job.langid)] if job.langid else []
        dev = ["--dev", *(f"{route}={path}" for route, path in job.dev.items())] if job.dev else []
        _call("langid", *shared, *options, *dev, "--test", *pairs, "--output", str(langid))
    found = {
        "routes": {
            route: _route(route, path, results[route], job.singles.get(route)) for route, path in routes.items()
        },
        "langid": read_json(langid, "remove it and run this command again") if len(routes) > 1 else None,
        "memory": measure_packs(job.packs, job.backbone),
        "commit": commit(Path.cwd()),
    }
    write_json(measured, found, indent=1)
    return found


def _has_classifier(langid: Path) -> bool:
    return "classifier" in read_json(langid, "remove it and run this command again")


def _stale(outputs: Sequence[Path], inputs: Sequence[Path]) -> bool:
    """Whether something is missing, or older than what it was made of."""
    if not all(path.is_file() for path in outputs):
        return True
    return min(path.stat().st_mtime for path in outputs) < max(path.stat().st_mtime for path in inputs)


def _call(*words: str) -> None:
    """One of our commands, in a process of its own."""
    command = [sys.executable, "-m", "s3router", *words]
    if status := subprocess.run(command, check=False, env=with_package(os.environ)).returncode:
        raise DataError(f"s3router {shlex.join(words)} failed with status {status}: see above")


def _route(route: str, pack: Path, routed: Path, single: Path | None) -> dict[str, Any]:
    result, known = read_json(routed / "result.json", "remove it and run this command again"), figures(pack)
    found = {name: result[name] for name in ("n_utts", "wer", "cer") if name in result}
    found |= {"bytes": sum(known["bytes"].values()), "weights": known["masks"]["weights"]}
    found |= {"sparsity": known["masks"]["sparsity"], "backbone": known["backbone"]}
    if single is not None:
        alone, together = read_text(single / "text"), read_text(routed / "text")
        if alone.keys() != together.keys():
            raise DataError(f"{single}: its utterances are not those of the test directory of {route}")
        found["differing"] = sum(alone[utt] != together[utt] for utt in alone)
    return found


def write_page(found: Mapping[str, Any], output: Path, command: str) -> None:
    """Write the page of what `measure` gave."""
    lines = ["# Many languages, one backbone", "", *_head(found, command), "", *_error_rates(found), ""]
    lines += [*_size(found), ""]
    if found["langid"]:
        lines += [*_languages(found), ""]
    write_lines(output, lines[:-1])


def _head(found: Mapping[str, Any], command: str) -> Iterator[str]:
    backbone = next(iter(found["routes"].values()))["backbone"]
    yield from paragraph(
        f"{len(found['routes'])} packs on one resident `{backbone}`. Error rates are those of the test sets, each",
        f"through its own route. Commit {found['commit'] or 'not known'}. Written by:",
    )
    yield from ("", "```sh", command, "```")


def _error_rates(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Error rates"
    yield ""
    body = []
    for route, row in found["routes"].items():
        rates = [f"{100 * row[name]:.1f}" if name in row else NONE for name in ("wer", "cer")]
        differing = f"{row['differing']} of {row['n_utts']}" if "differing" in row else NONE
        body.append([route, str(row["n_utts"]), *rates, differing])
    yield from table(["test", "utterances", "WER %", "CER %", "differ from the single model"], body)


def _size(found: Mapping[str, Any]) -> Iterator[str]:
    memory, routes = found["memory"], found["routes"]
    yield "## Size"
    yield ""
    body = [
        [route, f"{row['sparsity']:.2f}", f"{row['weights']:,}", f"{row['bytes']:,}"] for route, row in routes.items()
    ]
    body.append(["all", "", "", f"{sum(row['bytes'] for row in routes.values()):,}"])
    yield from table(["pack", "sparsity", "masked weights", "bytes"], body)
    yield ""
    yield from paragraph(
        f"Resident: {memory['mb']:.0f} MB (2²⁰ bytes) above what Python takes with all modules imported, after each",
        f"route was used once; {memory['process_mb']:.0f} MB the whole process. The weights of one backbone in float32",
        f"are {4 * memory['parameters'] / 2**20:.0f} MB; {len(routes)} models of their own would have so many each.",
    )


def _languages(found: Mapping[str, Any]) -> Iterator[str]:
    langid = found["langid"]
    ways = {}
    if "counts" in langid:
        ways["by the routes' confidences"] = langid["counts"]["compared with usual"]
    if "classifier" in langid:
        ways["by a classifier on the first layers"] = langid["classifier"]["counts"]
    yield "## Which language is it?"
    for way, counts in ways.items():
        names = list(next(iter(counts.values())))
        body = [
            [lang, *(str(row[name]) for name in names), f"{100 * row[lang] / sum(row.values()):.1f}"]
            for lang, row in counts.items()
        ]
        right, total = sum(row[lang] for lang, row in counts.items()), sum(sum(row.values()) for row in counts.values())
        yield from ("", f"**{100 * right / total:.1f} %** are right {way}:", "")
        yield from table(["spoken", *names, "right %"], body)
    costs = []
    if "counts" in langid:
        costs.append(
            f"By confidences {langid['transformer_passes']:g} passes through the transformer per utterance, text "
            f"included ({langid['audio_seconds']:.0f} s of audio in {langid['seconds']:.0f} s)."
        )
    if "classifier" in langid:
        by = langid["classifier"]
        costs.append(
            f"By the classifier, which reads layer {by['layers']}, {by['passes_by_layers']:.2f}, counted in layers; "
            f"{by['passes_by_time']:.2f}, measured in time."
        )
    yield ""
    yield from paragraph(*costs)
