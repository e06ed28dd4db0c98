"""Many runs, such as a recipe over languages and seeds: several at once, here or on Slurm; resumed after a kill.

`job_plan` expands a command over values, `job_state` reads and writes a job's folder, `worker` runs one job,
`executors` start workers, `scheduler` decides which. None of these knows what the jobs do. `grid` and the modules above
it do: they read a grid of trainings, plan its runs, and write tables and figures of their results.
"""
