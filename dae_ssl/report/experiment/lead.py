"""What stands above all on an experiment's page, before any number is read.

It tells its cells from the study's, and scores that count from those that would be computed again.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.report.markup import missing, tag
from dae_ssl.report.standing import Standing

PRECISIONS = {
    "fp32": "float32 throughout",
    "tf32": "stored as float32, convolutions and matrix products in TensorFloat-32 on GPUs that have it (elsewhere "
            "tf32 is fp32)",
    "bf16": "weights and losses in float32, convolutions and matrix products in bfloat16",
}  # fmt: skip
PUBLISHED = (
    "The published numbers come from PyTorch as it is by default: on the study's GPUs, TF32 in convolutions and "
    "float32 in matrix products."
)
EVALUATED = "Features, probe and k-means are computed in float32 whatever the precision."


def lead(variant: str, sections: Sequence[Section], far: Standing) -> Iterator[Element]:
    """Yield what tells these cells from the published ones, if their numbers might be taken for these, and how many of
    their scores come from nodes that would be computed again, if any do.

    sections: those of one page; variant: what their changes are called; far: how far their cells and floors are.
    """
    published = any(row.published is not None for section in sections for row in section.shown)
    reduced = any(section.reduced for section in sections)
    compared = published and not reduced
    if reduced and published:
        yield _reduced(variant, sections[0].base)
    trained = {cell.precision for section in sections for cell in section.every() if cell.method.trains}
    if trained and (compared or trained != {Cell.precision}):
        yield _precision([name for name in PRECISIONS if name in trained], compared=compared)
    if far.sentence():
        yield tag("p", missing(far.sentence()), class_="lead")


def _reduced(variant: str, base: Cell) -> Element:
    images = base.data.pretrain_images or "all"
    return tag("p", tag("strong", f"Not the study as published ({variant}). "),
               f"Pretraining on {images} images of {base.data.pretrain} for {base.optimisation.epochs} epochs at "
               f"batch size {base.optimisation.batch_size} and learning rate {base.optimisation.learning_rate:g}, "
               f"{base.probe.epochs} probe epochs. Its numbers are not comparable with the published ones, which "
               "stand beside them for orientation; its claims are tested as they are.", class_="lead")  # fmt: skip


def _precision(names: Sequence[str], *, compared: bool) -> Element:
    """Return which arithmetic pretraining had: one for all cells, or several, which no row shares."""
    described = [f"{name}: {PRECISIONS[name]}" for name in names]
    if len(names) == 1:
        sentences = [f"Pretrained in {described[0]}. "]
        if names[0] != Cell.precision:
            sentences += [f"The default is {Cell.precision}. "]
            sentences += ["Nothing else is changed, so the numbers are compared with the published ones. "] * compared
    else:
        sentences = [f"Each row is pretrained as its name says. {'; '.join(described)}. "]
    sentences += [f"{PUBLISHED} "] if compared else []
    return tag("p", tag("strong", "Precision. "), *sentences, EVALUATED, class_="lead")
