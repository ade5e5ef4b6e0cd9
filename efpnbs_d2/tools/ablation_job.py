"""One run of an ablation with one seed, in a process of its own; efpnbs_d2.tools.ablate starts it.

It goes on from the folder's last checkpoint, if there is one. At the end the folder holds
`finished.json`: the machine, and the peak memory.
"""

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng

from ..atomic import write_atomically
from ..checkpoint import Checkpointer
from ..engine import cli
from ..engine.recipe import LazyRecipe
from ..engine.run import check_random_layers, describe
from .ablation_measures import measure
from .memory import peak_memory

__all__ = ["FINISHED", "WEIGHTS"]

FINISHED = "finished.json"
# The weights of a start that runs begin with.
WEIGHTS = "model_final.pth"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake ends in one sentence and exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.ablation_job", description=__doc__
    )
    parser.add_argument("--config-file", required=True, help="LazyConfig")
    parser.add_argument("--folder", type=Path, required=True, help="where the run lies")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--untrained", action="store_true", help="write the initial weights only")
    parser.add_argument("overrides", nargs="*", help="key=value")
    args = parser.parse_args(argv)
    overrides = [*args.overrides, f"train.seed={args.seed}"]
    overrides.append(f"train.output_dir={_quoted(args.folder)}")
    if args.start:
        overrides.append(f"train.init_checkpoint={_quoted(args.start)}")
        overrides.append("train.init_backbone_only=False")
    if not args.untrained:
        cli.main(["--config-file", args.config_file, "--resume", *overrides])
    try:
        if args.untrained:
            _write_untrained(args.config_file, overrides, args.seed)
        record = {"hardware": _hardware(), "peak_memory_mib": _peak_memory(args.folder)}
        content = json.dumps(record, indent=1).encode()
        write_atomically(args.folder / FINISHED, lambda file: file.write(content))
        measure(args.folder)
    except cli.USER_ERRORS as error:
        sys.exit(f"error: {error}")


def _quoted(path: Path) -> str:
    """A path as the value of an override, whatever characters it has."""
    text = str(path).replace("'", r"\'")
    return f"'{text}'"


def _write_untrained(config: str, overrides: list[str], seed: int) -> None:
    """Write the weights that a seed gives, with those that the config starts from."""
    recipe = LazyRecipe(cli.load_config(config, overrides))
    options = recipe.options
    seed_all_rng(seed)
    model = recipe.build_model()
    check_random_layers(model, has_weights=bool(options.init_checkpoint))
    checkpointer = Checkpointer(
        model,
        options.output_dir,
        card=describe(recipe),
        starts_training=True,
        backbone_only=options.init_backbone_only,
    )
    checkpointer.load(options.init_checkpoint)
    checkpointer.save(Path(WEIGHTS).stem)


def _peak_memory(folder: Path) -> float:
    """MiB: on a GPU as Detectron2 logged it, else of this process without its data loaders."""
    log = folder / "log.txt"
    logged = re.findall(r"max_mem: (\d+)M", log.read_text()) if log.is_file() else []
    return float(max(map(int, logged))) if logged else peak_memory() / 2**20


def _hardware() -> dict[str, str]:
    known = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", known.read_text()) if known.exists() else []
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "GPU": gpu,
        "CPU": names[0] if names else platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "detectron2": version("detectron2"),
        "Python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
