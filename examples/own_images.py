"""A cell on images of one's own: a tree of folders, a prepared set, a cell beside its floors, an encoder.

    python own_images.py [STORE [FOLDER]]      a quarter of a minute on one core with the images that it draws

FOLDER holds train/CLASS/IMAGE and test/CLASS/IMAGE, in any format that Pillow reads and any size; images become 32x32
colour images, the shorter side resized and the centre kept. Without one, disks, squares and crosses are drawn.
Equivalent commands: dae-ssl data mine --from FOLDER --size 32, then dae-ssl run method=dae data.pretrain=mine ...
"""

import random
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import dae_ssl
from dae_ssl.compute.cells import floors
from dae_ssl.data.prepare import prepare


def draw(folder: Path, *, train: int = 40, test: int = 40) -> None:
    """Draw a tree of images of three classes, a shape of random colour, size and place on a random ground."""
    chance = random.Random(0)
    for split, count in (("train", train), ("test", test)):
        for name in ("cross", "disk", "square"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                ground, ink = (tuple(chance.randrange(256) for _ in range(3)) for _ in range(2))
                image, r = Image.new("RGB", (48, 40), ground), chance.uniform(7, 13)
                x, y = chance.uniform(14, 34), chance.uniform(14, 26)
                pen = ImageDraw.Draw(image)
                if name == "cross":
                    pen.line((x - r, y, x + r, y), ink, 5)
                    pen.line((x, y - r, x, y + r), ink, 5)
                else:
                    shape = pen.ellipse if name == "disk" else pen.rectangle
                    shape((x - r, y - r, x + r, y + r), ink)
                image.save(folder / split / name / f"{number}.png")


def main(store: str = "store", folder: str | None = None) -> None:
    """Prepare the images, compute a cell and its floors on them, and print what its encoder is worth."""
    with tempfile.TemporaryDirectory() as drawn:
        if folder is None:
            draw(Path(drawn))
        prepare(dae_ssl.Store.of(store), "mine", Path(folder or drawn), size=32)
    cell = dae_ssl.cell(
        method="dae", embedding="l2", alpha=1,
        data={"pretrain": "mine", "evaluate": "mine", "validation_images": 30},
        optimisation={"epochs": 3, "batch_size": 30, "learning_rate": 0.001},
        probe={"epochs": 30}, kmeans={"clusters": 3, "restarts": 1},
    )  # fmt: skip
    beside = floors(cell)
    if dae_ssl.run([cell, *beside.values()], store).left:
        raise SystemExit("not everything was computed: see the lines above, and run this again")
    encoder = dae_ssl.load_encoder(store, cell)  # h = encoder(images), for whatever comes next
    print(f"an encoder of {sum(weight.numel() for weight in encoder.parameters()):,} weights; right on test images:")
    shares = {"dae": cell} | beside
    print(", ".join(f"{name} {100 * dae_ssl.scores(each, store)['logistic_test_accuracy']:.1f} %"
                    for name, each in shares.items()))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
