"""Many jobs, such as a recipe over languages and seeds: a bounded number at once, here or on Slurm; killed, it goes on.

`plan` expands a command over values, `state` is what a job's folder says, `worker` runs one job, `executors` start
workers, `scheduler` decides which. Nothing here knows what the jobs do.
"""
