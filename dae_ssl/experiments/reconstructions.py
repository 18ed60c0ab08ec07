"""Figure 5: how do the autoencoders reconstruct two views of an image, compared with the views and the clean image?"""

from dae_ssl.experiments.denoising import AE, DAE, ROWS
from dae_ssl.experiments.form import Claim, Experiment, Numbers, Pictures

TOWARDS = ("to_view", "to_clean", "view_to_clean")

EXHIBITS = (
    Pictures(name="pictures", title="Test images of the pretraining set, two views of each, and reconstructions"),
    Numbers(
        name="match", title="How well the first view's reconstructions match",
        scores=tuple(f"reconstruction_{measure}_{to}" for to in TOWARDS
                      for measure in ("psnr", "ssim", "offset", "sharpness")),
        note="Means over 1,000 test images of the pretraining set. Offset: the shift in pixels at which the two images "
             "correlate best, one of them mirrored or not. Sharpness: the mean difference of neighbouring pixels, "
             "divided by that of the other image. The last four columns compare the view itself with the clean image.",
    ),
)  # fmt: skip
CLAIMS = (
    Claim(words="AE reconstructions are more faithful to the views: PSNR, dB", source="Figure 5",
          weights={AE: 1, DAE: -1}, score="reconstruction_psnr_to_view"),
    Claim(words="AE reconstructions are more faithful to the views: SSIM", source="Figure 5",
          weights={AE: 1, DAE: -1}, score="reconstruction_ssim_to_view"),
    Claim(words="DAE reconstructions are nearer to the clean image: PSNR, dB", source="Figure 5",
          weights={DAE: 1, AE: -1}, score="reconstruction_psnr_to_clean"),
    Claim(words="DAE reconstructions are hazier: sharpness", source="Figure 5",
          weights={AE: 1, DAE: -1}, score="reconstruction_sharpness_to_clean"),
    Claim(words="DAE reconstructions are more centred: offset, pixels", source="Figure 5",
          weights={AE: 1, DAE: -1}, score="reconstruction_offset_to_clean"),
)  # fmt: skip
# The rows are those of Figure 4.
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS)
