"""Typological features: tables in lang2vec's layout, and the package itself where it is installed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from s3router.analysis import typology
from s3router.errors import ConfigError

LANGS = ["spa", "ita", "mdw", "rus"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four languages; of Mboshi no phonemes are known, of Italian not all."""

    def table(file: str, source: str, feats: list[str], data: list[list[float]]) -> None:
        values = np.array(data)[:, :, None]
        np.savez(tmp_path / file, langs=np.array(LANGS), feats=np.array(feats), sources=np.array([source]), data=values)

    inventory = [[1, 1, 0, 1], [1, -1, 1, 0], [-1, -1, -1, 0], [0, 1, 1, 1]]
    table("feature_averages.npz", "avg", ["INV_M", "INV_P", "INV_RR", "S_SVO"], inventory)
    family = [[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]
    table("family_features.npz", "FAM", ["F_Indo-European", "F_Romance", "F_Bantu"], family)
    table(
        "geocoord_features.npz", "GEOCOORDS", ["GC_0_0", "GC_0_90"], [[0.1, 0.5], [0.15, 0.4], [0.3, 0.3], [0.4, 0.2]]
    )
    (tmp_path / "letter_codes.json").write_text(json.dumps({"es": "spa", "it": "ita", "ru": "rus"}))
    return tmp_path


def test_cosine_over_what_both_have(folder):
    found = typology.features("inventory", LANGS, folder)
    assert found.names == ("INV_M", "INV_P", "INV_RR")
    assert found.missing == ("mdw",)
    similarity, shared = found.similarity()
    assert similarity[0, 3] == pytest.approx(1 / 2)  # (1 1 0) and (0 1 1)
    assert similarity[0, 1] == pytest.approx(1 / math.sqrt(2))  # the first and third feature: (1 0) and (1 1)
    assert shared[0, 1] == 2
    assert np.isnan(similarity[2]).all()
    assert shared[2].sum() == 0


def test_unknown_is_not_zero(folder):
    """The same table with zeros for what is not known has other cosines."""
    found = typology.features("inventory", ["spa", "ita"], folder)
    zero = np.nan_to_num(found.values)
    with_zeros = zero[0] @ zero[1] / np.linalg.norm(zero[0]) / np.linalg.norm(zero[1])
    assert found.similarity()[0][0, 1] != pytest.approx(with_zeros)


def test_family_and_geography(folder):
    assert typology.features("family", LANGS, folder).similarity()[0][0].tolist() == pytest.approx(
        [1, 1, 0, 1 / math.sqrt(2)]
    )
    assert typology.features("geography", LANGS, folder).similarity()[0][0].tolist() == pytest.approx(
        [1, 0.9, 0.8, 0.7]
    )


def test_codes(folder):
    routes = {"es": None, "it-IT": None, "ru_5min": None, "ks": None, "yoyo": "mdw"}
    assert typology.codes(routes, folder) == {"es": "spa", "it-IT": "ita", "ru_5min": "rus", "yoyo": "mdw"}
    with pytest.raises(ConfigError, match="lang2vec knows no language ks=qqq; give ISO 639-3 codes"):
        typology.codes({"es": None, "ks": "qqq"}, folder)


def test_refusals(folder, monkeypatch):
    with pytest.raises(ConfigError, match="no typological features 'x'; known: inventory, "):
        typology.features("x", LANGS, folder)
    (folder / "family_features.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"family_features.npz: cannot be read .* install lang2vec again"):
        typology.features("family", LANGS, folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install lang2vec"):
        typology.needed_folder()


@pytest.mark.skipif(typology.data_folder() is None, reason="lang2vec is not installed")
def test_the_package():
    folder = typology.needed_folder()
    codes = typology.codes(dict.fromkeys(("en", "es", "fr", "it", "ru", "yo"), None) | {"mboshi": "mdw"}, folder)
    assert list(codes.values()) == ["eng", "spa", "fra", "ita", "rus", "yor", "mdw"]
    inventory = typology.features("inventory", list(codes.values()), folder)
    assert inventory.missing == ("mdw",)
    similarity, shared = inventory.similarity()
    assert shared[1, 3] == 158
    assert similarity[1, 3] > similarity[1, 4]  # Spanish is nearer to Italian than to Russian
    family = typology.features("family", list(codes.values()), folder).similarity()[0]
    assert family[1, 3] > family[1, 4] > family[1, 5] == 0
    far = typology.features("geography", list(codes.values()), folder).similarity()[0]
    assert 900 < (1 - far[1, 3]) * 20_015 < 1700  # km between Spain and Italy
