"""The command line of `train_net.py`: a config, its overrides, one process or many."""

import argparse
import difflib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..atomic import write_atomically
from ..config import add_efpnbs_config, is_lazy
from .distributed import process_group, started_by_torchrun
from .lost_processes import explain_lost_process, lost_processes_explained
from .preemption import EXIT_CODE
from .recipe import LazyRecipe, Recipe, YacsRecipe
from .run import evaluate_checkpoint, train

# What a user can cause; anything else is our own mistake and keeps its traceback, but for that of
# a spawned process, of which EFPNBS_TRACEBACK=1 shows more than the last line.
USER_ERRORS = (ValueError, KeyError, OSError, FloatingPointError)

# Room for logs and metrics; a checkpoint that does not fit says so itself.
PROBED_BYTES = 2**22


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run it; a user's mistake ends in one sentence and exit code 1.

    The environment variable `EFPNBS_TRACEBACK=1` shows the traceback instead, for whoever changes
    the package.
    """
    parser = default_argument_parser()
    parser.description = "Train or evaluate a detector for tiny objects."
    parser.epilog = "example: train_net.py --config-file configs/tinyscenes/efpn_bs_r18.py"
    args = parser.parse_args(argv)
    try:
        load_config(args.config_file, args.opts)  # fail before processes are started
        if started_by_torchrun():
            with process_group():
                _run(args)
        else:
            _launch(args)
    except torch.multiprocessing.ProcessExitedException as error:
        if error.exit_code in (EXIT_CODE, -signal.SIGTERM):
            sys.exit(EXIT_CODE)
        _exit(f"{error}; its training stops, and --resume continues from the last checkpoint")
    except (torch.multiprocessing.ProcessRaisedException, *USER_ERRORS) as error:
        if os.environ.get("EFPNBS_TRACEBACK"):
            raise
        _exit(_last_line(_text(error)))


def load_config(path: str, overrides: Sequence[str]) -> DictConfig | CfgNode:
    """Read a config file and apply `key=value` overrides.

    Args:
        path: a LazyConfig (.py, or the config.yaml of a run's folder) or yacs (.yaml) file.
        overrides: "key=value" (for yacs also "KEY", "VALUE" pairs); "+key=value" adds a key that
            a LazyConfig does not spell out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a key that the config does not have, or a value it cannot take.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"config file {path!r} not found; --config-file takes a .py or .yaml of configs/"
        )
    if not path.endswith((".py", ".yaml", ".yml")):
        raise ValueError(f"config file {path} must end in .py (LazyConfig) or .yaml (yacs)")
    return _load_lazy(path, overrides) if is_lazy(path) else _load_yacs(path, overrides)


def _load_lazy(path: str, overrides: Sequence[str]) -> DictConfig:
    cfg = LazyConfig.load(path)
    known = list(_keys(OmegaConf.to_container(cfg, resolve=False)))
    for override in overrides:
        key = override.partition("=")[0]
        if "=" not in override:
            raise ValueError(f"override {override!r} is not of the form key=value")
        if not key.startswith("+") and OmegaConf.select(cfg, key, default=_MISSING) is _MISSING:
            raise ValueError(
                f"{path} has no key {key!r}{_did_you_mean(key, known)}; +{override} would add it"
            )
    types = {o.partition("=")[0]: OmegaConf.select(cfg, o.partition("=")[0]) for o in overrides}
    try:
        cfg = LazyConfig.apply_overrides(cfg, list(overrides))
    except (OmegaConfBaseException, KeyError) as error:
        raise ValueError(f"cannot apply {' '.join(overrides)}: {error}") from error
    for key, before in types.items():
        after = OmegaConf.select(cfg, key)
        if isinstance(before, (int, float)) and not isinstance(after, (int, float)):
            raise ValueError(f"{key} is {before}, a number; {after!r} is none")
    return cfg


_MISSING = object()


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from _keys(value, f"{prefix}{key}.")


def _load_yacs(path: str, overrides: Sequence[str]) -> CfgNode:
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    pairs = [part for o in overrides for part in (o.split("=", 1) if "=" in o else [o])]
    known = list(_keys(cfg))
    try:
        cfg.merge_from_file(path)
        cfg.merge_from_list(pairs)
    except (KeyError, AssertionError, ValueError) as error:
        key = _text(error).rpartition(" ")[2]  # "Non-existent config key: X"
        raise ValueError(f"{path}: {_text(error)}{_did_you_mean(key, known)}") from error
    cfg.freeze()
    return cfg


def _did_you_mean(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _launch(args: argparse.Namespace) -> None:
    """Run in this process, or in several that Detectron2 starts and that get this one's SIGTERM."""
    if args.num_gpus * args.num_machines > 1:
        signal.signal(signal.SIGTERM, _terminate_children)
    launch(
        _run,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def _terminate_children(*_: Any) -> None:
    children = multiprocessing.active_children()
    for process in children:
        process.terminate()
    if not children:  # none yet, or none any more: nobody else would stop
        sys.exit(EXIT_CODE)


def _run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    output_dir = cfg.train.output_dir if isinstance(cfg, DictConfig) else cfg.OUTPUT_DIR
    _require_space(Path(output_dir))
    default_setup(cfg, args)
    logging.raiseExceptions = False  # else a full disk turns every line of the log to a traceback
    logging.getLogger("detectron2.engine.train_loop").addFilter(_without_users_traceback)
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="efpnbs_d2")
    recipe: Recipe = LazyRecipe(cfg) if isinstance(cfg, DictConfig) else YacsRecipe(cfg)
    with lost_processes_explained():
        if args.eval_only:
            evaluate_checkpoint(recipe, resume=args.resume)
        else:
            train(recipe, resume=args.resume)


def _require_space(output_dir: Path) -> None:
    """Refuse a full or read-only folder before anything is left half-written in it."""
    if comm.is_main_process():
        output_dir.mkdir(parents=True, exist_ok=True)
        probe = output_dir / ".space"
        write_atomically(probe, lambda file: file.write(bytes(PROBED_BYTES)))
        probe.unlink()


def _without_users_traceback(record: logging.LogRecord) -> bool:
    """Log filter: Detectron2's trainer logs a traceback for a mistake that ends in a sentence."""
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not (isinstance(error, USER_ERRORS) or explain_lost_process(error))


def _text(error: BaseException) -> str:
    # str() of a KeyError is the repr of its message.
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _last_line(text: str) -> str:
    """Errors of data-loading workers arrive as a whole traceback; its last line says it all."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if len(lines) > 1 and "Traceback" in text else text


def _exit(message: str) -> NoReturn:
    sys.exit(f"error: {message}")
