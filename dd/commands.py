"""The commands and their options as a parser, from the table in commands.toml; and what of it is a
recipe. Nothing heavy is imported."""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from . import __version__
from .messages import nearest, one_line
from .sources import DECODERS

TABLE = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
GROUPS = TABLE.pop("group")
# How an encoder is trained: the options of `train-encoder` that its weights depend on, with their
# defaults. The paper's own recipe is tau 2.0 -> 0.3, noise 1, hard_from 1, t_from 0, least 0,
# tie False (it does not say how it samples noise levels).
RECIPE = {
    how.get("dest", flag[2:].replace("-", "_")): how.get("default")
    for flag, how in GROUPS["recipe"].items()
}
EXIT_CODES = """exit codes: 0 done; 2 input or an option that cannot be used, a line on stderr says
what, where and how to fix it, and nothing is half written; 130 stopped by Ctrl-C"""


def bounded(kind: type, low: float, high: float | None):
    """A number of this kind from low to high, as argparse's `type`."""
    bounds = f"from {low}" if high is None else f"from {low} to {high}"

    def read(text: str):
        value = kind(text)
        if not low <= value <= (sys.float_info.max if high is None else high):
            raise argparse.ArgumentTypeError(f"{value} is not a number {bounds}")
        return value

    read.__name__ = {int: "integer", float: "decimal"}[kind]  # argparse names it in messages
    return read


class Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        unsaid = action.default in (None, [], False)  # and a switch is off
        return action.help if unsaid else super()._get_help_string(action)

    def _fill_text(self, text, width, indent):  # an example is copied as a whole
        filled = super()._fill_text
        of = lambda part: part if part.startswith("example:") else filled(part, width, indent)
        return "\n".join(map(of, text.split("\n\n")))


class Parser(argparse.ArgumentParser):
    """One line and exit code 2, with the nearest name for what is misspelt. `behind`: gives what
    stands behind the help."""

    behind: Callable[[], str] = str

    def format_help(self) -> str:
        return super().format_help() + self.behind()

    def error(self, message: str):
        known = [o for a in self._actions for o in (*a.option_strings, *map(str, a.choices or ()))]
        wrong = re.search(r"invalid choice: '(.*?)' |arguments: ([^\s=]+)", message)
        hint = nearest(wrong[1] or wrong[2], known) if wrong else ""
        self.exit(2, one_line(f"{self.prog}: {message}{hint}; --help tells more") + "\n")


def add_option(command: Parser, flags: str, how: dict) -> None:
    """An option as the table has it: what argparse takes, bounds (`least`, `most`), and the word
    DECODERS in an entry of a list for the name of each of the shipped ones."""
    low, high = how.get("least"), how.get("most")
    how = {k: v for k, v in how.items() if k not in ("least", "most")}
    names = lambda value: [value.replace("DECODERS", name) for name in DECODERS]
    of = lambda value: names(value) if "DECODERS" in str(value) else [value]
    how |= {k: [*chain(*map(of, v))] for k, v in how.items() if isinstance(v, list)}
    if low is not None:
        decimal = isinstance(how.get("default"), (float, list))
        how["type"] = bounded(float, low, high) if decimal else bounded(int, low, high or 2**31 - 1)
    if isinstance(how.get("default"), bool):
        how["action"] = argparse.BooleanOptionalAction
    command.add_argument(*flags.split(), **how)


def parser(**behind: Callable[[], str]) -> Parser:
    """`behind`: by command, what gives the text behind its help."""
    about = "De-Diffusion: pictures to words, words to pictures, and how good the words are."
    p = Parser(prog="python -m dd", description=about, epilog=EXIT_CODES)
    p.add_argument("--version", action="version", version=f"dd-study {__version__}")
    commands = p.add_subparsers(dest="command", required=True)
    for name, options in TABLE.items():
        behind_options = f"example: {options['example']}\n\n{EXIT_CODES}"
        told = {"description": options["about"], "epilog": behind_options}
        c = commands.add_parser(name, help=options["about"], formatter_class=Help, **told)
        c.behind = behind.get(name, str)
        c.set_defaults(refuse=c.error)
        for table in (options, *(GROUPS[group] for group in options.get("use", ()))):
            for flags, how in table.items():
                if isinstance(how, dict):
                    add_option(c, flags, how)
    return p


def answer(args, told: str, result) -> None:
    """The result of a command: as told, or with --json the same for machines."""
    print(json.dumps(result, indent=1) if args.json else told)
