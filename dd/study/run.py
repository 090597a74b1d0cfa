"""The notebooks, run in order through Papermill."""

from __future__ import annotations

import json
import time
from pathlib import Path

from .. import llm
from ..runtime import pinned, say, shipped, write_json
from .cache import fingerprint, folder_hash
from .parameters import (
    LEAST,
    PACKAGE,
    ROOT,
    SCHEMA,
    BadParameter,
    check,
    load_parameters,
    results_root,
)

NOTEBOOKS = (
    "01_data",
    "02_decoder",
    "03_encoder",
    "04_texts",
    "05_reconstruction",
    "06_judges",
    "07_editing",
    "08_language",
)


def check_run(parameters: dict) -> dict:
    """What a whole run needs beyond types and ranges, refused before the first notebook rather than by the last."""
    for name, least in LEAST.items():
        if 0 < parameters.get(name, 0) < least:
            raise BadParameter(
                f"{name} is {parameters[name]}; 0 or at least {least} needed: {SCHEMA[name][3]}"
            )
    decoders = [parameters.get("decoder", "sketch"), *parameters.get("judges", [])]
    try:
        for name in decoders:
            pinned(name, None, "decoder")
        for name in parameters.get("language_models", ()):
            llm.package(name) if name in llm.PACKAGES else pinned(name, None, "language model")
    except FileNotFoundError as error:
        raise BadParameter(str(error)) from None
    if shipped(decoders[0]).resolve() in [shipped(d).resolve() for d in decoders[1:]]:
        raise BadParameter(
            f"judges is {decoders[1:]}; {decoders[0]} is the decoder that the encoder was trained through, a judge must be another"
        )
    tokenizer = shipped(parameters.get("decoder", "sketch")) / "tokenizer" / "tokenizer_config.json"
    if tokenizer.exists() and parameters.get("tokens", 1) > (
        most := json.loads(tokenizer.read_text())["model_max_length"] - 2
    ):
        raise BadParameter(
            f"tokens is {parameters['tokens']}; decoder {parameters['decoder']} reads at most {most}"
        )
    return parameters


def run(study: str = "quick", overrides: dict | None = None) -> Path:
    """Run the notebooks in order through Papermill. Done notebooks are not run again; a killed run goes on where it stopped."""
    import papermill

    from ..report import build_report, headline

    parameters = check_run(check({**load_parameters(study), **(overrides or {})}))
    absolute = (
        lambda name: str(Path(name).resolve()) if "/" in name and Path(name).is_dir() else name
    )  # kernels work in another folder
    parameters |= {
        name: absolute(parameters[name]) for name in ("decoder", "encoder") if name in parameters
    }
    parameters |= {
        name: [absolute(v) for v in parameters[name]]
        for name in ("judges", "language_models")
        if name in parameters
    }
    folder = results_root() / parameters["study"]
    done_path, started = folder / "run.json", time.time()
    made_by = fingerprint(
        [p.read_text() for p in sorted(PACKAGE.rglob("*.py"))], folder_hash(PACKAGE / "assets")
    )
    done = json.loads(done_path.read_text()) if done_path.exists() else {}
    say(f"study {parameters['study']}: {len(NOTEBOOKS)} notebooks -> {folder}")
    for k, name in enumerate(NOTEBOOKS, 1):
        source, executed = (
            ROOT / "notebooks" / f"{name}.ipynb",
            folder / "notebooks" / f"{name}.ipynb",
        )
        known = set(papermill.inspect_notebook(str(source)))
        given = {p: v for p, v in parameters.items() if p in known}
        cells = ["".join(c["source"]) for c in json.loads(source.read_text())["cells"]]
        key = fingerprint(
            cells, given, made_by, [done.get(n, {}).get("key") for n in NOTEBOOKS[: k - 1]]
        )
        if done.get(name, {}).get("key") == key and executed.exists():
            say(
                f"[{k}/{len(NOTEBOOKS)}] {name}: done before in {done[name]['seconds']:.0f} s, nothing to compute"
            )
            continue
        left = (
            sum(EXPECTED.get(n, 60) for n in NOTEBOOKS[k - 1 :])
            if parameters["study"] == "quick"
            else None
        )
        say(
            f"[{k}/{len(NOTEBOOKS)}] {name} ..."
            + (f" about {left / 60:.0f} min left in all" if left else "")
        )
        executed.parent.mkdir(parents=True, exist_ok=True)
        tick = time.time()
        papermill.execute_notebook(
            str(source),
            str(executed),
            parameters=given,
            kernel_name="python3",
            cwd=str(ROOT),
            progress_bar=False,
            log_output=True,
            stderr_file=_Stderr(),
        )
        done[name] = {"key": key, "seconds": round(time.time() - tick, 1)}
        write_json(done_path, done)
    report = build_report(folder, NOTEBOOKS)
    say(f"\nstudy {parameters['study']} done in {(time.time() - started) / 60:.1f} min")
    print(headline(folder))
    print(f"\nreport   {report}\nfigures  {folder / 'figures'}\ntables   {folder / 'tables'}")
    return report


EXPECTED = {
    "01_data": 25,
    "02_decoder": 90,
    "03_encoder": 180,
    "04_texts": 20,
    "05_reconstruction": 280,
    "06_judges": 240,
    "07_editing": 60,
    "08_language": 80,
}  # seconds of `quick`, 2 cores


class _Stderr:
    """Papermill hands over the kernel's stderr: progress lines go on to the terminal."""

    def write(self, text: str) -> None:
        import sys

        sys.stderr.write(text)

    def flush(self) -> None:
        pass
