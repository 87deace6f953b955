"""What tells two detectors apart by the records that they made of the same images. Pure functions of records."""
