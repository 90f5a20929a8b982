"""How programs are started: command lines, jobs, their back ends, processes."""
