"""Images of the owner's, run for jobs by Podman or Docker: which engine there is and what it is told (`engine`), and a
run from its beginning to its end (`run`)."""
