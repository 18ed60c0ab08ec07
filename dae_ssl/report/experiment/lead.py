"""Write the head of an experiment's page, which a reader needs before any number.

It says how the cells differ from the study's, and how many scores would be computed again.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.report.markup import missing, tag
from dae_ssl.report.standing import Standing

PRECISIONS = {
    "fp32": "float32 throughout",
    "tf32": "values in float32, convolutions and matrix products in TensorFloat-32 on GPUs that have it (on other "
            "devices tf32 is the same as fp32)",
    "bf16": "weights and losses in float32, convolutions and matrix products in bfloat16",
}  # fmt: skip
PUBLISHED = (
    "The published numbers come from PyTorch's default precision: on the study's GPUs, TensorFloat-32 in convolutions "
    "and float32 in matrix products."
)
EVALUATED = "Features, probe and k-means are computed in float32 whatever the precision."


def lead(variant: str, sections: Sequence[Section], far: Standing) -> Iterator[Element]:
    """Yield the differences from the study, if readers might confuse the numbers, and the count of outdated scores.

    sections: those of one page; variant: the name of their changes; far: the standing of their cells and floors.
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
    return tag("p", tag("strong", f"This is not the study as published ({variant}). "),
               f"Pretraining uses {images} images of {base.data.pretrain}, {base.optimisation.epochs} epochs, "
               f"batch size {base.optimisation.batch_size} and learning rate {base.optimisation.learning_rate:g}; the "
               f"probe trains for {base.probe.epochs} epochs. The numbers are not comparable with the published ones, "
               "which are shown only for orientation; the claims are tested unchanged.", class_="lead")  # fmt: skip


def _precision(names: Sequence[str], *, compared: bool) -> Element:
    """Return a paragraph on the precision of pretraining: one for all cells, or one for each row."""
    described = [f"{name}: {PRECISIONS[name]}" for name in names]
    if len(names) == 1:
        sentences = [f"Pretrained in {described[0]}. "]
        if names[0] != Cell.precision:
            sentences += [f"The default is {Cell.precision}. "]
            sentences += ["Nothing else is changed, so the numbers are compared with the published ones. "] * compared
    else:
        sentences = [f"Each row is pretrained in the precision that its name gives. {'; '.join(described)}. "]
    sentences += [f"{PUBLISHED} "] if compared else []
    return tag("p", tag("strong", "Precision. "), *sentences, EVALUATED, class_="lead")
