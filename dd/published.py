"""The paper's numbers, each with its table; no other place in the code holds them.

Source: Wei et al., "De-Diffusion Makes Text a Strong Cross-Modal Interface", arXiv 2311.00618 v1
(the preprint, not the camera-ready). FID there: Stable Diffusion v2-base, 50 DDIM steps, 256 px,
30K images of COCO-2014 val, Inception-v3. No number of the emoji dataset is comparable with them in
size: other decoder, other image features, other n. Only orders and shapes are compared.
"""

import pandas as pd

GUIDANCE = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)

# Fig. 3 and Table 6: reconstruction FID of each text source at each guidance in GUIDANCE
SWEEP = {
    "PaLI-X captions": (9.68, 8.50, 10.16, 12.38, 14.27, 15.81, 16.81, 17.76),
    "BLIP-2 captions": (10.66, 8.46, 8.92, 10.40, 11.84, 12.93, 13.81, 14.77),
    "human, longest of 5": (10.68, 8.14, 8.08, 9.28, 10.62, 11.62, 12.61, 13.38),
    "human, random 1 of 5": (10.79, 8.38, 8.65, 10.09, 11.57, 12.41, 13.66, 14.37),
    "human, 5 concatenated": (12.40, 9.48, 8.96, 10.03, 11.37, 12.39, 13.29, 14.10),
    "De-Diffusion": (11.51, 8.15, 6.63, 7.12, 7.85, 8.65, 9.36, 10.02),
}

# Tables 1-3 and 7: PaLM 2-L on De-Diffusion text; 0, 4, 32 shots
FEW_SHOT = {
    "VQAv2": (67.2, 67.9, 68.4),
    "OKVQA": (57.0, 58.2, 60.6),
    "COCO CIDEr": (88.5, 100.3, 103.7),
}
CAPTION_SOURCE = {  # Table 7: (VQAv2 val), (OKVQA), 0, 4, 32 shots
    "BLIP-2": ((63.1, 63.0, 62.8), (58.5, 57.6, 59.1)),
    "human": ((63.1, 63.2, 63.6), (59.0, 58.9, 60.1)),
    "De-Diffusion": ((65.2, 66.0, 66.2), (57.0, 58.2, 60.6)),
}
TOY_ACCURACY = 47.7  # App. C: % of ImageNet labels found without ever seeing one

INCONSISTENCIES = (
    "Best FID is 6.43 at guidance 3 in the text and in Tables 4-5, but 6.63 at guidance 3 in "
    "Table 6.",
    "Ablations are said to train for 300K steps, yet their default row equals the 500K model's.",
    "Prose says that dropping punctuation lowers accuracy by 0.2; Table 4b shows that it rises by "
    "0.2.",
    "App. C calls a test 5-shot 1-way; its axis says 5-way 1-shot.",
    "OKVQA is 'val' in one table and 'test' in another.",
)


def best() -> pd.DataFrame:
    """Each source's lowest FID and the guidance that gives it."""
    fid = pd.DataFrame(SWEEP, index=GUIDANCE).rename_axis(columns="source")
    return pd.DataFrame({"guidance": fid.idxmin(), "fid": fid.min()}).reset_index()
