"""What the user asked for: the flags, read and checked one by one."""
