"""Running the study: parameters, kept results, the study, experiments, few-shot tasks, notebooks.

    run("quick")                                            # or python -m dd run quick
    study = Study.of_notebook("05_reconstruction", globals())    # the first line of a notebook

Each stage writes plain files under results/<study>/, named by what made them; a second run computes
nothing again, a killed one goes on where it stopped.
"""

from .cache import fingerprint, folder_hash, kept, key
from .parameters import NOTEBOOKS, PARAMETERS, BadParameter, check, load_parameters, results_root
from .run import check_run, run


def __getattr__(name: str):
    """Study needs torch, which the rest does not: imported when it is asked for."""
    if name == "Study":
        from .core import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
