"""epilm: train epigenome language models on Ray, exactly.

Data flows down this list of packages, and a module imports only from those above it (``tests/test_layout.py``
holds them to it):

``errors, config, storage, session, runs`` -> ``genome`` -> ``tokens`` -> ``corpus`` -> ``masking`` -> ``models`` ->
``evaluate`` -> ``tasks`` -> ``train`` -> ``regress`` -> ``predict`` -> ``report`` -> ``simulate`` -> ``demo, bench`` -> ``cli``
"""

__version__ = "0.1.0"
