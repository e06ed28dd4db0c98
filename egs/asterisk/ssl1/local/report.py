#!/usr/bin/env python3
"""Say what a pretrained upstream is worth on speech it has not learnt from, and put it in place.

- masked-prediction loss and accuracy on the dev sides, from the pretraining log;
- character purity of k-means clusters of every hidden layer, against that of the MFCC clusters of round 1: the share
  of frames that a cluster's commonest character accounts for. Characters stand on frames by CTC forced alignment with
  a finetuned model (--aligner, an experiment of asr1); a frame takes the character whose spike is nearest.

Writes report.json beside the log; --install copies the last export and writes MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from speech import frames_of, mfcc, mfcc_transform, normalized

CLUSTERS = 100
VOICES = {
    "stamps": "`tuxpaint-stamps-default`: names of things, spoken in eleven languages",
    "menardi": "`asterisk-prompt-it-menardi-wav`: the Italian prompts by a second voice, 8 kHz, train side",
}


def forced_characters(aligner: Path, folder: Path) -> dict[str, np.ndarray]:
    """utterance -> character id of every frame (frames,), of one data directory."""
    from torchaudio.functional import forced_align

    from s3router.asr.experiment import ASRExperiment
    from s3router.data.audio import read_audio
    from s3router.data.kaldi import DataDir

    exp = ASRExperiment(aligner)
    model, frames = exp.model(), {}
    for utt in DataDir.read(folder).utts:
        wave = torch.from_numpy(read_audio(utt.source))[None]
        with torch.inference_mode():
            encoded, _ = model.encode(wave, torch.tensor([wave.shape[1]]))
            emission = model.ctc.log_softmax(encoded)
        ids = torch.tensor([exp.tokens.encode(utt.text)], dtype=torch.int32)
        path = forced_align(emission, ids, blank=0)[0][0].numpy()
        spikes = np.flatnonzero(path)
        if len(spikes):
            nearest = spikes[np.abs(np.arange(len(path))[:, None] - spikes[None]).argmin(1)]
            frames[utt.utt] = path[nearest]
    return frames


def features_of(upstream, config, folder: Path, wanted) -> dict[str, list[np.ndarray]]:
    """utterance -> [MFCC, hidden state 0, 1, …], each (frames, dim), of those ``wanted``."""
    from s3router.data.audio import read_audio
    from s3router.data.kaldi import DataDir

    transform, out = mfcc_transform(), {}
    for utt in DataDir.read(folder).utts:
        if utt.utt not in wanted:
            continue
        samples = np.round(read_audio(utt.source) * 32767).astype(np.int16)
        count = frames_of(len(samples), config.conv_kernel, config.conv_stride)
        with torch.inference_mode():
            states = upstream(normalized(samples)[None], output_hidden_states=True).hidden_states
        out[utt.utt] = [mfcc(samples, count, transform), *(s[0].numpy() for s in states)]
    return out


def purity(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of frames that carry the commonest label of their cluster."""
    table = np.zeros((clusters.max() + 1, labels.max() + 1))
    np.add.at(table, (clusters, labels), 1)
    return float(table.max(1).sum() / table.sum())


def cluster_purity(upstream, config, data: Path, aligner: Path) -> dict[str, float]:
    """Purity on dev of clusters fitted on train, of MFCC and of every hidden state."""
    from sklearn.cluster import MiniBatchKMeans

    labels = forced_characters(aligner, data / "dev")
    dev = features_of(upstream, config, data / "dev", labels)
    train = features_of(upstream, config, data / "train_5min", set(_utterances(data / "train_5min")))
    names = ["mfcc", *(f"layer {i}" for i in range(config.num_hidden_layers + 1))]
    truth = np.concatenate([labels[u][: len(x[0])] for u, x in dev.items()])
    result = {"(one cluster)": round(float(np.bincount(truth).max() / len(truth)), 3)}  # purity begins here
    for index, name in enumerate(names):
        pool = np.concatenate([x[index] for x in train.values()]).astype(np.float32)
        held_out = np.concatenate([x[index][: len(labels[u])] for u, x in dev.items()]).astype(np.float32)
        mean, std = pool.mean(0), pool.std(0) + 1e-5
        model = MiniBatchKMeans(CLUSTERS, batch_size=10_000, n_init=3, random_state=0).fit((pool - mean) / std)
        result[name] = round(purity(model.predict((held_out - mean) / std), truth), 3)
    return result


def _utterances(folder: Path) -> list[str]:
    return [line.split(maxsplit=1)[0] for line in (folder / "text").read_text(encoding="utf-8").splitlines()]


def gathered(sources: dict[str, float]) -> dict[str, float]:
    """Minutes of each source, the languages of the prompts taken together."""
    out: dict[str, float] = {}
    for folder, minutes in sources.items():
        name = {"train": "prompts, train sides", "untranscribed": "prompts without a usable transcript, train sides"}
        name = name.get(Path(folder).name, VOICES.get(Path(folder).name, Path(folder).name))
        out[name] = out.get(name, 0.0) + minutes
    return out


def synthetic_speech(made: dict) -> str:
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


def model_card(report: dict, config, settings: Path) -> str:
    """The card, its figures from the report and the pretraining configuration."""
    settings = yaml.safe_load(settings.read_text())
    rounds = []
    for spec, last in zip(settings["rounds"], report["rounds"], strict=False):
        targets = "MFCC" if spec["features"] == "mfcc" else f"hidden state {spec['layer']} of the round before"
        for k in spec["clusters"]:
            loss, accuracy = last[f"dev_masked_loss_{k}"], last[f"dev_masked_acc_{k}"]
            rounds.append(f"| {last['round']} | {targets} | {k} | {last['step']} | {loss:.2f} | {accuracy:.3f} |")
        if spec.get("phones"):
            rounds.append(f"| {last['round']} | phones of the synthetic speech | | {last['step']} | | |")
    purity = report.get("character_purity_dev", {})
    if purity:
        cells = " | ".join(f"{value:.3f}" for value in purity.values())
        purity = (
            f"\n**Character purity** of {CLUSTERS} k-means clusters on held-out English "
            "(fitted on 5 minutes of train):\n\n"
            f"| {' | '.join(purity)} |\n|{'---|' * len(purity)}\n| {cells} |\n"
        )
    return (
        (Path(__file__).parent / "model_card.md")
        .read_text(encoding="utf-8")
        .format(
            parameters=report["parameters"] / 1e6,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            ffn=config.intermediate_size,
            minutes=report["data"]["minutes"],
            synthetic=synthetic_speech(report["data"].get("synthetic", {})),
            sources="\n".join(f"| {where} | {n:.0f} |" for where, n in gathered(report["data"]["sources"]).items()),
            speeds=", ".join(map(str, settings["training"]["speeds"])),
            hours=sum(last["seconds"] for last in report["rounds"]) / 3600,
            rounds="\n".join(rounds),
            purity=purity or "",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="what pretrain.py was given")
    parser.add_argument("--exp", type=Path, required=True, help="what pretrain.py wrote")
    parser.add_argument("--data", type=Path, help="one language's data: train_5min/ and dev/, for --aligner")
    parser.add_argument("--aligner", type=Path, help="an experiment folder of asr1, finetuned on that language")
    parser.add_argument("--install", type=Path, help="copy the model into this folder")
    args = parser.parse_args()
    from transformers import HubertModel

    entries = [json.loads(line) for line in (args.exp / "log.jsonl").read_text().splitlines()]
    export = max(args.exp.glob("export_round*"))
    upstream = HubertModel.from_pretrained(export, dtype=torch.float32).eval()
    report = {"parameters": sum(p.numel() for p in upstream.parameters()), "rounds": []}
    report["data"] = json.loads((args.exp / "data.json").read_text())
    for number in sorted({e["round"] for e in entries}):
        last = [e for e in entries if e["round"] == number and any(k.startswith("dev_") for k in e)][-1]
        report["rounds"].append(last)
    if args.aligner:
        report["character_purity_dev"] = cluster_purity(upstream, upstream.config, args.data, args.aligner)
    (args.exp / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    if args.install:
        args.install.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
            shutil.copyfile(export / name, args.install / f".{name}")
            (args.install / f".{name}").replace(args.install / name)
        (args.install / "MODEL_CARD.md").write_text(model_card(report, upstream.config, args.config), encoding="utf-8")
        print(f"installed in {args.install}: {sum(f.stat().st_size for f in args.install.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
