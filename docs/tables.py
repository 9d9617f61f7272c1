#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes what these pages say of commands and of configuration files, from the code that reads
them.

    python docs/tables.py            # what `make docs` does
    python docs/tables.py --check    # exits with 1, and names them, when files are not up to date

A table stands between ``<!-- keys: KIND -->`` and ``<!-- end -->``; the JSON Schemas, by which
editors check and complete a YAML file, are in configs/. docs/commands.md has the options of every
command; of the same parser the manual page and what shells complete by are made (share/).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

import figures
import reliability_tables

import tds
from tds import cli, configuration
from tds.evaluation import config as evaluation
from tds.evaluation import suite
from tds.training import ablation
from tds.training import config as training

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    kind.__name__: kind
    for kind in (
        *(evaluation.Evaluation, evaluation.ClipEntry, evaluation.Coding, evaluation.Plan),
        *(training.TrainConfig, training.Data, training.SampleSettings, training.Stage),
        *(training.Optimizer, training.Loss, training.Validation, training.Log),
        ablation.Ablation,
        *(suite.Suite, suite.Part, suite.Claim, suite.Profile),
    )
}
SCHEMAS = {
    "evaluation": (evaluation.Evaluation, "Configuration of tds evaluate"),
    "training": (training.TrainConfig, "Configuration of tds train"),
    "suite": (suite.Suite, "Configuration of tds evaluate --profile"),
    "ablation": (ablation.Ablation, "Configuration of tds ablate"),
}


COMMANDS = ROOT / "docs" / "commands.md"
PAPER = ROOT / "docs" / "paper.md"
MADE_ON = (3, 11)  # Python, whose argparse words usage lines as the manual page has them


def parser() -> argparse.ArgumentParser:
    os.environ["COLUMNS"] = "100"
    return cli.build_parser([])


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Name and parser of each, in order."""
    actions = [a for a in of._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def commands_page() -> str:
    """docs/commands.md, with one line of what each command does and tables of its options."""
    whole = parser()
    found = subcommands(whole)
    helps = {
        choice.dest: choice.help
        for action in whole._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    }
    lines = [
        "# Commands",
        "",
        "Every command with all of its options, made from the program itself (`make docs`); it is",
        "also the manual page, `man tds`, and what `bash` and `zsh` complete by where the package",
        "is installed ([install.md](install.md)).",
        "",
        "| command | |",
        "|---|---|",
        *(f"| [`tds {name}`](#tds-{name}) | {_cell(helps[name])} |" for name in found),
        "",
        "Each ends with 0, 1 after a failure that it says in a sentence, 2 after wrong usage, and",
        "128 and the number of the signal that ended it.",
    ]
    for name, command in found.items():
        lines += _command(name, command)
    return "\n".join(lines) + "\n"


def _command(name: str, command: argparse.ArgumentParser) -> list[str]:
    """A section. A command of commands has one table for each of them."""
    lines = ["", f"## tds {name}", "", *_description(command)]
    own = subcommands(command)
    for sub, below in own.items():
        lines += ["", f"### tds {name} {sub}", "", *_description(below)]
        lines += _tables(below)
    return lines if own else lines + _tables(command)


def _description(command: argparse.ArgumentParser) -> list[str]:
    """What is laid out for a terminal stays as it is."""
    text = command.description or ""
    return ["```text", text, "```"] if "\n" in text else [_sentence(text)]


def _tables(command: argparse.ArgumentParser) -> list[str]:
    lines = []
    for group in command._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        actions = [a for a in actions if not isinstance(a, argparse._HelpAction)]
        if not actions:
            continue
        title = {"positional arguments": "arguments"}.get(group.title or "", group.title)
        lines += ["", f"| {title} | |", "|---|---|"]
        lines += [f"| {_names(a)} | {_cell(_help(a))} |" for a in actions]
    return lines


def _names(action: argparse.Action) -> str:
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(f"`{option}{takes}`" for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    values = {**vars(action), "prog": "tds"}
    text = (action.help or "") % values
    said = "default" in text or action.default in (None, False, True, [], argparse.SUPPRESS)
    return (
        text if said or not action.option_strings else f"{text} (default {action.default})".strip()
    )


def _cell(text: str | None) -> str:
    return _sentence(text or "").replace("|", "\\|")


def _sentence(text: str) -> str:
    """Placeholders in angle brackets would be HTML."""
    return text.replace("<", "&lt;").replace("*", "\\*")


def share() -> dict[Path, str]:
    """The manual page, and what bash and zsh complete by."""
    import shtab
    from argparse_manpage.manpage import Manpage

    whole = parser()
    for command in (whole, *subcommands(whole).values()):
        for action in command._actions:
            if action.type is Path or action.dest in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    about = {
        "project_name": "tds-codec",
        "manual_section": 1,
        "manual_title": "TDS manual",
        "version": tds.__version__,
        "format": "single-commands-section",
    }
    whole.man_short_description = "temporal down-sampling video coding"  # type: ignore[attr-defined]
    # Without the day on which it was made; and text that begins with dots is no macro.
    manual = re.sub(r'^(\.TH \S+ "1") "[^"]*"', r'\1 ""', str(Manpage(whole, about)).strip())
    manual = re.sub(r"^(\.\.)", r"\\&\1", manual, flags=re.MULTILINE)
    folder = ROOT / "share"
    return {
        folder / "man" / "man1" / "tds.1": manual + "\n",
        folder / "bash-completion" / "completions" / "tds": shtab.complete(whole, "bash") + "\n",
        folder / "zsh" / "site-functions" / "_tds": shtab.complete(whole, "zsh") + "\n",
    }


PAPER_MADE_BY = """
What was run is in docs/results/paper; `make docs` sets it beside the paper's figures, and a cell
that was not run says so.

<!-- Not run (hours to days). -->
```sh
tds evaluate paper/all --profile small     # its paper.json is docs/results/paper/small.json
tds evaluate paper/all --profile full --ray ADDRESS
tds ablate mtsa --out out/ablation         # its ablation.json is docs/results/paper/ablation.json
```
"""


def paper_page() -> str:
    """The paper's tables and figures beside what was run of them."""
    path = ROOT / "configs" / "paper" / "all.yaml"
    what = suite.load_suite(path)
    runs = [ROOT / "docs" / "results" / "paper" / f"{name}.json" for name in what.profiles]
    found = [json.loads(run.read_text()) for run in runs if run.is_file()]
    variants = ROOT / "docs" / "results" / "paper" / "ablation.json"
    tables = "Not run so far: `tds ablate mtsa`."
    if variants.is_file():
        tables = ablation.tables(json.loads(variants.read_text()))
    page = suite.page_of(what, path, found, tables, files=False)
    title, _, rest = page.partition("\n")
    return f"{title}\n{PAPER_MADE_BY}{rest}"


FILES = ("input", "output", "hr", "lr", "sidecar", "source", "coded", "file", "log")
"""Arguments that are files though they are kept as text."""


def wanted() -> dict[Path, str]:
    """What each file should hold."""
    out = {COMMANDS: commands_page(), PAPER: paper_page(), **figures.wanted()}
    records = {reliability_tables.PAGE: reliability_tables.page()}
    if sys.version_info[:2] == MADE_ON:
        out |= share()
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page in (COMMANDS, PAPER):
            continue
        out[page] = re.sub(
            r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)",
            lambda m: f"{m[1]}{configuration.table(KINDS[m[2]])}\n{m[3]}",
            records.get(page) or page.read_text(),
            flags=re.DOTALL,
        )
    for name, (kind, title) in SCHEMAS.items():
        text = json.dumps(configuration.schema(kind, title), indent=1)
        out[ROOT / "configs" / f"{name}.schema.json"] = text + "\n"
    return out


def main() -> int:
    stale = [p for p, text in wanted().items() if not p.is_file() or p.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date: make docs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in wanted().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
