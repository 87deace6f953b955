"""From listed images and their annotations to the plan of a run, sorted and joined on disk."""
