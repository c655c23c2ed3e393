"""Erase a person's rows from everything that Nightscribe keeps beside the enriched rows.

person     which rows are the person's: a condition, on tables of which some lack its columns
parquet    Parquet files with such rows: read, and written again without some of them
traces     the rows, the keys and the texts of the person, found in all files together
places     the files and changes of a review folder, a sink, labelled rows and a registry
erase      all of it in the right order
"""
