"""Running the study: parameters, kept results, the study, experiments, few-shot tasks, notebooks."""

from .cache import code, fingerprint, folder_hash, run_key, write_csv  # noqa: F401
from .core import Study  # noqa: F401
from .parameters import SCHEMA, BadParameter, check, load_parameters, results_root  # noqa: F401
from .run import NOTEBOOKS, check_run, run  # noqa: F401
