"""Write the page of one cell, section by section, and its pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from dae_ssl import config
from dae_ssl.compute.command import differing
from dae_ssl.config import Cell
from dae_ssl.files import write_bytes
from dae_ssl.report import mosaics
from dae_ssl.report.beside import Beside
from dae_ssl.report.cell import figures
from dae_ssl.report.cell.origin import again, deviations, nodes_beside, provenance, settings
from dae_ssl.report.cell.tables import accuracies, clusterings
from dae_ssl.report.findings import Findings, paired_p_values
from dae_ssl.report.markup import Content, document, missing, tag
from dae_ssl.report.numbers import counted, p_values, percent, points
from dae_ssl.report.standing import Standing, standing
from dae_ssl.store import LEFT_BEHIND, REPORT, Store


def write_cell_page(cell: Cell, store: Store, beside: Mapping[str, Cell]) -> Path:
    """Write the cell's page and its pictures into the cell's folder and return the page's path.

    `beside` maps labels to the floors. The page can be written at any time: it marks what has not been measured as
    missing. Raises StoreError if the folder cannot be written.
    """
    findings = Findings("this cell", cell, store)
    floors = [Findings(name, floor, store) for name, floor in beside.items()]
    folder = store.cell(config.cell_key(cell))
    folder.create()
    files = Beside(folder.path)
    far = standing([findings, *floors])
    page = document(
        config.title(cell),
        *_headline(cell),
        tag("p", *summary(findings, floors), class_="lead"),
        *_to_be_computed_again(far),
        *_unfinished(findings, floors),
        *_section("1. The numbers", accuracies(findings, floors), clusterings(findings, floors)),
        *_section("2. Pretraining", _training(findings, files)),
        *_section("3. The probe on validation", _probe(findings, floors, files)),
        *_section("4. Reconstructions", _reconstructions(findings, files)),
        *_section("5. Views", _views(findings, files)),
        *_section("6. Settings, origin, and how to run it again", again(findings), deviations(findings),
                  provenance(findings, far), nodes_beside(floors, far), settings(cell)),
    )  # fmt: skip
    path = folder.product(REPORT)
    write_bytes(path, page)
    return path


# ---------------------------------------------------------------------------------- the head of the page


def _headline(cell: Cell) -> Iterator[Element]:
    """Yield the method with its settings, which a study compares; section 6 shows all other settings."""
    settings = [f"{name.removeprefix('method.')} = {value}" for name, (value, _) in differing(cell).items()
                if name.startswith("method.")]  # fmt: skip
    yield tag("p", "Report of cell ", tag("code", config.cell_key(cell)), class_="note")
    yield tag("h1", ", ".join([cell.method.name, *settings, f"seed = {cell.seed}"]))


def summary(findings: Findings, floors: Sequence[Findings]) -> Iterator[Content]:
    """Yield one sentence on how the cell was trained and how its accuracy compares with that of the floors."""
    cell, data = findings.cell, findings.cell.data
    if cell.method.trains:
        images = "all" if data.pretrain_images is None else str(data.pretrain_images)
        tense = "was" if "pretrain" in findings.records else "will be"
        epochs = counted(cell.optimisation.epochs, "epoch")
        epochs += "" if cell.precision == Cell.precision else f" in {cell.precision}"
        yield f"{cell.method.name} {tense} pretrained on {images} {data.pretrain} training images for {epochs}; "
    few = cell.probe.labels_per_class
    labels = "" if few is None else f", trained on {few} labelled images of each class,"
    yield f"a linear probe on {'its' if cell.method.trains else 'the'} frozen representations{labels} "
    if "test_accuracy" not in findings.scores:
        yield missing(f"is not finished, so there is no accuracy on {data.evaluate} test yet.")
        return
    accuracy = findings.scores["test_accuracy"]
    yield tag("strong", f"gets {percent(accuracy)}\N{NO-BREAK SPACE}% top-1 on {data.evaluate} test")
    for floor in floors:
        if "test_accuracy" not in floor.scores:
            yield "; "
            yield missing(f"the floor “{floor.name}” is missing")
            continue
        tested = paired_p_values(findings, floor, "probe")
        sure = f", {p_values(tested)}" if tested else ""
        theirs = floor.scores["test_accuracy"]
        yield f"; {points(accuracy - theirs)} points against {floor.name} ({percent(theirs)} %{sure})"
    yield "." if floors else "; it is not compared with a floor."


def _to_be_computed_again(far: Standing) -> Iterator[Element]:
    if far.sentence():
        yield tag("p", missing(far.sentence()))


def _unfinished(findings: Findings, floors: Sequence[Findings]) -> Iterator[Element]:
    for shown in (findings, *floors):
        if shown.unfinished:
            stages = ", ".join(shown.unfinished)
            yield tag("p", missing(f"Missing: {stages} of {shown.name}. Run the command in section 6 again: it "
                                   "computes what is missing and redraws this page."))  # fmt: skip


# ---------------------------------------------------------------------------------- the sections


def _section(title: str, *parts: Iterator[Element]) -> Iterator[Element]:
    yield tag("h2", title)
    for part in parts:
        yield from part


def _training(findings: Findings, files: Beside) -> Iterator[Element]:
    if not findings.cell.method.trains:
        yield tag("p", f"Nothing is trained: {findings.cell.method.name} is a floor.")
        return
    curves = findings.curves("pretrain")
    if not curves:
        yield tag("p", missing("Missing: no epoch of pretraining has finished yet."))
        return
    absent = [name for name in ("reconstruction", "embedding") if name not in curves]
    done = max(step for curve in curves.values() for step, _ in curve)
    caption = f"Means over each epoch; {done} of {findings.cell.optimisation.epochs} epochs are done. "
    caption += "".join(f"This method has no {name} term. " for name in absent)
    caption += (
        "Two diagnostics of collapse are computed on clean images: the spread of the normalised embeddings is 1 if "
        "they fill the sphere and 0 if all are one point; effective ranks count the dimensions that are used."
    )
    figure = figures.training_curves(curves)
    yield files.picture("training", figure, alt="Curves of pretraining by epoch", caption=caption)


def _probe(findings: Findings, floors: Sequence[Findings], files: Beside) -> Iterator[Element]:
    begun = {}
    for shown in (findings, *floors):
        curves = {rate: curve for rate, curve in shown.validation_curves().items() if curve}
        if curves:
            begun[shown.name] = curves
        else:
            yield tag("p", missing(f"Missing: the probe of {shown.name} has not begun."))
    if not begun:
        return
    caption = (
        f"Mean accuracy over probe seeds on {findings.cell.data.validation_images} images held out of the training "
        "split. Each thick line is the learning rate that these images selected; the thin lines are the other rates."
    )
    figure = figures.validation_curves(begun)
    yield files.picture("probe", figure, alt="Validation accuracy by probe epoch, with the floors", caption=caption)


def _reconstructions(findings: Findings, files: Beside) -> Iterator[Element]:
    if not findings.pictures:
        yield from _no_pictures(findings)
        return
    cell, last = findings.cell, max(findings.pictures)
    decodes = "reconstruction1" in findings.pictures[last]
    caption = f"Test images of {cell.data.pretrain} after epoch {last}, arranged as in Figure 5 of the study. "
    if not decodes:
        yield tag("p", f"{cell.method.name} has no decoder, so there are no reconstructions; its views are below.")
    elif not cell.method.augments:
        caption += "This method uses no views: both reconstructions are made from the clean image."
    else:
        caption += "Each reconstruction is made from the view above it."
    names = {view: f"reconstruction {view}" for view in mosaics.VIEWS}
    figure = mosaics.reconstructions([(names, findings.pictures[last])])
    yield files.picture("reconstructions", figure, alt="Clean images, views and reconstructions", caption=caption)
    if decodes and len(findings.pictures) > 1:
        figure = figures.reconstructions_by_epoch(findings.pictures)
        caption = "The first reconstruction of the same images at each kept epoch."
        yield files.picture("reconstructions-by-epoch", figure, alt="Reconstructions at each kept epoch",
                            caption=caption)  # fmt: skip


def _views(findings: Findings, files: Beside) -> Iterator[Element]:
    if not findings.pictures:
        yield from _no_pictures(findings)
        return
    cell, views = findings.cell, findings.cell.views
    caption = (
        f"Two views of each image by jitter strength s, as in Figure 8 of the study; this cell has "
        f"s = {views.jitter:g}. The crop ({views.crop} pixels) and flip of a view are the same at all strengths, so "
        "the views in a row differ only in colour."
    )
    if not cell.method.augments:
        caption += " This method trains on clean images and uses no views."
    clean = findings.pictures[max(findings.pictures)]["clean"]
    figure = mosaics.views_by_strength(clean, cell, name=findings.name)
    yield files.picture("views", figure, alt="Views at several jitter strengths", caption=caption)


def _no_pictures(findings: Findings) -> Iterator[Element]:
    if LEFT_BEHIND in findings.records.get("pretrain", {}):
        yield tag("p", missing("Missing: this cell was loaded from a file of results, which has none of its pictures."))
    elif findings.cell.method.trains:
        yield tag("p", missing("Missing: example pictures are written at the first kept epoch of pretraining."))
    else:
        name = findings.cell.method.name
        yield tag("p", f"Nothing is trained, so there are no example pictures: {name} is a floor.")
