"""What can be wrong with records, captions and hard negatives; pure functions that name each problem."""
