"""Everything on one machine: Postgres, Valkey, the web server and the workers under one small supervisor.

Nothing here imports Django or torch: it starts programs, asks whether they are well, and stops them.
"""
