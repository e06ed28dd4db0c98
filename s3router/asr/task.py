"""The ESPnet2 task: ASRTask with the model, trainer, learning rates and options of this package."""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from espnet2.tasks.abs_task import optim_classes
from espnet2.train.distributed_utils import resolve_distributed_mode
from espnet2.utils.nested_dict_action import NestedDictAction

from s3router.asr import inputs, options
from s3router.asr.building import ModelTask
from s3router.asr.experiment import BPE_MODEL, ASRExperiment
from s3router.asr.trainer import RoutedTrainer
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds, read_token_list
from s3router.errors import CheckpointError, ConfigError
from s3router.files import read_yaml, replacing
from s3router.training import logs
from s3router.training.checkpoints import clear
from s3router.training.parameters import learning_rates, param_groups
from s3router.upstreams.hub import check_name

logger = logging.getLogger(__name__)

inputs.register()


class RoutedASRTask(ModelTask):
    """ASR by masks on a frozen upstream, or by one of the methods that it is compared with (``--method``)."""

    trainer = RoutedTrainer

    @classmethod
    def get_parser(cls):
        """ESPnet's parser with our options and defaults; a wrong option raises ConfigError."""
        parser = super().get_parser()
        parser.set_defaults(**options.ESPNET_DEFAULTS)
        parser.error = lambda message: _refuse(parser, message)
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """ESPnet's options for ASR, and ours."""
        super().add_task_arguments(parser)
        options.add_arguments(parser, NestedDictAction)

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd=None) -> None:
        """Check everything, then train.

        Raises:
            ConfigError, DataError, CheckpointError: before anything is written, where the command is at fault.
        """
        defaults = {}
        if args is None:
            _check_config(cmd)
            parser = cls.get_parser()
            # copies, since parsing changes them
            defaults = {name: copy.deepcopy(parser.get_default(name)) for name in options.SETTLED}
            try:
                args = parser.parse_args(cmd)
            except yaml.YAMLError as error:  # of an option with fields, which ESPnet's action does not name
                why = " ".join(str(error).split())
                raise ConfigError(f"options: no YAML ({why}); write key=value or {{key: value}}") from None
        if args.print_config:
            cls.print_config(sys.stdout)  # ESPnet's default is what stdout was when it was imported
            return
        options.check(args, defaults)
        tokens = TokenIds(read_token_list(args.token_list), args.token_type, args.bpemodel)
        for path in (args.train_dir, args.valid_dir):
            inputs.check_tokens(DataDir.read(path), tokens)
        before = _interrupted(args)
        options.translate(args, before.amp_dtype if before else None)
        if before:
            _check_same_run(before, args, tokens)
        _check_start(args)
        if args.dry_run:
            check_name(args.upstream, args.upstream_ckpt)
            print("options and transcripts are fine")
            return
        for split in ("train", "valid"):
            vars(args).update(inputs.espnet_options(_inputs(args, split), split))
        resolve_distributed_mode(args)
        if args.distributed and args.multiprocessing_distributed:
            super().main(args=args)  # ESPnet starts one process per GPU, each in main_worker
        else:
            cls.main_worker(args)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process: everything goes to ``train.log``, the essence to the screen."""
        rank = args.dist_rank if args.distributed else None
        with logs.to_files(Path(args.output_dir) / "train.log", args.log_level, rank):
            super().main_worker(args)

    @classmethod
    def build_iter_factory(cls, args: argparse.Namespace, distributed_option, mode: str, kwargs: dict | None = None):
        """ESPnet's, after its input files have been written: by now everything that can be refused has been."""
        if mode in ("train", "valid"):
            path = args.train_dir if mode == "train" else args.valid_dir
            inputs.write_inputs(DataDir.read(path).with_durations(), _inputs(args, mode))
            if args.bpemodel:
                with replacing(Path(args.output_dir) / BPE_MODEL, "wb") as copy_of_it:
                    copy_of_it.write(Path(args.bpemodel).read_bytes())
        return super().build_iter_factory(args, distributed_option, mode, kwargs)

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model) -> list:
        """One optimizer; scores, weights and head each have their own learning rate.

        Here the last options are refused, and next ESPnet writes its configuration: what is left of a run that is not
        to go on (``--resume false``) must be gone by then, since a later command would go on with it.
        """
        groups = param_groups(model, learning_rates(args.method, vars(args), args.head_lr))
        for group in groups:
            count = sum(p.numel() for p in group["params"])
            logger.info(
                "%s: %s parameters train at a peak learning rate of %g", group["name"], f"{count:,}", group["lr"]
            )
        optimizers = [optim_classes[args.optim](groups, **args.optim_conf)]
        if not args.resume and not (args.distributed and args.dist_rank):
            clear(Path(args.output_dir))
        return optimizers


def _inputs(args: argparse.Namespace, split: str) -> Path:
    return Path(args.output_dir) / "inputs" / split


def _interrupted(args: argparse.Namespace) -> ASRExperiment | None:
    """The run that the output folder holds and this one goes on with."""
    if not args.resume:
        return None
    try:
        return ASRExperiment.interrupted(args.output_dir)
    except CheckpointError:
        return None  # cut off by a kill while it was written anew; the checkpoint's own checks remain


def _check_same_run(before: ASRExperiment, args: argparse.Namespace, tokens: TokenIds) -> None:
    before.check_same_run(vars(args))
    before.check_tokens(tokens.tokens)
    for split, path in (("train", args.train_dir), ("valid", args.valid_dir)):
        inputs.check_same_data(DataDir.read(path).with_durations(), _inputs(args, split))
    args.upstream_fingerprint = before.fingerprint


def _check_start(args: argparse.Namespace) -> None:
    """Refuse to start from a model of the run that this one takes the place of: it is removed."""
    home = Path(args.output_dir).resolve()
    own = [name for name in args.init_param if Path(name.split(":")[0]).absolute().parent.resolve() == home]
    if own and not args.resume:
        raise ConfigError(f"--init_param {own[0]}: --resume false removes it; take another --output_dir")


def _check_config(cmd: Sequence[str] | None) -> None:
    """Refuse a configuration file that ESPnet's parser would break on."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path = parser.parse_known_args(cmd)[0].config
    if path and Path(path).is_file():  # the parser names one that is missing
        read_yaml(path)


def _refuse(parser: argparse.ArgumentParser, message: str) -> None:
    import difflib

    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    words = [word for word in message.split() if word.startswith("--")]
    if message.startswith("unrecognized arguments") and words:
        near = difflib.get_close_matches(words[0], known, n=3)
        message += f" (did you mean {' or '.join(near)}?)" if near else "; --help lists the known ones"
    raise ConfigError(message)
