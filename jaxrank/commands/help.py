"""Help pages: the list of commands, and each command's flags by purpose."""

import inspect
import shutil
import textwrap
from collections.abc import Mapping
from types import ModuleType

from absl import flags

from jaxrank.errors import program
from jaxrank.extraction.extractors import EXTRACTORS

# Flags of all commands by purpose, in the order of the help page.
GROUPS = {
    "Data": "pairs,features,series,reference,model,baseline,photos,photos_csv,photo_name,"
    "min_agreement,min_reviewers,from_csv,from_parquet,from_npy,from_npz,from_safetensors,"
    "from_store,names,tensor,block,columns,dtype,from_ratings,changes,from_winners,"
    "from_label_studio,from_pick_a_pic,from_hpd",
    "Experiments": "mode,experiments,experiments_csv,config,mlp_hidden_dims,batch_size,"
    "learning_rate,dropout,max_epochs,use_clip,use_cnn_features,use_iqa_features,"
    "use_series_sampler,init_from,space,strategy,num_experiments,round_size,"
    "rungs",
    "Extraction": "blocks,"
    + ",".join(option.name for kind in EXTRACTORS.values() for option in kind.options)
    + ",gap_seconds,min_similarity,strict,verify",
    "Culling": "confidence,write,sidecar,reject",
    "Evaluation": "folds,only_folds,num_seeds,seed,split,split_seed,final,final_on,"
    "confirm_share,confirm,null_search,"
    "audit,audit_seconds",
    "Running": "workdir,resume,extend,retry_failed,time_budget,dry_run,device,workers,"
    "engine,ray_address,gpus_per_worker,"
    "device_profile,memory_fraction,save_budget",
    "Output": "predictions,curves,format,out,optuna_journal,track,all,top,json,quiet,verbosity",
}
_WIDEST = 100  # columns; longer lines are hard to read
_INDENT = 22


def usage(commands: Mapping[str, str]) -> str:
    """Returns the page of `--help` without a command."""
    width, name = _width(), program()
    rows = [
        textwrap.fill(text, width, initial_indent=f"  {command:<11} ", subsequent_indent=14 * " ")
        for command, text in commands.items()
    ]
    return "\n".join(
        [
            textwrap.fill(
                "jaxrank learns which photo of a series people prefer, and reports confidence "
                "intervals.",
                width,
            ),
            "",
            f"  {name} COMMAND --flag=value",
            "",
            "Commands:",
            *rows,
            "",
            f"  {name} COMMAND --help",
            f"  {name} --version",
            f"  {name} --completion=bash     (or zsh)",
            "",
        ]
    )


def command_page(
    command: str, module: ModuleType, values: flags.FlagValues, argument: str = ""
) -> str:
    """Returns the page of `COMMAND --help`: description, example, and flags by purpose.

    Args:
      command: name of the command.
      module: module of the command.
      values: flags of the command.
      argument: name of the positional argument, if the command takes one.
    """
    width = _width()
    about = " ".join((inspect.getdoc(module.run) or "").split())
    words = " ".join(filter(None, [program(), command, argument, "--flag=value ..."]))
    lines = [words, "", *textwrap.wrap(about, width), ""]
    lines += ["Example:", f"  {program()} {command} {module.EXAMPLE}"]
    for title, names in grouped(values).items():
        lines += ["", f"{title}:"]
        for name in names:
            lines += _flag_lines(values[name], width)
    return "\n".join(lines) + "\n"


def grouped(values: flags.FlagValues) -> dict[str, list[str]]:
    """Groups a command's flags by purpose; flags without a group come last."""
    groups = {
        title: [name for name in names.split(",") if name in values]
        for title, names in GROUPS.items()
    }
    known = {name for names in groups.values() for name in names}
    groups["Other"] = sorted(set(values) - known)
    return {title: names for title, names in groups.items() if names}


def flag_text(flag: flags.Flag) -> str:
    """Returns a flag's help text with its default."""
    text = str(flag.help)
    known = flag.default not in (None, False, "") and flag.name != "config"
    if known and "default" not in text:
        default = flag.default_unparsed
        text += f" (default: {','.join(default) if isinstance(default, list) else default})"
    return text


def _flag_lines(flag: flags.Flag, width: int) -> list[str]:
    text = flag_text(flag)
    start = f"  --{flag.name}"
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=" " * _INDENT,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(start) + 2 <= _INDENT:
        lines[0] = f"{start:<{_INDENT}}{lines[0].lstrip()}"
        return lines
    return [start, *lines]


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)
