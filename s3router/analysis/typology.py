"""Typological vectors of languages, from the URIEL knowledge base in the package lang2vec.

Littell et al., URIEL and lang2vec: representing languages as typological, geographical, and phylogenetic vectors, EACL
2017. Its tables are read as they are: lang2vec's own module needs pkg_resources, which newer setuptools lack. What
URIEL does not know of a language stays unknown; nothing is filled with zeros, and predicted values (``*_knn``) are
taken only where they are asked for.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3router.errors import ConfigError

# name -> (file, source in it, prefix of the features)
SETS: dict[str, tuple[str, str, str]] = {
    "inventory": ("feature_averages.npz", "avg", "INV_"),
    "phonology": ("feature_averages.npz", "avg", "P_"),
    "syntax": ("feature_averages.npz", "avg", "S_"),
    "inventory_knn": ("feature_predictions.npz", "predicted", "INV_"),
    "phonology_knn": ("feature_predictions.npz", "predicted", "P_"),
    "syntax_knn": ("feature_predictions.npz", "predicted", "S_"),
    "family": ("family_features.npz", "FAM", "F_"),
    "geography": ("geocoord_features.npz", "GEOCOORDS", "GC_"),
}
MEANING = {
    "inventory": "cosine of phoneme inventories",
    "phonology": "cosine of phonological features",
    "syntax": "cosine of syntactic features",
    "inventory_knn": "cosine of phoneme inventories, gaps predicted from related languages",
    "phonology_knn": "cosine of phonological features, gaps predicted from related languages",
    "syntax_knn": "cosine of syntactic features, gaps predicted from related languages",
    "family": "cosine of the families that languages belong to",
    "geography": "closeness on the globe (0: opposite ends)",
}
DEFAULT = ("inventory", "phonology", "syntax", "family", "geography")
_UNKNOWN = -1.0


@dataclass(frozen=True)
class Features:
    """One set of features of some languages.

    Attributes:
        name: a key of `SETS`.
        names: of the features, as in URIEL (``INV_VOICED_BILABIAL_PLOSIVE``).
        values: float64 (languages, features), in [0, 1]; NaN = not known.
        missing: languages of which nothing is known, by the names that they were asked for.
    """

    name: str
    names: tuple[str, ...]
    values: np.ndarray
    missing: tuple[str, ...]

    def similarity(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each pair of languages, over the features that are known of both.

        Returns:
            float64 (languages, languages), NaN where no feature is known of both: the cosine; of ``geography``, whose
            features are distances from points all over the globe, 1 minus the largest difference, which is the
            distance between the two (never more than it, by the triangle inequality). And int64, the features that it
            rests on.
        """
        known = ~np.isnan(self.values)
        shared = known.astype(np.int64) @ known.T.astype(np.int64)
        if self.name == "geography":
            differences = np.abs(self.values[:, None] - self.values[None])
            largest = np.where(np.isnan(differences), -1, differences).max(2)
            return np.where(shared > 0, 1 - largest, np.nan), shared
        values = np.where(known, self.values, 0.0)
        squares = values**2
        lengths = np.sqrt((squares @ known.T) * (known @ squares.T))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((shared > 0) & (lengths > 0), values @ values.T / lengths, np.nan), shared


def data_folder() -> Path | None:
    """Where lang2vec's tables are; None where it is not installed."""
    found = importlib.util.find_spec("lang2vec")
    return (
        None
        if found is None or not found.submodule_search_locations
        else Path(found.submodule_search_locations[0]) / "data"
    )


def needed_folder() -> Path:
    """As `data_folder`. Raises ConfigError where lang2vec is not installed."""
    if (folder := data_folder()) is None:
        raise ConfigError("typological vectors need the package lang2vec: pip install lang2vec (10 MB, works offline)")
    return folder


def codes(languages: Mapping[str, str | None], folder: Path) -> dict[str, str]:
    """Route -> ISO 639-3 code, of the routes that are languages.

    Args:
        languages: route -> code of two or three letters that was given for it; None: the route's own name counts, or
            what stands before its first dot, hyphen or underscore, where URIEL knows it.
        folder: lang2vec's tables.

    Raises:
        ConfigError: a code that was given is not in URIEL; with all of these.
    """
    two = json.loads((folder / "letter_codes.json").read_text(encoding="utf-8"))
    with np.load(folder / SETS["family"][0], allow_pickle=False) as table:
        known = set(table["langs"].tolist())
    found, wrong = {}, []
    for route, given in languages.items():
        for guess in [given] if given is not None else guesses(route):
            code = two.get(guess.lower(), guess.lower())
            if code in known:
                found[route] = code
                break
        else:
            wrong += [f"{route}={given}"] if given is not None else []
    if wrong:
        raise ConfigError(
            f"lang2vec knows no language {', '.join(wrong)}; give ISO 639-3 codes (three letters), or leave it out"
        )
    return found


def guesses(route: str) -> tuple[str, str]:
    """What may be a code: a route's name, and what stands before its first dot, hyphen or underscore."""
    return route, re.split(r"[.\-_]", route)[0]


def features(name: str, languages: Sequence[str], folder: Path) -> Features:
    """A set of features of languages.

    Args:
        name: a key of `SETS`.
        languages: ISO 639-3 codes.
        folder: lang2vec's tables.

    Raises:
        ConfigError: no such set, or a damaged installation of lang2vec.
    """
    if name not in SETS:
        raise ConfigError(f"no typological features {name!r}; known: {', '.join(SETS)}")
    file, source, prefix = SETS[name]
    try:
        with np.load(folder / file, allow_pickle=False) as table:
            names, langs = table["feats"].tolist(), table["langs"].tolist()
            data = table["data"][:, :, table["sources"].tolist().index(source)]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder / file}: cannot be read ({error}); install lang2vec again") from None
    columns = [n for n, feature in enumerate(names) if feature.startswith(prefix)]
    rows = {language: n for n, language in enumerate(langs)}
    values = np.full((len(languages), len(columns)), np.nan)
    for place, language in enumerate(languages):
        if language in rows:
            values[place] = data[rows[language], columns]
    values[values == _UNKNOWN] = np.nan
    empty = [language for language, row in zip(languages, values, strict=True) if np.isnan(row).all()]
    return Features(name, tuple(names[n] for n in columns), values, tuple(empty))
