"""De-Diffusion, reproduced small enough to run. Start with README.md; the method is vocab, vision,
data, encoder, decoder and train."""

import warnings

__version__ = "1.0.0"  # of pyproject.toml and CITATION.cff, too

# transformers asks tqdm for notebook widgets that this study does not use
warnings.filterwarnings("ignore", message="IProgress not found")
