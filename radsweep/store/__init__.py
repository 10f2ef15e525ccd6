"""One root for everything that a sweep leaves behind: a folder, ``s3://``, ``gs://`` or ``az://``."""

from radsweep.store.layout import Store

__all__ = ["Store"]
