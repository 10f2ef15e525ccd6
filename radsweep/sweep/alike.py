"""Patch-similarity maps as a picture: a row per encoder, a column per level, a light for alike."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from plotly.colors import sample_colorscale, unlabel_rgb

from radsweep.corpus.manifest import Corpus
from radsweep.dashboards.blocks import Film, Films
from radsweep.laws.words import images_short, paradigm_title
from radsweep.specs import Cell
from radsweep.sweep.pictures import Pixels, films_by_id, png

TILE_PIXELS = 148
GAP_PIXELS = 6
LABEL_PIXELS = 104
HEAD_PIXELS = 20
COLOURS = np.array(
    [unlabel_rgb(c) for c in sample_colorscale("Cividis", list(np.linspace(0, 1, 256)))]
).astype(np.uint8)
"""From unlike (dark blue, cosine 0 or less) to alike (yellow, cosine 1); the same to all eyes."""


def alike(corpus: Corpus, maps: pl.DataFrame, cells: Sequence[Cell]) -> Films:
    """A film per paradigm and image of ``similarity.SIMILARITY``, each with its encoders' maps."""
    images = maps["image_id"].unique(maintain_order=True).to_list()
    pixels = films_by_id(corpus, images)
    films = []
    for number, image in enumerate(images, 1):
        for recipe in dict.fromkeys(_recipe(cell, cells) for cell in cells):
            own = [cell for cell in cells if _recipe(cell, cells) == recipe]
            mine = maps.filter(
                pl.col("image_id") == image, pl.col("cell").is_in([c.name for c in own])
            )
            if not len(mine):
                continue
            picture = _board(pixels[image], mine, own)
            shown = [cell for cell in own if cell.name in set(mine["cell"])]
            lines = (
                ("Rows", ", ".join(_scale(cell) for cell in shown)),
                ("Columns", "the film with the query, then four levels, shallow to deep"),
            )
            films.append(Film(f"Film {number}, {paradigm_title(recipe)}", png(picture), lines))
    return Films(
        "What each encoder takes to be alike",
        "Cosine similarity of the patch at the cross, on a line or tube where the film has one, "
        "with every other patch. An encoder that sees the tube lights up its course; where "
        "everything is light, it has lost its sense of place.",
        (("alike (1)", _hex(COLOURS[-1])), ("unlike (0 or less)", _hex(COLOURS[0]))),
        tuple(films),
    )


def _recipe(cell: Cell, cells: Sequence[Cell]) -> str:
    """The paradigm, with its start where the paradigm has several."""
    paradigm, start = cell.recipe.paradigm, cell.recipe.start_from
    starts = {one.recipe.start_from for one in cells if one.recipe.paradigm == paradigm}
    return paradigm if len(starts) == 1 else f"{paradigm} from {start}"


def _scale(cell: Cell) -> str:
    return "open weights" if cell.is_baseline else f"{images_short(cell.subset.images)} images"


def _hex(colour: NDArray[np.uint8]) -> str:
    red, green, blue = (int(part) for part in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _board(film: Pixels, maps: pl.DataFrame, cells: Sequence[Cell]) -> Pixels:
    """uint8 [H, W, 3]: a row per cell that has maps, under the names of the columns."""
    rows = [cell for cell in cells if cell.name in set(maps["cell"])]
    levels = maps["level"].unique().sort().to_list()
    step = TILE_PIXELS + GAP_PIXELS
    size = (LABEL_PIXELS + step * (1 + len(levels)), HEAD_PIXELS + step * len(rows))
    board = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(board), ImageFont.load_default(size=13)
    for column, name in enumerate(["film", *(f"level {level + 1}" for level in levels)]):
        pen.text((LABEL_PIXELS + step * column, 2), name, fill="#444444", font=font)
    for i, cell in enumerate(rows):
        top = HEAD_PIXELS + step * i
        pen.text((2, top + TILE_PIXELS // 2 - 8), _scale(cell), fill="#444444", font=font)
        own = maps.filter(pl.col("cell") == cell.name).sort("level")
        query = own.select("query_row", "query_column").row(0)
        board.paste(_marked(film, query), (LABEL_PIXELS, top))
        for column, row in enumerate(own.iter_rows(named=True), 1):
            values = np.array(row["values"], dtype=np.float64).reshape(row["rows"], row["columns"])
            tile = Image.fromarray(COLOURS[(values.clip(0, 1) * 255).round().astype(np.uint8)])
            tile = tile.resize((TILE_PIXELS, TILE_PIXELS), Image.Resampling.NEAREST)
            board.paste(tile, (LABEL_PIXELS + step * column, top))
    return np.asarray(board)


def _marked(film: Pixels, query: tuple[int, int]) -> Image.Image:
    """The film at tile size with a cross at the query."""
    tile = Image.fromarray(film).convert("RGB").resize((TILE_PIXELS, TILE_PIXELS))
    y, x = ((at + 0.5) / side * TILE_PIXELS for at, side in zip(query, film.shape, strict=True))
    pen = ImageDraw.Draw(tile)
    for colour, width in (("#000000", 4), ("#ffd400", 2)):
        pen.line([(x - 8, y), (x + 8, y)], fill=colour, width=width)
        pen.line([(x, y - 8), (x, y + 8)], fill=colour, width=width)
    return tile
