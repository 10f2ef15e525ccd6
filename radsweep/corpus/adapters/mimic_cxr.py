"""MIMIC-CXR, the DICOM files, with the tables of MIMIC-CXR-JPG copied into its root."""

from typing import final

from radsweep.corpus.adapters.base import Export, Folder, Layout
from radsweep.corpus.adapters.mimic_cxr_jpg import read_mimic

VERSION = 1


@final
class MimicCxr(Layout):
    """``files/p10/p10000032/s50414267/<dicom_id>.dcm`` (Johnson et al. 2019, Scientific Data)."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        return read_mimic(root, ".dcm")


LAYOUT = MimicCxr
