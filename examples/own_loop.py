"""Any encoder, measured in a loop of one's own: plain PyTorch trains, this package says what it is worth.

    python own_loop.py [STORE]           a quarter of a minute on one core

The encoder is a small module that the package knows nothing of; it is trained as a plain denoising autoencoder. After
every epoch a linear probe reads its representations of validation images, which is what may be looked at as often as
one likes; test images are looked at once, in the end.
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional

import dae_ssl
from dae_ssl.config import KMeans, Probe
from dae_ssl.data.prepare import prepare
from dae_ssl.data.sets import evaluation_splits
from dae_ssl.evaluation.kmeans import kmeans
from dae_ssl.evaluation.probe import logistic_regression, train_probe


def main(store: str = "store") -> None:
    """Train an autoencoder for four epochs, measure its encoder after each, and print its test scores."""
    prepare(dae_ssl.Store.of(store), "digits", "digits")
    data = dae_ssl.cell(method="random", data={"evaluate": "digits", "validation_images": 297}).data
    splits = evaluation_splits(dae_ssl.Store.of(store), data, "cpu")
    train, validation, test = (splits[name] for name in ("train", "validation", "test"))
    classes = len(train.classes)

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.AvgPool2d(4), nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    decoder = nn.Sequential(nn.Linear(576, 192), nn.Sigmoid(), nn.Unflatten(1, (3, 8, 8)))
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.002)

    @torch.no_grad()
    def represented(images: Tensor) -> Tensor:
        h: Tensor = encoder(images.float() / 255)
        return h

    for epoch in range(1, 5):
        for rows in torch.randperm(len(train), generator=generator).split(50):
            clean = train.images[rows].float() / 255
            noisy = clean + 0.3 * torch.randn(clean.shape, generator=generator)
            loss = functional.mse_loss(decoder(encoder(noisy)), functional.avg_pool2d(clean, 4))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        probed = train_probe(represented(train.images), train.labels, represented(validation.images),
                             validation.labels, settings=Probe(epochs=20), classes=classes)  # fmt: skip
        accuracy = probed.validation[probed.learning_rate].mean
        print(f"epoch {epoch}: loss {loss.item():.4f}, probe on validation {100 * accuracy:.1f} %")

    h = represented(test.images)
    fitted = logistic_regression(represented(train.images), train.labels, classes=classes)
    right = fitted.classifier.accuracy(h, test.labels).mean
    clusters = kmeans(h.numpy(), test.labels.numpy(), settings=KMeans(restarts=3)).standardised
    print(
        f"test digits: {100 * right:.1f} % by logistic regression, {100 * clusters.matched_accuracy:.1f} % by k-means"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
