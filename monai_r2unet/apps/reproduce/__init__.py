"""The paper's tables reproduced: networks trained and tested under one protocol, and what came of it beside the paper.

``study`` says what is to be run, ``workflows`` runs it with the bundles' own configurations, ``records`` keeps what
came of each run, ``tables`` and ``drawing`` show it, ``session`` shares the runs between processes.
"""
