"""What a shard need not compute: whole columns of its older part file, or results of rows that older part files have.

columns   the shard is the same rows, and another task was added or changed
rows      the file was written again, renamed, split or joined with others, and some of its rows are as they were
"""
