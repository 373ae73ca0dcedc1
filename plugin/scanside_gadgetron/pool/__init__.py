"""A pool of warm workers: pipelines loaded, engines accepted, one session each."""
