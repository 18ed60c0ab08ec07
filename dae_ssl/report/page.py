"""The page of one cell: what was done, with what result against the floors, and how to do it again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

from dae_ssl import config, store
from dae_ssl.config import Cell
from dae_ssl.files import write_bytes
from dae_ssl.report import figures
from dae_ssl.report.command import differing, run_again
from dae_ssl.report.drawing import WIDTH_PIXELS
from dae_ssl.report.findings import Findings, paired_p_values
from dae_ssl.report.markup import Content, document, missing, picture, tag
from dae_ssl.report.numbers import accuracies, clusterings, points
from dae_ssl.report.origin import deviations, nodes_beside, provenance, settings
from dae_ssl.report.significance import told_p
from dae_ssl.store import LEFT_BEHIND, Store


def write_cell_page(cell: Cell, place: Store, beside: Mapping[str, Cell]) -> Path:
    """Write the cell's page and its pictures into the cell's folder and return the page's path.

    `beside` are the floors by what people call them. The page can be written at any time: what is not there yet is
    named as missing. Raises StoreError when the folder cannot be written.
    """
    own = Findings("this cell", cell, place)
    floors = [Findings(words, floor, place) for words, floor in beside.items()]
    folder = place.cell(config.cell_key(cell))
    folder.create()
    pictures = Pictures(folder.path)
    page = document(
        config.title(cell),
        *_headline(cell),
        tag("p", *summary(own, floors), class_="lead"),
        *_unfinished(own, floors),
        *_section("1. The numbers", accuracies(own, floors), clusterings(own, floors)),
        *_section("2. Pretraining", _training(own, pictures)),
        *_section("3. The probe on validation", _probe(own, floors, pictures)),
        *_section("4. Reconstructions", _reconstructions(own, pictures)),
        *_section("5. Views", _views(own, pictures)),
        *_section("6. Settings, origin, and how to run it again", _again(own), deviations(own),
                  provenance(own), nodes_beside(floors), settings(cell)),
    )  # fmt: skip
    path = folder.product(store.REPORT)
    write_bytes(path, page)
    return path


def _headline(cell: Cell) -> Iterator[Element]:
    """Yield the method with its own settings, which is what a study compares; the others come in section 6."""
    own = [f"{name.removeprefix('method.')} = {value}" for name, (value, _) in differing(cell).items()
           if name.startswith("method.")]  # fmt: skip
    yield tag("p", "Report of cell ", tag("code", config.cell_key(cell)), class_="note")
    yield tag("h1", ", ".join([cell.method.name, *own, f"seed = {cell.seed}"]))


class Pictures:
    """Writes drawings as files beside the page and gives them as parts of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, png: bytes, *, alt: str, caption: str) -> Element:
        """Write NAME.png, whole or not at all, and return the same picture embedded."""
        write_bytes(self._folder / f"{name}.png", png)
        return picture(png, alt=alt, caption=caption, width=WIDTH_PIXELS)


def summary(own: Findings, floors: list[Findings]) -> Iterator[Content]:
    """Yield one sentence: what was done, with what result against the floors."""
    cell, data = own.cell, own.cell.data
    if cell.method.trains:
        images = "all" if data.pretrain_images is None else str(data.pretrain_images)
        tense = "was" if "pretrain" in own.records else "is to be"
        epochs = f"{cell.optimisation.epochs} epoch{'s' if cell.optimisation.epochs != 1 else ''}"
        epochs += "" if cell.precision == Cell.precision else f" in {cell.precision}"
        yield f"{cell.method.name} {tense} pretrained on {images} {data.pretrain} training images for {epochs}; "
    few = cell.probe.labels_per_class
    labels = "" if few is None else f", trained on {few} labelled images of each class,"
    yield f"a linear probe on {'its' if cell.method.trains else 'the'} frozen representations{labels} "
    if "test_accuracy" not in own.figures:
        yield missing(f"is not finished, so there is no accuracy on {data.evaluate} test yet.")
        return
    accuracy = own.figures["test_accuracy"]
    yield tag("strong", f"gets {100 * accuracy:.2f}\N{NO-BREAK SPACE}% top-1 on {data.evaluate} test")
    for floor in floors:
        if "test_accuracy" not in floor.figures:
            yield "; "
            yield missing(f"the floor “{floor.words}” is missing")
            continue
        p = paired_p_values(own, floor, "probe")
        sure = f", {told_p(p)}" if p else ""
        theirs = floor.figures["test_accuracy"]
        yield f"; {points(accuracy - theirs)} points against {floor.words} ({100 * theirs:.2f} %{sure})"
    yield "." if floors else ", with no floor beside it."


def _unfinished(own: Findings, floors: list[Findings]) -> Iterator[Element]:
    for subject in (own, *floors):
        if subject.unfinished:
            stages = ", ".join(subject.unfinished)
            yield tag("p", missing(f"Missing: {stages} of {subject.words}. Run the command in section 6 again, "
                                   "which computes what is missing and draws this page anew."))  # fmt: skip


def _section(title: str, *parts: Iterator[Element]) -> Iterator[Element]:
    yield tag("h2", title)
    for part in parts:
        yield from part


def _training(own: Findings, pictures: Pictures) -> Iterator[Element]:
    if not own.cell.method.trains:
        yield tag("p", f"Nothing is trained: {own.cell.method.name} is a floor.")
        return
    curves = own.curves("pretrain")
    if not curves:
        yield tag("p", missing("Missing: no epoch of pretraining has ended yet."))
        return
    absent = [name for name in ("reconstruction", "embedding") if name not in curves]
    done = max(step for points in curves.values() for step, _ in points)
    caption = f"Means over each epoch, {done} of {own.cell.optimisation.epochs} epochs. "
    caption += "".join(f"This method has no {name} term. " for name in absent)
    caption += (
        "Signs of collapse, on clean images: the spread of the normalised embeddings is 1 when they fill the sphere "
        "and 0 when all are one point; effective ranks count the directions that are used."
    )
    png = figures.training_curves(curves)
    yield pictures.add("training", png, alt="Curves of pretraining by epoch", caption=caption)


def _probe(own: Findings, floors: list[Findings], pictures: Pictures) -> Iterator[Element]:
    drawn = {subject.words: subject.validation_curves() for subject in (own, *floors)}
    drawn = {words: {rate: curve for rate, curve in curves.items() if curve} for words, curves in drawn.items()}
    absent = [words for words, curves in drawn.items() if not curves]
    for words in absent:
        yield tag("p", missing(f"Missing: the probe of {words} has not begun."))
    if len(absent) == len(drawn):
        return
    png = figures.validation_curves({words: curves for words, curves in drawn.items() if curves})
    caption = (
        f"Accuracy on {own.cell.data.validation_images} images held out of the training split, mean over probe seeds; "
        "the strong line of each is the learning rate selected on them, thin ones are the others."
    )
    yield pictures.add("probe", png, alt="Validation accuracy by probe epoch, floors beside", caption=caption)


def _reconstructions(own: Findings, pictures: Pictures) -> Iterator[Element]:
    if not own.pictures:
        yield from _no_pictures(own)
        return
    last = max(own.pictures)
    decodes = "reconstruction1" in own.pictures[last]
    caption = f"Test images of {own.cell.data.pretrain} after epoch {last}, laid out as Figure 5 of the study. "
    if not decodes:
        yield tag("p", f"{own.cell.method.name} has no decoder, so there are no reconstructions; its views are below.")
    elif not own.cell.method.augments:
        caption += "This method never looks at a view: both reconstructions are made from the clean image."
    else:
        caption += "Each reconstruction is made from the view above it."
    png = figures.reconstructions(own.pictures[last])
    yield pictures.add("reconstructions", png, alt="Clean images, views and reconstructions", caption=caption)
    if decodes and len(own.pictures) > 1:
        png = figures.reconstructions_by_epoch(own.pictures)
        caption = "The first reconstruction of the same images at each epoch that was kept."
        yield pictures.add("reconstructions-by-epoch", png, alt="Reconstructions at each kept epoch", caption=caption)


def _views(own: Findings, pictures: Pictures) -> Iterator[Element]:
    if not own.pictures:
        yield from _no_pictures(own)
        return
    views = own.cell.views
    caption = (
        f"Two views of each image by jitter strength s, as Figure 8 of the study; this cell has s = {views.jitter:g}. "
        f"Crop ({views.crop} pixels) and flip of a view are the same at all strengths: a row differs in colour only."
    )
    if not own.cell.method.augments:
        caption += " This method trains on clean images and never looks at a view."
    png = figures.views_by_strength(own.pictures[max(own.pictures)]["clean"], own.cell)
    yield pictures.add("views", png, alt="Views at several jitter strengths", caption=caption)


def _no_pictures(own: Findings) -> Iterator[Element]:
    if LEFT_BEHIND in own.records.get("pretrain", {}):
        yield tag("p", missing("Missing: the pictures of a cell that was measured elsewhere did not come along."))
    elif own.cell.method.trains:
        yield tag("p", missing("Missing: example pictures are kept with the first kept epoch of pretraining."))
    else:
        yield tag("p", f"Nothing is trained, so no example pictures are kept: {own.cell.method.name} is a floor.")


def _again(own: Findings) -> Iterator[Element]:
    data = " and ".join(sorted({own.cell.data.pretrain, own.cell.data.evaluate}))
    ranks = own.records.get("pretrain", {}).get("ranks", 1)
    yield tag("h3", "How to run it again")
    yield tag("pre", tag("code", run_again(own.cell)))
    launcher = f" Pretraining ran on {ranks} ranks: write torchrun --standalone --nproc-per-node={ranks} -m jobs for "
    launcher += "dae-ssl to have the same sums in the same order."
    yield tag("p", f"With {data} prepared in the store (dae-ssl data --help);"
                   f" --store FOLDER names the store.{launcher if ranks > 1 else ''}", class_="note")  # fmt: skip
