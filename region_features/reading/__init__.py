"""What training programs import: `from region_features.reading import RegionFeatures, parse_example`.

Knows no Beam; torch is never imported, lmdb and tensorflow only where they are used.
"""

from region_features.reading.dataset import RegionFeatures
from region_features.reading.tensorflow import parse_example

__all__ = ["RegionFeatures", "parse_example"]
