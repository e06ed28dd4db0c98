"""Trained experiments and their packs, of recognisers and of classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asr.conftest import make_upstream, small_upstream, tokens_file, zygote  # noqa: F401
from tests.superb.conftest import options, sets, upstream  # noqa: F401

ROOT = Path(__file__).parents[2]

ROUTES = {
    "it": ["--sparsity", "0.3", "--head_lr", "2e-2"],
    "fr.CA": ["--sparsity", "0.2", "--seed", "1", "--features", "last", "--normalize_features", "true"],
    "es": ["--method", "frozen", "--head_lr", "1e-1"],
    "ru": ["--sparsity", "0.1", "--mask_conf", "train=[bias,layer_norm]", "--normalize_features", "true"],
}


@pytest.fixture(scope="session")
def route_experiments(zygote, tmp_path_factory) -> dict[str, Path]:  # noqa: F811
    """Route -> experiment folder; on the same five utterances, but trained differently."""
    folder = tmp_path_factory.mktemp("routes")
    return {route: zygote.run(folder / route, *given).exp for route, given in ROUTES.items()}


@pytest.fixture(scope="session")
def route_packs(route_experiments, small_upstream, tmp_path_factory) -> list[Path]:  # noqa: F811
    """The packs of those, by name: es, fr.CA, it, ru."""
    from s3router.packs import write_pack
    from s3router.serving.opening import open_experiment
    from s3router.serving.packing import pack_experiment

    folder = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("S3ROUTER_TINY", str(small_upstream))
        for route, exp in route_experiments.items():
            write_pack(folder / f"{route}.pack", pack_experiment(open_experiment(exp), route))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def upstream_in_place(small_upstream):  # noqa: F811
    """The small upstream is ``tiny``, and the fixture's relative paths hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("S3ROUTER_TINY", str(small_upstream))
        yield
