"""Records out of files of every format: listed by place, read one by one."""
