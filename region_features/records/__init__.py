"""The region record, and what a run says of its images, shards and failures; imports nothing else of the library."""
