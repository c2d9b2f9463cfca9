"""How the experiment is run and kept: settings, methods, stages, the run store, jobs."""
