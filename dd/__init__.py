"""De-Diffusion, reproduced small enough to run. Start with README.md, then data.py and follow the arrows."""

import warnings

# transformers asks tqdm for notebook widgets that this study does not use; the notice would land in every notebook's output
warnings.filterwarnings("ignore", message="IProgress not found")
