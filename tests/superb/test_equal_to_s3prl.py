"""The same head, batch and frozen upstream give the loss and the metric of s3prl's unmodified problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s3router.superb.batches import collate, in_order
from s3router.superb.classification import Classification
from s3router.superb.evaluate import evaluate
from s3router.superb.labels import classes_of
from s3router.superb.model import build_task
from s3router.superb.tasks import TASKS
from s3router.upstreams import hub
from s3router.upstreams.s3prl_engine import problem
from tests.superb.conftest import make_set

BENCHMARK = [kind.name for kind in TASKS.values() if isinstance(kind, Classification) and kind.folder]


def theirs(name: str, upstream: Path, classes: list[list[str]]):
    """s3prl's own model and task, by its own functions and with its own settings, on the hub entry ``s3router``."""
    hub.register()
    their = problem(TASKS[name].problem)
    conf = their.default_config()
    encoder = TASKS[name].encoder(classes)
    model = their.build_model(
        conf["build_model"],
        len(encoder),
        {"name": "s3router", "path_or_url": str(upstream), "extra_conf": {"upstream": "hf_hubert_custom"}},
        conf["build_featurizer"],
        conf["build_downstream"],
    )
    return their.build_task({}, model, encoder)


@pytest.fixture(params=BENCHMARK)
def both(request, upstream: Path, tmp_path: Path):
    """(kind, their task, our task with the same head, the clips, the set) of each task of the benchmark."""
    kind = TASKS[request.param]
    labelled = kind.read(make_set(tmp_path, 6, len(kind.slots)))
    classes = classes_of(labelled.labels.values())
    their = theirs(request.param, upstream, classes)
    extra = {"upstream": "hf_hubert_custom"}
    our = build_task(kind, kind.settings(), classes, "frozen", extra, str(upstream))
    our.model.downstream.load_state_dict(their.model.downstream.state_dict())
    weights = torch.linspace(-1, 1, len(our.model.featurizer.weights))
    for one in (their, our):
        one.model.featurizer.weights.data.copy_(weights)
        one.eval()
    return kind, their, our, kind.clips(labelled, our.encoder, kind.settings()), labelled


def test_loss_gradient_and_metric(both):
    kind, their, our, clips, labelled = both
    batch = collate([clips[0, i] for i in range(len(clips))])
    (loss_a, cached_a), (loss_b, cached_b) = their("train", **batch), our("train", **batch)
    torch.testing.assert_close(loss_b, loss_a, rtol=1e-5, atol=1e-6)
    assert list(map(list, cached_a["prediction"])) == list(map(list, cached_b["prediction"]))
    loss_a.backward()
    loss_b.backward()
    for (name, a), (other, b) in zip(
        their.model.downstream.named_parameters(), our.model.downstream.named_parameters(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        our.model.featurizer.weights.grad, their.model.featurizer.weights.grad, rtol=1e-4, atol=1e-6
    )

    metric = their.reduction("test", [cached_a])
    found = evaluate(kind, our, in_order(clips, len(clips)), labelled, "cpu")  # one batch, so that the mean loss is one
    assert found.metrics["accuracy"] == pytest.approx(metric["accuracy"])
    assert found.loss == pytest.approx(metric["loss"], rel=1e-5)


def test_settings_are_the_benchmarks():
    found = {name: TASKS[name].settings() for name in BENCHMARK}
    # the SUPERB settings as published in s3prl: batch × accumulation, learning rate, updates
    assert {n: (s.batch_size, s.accum_grad, s.head_lr, s.max_updates) for n, s in found.items()} == {
        "ks": (32, 1, 1e-4, 200_000),
        "ic": (32, 1, 1e-4, 200_000),
        "sid": (8, 4, 1e-4, 200_000),
        "er": (4, 8, 1e-4, 30_000),
    }
    assert (found["sid"].max_seconds, found["ks"].gain_db) == (8.0, -3.0)


def test_gain_of_minus_three_decibels(tmp_path: Path):
    kind = TASKS["ks"]
    labelled, settings = kind.read(make_set(tmp_path, 2)), kind.settings()
    encoder = kind.encoder(classes_of(labelled.labels.values()))
    plain = kind.clips(labelled, encoder, replace(settings, gain_db=0.0))[0, 0]["x"]
    quiet = kind.clips(labelled, encoder, settings)[0, 0]["x"]
    torch.testing.assert_close(quiet, plain * 0.70794578)
