"""Jobs on Google's Dataflow: what is checked before one is submitted, and what its user sees of it."""
