"""``epilm <stage> RECIPE [key=value ...]``: the only module that prints."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import epilm
from epilm.errors import EpilmError, RecipeError
from epilm.stages import STAGES, Stage, other_stages


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code (0 done, 2 a mistake that the message explains)."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest:  # argparse takes no settings behind an option: `RECIPE --resume train.num_workers=3`
        if not hasattr(arguments, "overrides") or not all(_SETTING.match(word) for word in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        arguments.overrides += rest
    _quieten()
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except EpilmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted; a run that writes checkpoints or parts goes on with --resume", file=sys.stderr)
        return 130


def _quieten() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray").setLevel(logging.WARNING)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar for each file of a model, of one shard


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="epilm",
        allow_abbrev=False,
        description="Train epigenome language models on Ray.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=textwrap.dedent(
            """\
            A recipe is a YAML file; examples are in rayjobs/<stage>/. Any setting is changed by key.path=value:
              epilm corpus   rayjobs/corpus/yeast-levels.yaml
              epilm pretrain rayjobs/pretrain/yeast-ebert.yaml train.steps=200 train.optimizer.lr=3e-4
              epilm pretrain --settings                 every setting with its default and meaning
              epilm pretrain RECIPE --dry-run           check the recipe and its inputs, start nothing
            Nothing else in a recipe changes between a laptop and a cluster: ray.address=local | auto | ray://host:port
            """
        ),
    )
    parser.add_argument("--version", action="version", version=f"epilm {epilm.__version__}")
    commands = parser.add_subparsers(title="stages", dest="stage", required=True, metavar="STAGE")
    for name, stage in STAGES.items():
        _add_stage(commands, name, stage)
    _add_tools(commands)
    return parser


def _add_stage(commands: Any, name: str, stage: Stage) -> None:
    command = commands.add_parser(
        name, allow_abbrev=False, help=stage.summary, description=f"{stage.summary.capitalize()}.\n\n{stage.teaches}"
    )
    command.add_argument("recipe", nargs="?", help=f"YAML recipe, e.g. from rayjobs/{name}/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. seed=1")
    _add_existing(command)
    command.add_argument("--dry-run", action="store_true", help="check and print the resolved recipe, start nothing")
    command.add_argument("--settings", action="store_true", help="list every setting with type, default and meaning")
    command.set_defaults(run=lambda arguments: _run_stage(name, stage, arguments))


def _add_existing(command: Any) -> None:
    group = command.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on with an existing run folder")
    group.add_argument("--overwrite", action="store_true", help="delete an existing run folder first")


def _on_existing(arguments: argparse.Namespace) -> Literal["refuse", "resume", "overwrite"]:
    return "resume" if arguments.resume else "overwrite" if arguments.overwrite else "refuse"


def _run_stage(name: str, stage: Stage, arguments: argparse.Namespace) -> int:
    from epilm.config import parse_recipe, read_recipe, to_yaml
    from epilm.runs import refuse_existing
    from epilm.session import ray_session
    from epilm.storage import Location

    if arguments.settings:
        _show_settings(name, stage)
        return 0
    if arguments.recipe is None:
        raise EpilmError(f"epilm {name} needs a recipe: epilm {name} rayjobs/{name}/NAME.yaml [key=value ...].")
    raw = read_recipe(arguments.recipe, arguments.overrides)
    recipe_class, run, check = stage.load_for(raw)
    try:
        recipe = parse_recipe(recipe_class, raw, source=arguments.recipe)
    except RecipeError:
        others = other_stages(name, raw)
        if not others:
            raise
        fits = " or ".join(f"epilm {other}" for other in others)
        raise RecipeError(f"{arguments.recipe} is no recipe of epilm {name}, but one of {fits}.") from None
    if arguments.dry_run:
        found = check(recipe) if check is not None else None
        print(to_yaml(recipe), end="")
        for note in getattr(found, "notes", ()):
            print(f"# {note}")
        print(f"# the recipe is valid{' and its inputs are there' if check else ''}; nothing was started")
        return 0
    on_existing = _on_existing(arguments)
    refuse_existing(recipe, on_existing)
    if check is not None:
        check(recipe)
    Location(recipe.storage).check_writable()
    with ray_session(recipe.ray) if stage.uses_ray else contextlib.nullcontext():
        run(recipe, on_existing=on_existing, progress=_progress())
    print(Location(recipe.storage) / recipe.name)
    return 0


def _show_settings(name: str, stage: Stage) -> None:
    """Every setting with type, default and meaning, of each kind of recipe that the stage runs."""
    from epilm.config import describe_settings

    for number, (kind, load) in enumerate({name: stage.load, **stage.others}.items()):
        if number:
            print(f"\n# epilm {name} whose base is a recipe of epilm {kind}")
        for key, type_, default, text in describe_settings(load()[0]):
            print(f"{key}  ({type_}{', default ' + default if default else ''})")
            if text:
                print(textwrap.fill(text, 110, initial_indent="    ", subsequent_indent="    "))


_SETTING = re.compile(r"[A-Za-z_][\w.]*=")
_STEP = re.compile(r"step \d+/\d+  ")
_LOG_EVERY_S = 10.0


def _progress() -> Callable[[str], None]:
    """One line a message. On a terminal, a line of a step replaces the one before; in a file, one stands every ten
    seconds."""
    began, live = time.monotonic(), sys.stderr.isatty()
    state = {"width": 0, "written_s": -_LOG_EVERY_S}

    def show(message: str) -> None:
        now = time.monotonic() - began
        line, step = f"[{now:7.1f}s] {message}", _STEP.match(message) is not None
        if step and not live:
            if now - state["written_s"] < _LOG_EVERY_S:
                return
            state["written_s"] = now
        print(line.ljust(int(state["width"])), end="\r" if step and live else "\n", file=sys.stderr, flush=True)
        state["width"] = len(line) if step and live else 0

    return show


def _add_tools(commands: Any) -> None:
    validate = commands.add_parser(
        "validate", allow_abbrev=False, help="check every checksum, schema, count and range of a corpus"
    )
    validate.add_argument("corpus", help="folder or URI of a corpus")
    validate.set_defaults(run=_run_validate)

    export = commands.add_parser(
        "export", allow_abbrev=False, help="write a model folder that transformers loads without epilm"
    )
    export.add_argument("model", help="folder `model` of a pretrain run (or the run)")
    export.add_argument("out", help="folder to write")
    export.add_argument(
        "--layout", choices=("epilm", "dnabert"), default="epilm", help="dnabert: as BertForMaskedLM reads it"
    )
    export.add_argument("--overwrite", action="store_true", help="replace an existing export")
    export.set_defaults(run=_run_export)

    imported = commands.add_parser(
        "import-dnabert", allow_abbrev=False, help="a published DNABERT checkpoint as an epilm model folder"
    )
    imported.add_argument("checkpoint", help="folder with config.json, vocab.txt and the weights")
    imported.add_argument("out", help="folder to write; then task.model.weights=OUT goes on training it")
    imported.add_argument("--k", type=int, default=6, help="bases of a k-mer (default: 6)")
    imported.add_argument("--assembly", required=True, help="what it was trained on, e.g. hg38")
    imported.add_argument("--contigs", nargs="+", default=["*"], help="contigs that it has seen (default: all of them)")
    imported.add_argument("--overwrite", action="store_true", help="replace an existing import")
    imported.set_defaults(run=_run_import_dnabert)

    report = commands.add_parser("report", allow_abbrev=False, help="one self-contained HTML page from run folders")
    report.add_argument("runs", nargs="+", help="run folders, in the order of the page")
    report.add_argument("--out", required=True, help="HTML file to write")
    report.add_argument("--title", default="epilm report")
    report.set_defaults(run=_run_report)

    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="the whole way on a simulated epigenome, on this machine, in minutes"
    )
    demo.add_argument("--storage", default="runs", help="folder of the run (default: runs)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--steps", type=int, default=300, help="optimizer steps of each model (default: 300)")
    demo.add_argument("--address", default="local", help="Ray to run on: local, auto, or an address")
    _add_existing(demo)
    demo.set_defaults(run=_run_demo)

    bench = commands.add_parser("bench", allow_abbrev=False, help="speeds as ratios to named peers in the same run")
    bench.add_argument("names", nargs="*", metavar="NAME", help="cases to run; all where none is given")
    bench.add_argument("--list", action="store_true", help="list the cases")
    bench.add_argument("--json", metavar="FILE", help="also write the results as JSON")
    bench.add_argument("--seed", type=int, default=0)
    bench.set_defaults(run=_run_bench)


def _run_validate(arguments: argparse.Namespace) -> int:
    from epilm.corpus.validate import validate_corpus
    from epilm.storage import Location

    report = validate_corpus(Location(arguments.corpus), progress=_progress())
    windows = ", ".join(f"{count:,} {split}" for split, count in report.num_windows.items())
    print(
        f"{report.location}: no faults in {report.num_files} files of {report.num_bytes / 1e6:.1f} MB ({windows} windows; "
        f"{report.num_compared} of them compared with the contigs)"
    )
    return 0


def _run_export(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from epilm.models.dnabert_folder import write_dnabert
    from epilm.predict.export import export_model
    from epilm.storage import Location

    model = Location(arguments.model)
    if (model / "model").is_dir():
        model = model / "model"
    write = write_dnabert if arguments.layout == "dnabert" else export_model
    print(write(model, Path(arguments.out), on_existing=("overwrite" if arguments.overwrite else "refuse")))
    return 0


def _run_import_dnabert(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from epilm.models.dnabert_folder import import_dnabert
    from epilm.storage import Location

    out = import_dnabert(
        Location(arguments.checkpoint),
        Path(arguments.out),
        k=arguments.k,
        assembly=arguments.assembly,
        trained_contigs=arguments.contigs,
        on_existing="overwrite" if arguments.overwrite else "refuse",
        progress=_progress(),
    )
    print(out)
    return 0


def _run_report(arguments: argparse.Namespace) -> int:
    from epilm.report import build_report
    from epilm.storage import Location

    print(build_report([Location(run) for run in arguments.runs], Location(arguments.out), title=arguments.title))
    return 0


def _run_demo(arguments: argparse.Namespace) -> int:
    from epilm.config import parse_recipe
    from epilm.demo import DemoRecipe, run_demo

    settings = {key: getattr(arguments, key) for key in ("storage", "seed", "steps")}
    recipe = parse_recipe(DemoRecipe, settings | {"ray": {"address": arguments.address}}, source="epilm demo")
    result = run_demo(recipe, on_existing=_on_existing(arguments), progress=_progress())
    print(json.dumps(result["summary"], indent=2))
    print(result["report"])
    print(result["folder"])
    return 0


def _run_bench(arguments: argparse.Namespace) -> int:
    from epilm.bench.registry import bench_names, run_bench
    from epilm.bench.table import check_json_path, format_table, write_json

    if arguments.list:
        for name, summary in bench_names().items():
            print(f"{name:24} {summary}")
        return 0
    if arguments.json:
        check_json_path(arguments.json)
    results = run_bench(arguments.names or None, progress=_progress(), seed=arguments.seed)
    print(format_table(results))
    if arguments.json:
        write_json(results, arguments.json)
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
