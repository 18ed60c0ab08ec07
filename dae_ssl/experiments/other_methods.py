"""How do the other methods of the published code compare: one view, layer by layer, SimSiam?"""

from dae_ssl.experiments.form import Numbers, Row, beats

DAE = "DAE, no embedding loss"

ROWS = (
    Row(DAE, {"method": {"name": "dae"}}, 65.9),
    Row("SimCLR", {"method": {"name": "simclr"}}, 69.7),
    Row("single view, denoising", {"method": {"name": "single_view_dae"}}),
    Row("single view, not denoising", {"method": {"name": "single_view_ae"}}),
    Row("layer-wise, symmetric decoder", {"method": {"name": "layerwise_dae"}}),
    Row("SimSiam", {"method": {"name": "simsiam"}}),
)
EXHIBITS = (Numbers(name="accuracies", title="Test accuracy"),)
CLAIMS = (
    beats(DAE, "single view, denoising", "Two views are worth more than one", "the code's sweep"),
    beats("single view, denoising", "single view, not denoising", "Denoising helps with one view too",
          "the code's sweep"),
    beats("layer-wise, symmetric decoder", "random encoder", "Layer-wise training beats the untrained encoder",
          "a floor"),
    beats("SimSiam", "random encoder", "SimSiam beats the untrained encoder", "a floor"),
)  # fmt: skip
