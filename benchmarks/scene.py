"""One worker on one full-size scene: `python -m benchmarks.scene [--card bs] [--parcels N] [--growth PNG]`.

Prints the seconds of each step, processor seconds, peak memory, and the ratio to the floor measured in the same run:
decoding the scene's JPEG 2000 files with the same number of cores, and COPY of the same rows into an empty table.
With `--store-rate`: how much of a slow store's download is hidden behind the work on what has arrived.
With `--against`: processor seconds beside those of another checkout's worker, in turn.
With `--more`: processor seconds with histograms, statistics of clear pixels and NDVI beside those without, in turn.
With `--bands ten`: a product of ten bands, and processor seconds beside those of decoding its files alone, in turn.
With `--growth`: how the time grows with the number of parcels and with the share of the image that the AOI covers.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.slow_store import slowed
from benchmarks.stage import (
    BANDS,
    HECTARES,
    ROOT,
    SHAPES,
    TEN_BANDS,
    Run,
    Stage,
    decode_seconds,
    make_product,
    make_ten_bands,
    stage,
)
from extractors.runtime.cores import keep_libraries_single_threaded

NUMBERS = (1_000, 10_000, 100_000, 300_000, 1_000_000)
SHARES = (0.01, 0.05, 0.25, 0.5, 1.0)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--card", choices=tuple(BANDS), default="s2")
    parser.add_argument(
        "--parcels", type=int, default=300_000, help=f"number of parcels, of {HECTARES:g} ha while they fit"
    )
    parser.add_argument("--bands", nargs="+", help="some of the CARD's bands (default: all), or `ten`")
    parser.add_argument("--aoi-share", type=float, default=1.0, help="part of the image's area that the AOI covers")
    parser.add_argument("--engine", default="scanline")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--products", type=Path, help="where made products are kept for the next time")
    parser.add_argument(
        "--store-rate", type=float, metavar="MB/S", help="also measure with a store that sends no more than that"
    )
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the worker of another checkout")
    parser.add_argument("--more", action="store_true", help="compare with histograms, clear pixels and NDVI added")
    parser.add_argument("--growth", type=Path, metavar="PNG", help="measure how the time grows, and draw it")
    options = parser.parse_args()
    keep_libraries_single_threaded()  # for the floor, as a worker does
    ten = options.bands == ["ten"]
    if ten and options.card != "s2":
        parser.error("only s2 has ten bands")
    bands = list(TEN_BANDS) if ten else options.bands or list(BANDS[options.card])
    with tempfile.TemporaryDirectory(prefix="products-") as temporary:
        folder = options.products or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making the product in {folder} ...", file=sys.stderr)
        product = make_ten_bands(folder) if ten else make_product(options.card, folder)
        with stage(options.card, product) as scene:
            rows, columns = SHAPES[options.card]
            print(f"{options.card}, {columns} x {rows} pixels, bands {' '.join(bands)}; {options.cores} cores")
            if ten:
                measure_processor(scene, product, bands, options)
            elif options.growth:
                grow(scene, bands, options.cores, options.growth)
            elif options.more:
                add_more(scene, bands, options)
            elif options.against:
                compare(scene, bands, options)
            elif options.store_rate:
                measure_slow_store(scene, bands, options)
            else:
                measure(scene, product, bands, options)
    return 0


def measure(scene: Stage, product: Path, bands: list[str], options: argparse.Namespace) -> None:
    """The worker and the floor in turn, `--runs` times; medians, and the ratio pair by pair."""
    scene.put_parcels(options.parcels)
    scene.put_aoi(options.aoi_share)
    ratios = []
    runs: list[Run] = []
    for _ in range(options.runs):
        run = scene.run(bands, "--engine", options.engine, extraction={"cores": options.cores})
        runs.append(run)
        count, copy = scene.seconds_of_copy()
        decode, _ = decode_seconds(product, options.cores) if options.card == "s2" else (0.0, 0.0)
        text = f"worker {run.wall:6.1f} s wall, {run.processor:6.1f} s processor, {run.peak_megabytes:7.0f} MB peak"
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in run.log["seconds"].items())
        text += f" | {steps} | {count:,} rows"
        if options.card == "s2":
            ratios.append(run.wall / (decode + copy))
            text += f" | floor: decode {decode:.1f} + COPY {copy:.1f} s, ratio {ratios[-1]:.2f}"
        else:
            text += f" | COPY {copy:.1f} s"
        print(text, flush=True)
    wall = statistics.median(run.wall for run in runs)
    peak = max(run.peak_megabytes for run in runs)
    print(
        f"median {wall:.1f} s, highest peak {peak:.0f} MB"
        + (f", median ratio {statistics.median(ratios):.2f}" if ratios else "")
    )


def measure_processor(scene: Stage, product: Path, bands: list[str], options: argparse.Namespace) -> None:
    """The worker, with its default memory, and decoding the same files alone in turn, `--runs` pairs: processor
    seconds, and their ratio."""
    scene.put_parcels(options.parcels)
    scene.put_aoi(options.aoi_share)
    ratios = []
    for _ in range(options.runs):
        run = scene.run(bands, "--engine", options.engine, extraction={"cores": options.cores})
        wall, processor = decode_seconds(product, options.cores)
        ratios.append(run.processor / processor)
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in run.log["seconds"].items())
        print(
            f"worker {run.processor:6.1f} s processor, {run.wall:6.1f} s wall, {run.peak_megabytes:5.0f} MB peak"
            f" | {steps} | decoding alone {processor:6.1f} s processor, {wall:6.1f} s wall | ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio of {options.runs} pairs {statistics.median(ratios):.3f}")


def compare(scene: Stage, bands: list[str], options: argparse.Namespace) -> None:
    """This checkout's worker and another one's in turn, `--runs` pairs: processor seconds, and their ratio."""
    scene.put_parcels(options.parcels)
    scene.put_aoi(options.aoi_share)
    ratios = []
    for number in range(options.runs):
        # Whoever comes second finds warmer caches: take turns in that as well.
        checkouts = [ROOT, options.against.resolve()]
        runs = {
            checkout: scene.run(bands, extraction={"cores": options.cores}, checkout=checkout)
            for checkout in (checkouts if number % 2 else reversed(checkouts))
        }
        here, there = (runs[checkout] for checkout in checkouts)
        ratios.append(here.processor / there.processor)
        print(
            f"here {here.processor:6.1f} s processor, {here.wall:6.1f} s wall, {here.peak_megabytes:5.0f} MB | there "
            f"{there.processor:6.1f} s, {there.wall:6.1f} s, {there.peak_megabytes:5.0f} MB | ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio of {options.runs} pairs {statistics.median(ratios):.3f}")


def add_more(scene: Stage, bands: list[str], options: argparse.Namespace) -> None:
    """The worker without and with histograms, clear pixels and NDVI in turn, `--runs` pairs; ratio of processor
    seconds."""
    scene.put_parcels(options.parcels)
    scene.put_aoi(options.aoi_share)
    plain = {"cores": options.cores}
    ndvi = {"indices": {"NDV": "ndvi"}, "radiometry": "harmonised", "radiometry_fallback": "baseline"}
    ratios = []
    for _ in range(options.runs):
        without = scene.run(bands, extraction=plain)
        more = scene.run(bands, extraction=plain | ndvi, tables=("hists_table", "clear_results_table"))
        ratios.append(more.processor / without.processor)
        print(
            f"without {without.processor:6.1f} s processor, {without.wall:6.1f} s wall, "
            f"{without.peak_megabytes:5.0f} MB | with {more.processor:6.1f} s, {more.wall:6.1f} s, "
            f"{more.peak_megabytes:5.0f} MB"
            f" | ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio of {options.runs} pairs {statistics.median(ratios):.3f}")


def measure_slow_store(scene: Stage, bands: list[str], options: argparse.Namespace) -> None:
    """The worker with the store as it is and with a slow one in turn: how much of the longer download is hidden behind
    the work on what has arrived."""
    scene.put_parcels(options.parcels)
    scene.put_aoi(options.aoi_share)
    print(f"store as it is | with at most {options.store_rate:g} MB/s | added to the download, added to the whole")
    with slowed(scene.endpoint, options.store_rate) as slow:
        for _ in range(options.runs):
            runs = []
            for endpoint in (scene.endpoint, slow):
                scene.store_at(endpoint)
                runs.append(scene.run(bands, "--engine", options.engine, extraction={"cores": options.cores}))
            near, far = runs
            downloads = [run.log["seconds"]["download"] for run in runs]
            print(
                f"{near.wall:6.1f} s, download {downloads[0]:.1f} s | {far.wall:6.1f} s, download {downloads[1]:.1f} s"
                f" | {downloads[1] - downloads[0]:.1f} s, {far.wall - near.wall:.1f} s",
                flush=True,
            )


def grow(scene: Stage, bands: list[str], cores: int, picture: Path) -> None:
    """Scene time against the number of parcels (AOI over everything), and against the AOI's share of the image."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    by_number, by_share = [], []
    scene.put_aoi()
    for number in NUMBERS:
        scene.put_parcels(number)
        run = scene.run(bands, extraction={"cores": cores})
        by_number.append(run.wall)
        print(f"{number:>9,} parcels: {run.wall:6.1f} s, {run.peak_megabytes:6.0f} MB", flush=True)
    scene.put_parcels(300_000)
    for share in SHARES:
        scene.put_aoi(share)
        run = scene.run(bands, extraction={"cores": cores})
        by_share.append(run.wall)
        print(f"AOI over {share:4.0%}, {run.log['parcels_selected']:>9,} parcels: {run.wall:6.1f} s", flush=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot([number / 1000 for number in NUMBERS], by_number, "o-")
    left.set(xlabel="parcels (thousands), AOI over the whole image", ylabel="seconds per scene", ylim=0, xlim=0)
    right.plot([share * 100 for share in SHARES], by_share, "o-")
    right.set(xlabel="AOI's share of the image (%), 300,000 parcels in all", ylabel="seconds per scene", ylim=0, xlim=0)
    figure.suptitle(f"Time of a full {scene.card} scene, {cores} cores")
    figure.savefig(picture, dpi=110)
    print(f"drawn to {picture}")


if __name__ == "__main__":
    sys.exit(main())
