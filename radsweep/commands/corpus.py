"""Commands that make a corpus."""

from pathlib import Path
from typing import Annotated

import typer

from radsweep.commands.shared import (
    PatientKeyOption,
    StoreOption,
    console,
    open_store,
)
from radsweep.errors import SpecError


def phantom(
    directory: Annotated[Path, typer.Argument(help="New or empty folder")],
    patients: Annotated[int, typer.Option(min=1)] = 100,
    hospital: Annotated[
        str, typer.Option(help="riverside or northside: another scanner, other prevalences")
    ] = "riverside",
    size: Annotated[int, typer.Option(min=32, help="Pixels along each side")] = 256,
    seed: int = 0,
    broken: Annotated[int, typer.Option(min=0, help="Broken files to plant")] = 4,
) -> None:
    """A synthetic hospital: DICOM x-rays, reports, finding and tube labels, tube masks."""
    from radsweep.corpus.phantom import HOSPITALS, write_hospital
    from radsweep.parts import did_you_mean
    from radsweep.sweep.bars import progress_bars

    if hospital not in HOSPITALS:
        raise SpecError(f"no hospital {hospital!r}; {did_you_mean(hospital, sorted(HOSPITALS))}")
    with progress_bars(console) as bars:
        task = bars.add_task(f"drawing {patients:,} patients", total=patients, note="")
        card = write_hospital(
            directory,
            HOSPITALS[hospital],
            patients,
            size,
            seed,
            broken=broken,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(f"{card.images:,} x-rays of {patients:,} patients of {hospital} in {directory}")
    console.print(
        f"next: radsweep ingest {directory}/dicom --reports {directory}/reports.csv "
        f"--labels {directory}/labels.csv "
        f"--masks {directory}/masks.csv --corpus {hospital}@1 --store STORE",
        style="dim",
        soft_wrap=True,
    )


def ingest(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC ...", help="Folders, globs, files or URLs")
    ],
    corpus: Annotated[str, typer.Option(help="name@version, such as mayo@1")],
    store: StoreOption = "",
    reports: Annotated[list[str] | None, typer.Option(help="Table of reports")] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Table of finding_* and tube_* labels")
    ] = None,
    masks: Annotated[list[str] | None, typer.Option(help="Table of mask_* files")] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="SRC is a download of a public set, such as mimic_cxr_jpg or chexpert"),
    ] = None,
    extends: Annotated[
        str | None, typer.Option(help="An older version, whose unchanged images are shared")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=16, help="Pixels along each side of the stored images", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Preprocessing: radsweep, rad-dino or mi2")
    ] = "radsweep",
    fractions: Annotated[
        str, typer.Option(help="Shares of patients in pretrain, train, val and test")
    ] = "0.8,0.1,0.04,0.06",
    strict: Annotated[
        bool, typer.Option(help="Stop at the first file that is refused, instead of quarantine")
    ] = False,
    patient_key: PatientKeyOption = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; none starts one here")] = None,
) -> None:
    """DICOM/PNG/JPEG folders and tables -> a corpus; says what was quarantined and why."""
    from radsweep.corpus.identity import PatientKey
    from radsweep.corpus.ingest import IngestSpec
    from radsweep.corpus.ingest_ray import ingest_with_ray
    from radsweep.corpus.policies import own_size
    from radsweep.sweep.bars import progress_bars
    from radsweep.sweep.cluster import connected
    from radsweep.sweep.show import card_table

    root = open_store(store)
    root.check_writable()
    key = PatientKey.load(patient_key)
    try:
        shares = tuple(float(share) for share in fractions.split(","))
    except ValueError as fault:
        raise SpecError(
            f"fractions {fractions!r} are not numbers; write 0.8,0.1,0.04,0.06"
        ) from fault
    spec = IngestSpec(
        corpus=corpus,
        sources=tuple(sources),
        reports=tuple(reports or ()),
        labels=tuple(labels or ()),
        masks=tuple(masks or ()),
        layout=layout,
        extends=extends,
        policy=policy,
        size=own_size(policy) if size is None else size,
        fractions=shares,
    )
    with connected(address), progress_bars(console) as bars:
        task = bars.add_task(f"ingesting {corpus}", total=None, note="")
        card = ingest_with_ray(
            spec,
            root,
            key,
            strict=strict,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(card_table(card))
    for warning in card["warnings"]:
        console.print(warning, style="yellow")


def check(
    corpus: Annotated[str, typer.Argument(metavar="NAME@V")],
    store: StoreOption = "",
    images: Annotated[
        list[int] | None, typer.Option(help="Scales whose subsets must nest; may be repeated")
    ] = None,
    stratify_by: Annotated[
        list[str] | None,
        typer.Option(help="Column whose mix the subsets must share; may be repeated"),
    ] = None,
    training_list: Annotated[
        Path | None,
        typer.Option(
            help="What a checkpoint was trained on: SOP instance UIDs, names or paths of files"
        ),
    ] = None,
    near_duplicates: Annotated[
        bool, typer.Option(help="Search for near duplicates across patients and splits too")
    ] = True,
    patient_key: PatientKeyOption = None,
) -> None:
    """Prove that no patient, image or near duplicate crosses splits, and that subsets nest."""
    from concurrent.futures import ThreadPoolExecutor

    from radsweep.corpus.check import check_corpus
    from radsweep.corpus.identity import PatientKey
    from radsweep.sweep.bars import progress_bars
    from radsweep.sweep.show_corpus import check_table

    root = open_store(store)
    with progress_bars(console) as bars, ThreadPoolExecutor() as pool:
        task = bars.add_task(f"looking at {corpus}", total=None, note="")
        report = check_corpus(
            root,
            corpus,
            images=tuple(sorted(images or ())),
            stratify_by=tuple(sorted(stratify_by or ())),
            similar=near_duplicates,
            training_list=training_list,
            patient_key=None if training_list is None else PatientKey.load(patient_key),
            map_shards=pool.map,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(check_table(report))
    if not report.passed:
        raise typer.Exit(1)
