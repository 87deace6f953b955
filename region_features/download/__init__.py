"""Files over HTTP, and zip archives on a local disk."""
