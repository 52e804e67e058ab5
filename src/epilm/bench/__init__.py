"""Speed against named peers, as ratios taken in one run.

A *case* pits one thing that epilm does against the tool that a user would otherwise take: same input, same output
(compared before anything is timed), same process, same number of threads. The two sides are timed in turn, A B A B,
so that a busy machine slows both; the figure is the **median of the pairwise ratios** (ours over the peer's, in units
of work per second: more than 1 means that ours is faster), and the spread is their minimum and maximum. Absolute
speeds are printed for orientation; only the ratios can be quoted.

Two clocks, stated with each result:

- ``cpu``: processor seconds of the process, for pure computation on one thread. Waiting for a neighbour costs nothing.
- ``wall``: seconds, where threads, processes or the disk are part of what is compared (Ray streams).

Data are synthetic, seeded, and made in a temporary folder. A peer that is not installed gives a *skipped* result with
the command that installs it. To add a case, write a builder that returns a :class:`~epilm.bench.measure.Duel` and list
it in its file's ``CASES``; :mod:`epilm.bench.registry` joins the files and has ``run_bench``.
"""
