"""What a run will take, measured on a sample of its rows before it starts: tokens, hours, memory, requests, cost.

`calibrate` computes the sample and gives a `Rate`; `estimate` applies the rate to the shards of a plan, for several
numbers of workers; `kept` keeps both in the cache folder of the user, where the report of the run and the division of a
plan into parts find them.
"""
