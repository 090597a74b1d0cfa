"""python -m dd: write a picture in words, draw words, explain both, score captions, run the study.

One function a command, of its name; what each takes stands in commands.toml. Nothing that takes
time to import (torch, pandas, numpy) is imported before a command needs it.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import nullcontext, redirect_stdout, suppress

from . import commands
from .messages import one_line, shown

KEPT = ("write", "caption", "interrogate")  # commands that go on where they stopped
SHARED = (*KEPT, "draw", "score", "ask", "train-encoder")  # by several processes


def write(args) -> None:
    if len(args.pictures) <= 8 and not args.out:
        # one batch: no faster on more cores, much slower on busy ones; torch asks when imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    from . import writing

    writing.write(args)


def number(text: str):
    """A YAML scalar or list from the command line: 3, 0.5, [1, 2], name."""
    from .study.parameters import yaml_value

    try:
        return yaml_value(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is no YAML value; write 3, 0.5, name or [1, 2]") from None


def run(args) -> None:
    if wrong := [p for p in args.parameter if "=" not in p]:
        raise ValueError(f"-p {wrong[0]!r}: NAME=VALUE needed")
    from .study import run as run_study

    given = dict(p.split("=", 1) for p in args.parameter)
    if len(given) < len(args.parameter):
        raise ValueError("-p: one name is given twice; keep one")
    changed = {k: number(v) for k, v in given.items()}
    run_study(args.study, changed, tuple(args.only or ()))


def sweep(args) -> None:
    from .runtime import say
    from .study.sweep import sweep as run_cells

    print(run_cells(args.grid, args.scheduler, args.workers, say))


def parameter_table() -> str:
    from .study.parameters import table

    return f"\nparameters:\n{table()}\n"


def parser() -> commands.Parser:
    return commands.parser(run=parameter_table)


def claims(args) -> None:
    from .report import claims as verdicts
    from .study.parameters import results_of

    lines, found = [], verdicts(results_of(args.study))
    for c in found:
        lines.append(f"{c['id']:4} {c['verdict']:15} {c['statement']}")
        lines.append(f"{'':21}criterion: {c['criterion']}\n{'':21}{c.get('numbers', '')}")
    commands.answer(args, "\n".join(lines), found)


def number_format(args):
    """Where --precision asks for float32, a context of it."""
    if getattr(args, "precision", "auto") == "auto":
        return nullcontext()
    from .runtime import plain_float32

    return plain_float32()


def action(name: str):
    """The function of a command: of this file, or of one that takes seconds to import."""
    if name in globals():
        return globals()[name]
    from . import actions

    return getattr(actions, name)


def main(argv: list[str] | None = None) -> int:
    from .files import check_not_read, check_writable
    from .study.parameters import BadParameter

    (args, unknown), rank = parser().parse_known_args(argv), int(os.environ.get("RANK", 0))
    if unknown:  # the command's parser knows what may have been meant
        args.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        if args.command not in SHARED and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(f"works in one process; a launcher may start {', '.join(SHARED)}")
        training = args.command.startswith("train")
        # before the work; `write` calls its input pictures
        for place, folder in (("out", training), ("keep", True), ("pictures", True)):
            if isinstance(out := getattr(args, place, None), str):
                check_writable(out, folder)
                given = {k: v for k, v in vars(args).items() if k not in (place, "text")}
                check_not_read(out, given.values())
        # of several processes the first one tells
        with redirect_stdout(io.StringIO()) if rank else nullcontext(), number_format(args):
            action(args.command.replace("-", "_"))(args)
        sys.stdout.flush()  # a full disk is told of here, not at the end of the process
    except KeyboardInterrupt:
        resumes = args.command in ("run", "sweep", "train-decoder", "train-encoder", *KEPT)
        resumes = resumes or getattr(args, "keep", None)
        how = "goes on where it stopped" if resumes else "starts from the beginning"
        print(f"\ndd {args.command}: stopped; the same command {how}", file=sys.stderr)
        return 130
    # bad data, parameters, paths, a small machine
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        told, of_torch = str(error), isinstance(error, RuntimeError)
        short = re.search("out of memory|allocate|enough memory", told)
        if of_torch and not short:
            raise
        if isinstance(error, OSError) and error.strerror:
            told = f"{error.filename or 'what it writes'}: {error.strerror}"
        if (of_torch or isinstance(error, MemoryError)) and (short or not told):
            told = f"not enough memory; give it less at a time ({told[:150]})"
        # one line, no traceback; parameters have one each
        lines = told.split("\n") if isinstance(error, BadParameter) else [told]
        one = f" (process {rank})" if rank else ""
        print(f"dd {args.command}{one}: " + "\n".join(map(one_line, lines)), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.stdout = sys.stdout or open(os.devnull, "w")  # closed by whoever started the command
    sys.stdout.reconfigure(errors="backslashreplace")  # a locale without the letters of a path
    try:
        code = main()
    except KeyboardInterrupt:  # before a command has begun
        print("\ndd: stopped", file=sys.stderr)
        code = 130
    with suppress(OSError):  # told of already
        sys.stdout.close()
    sys.exit(code)
