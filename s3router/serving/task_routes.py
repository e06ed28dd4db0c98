"""Several tasks on one resident backbone, each by its mask pack.

    python -m s3router.serving.task_routes --packs ks.pack ic.pack --sets ks=ks1/data/test --output-dir OUT

leaves OUT/predict_ROUTE/{utt2label,result.json} and the submission's file, as ``superb-predict`` does for one model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s3router.data.utt2label import BETWEEN, Label
from s3router.errors import ConfigError, PackError, S3RouterError
from s3router.files import write_lines
from s3router.packs import MaskPack, read_pack
from s3router.packs.pack_file import read_parts
from s3router.superb import classification
from s3router.superb.batches import in_order
from s3router.superb.labels import LabelledDir
from s3router.superb.predict import submission_lines
from s3router.superb.tasks import TASKS, TaskSpec
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import load


class TaskHead(nn.Module):
    """Featurizer and head of a pack: [(B, T, C)] * layers, lengths (B,) -> logits (B, classes).

    Args:
        pack: of ``superb-pack``.

    Attributes:
        spec: the task that trained it.
        classes: of each slot; the logits are those of all slots one after another.
        gain_db: for the waveforms.

    Raises:
        PackError: the pack is of no classification task.
    """

    def __init__(self, pack: MaskPack):
        super().__init__()
        name, labels = pack.meta.training.get("task"), pack.meta.labels
        if name not in TASKS or labels is None or not {"weight", "bias"} <= pack.head.keys():
            raise PackError(f"route {pack.route!r}: its pack is of no classification task (s3router superb-pack)")
        if "weights" not in pack.featurizer or pack.meta.preprocessing.get("features") != "weighted":
            raise PackError(f"route {pack.route!r}: preprocessing {dict(pack.meta.preprocessing)} is not known")
        self.spec: TaskSpec = TASKS[name]
        self.gain_db = float(pack.meta.preprocessing.get("gain_db", 0.0))
        self.mode, self.track = (str(pack.meta.training.get(key, "")) for key in ("mode", "track"))
        self.upstream_name = pack.meta.backbone
        self.classes = [list(labels)]
        if len(self.spec.slots) > 1:
            pairs = [label.split(" ", 1) for label in labels]
            self.classes = [[value for slot, value in pairs if slot == wanted] for wanted in self.spec.slots]
            if [f"{slot} {v}" for slot, c in zip(self.spec.slots, self.classes, strict=True) for v in c] != list(
                labels
            ):
                raise PackError(f"route {pack.route!r}: its labels are not those of {', '.join(self.spec.slots)}")
        self.register_buffer("layers", pack.featurizer["weights"].float())
        self.register_buffer("weight", pack.head["weight"].float())
        self.register_buffer("bias", pack.head["bias"].float())

    def forward(self, hidden: Sequence[Tensor], lengths: Tensor) -> Tensor:
        """The mean over valid frames goes first: the rest is linear in it."""
        if len(hidden) != len(self.layers):
            raise PackError(f"the pack weighs {len(self.layers)} hidden states, the backbone gives {len(hidden)}")
        valid = (torch.arange(hidden[0].size(1), device=lengths.device) < lengths[:, None]).to(hidden[0])
        means = torch.stack([torch.einsum("btc,bt->bc", h, valid) for h in hidden]) / valid.sum(1)[None, :, None]
        return F.linear(torch.einsum("lbc,l->bc", means, self.layers.softmax(0)), self.weight, self.bias)

    def decide(self, logits: Tensor) -> list[Label]:
        """(B, classes) -> of each utterance the best class of each slot."""
        parts = logits.split([len(names) for names in self.classes], 1)
        best = [[names[i] for i in part.argmax(1).tolist()] for names, part in zip(self.classes, parts, strict=True)]
        return list(zip(*best, strict=True))


class RoutedTasks(nn.Module):
    """One `RoutedUpstream` and a `TaskHead` for each of its routes; in evaluation mode.

    Args:
        upstream, ckpt: as of `s3router.upstreams.hub.build`.
        device: "cpu", "cuda".
    """

    def __init__(self, upstream: str, ckpt: str | None = None, device: str = "cpu"):
        super().__init__()
        hub.register()
        conf = {"upstream": upstream}
        self.upstream = load("s3prl.nn.upstream").S3PRLUpstream("s3router", ckpt, extra_conf=conf).to(device)
        self.heads: dict[str, TaskHead] = {}
        self.device = device
        self.eval()

    @property
    def resident(self) -> nn.Module:
        """The `RoutedUpstream`."""
        return self.upstream.upstream

    def add(self, path: str | os.PathLike) -> str:
        """Take in a pack; returns its route. Raises PackError, ConfigError as `RoutedUpstream.add_route`."""
        pack = read_pack(path, self.resident.backbone, fingerprint=self.resident.backbone_fingerprint)
        head = TaskHead(pack).to(self.device).eval()
        self.resident.add_route(pack)
        self.heads[pack.route] = head
        return pack.route

    @torch.no_grad()
    def logits(self, route: str, wav: Tensor, wav_len: Tensor) -> Tensor:
        """(B, samples), (B,) -> (B, classes). Raises ConfigError for unknown routes."""
        with self.resident.using(route):
            hidden, lengths = self.upstream(wav.to(self.device), wav_len.to(self.device))
        return self.heads[route]([h.float() for h in hidden], lengths[0])

    def predict(self, route: str, labelled: LabelledDir, batch_size: int = 8) -> dict[str, Label]:
        """Utterance -> label, in the directory's order. Raises DataError for labels that the pack does not know."""
        head = self.heads[self.resident.routes.check(route)]
        classification.check(None, [labelled], head.classes)
        clips = classification.Clips(labelled, classification.encoder(head.classes), head.gain_db)
        found: dict[str, Label] = {}
        for batch in in_order(clips, batch_size):
            labels = head.decide(self.logits(route, batch["x"], batch["x_len"]))
            found |= dict(zip(map(str, batch["unique_name"]), labels, strict=True))
        return {utt: found[utt] for utt in labelled.labels}


def load_tasks(
    packs: Sequence[Path], upstream: str | None = None, ckpt: str | None = None, device: str = "cpu"
) -> RoutedTasks:
    """The backbone with these packs; by default the backbone that the first of them names.

    Raises:
        PackError: a pack is damaged, of no classification task, or for another backbone.
        ConfigError: two have one route.
    """
    if upstream is None:
        meta = read_parts(packs[0]).description.meta
        upstream, ckpt = meta.backbone, ckpt or meta.checkpoint
    model = RoutedTasks(upstream, ckpt, device)
    for pack in packs:
        model.add(pack)
    return model


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="superb-routed", description=__doc__.split("\n")[0])
    made.add_argument("--packs", nargs="+", type=Path, required=True, help="of s3router superb-pack")
    made.add_argument("--sets", nargs="+", required=True, metavar="ROUTE=DIR", help="Kaldi directory with utt2label")
    made.add_argument("--output-dir", type=Path, required=True)
    made.add_argument("--upstream", help="the backbone (default: what the first pack names)")
    made.add_argument("--upstream-ckpt", help="its checkpoint: path or URL")
    made.add_argument("--fold", type=int, choices=range(1, 6), default=1, help="of emotion recognition")
    made.add_argument("--batch-size", type=int, default=8)
    made.add_argument("--device", default="cpu")
    return made


def evaluate(args: argparse.Namespace) -> dict[str, dict]:
    """The command; returns what the files ``result.json`` hold, by route."""
    sets: dict[str, str] = {}
    for text in args.sets:
        route, _, folder = text.partition("=")
        if not route or not folder or route in sets:
            raise ConfigError(f"--sets {text}: expected ROUTE=DIR, each route once, as in ks=data/test")
        sets[route] = folder
    model = load_tasks(args.packs, args.upstream, args.upstream_ckpt, args.device)
    if strange := [route for route in sets if route not in model.heads]:
        raise ConfigError(f"--sets {strange[0]}=…: no pack has that route; known: {', '.join(model.heads)}")
    results = {}
    for route, folder in sets.items():
        head, out = model.heads[route], args.output_dir / f"predict_{route}"
        labelled = classification.read(folder, head.spec)
        labelled = LabelledDir(labelled.data.with_durations(), labelled.labels)
        found = model.predict(route, labelled, args.batch_size)
        figures = classification.figures(list(found.values()), list(labelled.labels.values()), head.spec)
        results[route] = {
            "task": head.spec.name,
            "mode": head.mode,
            "track": head.track,
            "upstream": head.upstream_name,
            "data_dir": str(folder),
            "n_utts": len(found),
            **figures,
        }
        write_lines(out / "utt2label", (f"{utt} {BETWEEN.join(label)}" for utt, label in found.items()))
        if head.spec.folder:
            lines = submission_lines(head.spec, found)
            write_lines(out / head.spec.folder.format(fold=args.fold) / head.spec.file, lines)
        write_lines(out / "result.json", [json.dumps(results[route], indent=1, ensure_ascii=False)])
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        results = evaluate(parser().parse_args(argv))
    except S3RouterError as error:
        print(f"superb-routed: {error}", file=sys.stderr)
        return 1
    for route, result in results.items():
        print(f"{route}: accuracy {100 * result['accuracy']:.2f} % of {result['n_utts']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
