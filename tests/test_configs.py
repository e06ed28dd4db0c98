"""Every YAML file of the recipes and presets is read and built once, by the code that uses it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from s3router.errors import ConfigError

ROOT = Path(__file__).parents[1]
MADE_BY_RECIPES = {"exp", "data", "dump", "downloads"}


def configurations() -> list[Path]:
    found = [path for top in ("conf", "egs") for kind in ("yaml", "yml") for path in (ROOT / top).rglob(f"*.{kind}")]
    return sorted(path for path in found if not MADE_BY_RECIPES & set(path.relative_to(ROOT).parts))


@pytest.fixture(scope="module")
def task():
    from s3router.asr.train import routed_task

    return routed_task()


def build_training(path: Path, task) -> None:
    """A training configuration of the task: known options, values that pass the task's own check."""
    from s3router.asr import options

    method = path.stem.removeprefix("train_").replace("other", "lora")
    given = {"method": method, "output_dir": "x", "token_list": "x", "train_dir": "x", "valid_dir": "x"}
    command = [word for name, value in given.items() for word in (f"--{name}", value)]
    args = task.get_parser().parse_args(["--config", str(path), *command])
    for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        assert getattr(args, name) == value
    options.check(args)
    options.translate(args)
    assert args.max_epoch * args.num_iters_per_epoch >= args.max_updates * args.accum_grad


def build_presets(path: Path, task, tmp_path: Path) -> None:
    """Every combination of method, subset and upstream that presets name is a training configuration."""
    from s3router.training.presets import compose, read_presets
    from s3router.tuners import METHODS
    from s3router.upstreams.hub import all_names

    sections = read_presets(path)
    methods, subsets, upstreams = (sections.get(name, {}) for name in ("methods", "subsets", "upstreams"))
    known_subsets = ["all"]  # of those that recipes share
    if path.name == "presets.yaml":
        known_subsets = option_of(path.parents[1] / "run.sh", "--known-subsets").split()
    assert set(methods) <= set(METHODS)
    assert set(upstreams) <= set(all_names())
    assert set(subsets) <= set(known_subsets)
    built = tmp_path / "conf"
    built.mkdir(exist_ok=True)
    for method in METHODS:
        for subset in known_subsets:
            for upstream in (*upstreams, "wav2vec2_base_960"):
                options = compose(sections, method=method, subset=subset, upstream=upstream)
                (built / f"train_{method}.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
                build_training(built / f"train_{method}.yaml", task)


def build_recognisers(path: Path, task) -> None:
    """Presets of whole recognisers: with each method they are options of training."""
    from s3router.seq2seq.options import read_options
    from s3router.training.presets import compose, read_presets
    from s3router.tuners import methods_for

    sections = read_presets(path)
    assert set(sections["methods"]) <= set(methods_for(whole=True))
    for method in methods_for(whole=True):
        options = compose(sections, method=method, subset="all", upstream="whisper_base")
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        found = read_options(["--method", method, "--train_dir=x", "--valid_dir=x", "--output_dir=x", *words])
        assert all(getattr(found, name) == value for name, value in options.items())


def option_of(script: Path, name: str) -> str:
    """The value of an option in a recipe's run.sh."""
    found = re.findall(rf'{name} (?:"([^"]*)"|(\S+))', script.read_text(encoding="utf-8"))
    assert len(found) == 1
    return found[0][0] or found[0][1]


def test_default_sparsities_are_of_upstreams_that_there_are():
    from s3router.upstreams.s3prl_models import known_names

    for recipe in ("librispeech", "commonvoice"):
        script = ROOT / f"egs/{recipe}/asr1/run.sh"
        for pair in option_of(script, "--sparsity-of").split():
            upstream, sparsity = pair.split("=")
            assert upstream in known_names()
            assert 0 <= float(sparsity) < 1


def test_the_letters_of_librispeech():
    from s3router.data.tokens import read_token_list

    tokens = read_token_list(ROOT / "egs/librispeech/asr1/conf/tokens.txt")
    assert sorted(tokens[3:-1]) == sorted("abcdefghijklmnopqrstuvwxyz'")
    assert tokens[2] == "<space>"


def build_grid(path: Path, task) -> None:
    """A grid of runs: it can be read, its runs have commands, and options of training are those that there are."""
    from s3router.experiments.grid import Grid
    from s3router.experiments.kinds import kind_of
    from s3router.experiments.planning import Plan
    from s3router.experiments.results import Known
    from s3router.seq2seq.options import read_options as recogniser_options
    from s3router.superb.options import read_options

    grid = Grid.read(path)
    runs = Plan(grid, Known({})).everything()
    assert runs
    for run in runs:
        first, *_ = kind_of(grid).steps(run, grid.runs / run.name)
        if grid.kind == "asr":
            task.get_parser().parse_args(first[1:])
        if grid.kind == "seq2seq":
            recogniser_options(first[1:])
        if grid.kind == "task":
            read_options(first[1:])
    if "cwd" in grid.raw and grid.kind == "command":
        check_words(grid.folder / first[0], first[1:])


def check_words(script: Path, words: list[str]) -> None:
    """The script's --help lists every option among the words. (That of all tasks together has no script.)"""
    if not script.is_file():
        assert script.parent.name == "superb"
        return
    said = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    for word in (word for word in words if word.startswith("--") and " " not in word):
        assert re.search(rf"^ *{word}\b", said, re.MULTILINE), f"{script}: no {word}"


def build_pretraining(path: Path, task) -> None:
    """The model of a pretraining configuration, without memory for its weights."""
    import torch
    from transformers import HubertConfig, HubertModel

    from s3router.pretraining.settings import Settings

    settings = Settings.read(path)
    config = HubertConfig(**settings.model)
    with torch.device("meta"):
        model = HubertModel(config)
    assert set(settings.model) <= set(config.to_dict())
    assert len(model.encoder.layers) == settings.model["num_hidden_layers"]


def build_mask(path: Path, task) -> None:
    """A preset of a mask."""
    from s3router.masks import MaskConfig

    MaskConfig.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def build_upstream(path: Path, task) -> None:
    """A preset of an upstream: a name that the hub knows (its sizes: tests/upstreams/test_presets.py)."""
    from s3router.upstreams.hub import check_name

    check_name(yaml.safe_load(path.read_text(encoding="utf-8"))["upstream"], None)


def build_glance(path: Path, task) -> None:
    """Rows of the README's table: their grids have such places and figures."""
    from s3router.experiments.glance import Glance

    assert all(line.values for line in Glance(path).lines())


BUILDERS = {
    "conf/glance.yaml": build_glance,
    "egs/*/asr1/conf/train_*.yaml": build_training,
    "egs/*/asr1/conf/presets.yaml": build_presets,
    "egs/*/*/conf/table.yaml": build_grid,
    "egs/*/*/conf/whisper_base.yaml": build_grid,
    "egs/*/asr1/conf/tiny.yaml": build_grid,
    "egs/*/asr1/conf/mms_1b.yaml": build_grid,
    "egs/*/asr1/conf/seq2seq.yaml": build_grid,
    "egs/*/asr1/conf/ctc.yaml": build_grid,
    "egs/*/asr1/conf/ctc_300.yaml": build_grid,
    "egs/*/asr1/conf/ctc_raw.yaml": build_grid,
    "egs/*/asr1/conf/start.yaml": build_grid,
    "egs/*/asr1/conf/joint.yaml": build_grid,
    "egs/*/asr1/conf/joint_small.yaml": build_grid,
    "egs/*/asr1/conf/on_joint.yaml": build_grid,
    "egs/*/asr1/conf/on_joint_small.yaml": build_grid,
    "egs/*/asr1/conf/pruning*.yaml": build_grid,
    "egs/*/asr1/conf/ablation.yaml": build_grid,
    "egs/TEMPLATE/asr1/conf/presets_ctc.yaml": build_presets,
    "egs/TEMPLATE/asr1/conf/presets_seq2seq.yaml": build_recognisers,
    "egs/TEMPLATE/asr1/conf/presets_seq2seq_new_language.yaml": build_recognisers,
    "egs/mboshi/asr1/conf/presets_seq2seq.yaml": build_recognisers,
    "egs/yoruba/asr1/conf/presets_seq2seq.yaml": build_recognisers,
    "egs/superb/conf/tasks.yaml": build_grid,
    "egs/*/*/conf/multilingual.yaml": build_grid,
    "egs/*/*/conf/stamps.yaml": build_grid,
    "egs/*/ssl1/conf/*.yaml": build_pretraining,
    "conf/masks/*.yaml": build_mask,
    "conf/upstreams/*.yaml": build_upstream,
}


@pytest.mark.parametrize("path", configurations(), ids=lambda path: str(path.relative_to(ROOT)))
def test_configuration_is_built(path: Path, task, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(path.parents[1])  # where recipes run
    builders = [builder for pattern, builder in BUILDERS.items() if path.relative_to(ROOT).match(pattern)]
    assert len(builders) == 1, f"{path}: say in BUILDERS how this kind of file is used"
    builders[0](path, task, *([tmp_path] if builders[0] is build_presets else []))


def test_there_is_a_training_configuration_for_every_method():
    from s3router.tuners import METHODS

    for method in METHODS:
        own = ROOT / f"egs/asterisk/asr1/conf/train_{method}.yaml"
        assert own.is_file() or method not in ("router", "weight", "frozen", "scratch"), own  # others share train_other


def test_unknown_key_is_refused(tmp_path: Path, task):
    path = tmp_path / "train_router.yaml"
    path.write_text("max_updatess: 10\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="max_updatess"):
        build_training(path, task)


def test_value_that_cannot_work_is_refused(tmp_path: Path, task):
    path = tmp_path / "train_router.yaml"
    path.write_text("max_updates: 0\nhead_dropout: 1.5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"max_updates.*head_dropout"):
        build_training(path, task)
