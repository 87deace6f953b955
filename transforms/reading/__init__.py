"""What training programs import: `from transforms.reading import RegionFeatures, parse_example`.

Knows no Beam; torch is never imported, lmdb and tensorflow only where they are used.
"""

from transforms.reading.region_features import RegionFeatures
from transforms.reading.tensorflow_example import parse_example

__all__ = ["RegionFeatures", "parse_example"]
