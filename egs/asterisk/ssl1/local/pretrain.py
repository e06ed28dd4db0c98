#!/usr/bin/env python3
"""Pretrain a small HubertModel by masked prediction of clustered frames (HuBERT, Hsu et al. 2021, sections II and III).

Round 1 predicts k-means clusters of MFCC, every later round those of a hidden layer of the model so far, from which
it goes on training with new output heads. The result is a HuggingFace folder (config.json, model.safetensors,
preprocessor_config.json) that s3prl and transformers load as any HuBERT. The same command resumes after a kill.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from speech import RATE, at_speed, frames_of, mfcc, mfcc_transform, normalized, read_wav_scp
from torch import nn
from tqdm import tqdm


def mel_filterbank(filters: int, length: int) -> torch.Tensor:
    """Windowed cosines on mel-spaced frequencies, four phases each: (filters, 1, length), unit energy.

    Rectified and summed, four phases a quarter period apart give about the magnitude at that frequency whatever the
    signal's phase, so that the extractor starts as a filterbank instead of having to find one.
    """
    mel = torch.linspace(2595 * math.log10(1 + 60 / 700), 2595 * math.log10(1 + 7600 / 700), filters // 4)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    time_axis = torch.arange(length) / RATE
    phases = torch.arange(4) * math.pi / 2
    waves = torch.cos(2 * math.pi * hertz[:, None, None] * time_axis + phases[:, None]) * torch.hann_window(length)
    waves = waves.reshape(-1, length)
    return (waves / waves.norm(dim=1, keepdim=True))[:, None]


class Pretrainer(nn.Module):
    """The upstream and one linear output head for each clustering."""

    def __init__(self, config, clusters: list[int]):
        super().__init__()
        from transformers import HubertModel

        # Plain attention: on processors its backward pass is faster than the fused one at these lengths.
        config._attn_implementation = "eager"
        self.upstream = HubertModel(config)
        with torch.no_grad():
            first = self.upstream.feature_extractor.conv_layers[0].conv
            first.weight.copy_(mel_filterbank(first.out_channels, first.kernel_size[0]))
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, k) for k in clusters)

    def forward(self, waves, targets, mask, unmasked_weight):
        """waves (B, samples), targets (B, T, heads), mask (B, T) -> loss, {name: value}; all float32.

        A target of -100 counts nowhere: speech of one kind has no targets of the other.
        """
        hidden = self.upstream(waves, mask_time_indices=mask).last_hidden_state
        loss, report = 0.0, {}
        for i, head in enumerate(self.heads):
            logits, target = head(hidden), targets[..., i]
            frame_loss = F.cross_entropy(logits.float().transpose(1, 2), target, reduction="none")
            known = target >= 0
            masked, unmasked = (frame_loss[known & part].sum() / mask.numel() for part in (mask, ~mask))
            loss = loss + 2 * (masked + unmasked_weight * unmasked) / len(self.heads)
            with torch.no_grad():
                hit, counted = logits.argmax(-1) == target, known & mask
                if counted.any():
                    report |= {f"masked_loss_{head.out_features}": frame_loss[counted].mean().item()}
                    report |= {f"masked_acc_{head.out_features}": hit[counted].float().mean().item()}
        return loss, report


def span_mask(shape: tuple[int, int], start: float, length: int, rng: np.random.Generator) -> torch.Tensor:
    """Spans of ``length`` frames, each frame the start of one with probability ``start``; at least one a row."""
    starts = rng.random(shape) < start
    for row in starts:
        if not row.any():
            row[rng.integers(len(row))] = True
    mask = np.zeros(shape, dtype=bool)
    for shift in range(length):
        mask[:, shift:] |= starts[:, : shape[1] - shift]
    mask[mask.all(axis=1), 0] = False
    return torch.from_numpy(mask)


class Batches:
    """Endless batches of about equal length, cropped to the shortest: no padding, no attention mask."""

    def __init__(self, speech, targets, training, frames, seed, synthetic=()):
        self.speech, self.targets, self.training, self.frames = speech, targets, training, frames
        self.synthetic = sorted(synthetic)
        self.rng = np.random.default_rng(seed)

    def __iter__(self):
        while True:
            yield from self.epoch(self.training["speeds"])

    def epoch(self, speeds):
        limit = int(self.training["max_seconds"] * RATE)
        real = sorted({u for u, _ in self.speech}.difference(self.synthetic))
        chosen = [(utt, speeds[self.rng.integers(len(speeds))]) for utt in real]
        if self.synthetic:
            share = self.training["synthetic_share"]
            count = min(len(self.synthetic), round(len(real) * share / (1 - share)))
            chosen += [(utt, 1.0) for utt in self.rng.choice(self.synthetic, count, replace=False).tolist()]
        size = {item: min(len(self.speech[item]), limit) for item in chosen}
        chosen.sort(key=lambda item: size[item] * self.rng.uniform(0.9, 1.1))
        batches, batch = [], []
        for item in chosen:
            if batch and (len(batch) + 1) * size[item] > self.training["batch_seconds"] * RATE:
                batches.append(batch)
                batch = []
            batch.append(item)
        batches.append(batch)
        for index in self.rng.permutation(len(batches)):
            yield self.assemble(batches[index], min(size[item] for item in batches[index]))

    def assemble(self, items, samples):
        frames = self.frames(samples)
        samples = (frames - 1) * 320 + 720
        waves, targets = [], []
        for item in items:
            first = self.rng.integers(len(self.targets[item]) - frames + 1)
            wave = self.speech[item][first * 320 : first * 320 + samples]
            waves.append(normalized(wave))
            targets.append(torch.from_numpy(self.targets[item][first : first + frames].astype(np.int64)))
        mask = span_mask((len(items), frames), self.training["mask_start"], self.training["mask_length"], self.rng)
        return torch.stack(waves), torch.stack(targets), mask


def extract(speech, frames, spec, upstream, desc):
    """item -> (frames, dim) float16 features that a round clusters."""
    if spec["features"] == "mfcc":
        transform = mfcc_transform()
        bar = tqdm(speech.items(), desc=desc, mininterval=5)
        return {item: mfcc(x, frames(len(x)), transform).astype(np.float16) for item, x in bar}
    features = {}
    batches: list[list] = [[]]
    for item in sorted(speech, key=lambda item: len(speech[item])):
        if (len(batches[-1]) + 1) * len(speech[item]) > 32 * RATE:
            batches.append([])
        batches[-1].append(item)
    for batch in tqdm([batch for batch in batches if batch], desc=desc, mininterval=5):
        waves = nn.utils.rnn.pad_sequence([normalized(speech[item]) for item in batch], batch_first=True)
        lengths = torch.tensor([len(speech[item]) for item in batch])
        mask = (torch.arange(waves.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode(), arithmetic():
            hidden = upstream(waves, attention_mask=mask, output_hidden_states=True).hidden_states[spec["layer"]]
        for row, item in enumerate(batch):
            features[item] = hidden[row, : frames(len(speech[item]))].to(torch.float16).numpy()
    return features


def at_other_speeds(targets, speech, frames):
    """Targets of every speed from those of the recording as it is: what is said does not change with the voice."""
    out = {item: x for item, x in targets.items() if item not in speech}
    for utt, speed in speech:
        original = targets[utt, 1.0]
        count = frames(len(speech[utt, speed]))
        # A frame's 45 ms of input are centred at 320 i + 360 samples.
        centres = (np.arange(count) * 320 + 360) * speed
        nearest = np.rint((centres - 360) / 320).astype(int)
        out[utt, speed] = original[nearest.clip(0, len(original) - 1)]
    return out


def normalize_speakers(features):
    """Zero mean and unit variance for each speaker at each speed (the part of the id before the first dash).

    Differences weigh less than the coefficients: at equal weight, their noise makes two thirds of the distance.
    """
    weights = np.repeat([1.0, 0.5, 0.25], 13).astype(np.float32)
    groups: dict = {}
    for (utt, speed), x in features.items():
        groups.setdefault((utt.split("-")[0], speed), []).append(x.astype(np.float32))
    stats = {g: (np.concatenate(xs).mean(0), np.concatenate(xs).std(0) + 1e-5) for g, xs in groups.items()}
    for item, x in features.items():
        mean, std = stats[(item[0].split("-")[0], item[1])]
        features[item] = ((x - mean) / std * weights).astype(np.float16)


def cluster(features, spec, seed, train_utts):
    """item -> (frames, clusterings) int16; k-means is fitted on ``train_utts`` alone."""
    from sklearn.cluster import MiniBatchKMeans

    if spec["features"] == "mfcc":
        normalize_speakers(features)
    rng = np.random.default_rng(seed)
    pool = np.concatenate([x for item, x in features.items() if item[0] in train_utts])
    pool = pool[rng.permutation(len(pool))[:200_000]].astype(np.float32)
    columns = []
    for k in spec["clusters"]:
        print(f"k-means: {k} clusters of {spec['features']} on {len(pool)} frames", flush=True)
        model = MiniBatchKMeans(k, batch_size=10_000, n_init=3, max_iter=100, random_state=seed).fit(pool)
        columns.append({item: model.predict(x.astype(np.float32)).astype(np.int16) for item, x in features.items()})
    return {item: np.stack([c[item] for c in columns], axis=1) for item in features}


def save_atomically(path: Path, state) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def arithmetic():
    """bfloat16 autocast where the processor multiplies it in hardware, float32 elsewhere."""
    from s3router.training.arithmetic import has_bfloat16

    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(ngpu=0))


@torch.inference_mode()
def validate(model, batches, training) -> dict[str, float]:
    """Mean loss and accuracy on held-out speech; the same masks every time."""
    model.eval()
    batches.rng = np.random.default_rng(1234)
    with arithmetic():
        reports = [model(*batch, training["unmasked_weight"])[1] for batch in batches.epoch([1.0])]
    model.train()
    return {f"dev_{key}": value for key, value in means(reports).items()}


def means(reports: list[dict]) -> dict[str, float]:
    """Mean of each key over the reports that have it."""
    keys = dict.fromkeys(key for report in reports for key in report)
    return {key: float(np.mean([r[key] for r in reports if key in r])) for key in keys}


def with_phones(targets, phones):
    """Targets of all speech in one table: clusters first, phones in the last column; -100 where there are none."""
    columns = next(iter(targets.values())).shape[1]
    out = {item: np.pad(x, ((0, 0), (0, 1)), constant_values=-100) for item, x in targets.items()}
    for utt, x in phones.items():
        out[utt, 1.0] = np.pad(x[:, None], ((0, 0), (columns, 0)), constant_values=-100)
    return out


class Optimizers:
    """Muon (Jordan 2024) for the matrices inside the transformer, AdamW for everything else, as one optimizer."""

    def __init__(self, model: Pretrainer, training: dict):
        matrices = [p for p in model.upstream.encoder.layers.parameters() if p.ndim == 2]
        inside = set(matrices)
        others = [p for p in model.parameters() if p.ndim > 1 and p not in inside]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        decay = training["weight_decay"]
        self.peaks = [training["matrix_lr"], training["lr"]]
        self.parts = [
            torch.optim.Muon(matrices, weight_decay=decay, ns_steps=4, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [{"params": others, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}],
                betas=tuple(training["betas"]), fused=True,
            ),
        ]  # fmt: skip

    def set_rate(self, share: float) -> None:
        """Learning rates as a share of their peaks."""
        for peak, part in zip(self.peaks, self.parts, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * share

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def learning_rate(step: int, steps: int, training: dict) -> float:
    """The rate at a step as a share of its peak: a ramp, then a cosine."""
    warm = min(1.0, (step + 1) / training["warmup"])
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return warm * (training["final_lr"] + (1 - training["final_lr"]) * cosine)


def run_round(number, spec, config, training, speech, dev_speech, synthetic, previous, out: Path):
    """Train one round, resuming from ``out/roundN.pt``; returns the upstream."""
    kernels, strides = config.conv_kernel, config.conv_stride

    def frames(samples):
        return frames_of(samples, kernels, strides)

    target_file, checkpoint = out / f"round{number}_targets.pt", out / f"round{number}.pt"
    if not target_file.exists():
        both = speech | dev_speech
        if spec["features"] == "layer":
            both = {item: x for item, x in both.items() if item[1] == 1.0}
        features = extract(both, frames, spec, previous, f"round {number}: {spec['features']}")
        clustered = cluster(features, spec, training["seed"], {u for u, _ in speech})
        if spec["features"] == "layer":
            clustered = at_other_speeds(clustered, speech, frames)
        save_atomically(target_file, clustered)
    targets = torch.load(target_file, weights_only=False)  # written above, by this program
    heads, phones = list(spec["clusters"]), {}
    if spec.get("phones"):
        made, phones = synthetic
        heads.append(1 + max(int(x.max()) for x in phones.values()))
        speech, targets = speech | made, with_phones(targets, phones)
    torch.manual_seed(training["seed"] + number)
    model = Pretrainer(config, heads)
    if previous is not None:
        model.upstream.load_state_dict(previous.state_dict())
    optimizer = Optimizers(model, training)
    step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    steps = spec["steps"]
    batches = iter(Batches(speech, targets, training, frames, training["seed"] + 1000 * number + step, phones))
    dev = Batches(dev_speech, targets, training, frames, 0)
    model.train()
    recent: list[dict] = []
    bar = tqdm(total=steps, initial=step, desc=f"round {number}", mininterval=30)
    while step < steps:
        begin = time.time()
        optimizer.set_rate(learning_rate(step, steps, training))
        with arithmetic():
            loss, report = model(*next(batches), training["unmasked_weight"])
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        if torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
        step, seconds = step + 1, seconds + time.time() - begin
        recent.append(report)
        bar.update()
        if step % 50 == 0 or step == steps:
            entry = {"round": number, "step": step, "seconds": round(seconds), "loss": loss.item()}
            entry |= means(recent)
            if step % 250 == 0 or step == steps:
                entry |= validate(model, dev, training)
            recent = []
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()}) + "\n")
            bar.set_postfix({k: f"{v:.3f}" for k, v in entry.items() if "acc" in k})
        if step % 200 == 0 or step == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
            save_atomically(checkpoint, state)
    return model.upstream.eval()


def export(upstream, folder: Path) -> None:
    """A HuggingFace folder in half precision, as s3prl's hf_hubert_custom and transformers load it."""
    from transformers import Wav2Vec2FeatureExtractor

    upstream.half().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    ).save_pretrained(folder)
    upstream.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="Kaldi data directories to learn from")
    parser.add_argument("--dev", type=Path, nargs="+", required=True, help="held out: only loss and accuracy")
    parser.add_argument("--synthetic", type=Path, help="what synthesis.py wrote, for rounds with `phones: true`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--init", type=Path, help="go on from this HuggingFace folder instead of from nothing")
    parser.add_argument("--first-round", type=int, default=1, help="leave out the rounds before it; goes with --init")
    args = parser.parse_args()
    if (args.init is None) != (args.first_round == 1):
        parser.error("--init FOLDER goes with --first-round N, N from 2: the rounds that made FOLDER are not run again")
    from transformers import HubertConfig, HubertModel

    torch.set_num_threads(args.threads)
    settings = yaml.safe_load(args.config.read_text())
    training, config = settings["training"], HubertConfig(**settings["model"])
    args.out.mkdir(parents=True, exist_ok=True)
    sources = {folder: read_wav_scp([folder]) for folder in args.train}
    raw = {utt: samples for part in sources.values() for utt, samples in part.items()}
    speech = {(u, s): at_speed(x, s) for u, x in tqdm(raw.items(), desc="speeds") for s in training["speeds"]}
    dev_speech = {(u, 1.0): x for u, x in read_wav_scp(args.dev).items()}
    minutes = {str(folder): sum(map(len, part.values())) / RATE / 60 for folder, part in sources.items()}
    data = {"minutes": sum(minutes.values()), "recordings": len(raw), "sources": minutes}
    synthetic = None
    if any(spec.get("phones") for spec in settings["rounds"]):
        if args.synthetic is None:
            parser.error("a round of the configuration asks for phones: give --synthetic")
        with np.load(args.synthetic / "phones.npz") as stored:
            phones = dict(stored)
        made = {(utt, 1.0): x for utt, x in read_wav_scp([args.synthetic]).items() if utt in phones}
        synthetic = made, {utt: phones[utt] for utt, _ in made}
        data["synthetic"] = {
            "hours": sum(map(len, made.values())) / RATE / 3600,
            "languages": len({utt.split("-")[0] for utt in phones}),
            "phones": len((args.synthetic / "phones.txt").read_text(encoding="utf-8").splitlines()),
        }
    (args.out / "data.json").write_text(json.dumps(data, indent=1) + "\n")
    print(f"{data['minutes']:.1f} min of recordings to learn from, {len(raw)} of them", flush=True)
    upstream = HubertModel.from_pretrained(args.init, dtype=torch.float32).eval() if args.init else None
    rounds = list(enumerate(settings["rounds"], start=1))[args.first_round - 1 :]
    for number, spec in rounds:
        upstream = run_round(number, spec, config, training, speech, dev_speech, synthetic, upstream, args.out)
        export(upstream, args.out / f"export_round{number}")


if __name__ == "__main__":
    main()
