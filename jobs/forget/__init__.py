"""Erase a person's rows from everything that Nightscribe keeps beside the enriched rows.

person     which rows are the person's: a condition, on tables of which some lack its columns
texts      the texts of a row, from which its keys follow
parquet    Parquet files with such rows: read, and written again without some of them
traces     the rows, the keys and the texts of the person, found in all files together
change     a change that is prepared and not made yet
erase      all of it in the right order; review, sink, labelled and registry are the places
outcome    what was erased, and what could not be
"""
