"""Many films on one page, for people to look at."""

import numpy as np
from PIL import Image

from radsweep.corpus.phantom.hospital import Hospital
from radsweep.corpus.phantom.render import render_image
from radsweep.corpus.phantom.sample import sample_patient


def contact_sheet(hospital: Hospital, seed: int, columns: int, rows: int, size: int) -> Image.Image:
    """Every image of the first patients, in order, until the page is full.

    Args:
        hospital: which hospital.
        seed: which draw of its population.
        columns: images across.
        rows: images down.
        size: side of each image in pixels.

    Returns:
        A greyscale (mode ``L``) page of ``columns * size`` by ``rows * size`` pixels.
    """
    page = Image.new("L", (columns * size, rows * size))
    place, patient = 0, 0
    while place < columns * rows:
        for exam in sample_patient(hospital, seed, patient):
            for view in exam.views:
                if place < columns * rows:
                    pixels, _ = render_image(exam, view, hospital, size)
                    corner = (place % columns * size, place // columns * size)
                    page.paste(Image.fromarray(np.rint(pixels * 255).astype(np.uint8)), corner)
                    place += 1
        patient += 1
    return page
