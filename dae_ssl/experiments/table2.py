"""Table 2: which embedding loss, at its best weight, gives the best representation, and is it SimCLR's equal?"""

from dae_ssl.experiments.row import Row

ROWS = (
    Row("SimCLR", {"method": {"name": "simclr"}}, 69.7),
    Row("AE, no embedding loss", {"method": {"name": "ae"}}, 61.2),
    Row("AE, L1, α = 0.01", {"method": {"name": "ae", "embedding": "l1", "alpha": 0.01}}, 62.0),
    Row("AE, L2, α = 0.0001", {"method": {"name": "ae", "embedding": "l2", "alpha": 0.0001}}, 62.1),
    Row("AE, NCS, α = 0.001", {"method": {"name": "ae", "embedding": "ncs", "alpha": 0.001}}, 62.6),
    Row("DAE, no embedding loss", {"method": {"name": "dae"}}, 65.9),
    Row("DAE, L1, α = 0.1", {"method": {"name": "dae", "embedding": "l1", "alpha": 0.1}}, 67.1),
    Row("DAE, L2, α = 1", {"method": {"name": "dae", "embedding": "l2", "alpha": 1.0}}, 67.1),
    Row("DAE, NCS, α = 10", {"method": {"name": "dae", "embedding": "ncs", "alpha": 10.0}}, 67.3),
)
