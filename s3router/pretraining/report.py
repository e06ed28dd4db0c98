"""The report on a pretrained upstream: held-out loss and accuracy, character purity, and its model card."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch

from s3router.errors import DataError
from s3router.files import replacing, write_json
from s3router.pretraining.purity import CLUSTERS, cluster_purity
from s3router.pretraining.settings import Settings

SOURCES = {
    "train": "prompts, train sides",
    "untranscribed": "prompts without a usable transcript, train sides",
    "stamps": "`tuxpaint-stamps-default`: names of things, spoken in eleven languages",
    "menardi": "`asterisk-prompt-it-menardi-wav`: the Italian prompts by a second voice, 8 kHz, train side",
}
"""Names of directories that were learnt from -> what the card says of them."""
INSTALLED = ("config.json", "model.safetensors", "preprocessor_config.json")


def report(exp: Path, aligner: Path | None = None, data: Path | None = None) -> dict[str, Any]:
    """Figures of an experiment on speech that it has not learnt from; written to ``exp/report.json``.

    Args:
        exp: what `s3router.pretraining.rounds.pretrain` wrote.
        aligner: an ASR experiment of one language, for character purity.
        data: that language's data folder, with dev and train_5min.

    Raises:
        DataError: the experiment is not finished.
    """
    from transformers import HubertModel

    for name in ("log.jsonl", "data.json"):
        if not (exp / name).is_file():
            raise DataError(f"{exp / name} is missing: not an experiment of s3router pretrain")
    entries = _entries(exp / "log.jsonl")
    upstream = HubertModel.from_pretrained(last_export(exp), dtype=torch.float32).eval()
    found = {"parameters": sum(p.numel() for p in upstream.parameters()), "rounds": []}
    found["data"] = json.loads((exp / "data.json").read_text(encoding="utf-8"))
    for number in sorted({e["round"] for e in entries}):
        validated = [e for e in entries if e["round"] == number and any(k.startswith("dev_") for k in e)]
        if not validated or not (exp / f"export_round{number}").is_dir():
            raise DataError(f"{exp / 'log.jsonl'}: round {number} is not finished; run s3router pretrain to its end")
        found["rounds"].append(validated[-1])
    if aligner is not None:
        found["character_purity_dev"] = cluster_purity(upstream, upstream.config, data, aligner)
    write_json(exp / "report.json", found, indent=2)
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    """The log's entries; a line that a kill has cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def last_export(exp: Path) -> Path:
    """The export of the last round. Raises DataError where no round is finished."""
    exports = sorted(exp.glob("export_round*"), key=lambda path: int(path.name.removeprefix("export_round")))
    if not exports:
        raise DataError(f"{exp}: no export_round1 or later in it; run s3router pretrain to the end of a round")
    return exports[-1]


def install(found: dict[str, Any], exp: Path, settings: Settings, card: Path, folder: Path) -> int:
    """Copy the last export into ``folder``, with a model card; returns the bytes that lie there.

    Args:
        found: from `report`.
        exp: the experiment.
        settings: of the pretraining.
        card: template of the model card.
        folder: of the shipped upstream.
    """
    export = last_export(exp)
    text = model_card(found, settings, card.read_text(encoding="utf-8"))
    for name in INSTALLED:
        with replacing(folder / name, "wb") as file:
            file.write((export / name).read_bytes())
    with replacing(folder / "MODEL_CARD.md") as file:
        file.write(text)
    return sum(file.stat().st_size for file in folder.iterdir())


def model_card(found: dict[str, Any], settings: Settings, template: str) -> str:
    """The card, its figures from the report and the configuration."""
    rounds = []
    for spec, last in zip(settings.rounds, found["rounds"], strict=False):
        targets = "MFCC" if spec.features == "mfcc" else f"hidden state {spec.layer} of the round before"
        for k in spec.clusters:
            loss, accuracy = last[f"dev_masked_loss_{k}"], last[f"dev_masked_acc_{k}"]
            rounds.append(f"| {last['round']} | {targets} | {k} | {last['step']} | {loss:.2f} | {accuracy:.3f} |")
        if spec.phones:
            rounds.append(f"| {last['round']} | phones of the synthetic speech | | {last['step']} | | |")
    return template.format(
        parameters=found["parameters"] / 1e6,
        layers=settings.model["num_hidden_layers"],
        hidden=settings.model["hidden_size"],
        ffn=settings.model["intermediate_size"],
        minutes=found["data"]["minutes"],
        synthetic=synthetic_speech(found["data"].get("synthetic", {})),
        sources="\n".join(f"| {where} | {n:.0f} |" for where, n in gathered(found["data"]["sources"]).items()),
        speeds=", ".join(map(str, settings.training.speeds)),
        hours=sum(last["seconds"] for last in found["rounds"]) / 3600,
        rounds="\n".join(rounds),
        purity=purity_table(found.get("character_purity_dev", {})),
    )


def gathered(sources: dict[str, float]) -> dict[str, float]:
    """Minutes of each source, the languages of the prompts taken together."""
    out: dict[str, float] = {}
    for folder, minutes in sources.items():
        name = SOURCES.get(Path(folder).name, Path(folder).name)
        out[name] = out.get(name, 0.0) + minutes
    return out


def synthetic_speech(made: dict[str, Any]) -> str:
    """A paragraph on it; nothing where there was none."""
    if not made:
        return ""
    return (
        f"And {made['hours']:.1f} hours of synthetic speech in {made['languages']} languages and many voices, by "
        f"espeak-ng, of which {made['phones']} phones are known to the frame: in the rounds that say so they are the "
        "targets of that speech. Its texts are descriptions of Tux Paint's drawings and train-side transcripts of the "
        "prompts. So the model has been told what phones sound like, in synthetic voices; no human recording was "
        "learnt from together with its text.\n"
    )


def purity_table(purity: dict[str, float]) -> str:
    """A table of character purity; nothing where it was not measured."""
    if not purity:
        return ""
    cells = " | ".join(f"{value:.3f}" for value in purity.values())
    return (
        f"\n**Character purity** of {CLUSTERS} k-means clusters on held-out English "
        "(fitted on 5 minutes of train):\n\n"
        f"| {' | '.join(purity)} |\n|{'---|' * len(purity)}\n| {cells} |\n"
    )
