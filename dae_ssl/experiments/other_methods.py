"""How do the other methods of the published code compare: a single view, layer-wise training, SimSiam?"""

from dae_ssl.experiments.form import Experiment, Numbers, Row, beats
from dae_ssl.experiments.published import PLAIN, SIMCLR

ROWS = (
    Row("DAE, no embedding loss", {"method": {"name": "dae"}}, PLAIN["DAE"], key="dae"),
    Row("SimCLR", {"method": {"name": "simclr"}}, SIMCLR),
    Row("single view, denoising", {"method": {"name": "single_view_dae"}}, key="single_view_dae"),
    Row("single view, not denoising", {"method": {"name": "single_view_ae"}}, key="single_view_ae"),
    Row("layer-wise, symmetric decoder", {"method": {"name": "layerwise_dae"}}, key="layerwise_dae"),
    Row("SimSiam", {"method": {"name": "simsiam"}}, key="simsiam"),
)
EXHIBITS = (Numbers(name="accuracies", title="Test accuracy"),)
CLAIMS = (
    beats("dae", "single_view_dae", "Two views are worth more than one", "the code's sweep"),
    beats("single_view_dae", "single_view_ae", "Denoising helps with one view too",
          "the code's sweep"),
    beats("layerwise_dae", "random", "Layer-wise training beats the untrained encoder",
          "a floor"),
    beats("simsiam", "random", "SimSiam beats the untrained encoder", "a floor"),
)  # fmt: skip
EXPERIMENT = Experiment(question=__doc__, rows=ROWS, exhibits=EXHIBITS, claims=CLAIMS)
